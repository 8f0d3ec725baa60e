"""What a model knows of the component that it reads: the exact posterior, read linearly from its residual stream.

An ideal learner of a mixture carries P(component | tokens so far) along the window. Where the source's law is known,
that posterior is exact, and a ridge regression from the residual stream after each layer says how much of it can be
read there: fitted on windows of the validation split, scored on windows of the test split (held-out R2, all positions
together). A random network already carries much of what it read, so that the R2 of a trained model means nothing alone
(cf. Shai et al. 2024, arXiv 2405.15943). Beside it stand

    untrained   the same network at its initialisation
    shuffled    the trained one, asked for the posterior of another window at the same position

B windows, T positions, D width, K components, L layers, N samples.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch

from helpers.config import SYNTHETIC_SOURCE
from helpers.counter_rng import Stream, permutation
from helpers.data.flat_tokens import flat_tokens
from helpers.data.window_dataset import read_windows
from helpers.evaluation.bayes import BayesReference
from helpers.evaluation.eval_xe import load_model
from helpers.evaluation.windows import evaluation_windows
from helpers.model_config import PythiaConfig
from helpers.models.language_model import build_model, weights_of
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import Tensors
from helpers.runs.result_file import Row
from helpers.studies.ergodic.beliefs.ridge import explained, fit_ridge
from helpers.training.run import Run

KIND = "belief"
_WINDOWS = 64
"""Of each component and split: 6,336 positions a component, to fit 33 numbers of the tiny model."""
_BATCH_WINDOWS = 64


class Windows(NamedTuple):
    tokens_BT: np.ndarray
    posterior_BTK: np.ndarray


def belief_rows(run: Run, weights: Tensors, step: int) -> list[Row]:
    """A row a layer with the held-out R2 of the trained, the untrained and the shuffled reading; none where there is
    nothing to know (K = 1), the source's law is not known, or the model has no layers that are known here."""
    config = run.config
    if config.k == 1 or config.data.source != SYNTHETIC_SOURCE or not isinstance(config.model, PythiaConfig):
        return []
    fitted, scored = (_windows(run, split) for split in ("validation", "test"))
    untrained = build_model(config.model, run.cache.vocab_size, run.cache.bos_id, config.seed)
    models = [load_model(config, run.cache, own) for own in (weights, weights_of(untrained))]
    trained_LBTD, untrained_LBTD = ([residual_stream(m, w.tokens_BT) for w in (fitted, scored)] for m in models)
    others = [_of_other_windows(windows, config.seed) for windows in (fitted, scored)]
    rows = []
    for layer in range(len(trained_LBTD[0])):
        own, plain = ([stream[layer] for stream in streams] for streams in (trained_LBTD, untrained_LBTD))
        r2 = {"r2": _read(own, (fitted, scored)), "r2_untrained": _read(plain, (fitted, scored))}
        rows.append({"kind": KIND, "step": step, "layer": layer + 1, **r2, "r2_shuffled": _read(own, others)})
    return rows


@torch.no_grad()
def residual_stream(model: WindowModel, tokens_BT: np.ndarray) -> np.ndarray:
    """The residual stream [L, B, T, D] after each layer, position t having read BOS and the tokens before t."""
    layers, caught = model.model.layers, []
    hooks = [layer.register_forward_hook(lambda _, __, output: caught.append(output)) for layer in layers]
    device = next(model.parameters()).device
    try:
        for batch_BT in torch.from_numpy(tokens_BT).split(_BATCH_WINDOWS):
            model.hidden(batch_BT.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    num_layers = len(layers)
    return np.stack([torch.cat(caught[first::num_layers]).cpu().double().numpy() for first in range(num_layers)])


def _windows(run: Run, split: str) -> Windows:
    """Windows of every active component from papers of one split, with the exact posterior before each token."""
    config = run.config
    evaluation = dataclasses.replace(config.eval, split=split, windows_per_component=_WINDOWS)
    flat = flat_tokens(run.cache, split, run.storage, run.outbox.report)
    chosen = [evaluation_windows(config.data, evaluation, run.cache, name) for name in run.selection.components]
    tokens_BT = np.concatenate([read_windows(flat, windows, config.data.window_tokens) for windows in chosen])
    posterior_KBT = BayesReference(config, run.cache, run.selection).posterior(tokens_BT)
    return Windows(tokens_BT, posterior_KBT.transpose(1, 2, 0))


def _of_other_windows(windows: Windows, seed: int) -> Windows:
    """The same windows with the posteriors of others: position is all that is left to be read."""
    order = permutation(seed, Stream.NOISE, len(windows.tokens_BT))
    return windows._replace(posterior_BTK=windows.posterior_BTK[order])


def _read(streams: list[np.ndarray], windows: tuple[Windows, Windows] | list[Windows]) -> float:
    """The held-out R2 of reading the posterior from one layer: fitted on the first of the pairs, scored on the second.

    Position 0 is left out: there nothing was read yet.
    """
    fitted, scored = (
        (stream_BTD[:, 1:].reshape(-1, stream_BTD.shape[-1]), _flat(own.posterior_BTK[:, 1:]))
        for stream_BTD, own in zip(streams, windows, strict=True)
    )
    return explained(scored[1], fit_ridge(*fitted)(scored[0]))


def _flat(posterior_BTK: np.ndarray) -> np.ndarray:
    return posterior_BTK.reshape(-1, posterior_BTK.shape[-1])
