"""A preset's runs from plan to report, as the command line and the notebook both start them."""

from collections.abc import Callable

from helpers import studies
from helpers.config import RunConfig
from helpers.data.components import component_pools
from helpers.data.fetch_arxiv import cache_id, ensure_cache
from helpers.data.token_cache import TokenCache, open_cache
from helpers.grid.notebook_job import ROOT
from helpers.grid.plan import plan_grid
from helpers.grid.runner import GridReport, require_workers, run_grid
from helpers.grid.shard import WHOLE, Shard
from helpers.grid.space import require_space
from helpers.runs.progress import run_state
from helpers.storage import Storage
from helpers.studies.ergodic.plan_power import power_text
from helpers.studies.preset import ComponentsUnknown, Preset


def known_runs(preset: Preset, storage: Storage, shard: Shard = WHOLE) -> list[RunConfig]:
    """The runs of a preset's shard, without a download; ComponentsUnknown if it takes the cache to tell them."""
    cache = open_cache(storage, cache_id(preset.config.data))
    return shard.of(preset.runs(component_sizes(preset.config, cache)))


def component_sizes(config: RunConfig, cache: TokenCache | None) -> dict[str, int | None] | None:
    """The components of a source with their usable train tokens, as far as they are known."""
    if cache is None:
        return studies.known_components(config.data)
    return {name: pool.num_tokens for name, pool in component_pools(config, cache, "train", seed=config.seed).items()}


def run_preset(
    study: str, name: str, preset: Preset, storage: Storage, *,
    workers: int = 1, shard: str = "", report: Callable[[str], None] = print,
) -> GridReport:  # fmt: skip
    """Build the cache and report the plan if anything is left to do, then run the study's notebook for it.

    `preset` is what `name` became by a source, a tokenizer and overrides. `shard` is i/n, or empty for the whole grid.
    ValueError for a shard or a number of workers that cannot be, and if the disk has too little space.
    """
    require_workers(workers)
    part, module = Shard.parse(shard), studies.find_study(study)
    configs = _prepare(preset, storage, part, workers, report)
    base = studies.find_preset(study, name).config

    def execute(chosen: list[RunConfig]) -> GridReport:
        return run_grid(
            chosen, storage, notebook=ROOT / module.NOTEBOOK, preset=name, base=base, fields=module.PARAMETERS,
            workers=workers, shard=part, report=report,
        )  # fmt: skip

    held_out = [config for config in configs if preset.is_held_out(config)]
    others = execute([config for config in configs if config not in held_out])
    if not held_out:
        return others
    if reason := module.predict(preset, storage, report):
        report(f"the held-out runs wait: {reason}")
        return others.with_left(held_out, reason)
    return others.joined(execute(held_out))


def _prepare(
    preset: Preset, storage: Storage, shard: Shard, workers: int, report: Callable[[str], None]
) -> list[RunConfig]:
    """The runs, after their cache was built once for all of them; without a cache if every run is done."""
    try:
        configs = known_runs(preset, storage, shard)
        if all(run_state(config, storage).state == "done" for config in configs):
            return configs
    except ComponentsUnknown:
        pass  # the cache that is built next names them
    ensure_cache(preset.config.data, storage)
    configs = known_runs(preset, storage, shard)
    power = power_text(known_runs(preset, storage), storage)
    plan = plan_grid(configs, storage, measure=measured_speed, note=preset.note, power=power, workers=workers)
    report(f"{plan}\n")
    require_space(plan.needed_bytes, preset.config, storage)
    return configs


def measured_speed(config: RunConfig, vocab_size: int) -> float:
    """Training tokens a second of a run on this device."""
    from helpers.training.speed import measure_tokens_per_s  # imports torch, which a grid that is done does not need

    return measure_tokens_per_s(config, vocab_size)
