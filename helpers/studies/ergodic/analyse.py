"""Every table and figure of a study, and its report, from its result files to the storage."""

from pathlib import Path

from helpers.analysis import figures, tables
from helpers.analysis.results import Results, usable_results
from helpers.data.token_cache import open_cache
from helpers.storage import Storage, is_name
from helpers.studies.ergodic.condition import figure_suffix, save_science, science_of
from helpers.studies.ergodic.contrasts import by_position, by_seed
from helpers.studies.ergodic.dataset.dataset import analyse_dataset
from helpers.studies.ergodic.report.report import save_report

SIGMA_NOTE = "± is the sample standard deviation over seeds; `-` means that there is no such number, or one seed only."
SAME_NOTE = (
    "ΔXE is XE(K) - XE(1) at the same seed (`pairs` counts the seeds). Its components differ between the two runs; "
    "ΔXE over the same components compares each component with a run that was trained on it alone at the same seed "
    "(`pairs (same)` counts the components over all runs), and only it is subject to the bound ln K / T, where T is "
    "the number of averaged positions."
)


def analyse(storage: Storage, study: str) -> list[Path]:
    """Write the tables, figures and report of `study` and return their paths, the report last.

    The condition with most runs has the plain names (`fig/xe_vs_K.png`); further ones append their own.
    Raises ValueError if there is no usable result, with the reason for each file that was left out.
    """
    results = usable_results(storage, study)
    sciences = [science_of(results, condition) for condition in results.conditions]
    paths = save_tables(storage, results) + save_figures(storage, results)
    paths += save_science(storage, results, sciences) + save_dataset(storage, results)
    return paths + save_report(storage, results, sciences)


def save_dataset(storage: Storage, results: Results) -> list[Path]:
    """Tables and figures about the papers of the main condition, where their cache is in the storage."""
    runs = results.runs_of(results.conditions[0])
    cache_id = results.run_lines[runs["run_id"].iloc[0]]["provenance"].get("cache_id")
    cache = open_cache(storage, cache_id) if is_name(cache_id) else None
    return analyse_dataset(storage, cache, results, int(runs["window_tokens"].iloc[0])) if cache else []


def save_tables(storage: Storage, results: Results) -> list[Path]:
    """Each table as CSV, Markdown and LaTeX, all conditions in one file."""
    left_out = "\n".join(f"- left out: {tables.escaped(line)}" for line in results.left_out) or "No file was left out."
    contents = {
        "table_1": ("Table 1: XE and perplexity for each K", tables.table_1, f"{SIGMA_NOTE} {SAME_NOTE}"),
        "per_component": ("XE of each component", tables.per_component, f"{SIGMA_NOTE} {SAME_NOTE}"),
        "baselines": ("Baselines: models trained on one named component", tables.baselines, SIGMA_NOTE),
        "control": ("Control: shuffled labels", tables.control, f"{SIGMA_NOTE} {SAME_NOTE}"),
        "missing": ("Cells of the grid without a result", tables.missing, "Each K of the study at each seed."),
        "runs": ("Runs", tables.list_runs, left_out),
    }
    paths = []
    for name, (title, make, note) in contents.items():
        by_condition = {condition: make(results, condition) for condition in results.conditions}
        paths += tables.save_table(storage, name, title, by_condition, note)
    return paths


def save_figures(storage: Storage, results: Results) -> list[Path]:
    """Each figure of each condition, with the CSV of its numbers."""
    paths = []
    for condition in results.conditions:
        suffix = figure_suffix(results, condition)
        cells, positions = by_seed(results, condition), by_position(results, condition)
        drawn = {
            "xe_vs_K": (figures.xe_vs_k(cells, condition), cells),
            "dxe_vs_K": (figures.dxe_vs_k(cells, condition), cells),
            "xe_by_position": (figures.xe_by_position(positions, condition), positions),
        }
        for name, (figure, numbers) in drawn.items():
            paths += figures.save_figure(storage, name + suffix, figure, numbers)
    return paths
