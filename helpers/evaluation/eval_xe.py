"""XE of a snapshot on the evaluation windows of each active component (seed document, section 5).

The windows are the same for every run, so that differences between runs are paired. XE averages window tokens 1..99:
token 0, predicted from BOS alone, is stored but not averaged. On the synthetic source the exact Bayes-optimal values
on the very same windows stand beside.

    python -m helpers eval --run RUN_ID --step 50000 --storage outputs
"""

from typing import Any

import numpy as np
import torch

from helpers.config import SYNTHETIC_SOURCE, RunConfig
from helpers.data.components import Selection
from helpers.data.flat_tokens import flat_tokens
from helpers.data.token_cache import TokenCache
from helpers.data.window_dataset import read_windows
from helpers.device import choose_device
from helpers.evaluation.bayes import BayesReference
from helpers.evaluation.windows import evaluation_windows
from helpers.models.language_model import build_model, load_weights
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import Tensors
from helpers.runs.events import Evaluated, Subscriber
from helpers.runs.result_file import Measured
from helpers.storage import Storage

_BATCH_WINDOWS = 64


def evaluate(
    config: RunConfig,
    storage: Storage,
    cache: TokenCache,
    selection: Selection,
    weights: Tensors,
    step: int,
    emit: Subscriber,
) -> Measured:
    """The `xe` row of each active component and the summary of one step's weights."""
    model = load_model(config, cache, weights)
    flat = flat_tokens(cache, config.eval.split, storage)
    bayes = BayesReference(config, cache, selection) if config.data.source == SYNTHETIC_SOURCE else None
    rows = []
    for component in selection.components:
        windows = evaluation_windows(config.data, config.eval, cache, component)
        tokens_BT = read_windows(flat, windows, config.data.window_tokens)
        row = {"kind": "xe", "step": step, "component": component, "split": config.eval.split}
        row |= summarise(cross_entropy(model, tokens_BT), windows.paper, cache.index(config.eval.split).paper_ids)
        row |= bayes.values(tokens_BT, windows.paper) if bayes else dict.fromkeys(BayesReference.KEYS)
        rows.append(row)
        emit(Evaluated(step=step, part=component, xe=row["xe"], bayes_xe=row["bayes_xe"]))
    summary = {"kind": "summary", "step": step, "xe": float(np.mean([row["xe"] for row in rows]))}
    summary["ppl"] = float(np.exp(summary["xe"]))
    for key in ("bayes_xe", "bayes_known_xe"):
        summary[key] = float(np.mean([row[key] for row in rows])) if bayes else None
    return Measured(rows=rows, summary=summary)


def load_model(config: RunConfig, cache: TokenCache, weights: Tensors) -> WindowModel:
    """The model with a snapshot's weights, in evaluation mode, in float32."""
    model = build_model(config.model, cache.vocab_size, cache.bos_id, config.seed)
    load_weights(model, weights)
    return WindowModel(model, cache.bos_id).to(choose_device(config.execution)).eval()


def cross_entropy(model: WindowModel, tokens_BT: np.ndarray) -> np.ndarray:
    """Cross entropy [B, T] in nats of every token of the windows, in float64."""
    device = next(model.parameters()).device
    batches = torch.from_numpy(tokens_BT).split(_BATCH_WINDOWS)
    return torch.cat([model.cross_entropy(batch.to(device)).cpu() for batch in batches]).double().numpy()


def summarise(loss_BT: np.ndarray, paper_B: np.ndarray, paper_ids: np.ndarray) -> dict[str, Any]:
    """XE, its perplexity and standard error, and XE at every position and of every paper, from the losses of one
    component's windows.

    Papers are what a paired comparison of two runs resamples: their windows are the same. `first_xe` is that of token
    0, which XE leaves out and the area under a curve does not.
    """
    xe = float(loss_BT[:, 1:].mean())
    paper_P, place_B, windows_P = np.unique(paper_B, return_inverse=True, return_counts=True)
    parts_B = loss_BT[:, 0], loss_BT[:, 1:].mean(axis=1)
    first_P, xe_P = (np.bincount(place_B, weights=part_B) / windows_P for part_B in parts_B)
    return {
        "windows": len(loss_BT),
        "papers": len(paper_P),
        "xe": xe,
        "ppl": float(np.exp(xe)),
        "se": clustered_standard_error(loss_BT[:, 1:].mean(axis=1), paper_B),
        "xe_by_position": loss_BT.mean(axis=0).tolist(),
        "by_paper": {
            "paper_id": paper_ids[paper_P].tolist(),
            "windows": windows_P.tolist(),
            "first_xe": first_P.tolist(),
            "xe": xe_P.tolist(),
        },
    }


def clustered_standard_error(values_B: np.ndarray, cluster_B: np.ndarray) -> float | None:
    """Standard error of the mean of `values_B` when values of one cluster are dependent; None for a single cluster.

    The sandwich estimator with the small-sample factor G / (G - 1) (Cameron & Miller 2015, J. Human Resources 50:317,
    section II.B), for a regression on a constant.
    """
    _, group_B = np.unique(cluster_B, return_inverse=True)
    sums_G = np.bincount(group_B, weights=values_B - values_B.mean())
    groups = len(sums_G)
    return float(np.sqrt(groups / (groups - 1) * (sums_G**2).sum()) / len(values_B)) if groups > 1 else None
