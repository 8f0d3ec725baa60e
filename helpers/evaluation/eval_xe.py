"""XE of a snapshot on the evaluation windows of each active component (seed document, section 5).

The windows are the same for every run, so that differences between runs are paired. XE averages window tokens 1..99:
token 0, predicted from BOS alone, is stored but not averaged. On the synthetic source the exact Bayes-optimal values
on the very same windows stand beside.

    python -m helpers eval --run RUN_ID --step 50000 --storage outputs
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.config import SYNTHETIC_SOURCE, RunConfig
from helpers.counter_rng import Stream, salt_of, words
from helpers.data import hidden_markov as synthetic
from helpers.data.components import JoinedPools, Selection, component_pools, select
from helpers.data.token_cache import TokenCache, flat_tokens, open_cache
from helpers.data.window_dataset import read_windows
from helpers.data.window_order import Windows, draw_windows
from helpers.models.language_model import build_model
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import Tensors, load_snapshot
from helpers.runs.events import Evaluated, Subscriber, print_events
from helpers.runs.result_file import Result, read_result, write_result
from helpers.settings import from_json
from helpers.storage import Storage
from helpers.training.device import choose_device

_BATCH_WINDOWS = 64


def evaluate(
    config: RunConfig,
    storage: Storage,
    cache: TokenCache,
    selection: Selection,
    weights: Tensors,
    step: int,
    emit: Subscriber,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The `xe` line of each active component and the `summary` line of one step's weights."""
    model = load_model(config, cache, weights)
    flat = flat_tokens(cache, config.eval.split, storage)
    bayes = BayesReference(config, cache, selection) if config.data.source == SYNTHETIC_SOURCE else None
    lines = []
    for component in selection.components:
        windows = evaluation_windows(config, cache, component)
        tokens_BT = read_windows(flat, windows, config.data.window_tokens)
        line = {"kind": "xe", "step": step, "component": component, "split": config.eval.split}
        line |= summarise(cross_entropy(model, tokens_BT), windows.paper, cache.index(config.eval.split).paper_ids)
        line |= bayes.values(tokens_BT, windows.paper) if bayes else dict.fromkeys(BayesReference.KEYS)
        lines.append(line)
        emit(Evaluated(step=step, component=component, xe=line["xe"], bayes_xe=line["bayes_xe"]))
    summary = {"kind": "summary", "step": step, "xe": float(np.mean([line["xe"] for line in lines]))}
    summary["ppl"] = float(np.exp(summary["xe"]))
    for key in ("bayes_xe", "bayes_known_xe"):
        summary[key] = float(np.mean([line[key] for line in lines])) if bayes else None
    return lines, summary


def evaluate_run(run_id: str, storage: Storage, step: int | None = None, emit: Subscriber = print_events) -> Path:
    """Evaluate a retained snapshot of a run that is done and add its lines to the result file.

    ValueError if the run is not done, or the step (the last one by default) was not retained.
    """
    path = storage.result(run_id)
    if not path.exists():
        raise ValueError(f"run = {run_id!r} has no result in {storage.root}; train it first")
    result = read_result(path)
    config = from_json(RunConfig, result.run["config"])
    step = result.run["steps"] if step is None else step
    cache = open_cache(storage, result.run["provenance"]["cache_id"])
    if cache is None:
        raise ValueError(
            f"the token cache of run {run_id} is not in {storage.root}; make it with `python -m helpers fetch`"
        )
    weights = load_snapshot(storage, run_id, step)
    lines, summary = evaluate(config, storage, cache, select(config, cache), weights, step, emit)
    others = [[row for row in rows if row["step"] != step] for rows in (result.xe, result.summaries)]
    return write_result(path, Result(result.run, others[0] + lines, [*others[1], summary]))


def load_model(config: RunConfig, cache: TokenCache, weights: Tensors) -> WindowModel:
    """The model with a snapshot's weights, in evaluation mode, in float32."""
    model = build_model(config.model, cache.vocab_size, cache.bos_id, config.seed)
    model.load_state_dict(weights)
    return WindowModel(model, cache.bos_id).to(choose_device(config)).eval()


def evaluation_windows(config: RunConfig, cache: TokenCache, component: str) -> Windows:
    """The windows of one component: a function of the cache and `config.eval`, the same for every K and seed."""
    pools = component_pools(config, cache, config.eval.split, seed=config.eval.seed)
    count = config.eval.windows_per_component
    words_B2 = words(config.eval.seed, Stream.EVALUATION, 2 * count, salt=salt_of(component)).reshape(count, 2)
    joined = JoinedPools.of([pools[component]])
    return draw_windows(joined, np.zeros(count, dtype=np.int64), words_B2, config.data.window_tokens)


def cross_entropy(model: WindowModel, tokens_BT: np.ndarray) -> np.ndarray:
    """Cross entropy [B, T] in nats of every token of the windows, in float64."""
    device = next(model.parameters()).device
    batches = torch.from_numpy(tokens_BT).split(_BATCH_WINDOWS)
    return torch.cat([model.cross_entropy(batch.to(device)).cpu() for batch in batches]).double().numpy()


def summarise(loss_BT: np.ndarray, paper_B: np.ndarray, paper_ids: np.ndarray) -> dict[str, Any]:
    """XE, its perplexity and standard error, and XE at every position and of every paper, from the losses of one
    component's windows. Papers are what a paired comparison of two runs resamples: their windows are the same."""
    xe = float(loss_BT[:, 1:].mean())
    paper_P, place_B, windows_P = np.unique(paper_B, return_inverse=True, return_counts=True)
    xe_P = np.bincount(place_B, weights=loss_BT[:, 1:].mean(axis=1)) / windows_P
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


class BayesReference:
    """The exact log-loss of an ideal learner of a run's training distribution, on the run's evaluation windows.

    It knows the processes and how often the run draws each: 1 / K for the active components, or under `shuffle_labels`
    the share of each true component in the shuffled pools.
    """

    KEYS = ("bayes_xe", "bayes_xe_by_position", "bayes_known_xe", "bayes_known_xe_by_position")

    def __init__(self, config: RunConfig, cache: TokenCache, selection: Selection):
        if synthetic.processes_digest(config.data.synthetic) != cache.manifest["processes_sha256"]:
            raise ValueError(
                f"the papers of cache {cache.cache_id} come from other processes than this version draws; "
                f"delete {cache.folder} to sample them anew"
            )
        self.processes = synthetic.processes(config.data.synthetic)
        self.true_component = cache.index(config.eval.split).component
        true_train = cache.index("train").component
        shares = [np.bincount(true_train[pool.paper], minlength=len(self.processes)) for pool in selection.pools]
        self.prior_K = np.mean([share / share.sum() for share in shares], axis=0)

    def values(self, tokens_BT: np.ndarray, paper_B: np.ndarray) -> dict[str, Any]:
        """Bayes values of windows, as a mixture and knowing each window's component."""
        loglik_KBT = np.stack([synthetic.log_likelihood(process, tokens_BT) for process in self.processes])
        mixture_T = synthetic.mixture_log_loss(loglik_KBT, self.prior_K).mean(axis=0)
        known_BT = -loglik_KBT[self.true_component[paper_B], np.arange(len(tokens_BT))]
        known_T = known_BT.mean(axis=0)
        values = (float(mixture_T[1:].mean()), mixture_T.tolist(), float(known_T[1:].mean()), known_T.tolist())
        return dict(zip(self.KEYS, values, strict=True))
