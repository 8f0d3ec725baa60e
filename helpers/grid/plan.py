"""What a grid would cost, before anything is spent: every run with its tokens, FLOPs, time, storage and status.

Nothing is downloaded to plan. What only the token cache can tell is None, and shown as "after fetch".
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.config import DataConfig, RunConfig
from helpers.data.cache_id import cache_id
from helpers.data.components import select
from helpers.data.sources import find_source
from helpers.data.token_cache import TokenCache, described_cache
from helpers.evaluation.windows import require_evaluation
from helpers.grid.costs import cost_lines
from helpers.grid.space import RunSpace, folder_bytes, needed_bytes, run_space, unpacked_bytes
from helpers.grid.status_table import GRID, axis_cells, axis_word
from helpers.grid.text import aligned, count, duration, size
from helpers.models.families import count_non_embedding, count_parameters, flops_per_token
from helpers.runs.length import order_of, training_tokens
from helpers.runs.result_file import require_same_data
from helpers.runs.status import RunStatus, run_status
from helpers.storage import Storage

Measure = Callable[[RunConfig, int], float]
"""Training tokens a second of a run on this device, given the vocabulary's size."""
_FETCH = (
    "The papers are not in the storage yet, and only they tell what is `after fetch`. `python -m helpers fetch`, with "
    "the same options, reads them; `grid` and `train` do so by themselves."
)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run; None is what is not known before the cache exists, or without a measured speed."""

    config: RunConfig
    role: str
    status: RunStatus
    components: tuple[str, ...] | None
    steps: int | None
    tokens: int | None
    """Training tokens of the whole run."""
    unique_tokens: int | None
    parameters: int | None
    non_embedding: int
    flops: int | None
    """Of training, exact: every product of the model."""
    seconds: float | None
    """Estimated time of the steps still to do."""
    space: RunSpace | None
    """Checkpoints and snapshots, without the cache that all runs share."""

    def __str__(self) -> str:
        cells = _cells(self, axes=("k", "seed", "model.size"))
        return "\n".join(f"{name:14}{value}" for name, value in cells.items())

    @property
    def repetition(self) -> float | None:
        """How often each unique token is seen on average."""
        return None if self.unique_tokens is None or self.tokens is None else self.tokens / self.unique_tokens

    @property
    def flops_6nd(self) -> int | None:
        """The rule of thumb 6 N D (Kaplan et al. 2020, arXiv 2001.08361) of all parameters."""
        return None if self.parameters is None or self.tokens is None else 6 * self.parameters * self.tokens


@dataclass(frozen=True, kw_only=True)
class Plan:
    runs: tuple[PlannedRun, ...]
    axes: tuple[str, ...]
    """What the grid varies: a column each."""
    cache_bytes: int | None
    unpacked_bytes: int = 0
    """What unpacking the cache adds to the disk of the storage."""
    workers: int = 1
    """Runs in progress at once."""
    notes: tuple[str, ...] = ()
    """What the study and the preset say of the grid."""

    @property
    def pending(self) -> list[PlannedRun]:
        return [run for run in self.runs if run.status.status != "done"]

    def total(self, field: str, *, pending: bool = False) -> float | None:
        """The sum of a field of PlannedRun over all runs, or over those not done; None if any is unknown."""
        values = [getattr(run, field) for run in (self.pending if pending else self.runs)]
        return None if None in values else sum(values)

    @property
    def storage_bytes(self) -> int | None:
        """The cache and the snapshots of all runs, once all are done."""
        if self.cache_bytes is None:
            return None
        return self.cache_bytes + sum(run.space.kept_bytes for run in self.runs if run.space)

    @property
    def needed_bytes(self) -> int | None:
        """The most that the runs to do add to the disk of the storage at any time."""
        if self.cache_bytes is None:
            return None
        spaces = [run.space for run in self.pending if run.space]
        return needed_bytes(spaces, self.workers) + (self.unpacked_bytes if spaces else 0)

    def __str__(self) -> str:
        if not self.runs:
            return "no runs"
        rows = [_cells(run, self.axes) for run in self.runs]
        alike = _alike(rows, {"role", "status", *(axis_word(axis) for axis in self.axes)})
        names = [name for name in rows[0] if name not in alike]
        table = aligned(names, [[row[name] for name in names] for row in rows])
        every = f"every run: {', '.join(f'{name} {value}' for name, value in alike.items())}" if alike else ""
        fetch = _FETCH if any(run.components is None for run in self.runs) else ""
        return "\n\n".join(part for part in (table, every, _totals(self), fetch, *self.notes) if part)


def plan_grid(
    configs: Iterable[RunConfig], storage: Storage, *,
    axes: Sequence[str], role_of: Callable[[RunConfig], str] = lambda config: GRID,
    measure: Measure | None = None, notes: Sequence[str] = (), workers: int = 1,
) -> Plan:  # fmt: skip
    """The plan of the runs of a grid over `axes`, without a download. ValueError if one of them cannot be trained or
    evaluated."""
    find_cache = functools.cache(lambda data: described_cache(storage, cache_id(data)))
    tokens_per_s = functools.cache(lambda config, vocab_size: measure(config, vocab_size)) if measure else None
    runs, caches, unpacked = [], {}, {}
    for config in configs:
        cache = find_cache(_same_cache(config.data))
        runs.append(plan_run(config, storage, cache, role=role_of(config), measure=_by_shape(tokens_per_s)))
        if cache is not None:
            caches[cache.cache_id] = folder_bytes(cache.folder)
            unpacked[cache.cache_id] = unpacked_bytes(config, cache, storage)
    known = all(run.components is not None for run in runs)
    return Plan(
        runs=tuple(runs),
        axes=tuple(axes),
        cache_bytes=sum(caches.values()) if known else None,
        unpacked_bytes=sum(unpacked.values()),
        workers=workers,
        notes=tuple(notes),
    )


def plan_run(
    config: RunConfig, storage: Storage, cache: TokenCache | None, *, role: str = GRID, measure: Measure | None = None
) -> PlannedRun:
    """The plan of one run; `cache` is None when it was not built yet."""
    status = run_status(config, storage)
    if status.result:
        require_same_data(config, status.result)
    if cache is None:
        return _plan_without_papers(config, storage, status, role, measure)
    selection = select(config, cache)
    require_evaluation(config.data, config.eval, cache, selection.components)
    order = order_of(config, selection)
    parameters = count_parameters(config.model, cache.vocab_size)
    left = 0 if status.result else order.num_tokens * (1 - (status.step or 0) / order.num_steps)
    return PlannedRun(
        config=config,
        role=role,
        status=status,
        components=selection.components,
        steps=order.num_steps,
        tokens=order.num_tokens,
        unique_tokens=selection.unique_tokens,
        parameters=parameters.total,
        non_embedding=parameters.non_embedding,
        flops=order.num_tokens * flops_per_token(config.model, cache.vocab_size, config.data.window_tokens),
        seconds=_seconds(config, cache.vocab_size, left, measure),
        space=run_space(config, order.num_steps, parameters.total, storage),
    )


def _seconds(config: RunConfig, vocab_size: int, tokens_left: float, measure: Measure | None) -> float | None:
    if tokens_left == 0:
        return 0.0
    return tokens_left / measure(config, vocab_size) if measure else None


def _plan_without_papers(
    config: RunConfig, storage: Storage, status: RunStatus, role: str, measure: Measure | None
) -> PlannedRun:
    """What the settings alone tell of a run, and the name of its tokenizer."""
    steps, tokens = _length_without_papers(config)
    vocab_size = find_source(config.data).vocab_size(config.data)
    parameters = None if vocab_size is None else count_parameters(config.model, vocab_size).total
    is_known = tokens is not None and vocab_size is not None
    return PlannedRun(
        config=config,
        role=role,
        status=status,
        components=None,
        unique_tokens=None,
        steps=steps,
        tokens=tokens,
        parameters=parameters,
        non_embedding=count_non_embedding(config.model),
        flops=tokens * flops_per_token(config.model, vocab_size, config.data.window_tokens) if is_known else None,
        seconds=_seconds(config, vocab_size, tokens, measure) if is_known else None,
        space=run_space(config, steps, parameters, storage) if None not in (steps, parameters) else None,
    )


def _length_without_papers(config: RunConfig) -> tuple[int | None, int | None]:
    """Steps and tokens, as far as the config alone gives them: under `epoch` sampling some windows are shorter."""
    tokens = training_tokens(config)
    if tokens is None or config.data.sampling == "epoch":
        return None, tokens
    return math.ceil(tokens / (config.train.batch_size * config.data.window_tokens)), tokens


def _same_cache(data: DataConfig) -> DataConfig:
    """`data` without what differs between runs of one cache, so that its id (a hash of files) is computed once."""
    return dataclasses.replace(data, components=(), shuffle_labels=False)


def _by_shape(measure: Measure | None) -> Measure | None:
    """A measure that sees one run for all runs of equal model, batch and window: speed depends on nothing else."""
    if measure is None:
        return None
    return lambda config, vocab_size: measure(
        dataclasses.replace(config, k=1, seed=0, data=_same_cache(config.data)), vocab_size
    )


def _alike(rows: Sequence[dict[str, str]], kept: set[str]) -> dict[str, str]:
    """The cells that every row has, which need no column, without those of columns that are `kept`."""
    if len(rows) < 2:
        return {}
    return {name: value for name, value in rows[0].items() if name not in kept and len({r[name] for r in rows}) == 1}


def _cells(run: PlannedRun, axes: Sequence[str]) -> dict[str, str]:
    config = run.config
    return {
        "role": run.role,
        **axis_cells(config, axes),
        **({} if "model.size" in axes else {"size": config.model.size}),
        "tokens": _known(run.tokens, count),
        "unique": _known(run.unique_tokens, count),
        "repetition": _known(run.repetition, lambda times: f"{times:.1f}x"),
        "steps": _known(run.steps, lambda steps: f"{steps:,}"),
        "parameters": _known(run.parameters, count),
        "non-embedding": _known(run.non_embedding, count),
        "FLOPs": _known(run.flops, lambda flops: f"{flops:.2e}"),
        "time": _known(run.seconds, duration, "unknown"),
        "storage": _known(run.space, lambda space: size(space.kept_bytes)),
        "while it runs": _known(run.space, lambda space: size(space.peak_bytes)),
        "status": str(run.status),
        "components": _known(run.components or config.data.components or None, " ".join),
    }


def _known(value: Any, show: Callable[[Any], str], otherwise: str = "after fetch") -> str:
    return otherwise if value is None else show(value)


def _totals(plan: Plan) -> str:
    done = len(plan.runs) - len(plan.pending)
    time = plan.total("seconds", pending=True)
    return "\n".join(
        [
            f"{len(plan.runs)} runs: {done} done, {len(plan.pending)} to do",
            f"training tokens: {_known(plan.total('tokens'), count)}, "
            f"{_known(plan.total('tokens', pending=True), count)} of them in runs to do",
            f"FLOPs: {_known(plan.total('flops'), lambda flops: f'{flops:.2e}')}, "
            f"{_known(plan.total('flops_6nd'), lambda flops: f'{flops:.2e}')} as 6 N D",
            f"time on this device, one run after another: {_known(time, duration, 'unknown')}",
            f"storage when all are done, with the cache: {_known(plan.storage_bytes, size)}",
            f"free space needed for the runs to do, {plan.workers} at a time: {_known(plan.needed_bytes, size)}",
            *_costs(plan),
        ]
    )


def _costs(plan: Plan) -> list[str]:
    """Of the runs to do, once the cache tells how large they are."""
    flops, pending = plan.total("flops", pending=True), plan.pending
    return cost_lines(flops, max(run.parameters for run in pending)) if pending and flops else []
