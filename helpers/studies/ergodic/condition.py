"""Everything that the runs of one condition say, computed once, and its tables and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from helpers.analysis import tables
from helpers.analysis.estimates import mean_over_runs
from helpers.analysis.figures import save_figure
from helpers.storage import Storage
from helpers.studies.ergodic import curves, matched_figures
from helpers.studies.ergodic.beliefs.figure import beliefs_figure
from helpers.studies.ergodic.beliefs.table import beliefs
from helpers.studies.ergodic.causes.figure import causes_figure
from helpers.studies.ergodic.causes.parts import causes, tells_causes
from helpers.studies.ergodic.decomposition import decompose
from helpers.studies.ergodic.findings import CONDITION_LIMIT, Findings, find
from helpers.studies.ergodic.forecasts.figure import forecasts_figure
from helpers.studies.ergodic.forecasts.outcome import forecast_by_k, forecast_by_run, forecast_files
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import GRID
from helpers.studies.ergodic.tables import HEADINGS

_PAPERS_NOTE = (
    "Intervals of ΔXE hold, with 95 %, the noise of the runs counted in the row and that of the papers they were "
    "measured on; `-` means that there is no such number, as for the interval of a single run."
)
_EXCESS_NOTE = "The excess over the exact value on the same windows has Student's t interval over runs."
_AREA_NOTE = (
    "The first token of files that do not hold it by paper counts as the mean of the others. Bands of the curves are "
    "over runs alone, on these papers: the files do not hold what further papers would do to one position."
)
_PARTS_NOTE = "The exact value, and the excess over it, are taken on the windows as they are."
_BELIEFS_NOTE = "Held-out R² of a ridge regression: means over runs, t intervals; `gain` is trained less untrained."
_FORECASTS_NOTE = "Written before the first step; `refused` says why one does not count."
_EXPOSURE_NOTE = (
    f"No coefficients are given where the condition number is above {CONDITION_LIMIT:.0f}: K and repetition cannot be "
    "told apart there."
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The findings of one condition with its curves, parts and comparison of sizes."""

    name: str
    findings: Findings
    in_context: pd.DataFrame
    """Rows of `curves.in_context`."""
    areas: pd.DataFrame
    """Rows of `curves.areas`."""
    decomposition: pd.DataFrame
    """Rows of `decomposition.decompose`; empty unless the allocation is `full`."""
    causes: pd.DataFrame
    """Rows of `causes.parts.causes`; empty unless the allocation is `full`."""
    beliefs: pd.DataFrame
    """Rows of `beliefs.table.beliefs`."""
    forecasts: pd.DataFrame
    """Rows of `forecasts.outcome.forecast_by_run`."""
    forecasts_by_k: pd.DataFrame
    sizes: pd.DataFrame
    """Rows of `by_size`; empty unless this is the first of conditions that differ in model size alone."""


def condition_of(results: Results, condition: str, storage: Storage) -> Condition:
    """What all usable runs of one condition say; the files of their forecasts lie in `storage`."""
    by_run = curves.curves_by_run(results, condition)
    forecasts = forecast_by_run(results, condition, forecast_files(results, storage))
    return Condition(
        name=condition,
        findings=find(results, condition),
        in_context=curves.in_context(by_run),
        areas=curves.areas(by_run),
        decomposition=decompose(results, condition, results.allocations(condition).get("constant_unique")),
        causes=causes(results, condition),
        beliefs=beliefs(results, condition),
        forecasts=forecasts,
        forecasts_by_k=forecast_by_k(forecasts),
        sizes=by_size(results, results.alike_but_for(condition, "model.size")),
    )


def by_size(results: Results, conditions: list[str]) -> pd.DataFrame:
    """One row a size and K of the grids of `conditions`: the mean XE over runs with its t interval; empty for a single
    size, and if `conditions` do not begin with their first in `results`."""
    columns = ["size", "params_non_embedding", "k", "num_runs", "xe", "low", "high"]
    if len(conditions) < 2 or conditions[0] != next(name for name in results.conditions if name in conditions):
        return pd.DataFrame(columns=columns)
    rows = []
    for condition in conditions:
        runs, _ = results.of(condition, GRID)
        for (size, parameters, k), group in runs.groupby(["size", "params_non_embedding", "k"]):
            xe = mean_over_runs(group["xe"].to_numpy())
            rows.append((size, parameters, k, len(group), xe.value, xe.low, xe.high))
    return pd.DataFrame(rows, columns=columns).sort_values(["params_non_embedding", "k"]).reset_index(drop=True)


def save_conditions(storage: Storage, results: Results, conditions: list[Condition]) -> list[Path]:
    """The tables, all conditions in one file, then the figures of each condition."""
    matched, parts = f"{_PAPERS_NOTE} {_EXCESS_NOTE}", f"{_PAPERS_NOTE} {_PARTS_NOTE}"
    makers: dict[str, tuple[str, str, Callable[[Condition], pd.DataFrame]]] = {
        "matched": ("Matched ΔXE for each K", matched, lambda own: own.findings.by_k),
        "area": ("Area under matched ΔXE over all positions", f"{_PAPERS_NOTE} {_AREA_NOTE}", lambda own: own.areas),
        "decomposition": ("Parts of matched ΔXE", parts, lambda own: own.decomposition),
        "causes": ("Causes of matched ΔXE", parts, lambda own: own.causes),
        "beliefs": ("The exact posterior in the residual stream", _BELIEFS_NOTE, lambda own: own.beliefs),
        "forecasts": ("Forecasts", _FORECASTS_NOTE, lambda own: own.forecasts),
        "contrasts": ("Components at the largest K", _PAPERS_NOTE, lambda own: own.findings.contrasts),
        "exposure": ("K and repetition as covariates of XE", _EXPOSURE_NOTE, lambda own: own.findings.exposure),
    }
    paths = []
    for name, (title, note, make) in makers.items():
        by_condition = {own.name: make(own) for own in conditions}
        paths += tables.save_table(storage, name, title, by_condition, note, HEADINGS)
    for own in conditions:
        suffix = results.file_suffix(own.name)
        for name, (figure, numbers) in _figures(own).items():
            paths += save_figure(storage, name + suffix, figure, numbers)
    return paths


def _figures(own: Condition) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """The figures that the runs suffice for, with their numbers."""
    findings, condition = own.findings, own.name
    drawn = {}
    if len(findings.by_k):
        drawn["matched"] = matched_figures.matched(findings.by_k, findings.matched, condition), findings.by_k
    if len(own.in_context):
        drawn["in_context"] = (
            matched_figures.in_context(own.in_context, own.areas, condition),
            own.in_context,
        )
    if len(told_apart(own)):
        drawn["decomposition"] = matched_figures.decomposition(own.decomposition, condition), own.decomposition
    if tells_causes(own.causes):
        drawn["causes"] = causes_figure(own.causes, condition), own.causes
    if len(own.beliefs):
        drawn["beliefs"] = beliefs_figure(own.beliefs, condition), own.beliefs
    if len(own.forecasts_by_k):
        drawn["forecasts"] = forecasts_figure(own.forecasts, own.forecasts_by_k, condition), own.forecasts
    if len(findings.contrasts):
        drawn["components"] = matched_figures.components(findings.contrasts, condition), findings.contrasts
    if len(own.sizes):
        drawn["size"] = matched_figures.size(own.sizes, _without_size(own)), own.sizes
    return drawn


def told_apart(own: Condition) -> pd.DataFrame:
    """The parts of matched dXE that the runs tell beside the total, of which there may be none."""
    parts = own.decomposition
    return parts[(parts["part"] != "total") & parts["value"].notna()]


def _without_size(own: Condition) -> str:
    """The name of the first of several conditions, without the one setting that they differ in."""
    named = next(size for size in own.sizes["size"] if f", {size}, " in own.name)
    return own.name.replace(f", {named}, ", ", ", 1)
