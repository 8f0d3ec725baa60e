"""How long a run trains: its tokens, as far as its settings tell, and the order of its windows once its papers do."""

from helpers.config import RunConfig
from helpers.data.components import Selection
from helpers.data.stream_order import stream_order
from helpers.data.window_order import WindowOrder, window_order
from helpers.models.families import count_non_embedding


def training_tokens(config: RunConfig) -> int | None:
    """Training tokens of a run: None under `train.epochs`, which only its papers tell.

    Under `constant_exposure` the setting says how many each component has, as it does for a run on one alone.
    """
    train, times = config.train, config.k if config.data.allocation == "constant_exposure" else 1
    if train.tokens is not None:
        return times * train.tokens
    if train.tokens_per_parameter is not None:
        return times * round(train.tokens_per_parameter * count_non_embedding(config.model))
    if train.steps is not None:
        return times * train.steps * train.batch_size * config.data.window_tokens
    return None


def order_of(config: RunConfig, selection: Selection) -> WindowOrder:
    """The windows of a run. ValueError if its warm-up does not fit into its steps."""
    if config.passes is not None:
        return stream_order(config, selection)
    num_tokens = training_tokens(config)
    if num_tokens is None:
        num_tokens = round(config.train.epochs * selection.unique_tokens)
    order = window_order(config.data, config.train.batch_size, config.seed, selection, num_tokens)
    warmup = config.train.warmup_steps
    if warmup >= order.num_steps:
        raise ValueError(
            f"train.warmup_steps = {warmup} does not fit into the run's {order.num_steps} steps; "
            f"use at most {order.num_steps - 1}"
        )
    return order
