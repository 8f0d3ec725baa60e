"""The runs of the length study as arrays: loss after every length of context, and along every sequence.

C conditions hold what is not an axis. B sequences, P positions, X chunks of a sequence.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.analysis.conditions import condition_names, shared_settings
from helpers.analysis.results import Found, ResultFiles, array, number, read_results
from helpers.config import RunConfig
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result, Row
from helpers.settings import field_value
from helpers.storage import Storage
from helpers.stream_config import StreamConfig
from helpers.studies.length.presets import AXES, FACTORS, NAME, REFERENCE

MULTIPLES = StreamConfig.MULTIPLES
Arm = tuple[str, ...]
"""Values of the factors mixer, inner and state."""
REFERENCE_ARM: Arm = tuple(REFERENCE.values())


@dataclass(frozen=True, kw_only=True)
class LengthRun:
    """One run with all that was measured of it; steps ascending, the last one the end."""

    found: Found
    condition: str
    speeds: tuple[float, ...] = ()
    """Training tokens a second of each log."""

    @property
    def config(self) -> RunConfig:
        return self.found.config

    @property
    def run_id(self) -> str:
        return self.found.result.run["run_id"]

    @property
    def window(self) -> int:
        return self.config.data.window_tokens

    @property
    def arm(self) -> Arm:
        return tuple(field_value(self.config, factor) for factor in FACTORS)

    @property
    def chunk(self) -> int:
        return self.config.stream.chunk_tokens

    @functools.cached_property
    def summaries(self) -> list[Row]:
        return self.found.result.summaries

    @property
    def steps(self) -> list[int]:
        return [summary["step"] for summary in self.summaries]

    @property
    def end(self) -> int:
        return self.steps[-1]

    @functools.cached_property
    def best(self) -> Row:
        """The summary of the lowest XE after W tokens."""
        return min(self.summaries, key=lambda summary: summary["xe"])

    @functools.cached_property
    def _contexts(self) -> dict[tuple[int, int], Row]:
        return {(row["step"], row["multiple"]): row for row in self.found.result.rows_of("context")}

    @functools.cached_property
    def _curves(self) -> dict[tuple[int, str, int | None], Row]:
        return {(row["step"], row["mode"], row["stride"]): row for row in self.found.result.rows_of("curve")}

    def after(self, multiple: int, step: int | None = None, field: str = "nll") -> np.ndarray:
        """[B] of the last targets of each sequence after `multiple` W tokens, with carried state: loss in nats
        (`nll`), the ideal reader's (`ideal_nll`, NaN where none is known), or EffRem (`effrem`)."""
        values = self._contexts[self.end if step is None else step, multiple][field]
        return np.full(self.config.stream.sequences, np.nan) if values is None else np.array(values, dtype=float)

    def from_window(self, step: int | None = None) -> np.ndarray:
        """[B] loss in nats on the same targets, each from the W tokens before it."""
        return self.chunks("window", step)[:, -1]

    def chunks(self, mode: str, step: int | None = None) -> np.ndarray:
        """[B, X] mean loss of every chunk of every sequence; the window at stride 1."""
        row = self._curves[self.end if step is None else step, mode, 1 if mode.endswith("window") else None]
        return np.array(row["nll_by_chunk"], dtype=float)

    def by_position(self, mode: str, stride: int | None, step: int | None = None) -> np.ndarray:
        """[P] mean loss over sequences."""
        return np.array(self._curves[self.end if step is None else step, mode, stride]["nll_by_position"], dtype=float)

    @property
    def has_ideal(self) -> bool:
        return (self.end, "ideal carried", None) in self._curves

    @property
    def seconds_per_step(self) -> float:
        """Of training alone, the median over logs; NaN where no log was kept."""
        if not self.speeds:
            return float("nan")
        return self.config.train.batch_size * self.window / float(np.median(self.speeds))


def load_files(storage: Storage) -> ResultFiles:
    """The result files of the study."""
    return read_results(storage, NAME, _check)


def runs_of(files: ResultFiles, storage: Storage) -> list[LengthRun]:
    """Every run with its condition, windows, arms and seeds ascending."""
    found = list(files.found.values())
    names = condition_names([shared_settings(one.config, ("study", *AXES)) for one in found])
    pairs = zip(found, names, strict=True)
    runs = [LengthRun(found=one, condition=name, speeds=_speeds(storage, one)) for one, name in pairs]
    return sorted(runs, key=lambda run: (run.condition, run.arm != REFERENCE_ARM, run.arm, run.window, run.config.seed))


def paired(left: Sequence[LengthRun], right: Sequence[LengthRun]) -> list[tuple[LengthRun, LengthRun]]:
    """Runs of equal seed; where seeds are missing on one side, those of the other are left out."""
    of_seed = {run.config.seed: run for run in right}
    return [(run, of_seed[run.config.seed]) for run in left if run.config.seed in of_seed]


def _speeds(storage: Storage, found: Found) -> tuple[float, ...]:
    rows = read_metrics(metrics_path(storage, found.result.run["run_id"]))
    return tuple(float(row["tokens_per_s"]) for row in rows if row.get("tokens_per_s"))


def _check(result: Result, config: RunConfig) -> None:
    """ValueError, LookupError or TypeError for a result whose numbers cannot be counted."""
    stream = config.stream
    if stream is None:
        raise ValueError("has no stream of documents in its config")
    num_positions = MULTIPLES[-1] * config.data.window_tokens
    run = LengthRun(found=Found(result, config), condition="")
    for step in run.steps:
        for multiple in MULTIPLES:
            for field in ("nll", "effrem"):
                array(run._contexts[step, multiple][field], stream.sequences)
        for mode, stride in (("carried", None), ("window", 1), *(("window", r) for r in stream.strides)):
            array(run._curves[step, mode, stride]["nll_by_position"], num_positions)
        for mode in ("carried", "window"):
            chunks_BX, expected = run.chunks(mode, step), (stream.sequences, num_positions // stream.chunk_tokens)
            if chunks_BX.shape != expected or not np.isfinite(chunks_BX).all():
                raise ValueError(f"has chunks of shape {chunks_BX.shape} at step {step}, not {expected} finite numbers")
    for summary in run.summaries:
        number(summary["xe"])
