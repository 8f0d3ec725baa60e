"""Result files of the length study with losses that are chosen, so that what must be found is known."""

import datetime
import json

import numpy as np

from helpers.config import RunConfig, to_json
from helpers.runs.metrics import metrics_path
from helpers.runs.result_file import Result, write_result
from helpers.settings import replace_fields
from helpers.storage import Storage, publish_text
from helpers.studies.length.presets import PRESETS

SEQUENCES, STEPS = 24, (0, 250, 500)
MULTIPLES = (1, 2, 5, 10, 20)


def config_of(window: int, seed: int, **factors: str) -> RunConfig:
    fields = {"data.window_tokens": window, "seed": seed, "stream.sequences": SEQUENCES}
    return replace_fields(PRESETS["demo"].config, fields | {name.replace("_", "."): v for name, v in factors.items()})


def save(
    storage: Storage,
    config: RunConfig,
    *,
    near: float = 3.0,
    gain: float = 0.1,
    window_gain: float = 0.05,
    tokens_per_s: float = 1000.0,
    noise: float = 0.01,
    device: str = "cpu",
) -> Result:
    """A run whose loss after W tokens is `near` at the end, after k W tokens lower by `gain` log10(k), and from a
    window lower by `window_gain`; sequences differ by 0.5 nats and seeds by `noise`."""
    window, seed = config.data.window_tokens, config.seed
    text_B = np.random.default_rng(0).normal(
        0, 0.5, SEQUENCES
    )  # the difficulty of the sequences, for all runs the same
    own = np.random.default_rng([window, seed, len(config.run_id)])
    chunk, num_positions = config.stream.chunk_tokens, 20 * window
    rows, summaries = [], []
    for step in STEPS:
        level = near + 0.4 * (1 - step / STEPS[-1])

        def losses(mean: float, level=level) -> list[float]:
            return (level + mean + text_B + own.normal(0, noise) + own.normal(0, noise, SEQUENCES)).tolist()

        after = {k: losses(-gain * np.log10(k)) for k in MULTIPLES}
        rows += [
            {"kind": "context", "step": step, "multiple": k, "nll": after[k], "effrem": [0.1 / k] * SEQUENCES,
             "ideal_nll": None}
            for k in MULTIPLES
        ]  # fmt: skip
        far_X = -gain * np.log10(np.maximum(1, (np.arange(num_positions // chunk) + 1) * chunk / window))
        for mode, stride in (("carried", None), ("window", 1), *(("window", r) for r in config.stream.strides)):
            mean_X = far_X if mode == "carried" else np.minimum(0 * far_X - window_gain, far_X * 0)
            chunks = [(level + text + mean_X).tolist() for text in text_B]
            if mode == "window":
                chunks = [[*row[:-1], last] for row, last in zip(chunks, losses(-window_gain), strict=True)]
            row = {"kind": "curve", "step": step, "mode": mode, "stride": stride}
            row["nll_by_position"] = np.repeat(np.mean(chunks, axis=0), chunk).tolist()
            rows.append(row | ({"nll_by_chunk": chunks} if stride in (None, 1) else {}))
        ppl = {f"{name}_ppl_at_{k}xW": float(np.exp(level)) for name in ("ttt", "sw") for k in MULTIPLES}
        ppl |= {f"{name}_mean_ppl_at_{k}xW": float(np.exp(level)) for name in ("ttt", "sw") for k in MULTIPLES}
        summaries.append({"kind": "summary", "step": step, "xe": float(np.mean(after[1])), **ppl})
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).isoformat()
    line = {
        "kind": "run", "schema": 1, "run_id": config.run_id, "study": "length", "config": to_json(config),
        "provenance": {
            "started": now, "finished": now, "cache_id": "x",
            "sessions": [{"from_step": 0, "to_step": STEPS[-1], "device": device}],
        },
        "params": {"total": 1000}, "tokens_seen": STEPS[-1] * config.train.batch_size * window, "steps": STEPS[-1],
        "schedule_complete": True,
    }  # fmt: skip
    result = Result(run=line, rows=rows, summaries=summaries)
    write_result(storage.result(config.run_id), result)
    logs = [
        {"step": step, "tokens": step, "tokens_per_s": tokens_per_s * (1 + 0.01 * seed)} for step in (100, 200, 300)
    ]
    publish_text(metrics_path(storage, config.run_id), "".join(json.dumps(row) + "\n" for row in logs))
    return result
