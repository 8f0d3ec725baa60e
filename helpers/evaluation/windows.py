"""Which windows a run is evaluated on: the same for every run, so that differences between runs are paired."""

from collections.abc import Iterable

import numpy as np

from helpers.config import DataConfig, EvalConfig
from helpers.counter_rng import Stream, salt_of, words
from helpers.data.components import JoinedPools, windows_of
from helpers.data.token_cache import TokenCache
from helpers.data.window_order import Windows, draw_windows


def evaluation_windows(data: DataConfig, evaluation: EvalConfig, cache: TokenCache, component: str) -> Windows:
    """The windows of one component: a function of the cache and the evaluation's settings, the same for every K and
    seed."""
    pools = windows_of(data, cache, evaluation.split, [component], seed=evaluation.seed)
    count = evaluation.windows_per_component
    words_B2 = words(evaluation.seed, Stream.EVALUATION, 2 * count, salt=salt_of(component)).reshape(count, 2)
    joined = JoinedPools.of(pools)
    return draw_windows(joined, np.zeros(count, dtype=np.int64), words_B2, data.window_tokens)


def require_evaluation(data: DataConfig, evaluation: EvalConfig, cache: TokenCache, components: Iterable[str]) -> None:
    """ValueError unless every component holds a window of the evaluation's split: told before anything is trained."""
    windows_of(data, cache, evaluation.split, components, seed=evaluation.seed)
