"""A preset's runs from plan to report, as the command line and the notebook both start them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from helpers.config import RunConfig
from helpers.data.cache_id import cache_id
from helpers.data.components import component_pools
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import TokenCache, described_cache
from helpers.grid.cluster import on_cluster, parse_cluster
from helpers.grid.engines import LOCAL, EngineOptions
from helpers.grid.plan import Measure, Plan, plan_grid
from helpers.grid.runner import GridReport, run_grid
from helpers.grid.shard import WHOLE, Shard
from helpers.grid.space import require_space
from helpers.grid.status_table import GridStatus, grid_status
from helpers.processes import require_one_process
from helpers.repository import ROOT
from helpers.runs.status import run_status
from helpers.storage import Storage
from helpers.studies import find_study, known_components
from helpers.studies.preset import Components, ComponentsUnknown, Preset


def known_runs(preset: Preset, storage: Storage, shard: Shard = WHOLE) -> list[RunConfig]:
    """The runs of a preset's shard, those that measure the noise between seeds first, without a download;
    ComponentsUnknown if it takes the cache to tell them."""
    return shard.of(_in_order(preset, storage)[0])


def _in_order(preset: Preset, storage: Storage) -> tuple[list[RunConfig], list[RunConfig]]:
    """All runs of a preset as they are to be done, and those of its noise cell, which come first."""
    components = component_sizes(preset.config, described_cache(storage, cache_id(preset.config.data)))
    runs = preset.runs(components)
    first = find_study(preset.config.study).noise_cell(runs, components) if runs else []
    return [*first, *(config for config in runs if config not in first)], first


def component_sizes(config: RunConfig, cache: TokenCache | None) -> Components | None:
    """The components of a source with their usable train tokens, as far as they are known."""
    if cache is None:
        return known_components(config.data)
    pools = component_pools(config.data, cache, "train", seed=config.seed)
    return {name: pool.num_tokens for name, pool in pools.items()}


def plan_preset(
    preset: Preset, storage: Storage, shard: Shard = WHOLE, *,
    measure: Measure | None = None, seed_deviation: float | None = None, workers: int = 1, cluster: str = "",
) -> Plan:  # fmt: skip
    """The plan of a preset's shard, with what its study says of the whole grid. `measure` times steps on this device;
    `cluster` names cards, such as 8xA100, on which it is told how long the runs take.

    ValueError if the runs cannot be compared, or one of them cannot be trained or evaluated.
    """
    if cluster:
        parse_cluster(cluster)
    study = find_study(preset.config.study)
    place = () if storage.exists else (f"storage: {storage.address} is not there yet, so every run is missing",)
    runs, noise_cell = _in_order(preset, storage)
    said = study.plan_note(runs, storage, measure=measure is not None, seed_deviation=seed_deviation)
    noted = (_noise_note(noise_cell), said)
    plan = plan_grid(
        shard.of(runs), storage, axes=tuple(preset.axes), role_of=study.role_of,
        measure=measure, notes=(*place, "\n\n".join(filter(None, noted)), preset.note), workers=workers,
    )  # fmt: skip
    return replace(plan, notes=(on_cluster(plan, cluster), *plan.notes)) if cluster else plan


def _noise_note(cell: Sequence[RunConfig]) -> str:
    """What the plan says of the runs that come first; nothing where no two runs differ in their seed alone."""
    if len(cell) < 2:
        return ""
    what = f"k = {cell[0].k}" + f" on {', '.join(cell[-1].data.components)}" * bool(cell[-1].data.components)
    seeds = ", ".join(str(config.seed) for config in cell)
    return f"noise floor: the seeds of one cell come first ({what}, seeds {seeds}); a difference inside theirs is none"


def status_of(preset: Preset, storage: Storage, shard: Shard = WHOLE) -> GridStatus:
    """How far every run of a preset's shard is. ComponentsUnknown if it takes the cache to tell the runs."""
    role_of = find_study(preset.config.study).role_of
    return grid_status(known_runs(preset, storage, shard), storage, preset.axes, role_of)


def run_preset(
    preset: Preset, storage: Storage, *,
    engine: EngineOptions = LOCAL, shard: str = "", report: Callable[[str], None] = print,
) -> GridReport:  # fmt: skip
    """Build the cache and report the plan if anything is left to do, then run the study's notebook for it.

    `shard` is i/n, or empty for the whole grid. ValueError for a shard or an engine that cannot be, for runs that
    cannot be trained, evaluated or compared, and if the disk has too little space.
    """
    engine.require_possible()
    if storage.store:
        storage.store.require_shared("the notebooks of a grid")
    require_one_process("a grid starts the processes of its runs itself")
    part, study = Shard.parse(shard), find_study(preset.config.study)
    configs = _prepare(preset, storage, part, engine, report)

    def execute(chosen: Iterable[RunConfig]) -> GridReport:
        return run_grid(chosen, storage, notebook=ROOT / study.notebook, engine=engine, shard=part, report=report)

    held_out = [config for config in configs if preset.is_held_out(config)]
    others = execute(config for config in configs if config not in held_out)
    if not held_out:
        return others
    runs = known_runs(preset, storage)
    groups = [[c for c in runs if preset.is_held_out(c) == wanted] for wanted in (False, True)]
    if reason := study.before_held_out(*groups, storage, report):
        report(f"the held-out runs wait: {reason}")
        return others.with_left(held_out, reason)
    return others.joined(execute(held_out))


def measured_speed(config: RunConfig, vocab_size: int) -> float:
    """Training tokens a second of a run on this device."""
    from helpers.training.speed import measure_tokens_per_s  # imports torch, which a grid that is done does not need

    return measure_tokens_per_s(config, vocab_size)


def _prepare(
    preset: Preset, storage: Storage, shard: Shard, engine: EngineOptions, report: Callable[[str], None]
) -> list[RunConfig]:
    """The runs, after their cache was built once for all of them; without a cache if every run is done."""
    try:
        configs = known_runs(preset, storage, shard)
        if all(run_status(config, storage).status == "done" for config in configs):
            return configs
    except ComponentsUnknown:
        pass  # the cache that is built next names them
    for data in {cache_id(config.data): config.data for config in preset.grid}.values():
        ensure_cache(data, storage)
    workers = engine.most_at_once or len(known_runs(preset, storage, shard))
    plan = plan_preset(preset, storage, shard, measure=measured_speed, workers=workers)
    report(f"{plan}\n")
    require_space(plan.needed_bytes, preset.config, storage)
    return [run.config for run in plan.runs]
