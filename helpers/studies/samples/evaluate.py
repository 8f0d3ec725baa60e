"""What is measured of a run: its validation, the effective rank of its contexts, and whether they are a fixed point."""

from typing import Any

import numpy as np
import torch

from helpers.device import choose_device
from helpers.models.context_token import ContextToken
from helpers.models.contexts import stream_contexts
from helpers.models.language_model import build_model, load_weights
from helpers.runs.checkpoints import Tensors
from helpers.runs.events import Evaluated
from helpers.runs.result_file import Measured, Row
from helpers.studies.samples.rank import GROUPS, rank_estimate
from helpers.studies.samples.scores import score, validation_row
from helpers.studies.samples.stream import TRAIN, VALIDATION, Prepared, prepare, train_stream, validation_stream
from helpers.training.run import Run

PASSES = 10
_STEADY, _SPREAD = 1e-3, 1e-2


def evaluate(run: Run, weights: Tensors, step: int) -> Measured:
    """The validation of a step's weights, and of each stream how its contexts were computed, their effective rank, and
    for the validation whether passes over it come to rest."""
    config, cache = run.config, run.cache
    model = build_model(config.model, cache.vocab_size, cache.bos_id, config.seed)
    load_weights(model, weights)
    model.to(choose_device(config.execution)).eval()
    streams = {TRAIN: train_stream(run), VALIDATION: validation_stream(run)}
    prepared = {split: prepare(model, stream) for split, stream in streams.items()}
    rows: list[Row] = []
    for split, own in prepared.items():
        if own.contexts is not None:
            rows.append({"kind": "contexts", "step": step, "split": split, **_how(own)})
            rows += rank_rows(own.contexts.last_ND, step, split)
    if prepared[VALIDATION].contexts is not None:
        rows.append({"kind": "passes", "step": step, **passes(model, prepared[VALIDATION])})
    *validation, summary = validation_rows(run, model, prepared[VALIDATION], step)
    return Measured(rows=[*rows, *validation], summary=summary)


def validation_rows(run: Run, model: ContextToken, prepared: Prepared, step: int) -> list[Row]:
    """A row of the validation and the summary behind it."""
    stream = prepared.stream
    losses = score(model, prepared.ids_N, prepared.e_ND, prepared.contexts_LND)
    measured = validation_row(*losses, stream.sample_N[1:], stream.names)
    epoch = run.dataset.order.epoch_of(step)
    run.emit(Evaluated(step=step, part=VALIDATION, xe=measured["xe"], bayes_xe=None))
    summary = {"kind": "summary", "step": step, "epoch": epoch}
    summary |= {name: measured[name] for name in ("xe", "ppl", "accuracy")}
    return [{"kind": "validation", "step": step, "epoch": epoch, **measured}, summary]


def rank_rows(contexts_ND: torch.Tensor, step: int, of: str) -> list[Row]:
    """The effective rank of contexts as they are and without their mean; none where tokens are too few for it."""
    if len(contexts_ND) < 2 * GROUPS:
        return []
    rows, width = contexts_ND.double().cpu().numpy(), contexts_ND.shape[1]
    found = []
    for centred in (False, True):
        estimate = rank_estimate(rows, centred=centred)
        share = {name: 100 * getattr(estimate, name) / width for name in ("value", "low", "high")}
        row = {"kind": "rank", "step": step, "of": of, "centred": centred, "tokens": len(rows), "width": width}
        found.append(row | {"rank": estimate.value, "percent": share["value"]} | {k: share[k] for k in ("low", "high")})
    return found


@torch.no_grad()
def passes(model: ContextToken, prepared: Prepared) -> dict[str, Any]:
    """Ten passes over a stream, each from the last context of the one before: mean squares of what moved, the share of
    the residual that the second pass leaves of the first, and the document's word for it."""
    contexts_ND, moved = prepared.contexts.last_ND, []
    for _ in range(PASSES - 1):
        again_ND = stream_contexts(model, prepared.e_ND, start_D=contexts_ND[-1]).last_ND
        moved.append(float(((again_ND - contexts_ND) ** 2).mean()))
        contexts_ND = again_ND
    return {"moved": moved, "contraction": (moved[1] / moved[0]) ** 0.5 if moved[0] else 0.0, "status": status(moved)}


def status(moved: list[float]) -> str:
    """As the document judges the losses of successive passes, by their slope and spread."""
    slope = float(np.polyfit(np.arange(len(moved)), moved, 1)[0])
    if slope < -_STEADY:
        return "CONVERGING"
    if slope > _STEADY:
        return "DIVERGING"
    return "CONVERGED" if float(np.std(moved)) < _SPREAD else "UNSTABLE"


def _how(prepared: Prepared) -> dict[str, Any]:
    contexts = prepared.contexts
    names = ("segments", "warm_up_tokens", "contraction")
    return {name: getattr(contexts, name) for name in names} | {
        "tokens": len(prepared.ids_N),
        "computed": str(contexts),
    }
