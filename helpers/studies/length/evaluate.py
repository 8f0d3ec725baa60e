"""What is measured of one step's weights: loss at every position of long sequences, and at every length of context.

Two designs, on sequences that are the same for every run of a cache. Along a sequence (`curve` rows): each target once
with carried state and once from a window, so their difference is one of the method; but positions differ in text. At
the end of a sequence (`context` rows): the very same last targets after 1, 2, 5, 10 and 20 W tokens of it, so that
lengths of context can be compared, and windows W too.

B sequences, T = 20 W targets, K targets of a chunk.
"""

from typing import Any

import numpy as np
import torch

from helpers.config import URNS_SOURCE, RunConfig
from helpers.data.components import JoinedPools, windows_of
from helpers.data.flat_tokens import flat_tokens
from helpers.data.sources.urns import ideal_loss
from helpers.device import choose_device
from helpers.models.language_model import build_model, load_weights
from helpers.models.stream_model import StreamModel
from helpers.runs.checkpoints import Tensors
from helpers.runs.events import Evaluated
from helpers.runs.result_file import Measured, Row
from helpers.stream_config import StreamConfig
from helpers.studies.length.measure import carried, total_variation, windowed
from helpers.training.run import Run

_DIGITS = 5  # of a stored loss: far below its error
MULTIPLES = StreamConfig.MULTIPLES


def evaluate(run: Run, weights: Tensors, step: int) -> Measured:
    """The `curve` and `context` rows of one step, and its summary, whose `xe` is the loss after W tokens."""
    config, window = run.config, run.config.data.window_tokens
    model, tokens_BT = _load(run, weights), sequences_of(run)
    on_device_BT = torch.from_numpy(tokens_BT).to(next(model.parameters()).device)
    carried_BT, hidden_BWD = carried(model, on_device_BT, window)
    losses = {("carried", None): carried_BT}
    losses |= {("window", r): windowed(model, on_device_BT, window, r) for r in (1, *config.stream.strides)}
    arrays = {key: loss.double().cpu().numpy() for key, loss in losses.items()}
    if config.data.source == URNS_SOURCE:
        arrays |= {("ideal carried", None): ideal_loss(tokens_BT), ("ideal window", 1): ideal_loss(tokens_BT, window)}
    contexts = [_context_row(config, model, on_device_BT, hidden_BWD, k) for k in MULTIPLES]
    rows = [*_curve_rows(config, arrays), *contexts]
    summary = _summary(config, arrays, contexts)
    run.emit(Evaluated(step=step, part=f"{len(tokens_BT)} sequences", xe=summary["xe"], bayes_xe=summary["bayes_xe"]))
    return Measured(
        rows=[{"kind": row["kind"], "step": step} | row for row in rows],
        summary={"kind": "summary", "step": step} | summary,
    )


def sequences_of(run: Run) -> np.ndarray:
    """Token ids [B, 20 W + 1] int64: the ends of `sequences` pieces of `sequence_tokens` + 1 tokens, each of one
    document, spread over the split. ValueError if it has too few."""
    config, stream = run.config, run.config.stream
    flat = flat_tokens(run.cache, config.eval.split, run.storage, run.outbox.report)
    pool = JoinedPools.of(
        windows_of(config.data, run.cache, config.eval.split, run.selection.components, seed=config.eval.seed)
    )
    size = stream.sequence_tokens + 1
    count_P = pool.length // size
    if count_P.sum() < stream.sequences:
        raise ValueError(
            f"the {config.eval.split} split has {count_P.sum()} sequences of stream.sequence_tokens + 1 = {size} "
            f"tokens in one document, and stream.sequences = {stream.sequences}; use fewer or shorter ones, or more "
            "text"
        )
    first_N = np.concatenate(
        [flat.offsets[paper] + size * np.arange(count) for paper, count in zip(pool.paper, count_P, strict=True)]
    )
    chosen_B = first_N[np.arange(stream.sequences) * len(first_N) // stream.sequences]
    length = MULTIPLES[-1] * config.data.window_tokens + 1
    return flat.tokens[chosen_B[:, None] + np.arange(size - length, size)].astype(np.int64)


def _load(run: Run, weights: Tensors) -> StreamModel:
    """The model with these weights, in float32."""
    model = build_model(run.config.model, run.cache.vocab_size, run.cache.bos_id, run.config.seed)
    load_weights(model, weights)
    return model.to(choose_device(run.config.execution)).eval()


def _curve_rows(config: RunConfig, arrays: dict[tuple[str, int | None], np.ndarray]) -> list[Row]:
    """Mean loss at every position, and at the two exact strides that of every sequence's chunks [B][T / K]."""
    rows = []
    for (mode, stride), loss_BT in arrays.items():
        row = {"kind": "curve", "mode": mode, "stride": stride, "nll_by_position": _rounded(loss_BT.mean(axis=0))}
        if stride in (None, 1):
            chunks_BC = loss_BT.reshape(len(loss_BT), -1, config.stream.chunk_tokens).mean(axis=2)
            row["nll_by_chunk"] = [_rounded(chunks_C) for chunks_C in chunks_BC]
        rows.append(row)
    return rows


def _context_row(
    config: RunConfig, model: StreamModel, tokens_BT: torch.Tensor, full_BWD: torch.Tensor, multiple: int
) -> Row:
    """The last K targets of each sequence [B] after `multiple` W tokens of it: their mean loss, and how far the
    predictions are from those after 20 W (EffRem of arXiv 2507.02782: what the tokens further back still do)."""
    window, chunk = config.data.window_tokens, config.stream.chunk_tokens
    nearest_BT = tokens_BT[:, -multiple * window - 1 :]
    loss_BT, hidden_BWD = carried(model, nearest_BT, window)
    apart_BK = total_variation(model, hidden_BWD[:, -chunk:], full_BWD[:, -chunk:])
    row = {"kind": "context", "multiple": multiple, "nll": _tail(loss_BT.double().cpu().numpy(), chunk)}
    row["effrem"] = _rounded(apart_BK.double().mean(1).cpu().numpy())
    is_known = config.data.source == URNS_SOURCE
    row["ideal_nll"] = _tail(ideal_loss(nearest_BT.cpu().numpy()), chunk) if is_known else None
    return row


def _summary(config: RunConfig, arrays: dict[tuple[str, int | None], np.ndarray], contexts: list[Row]) -> Row:
    """The document's keys: PPL at k W of both modes along the sequences, by the median over them as there, and by the
    mean; and XE after k W tokens on the last targets."""
    window, chunk = config.data.window_tokens, config.stream.chunk_tokens
    after = {row["multiple"]: float(np.mean(row["nll"])) for row in contexts}
    ideal = contexts[0]["ideal_nll"]
    summary: dict[str, Any] = {"xe": after[1], "ppl": float(np.exp(after[1]))}
    summary["bayes_xe"] = float(np.mean(ideal)) if ideal else None
    summary |= {f"xe_after_{k}xW": xe for k, xe in after.items()}
    for name, key in (("ttt", ("carried", None)), ("sw", ("window", 1))):
        for k in MULTIPLES:
            nll_B = arrays[key][:, k * window - chunk : k * window].mean(axis=1)
            summary[f"{name}_ppl_at_{k}xW"] = float(np.exp(np.median(nll_B)))
            summary[f"{name}_mean_ppl_at_{k}xW"] = float(np.exp(nll_B.mean()))
        summary[f"{name}_xe_last"] = float(arrays[key][:, -chunk:].mean())
    return summary | {f"x_pos_at_{k}xW": k * window for k in MULTIPLES}


def _tail(loss_BT: np.ndarray, chunk: int) -> list[float]:
    return _rounded(loss_BT[:, -chunk:].mean(axis=1))


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(np.asarray(values, dtype=float), _DIGITS).tolist()
