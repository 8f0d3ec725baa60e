"""Every table and figure of the study, and its report, from its result files to the storage."""

from pathlib import Path

from helpers.analysis.figures import save_figure
from helpers.analysis.tables import escaped, save_table
from helpers.storage import Storage
from helpers.studies.ergodic import figures, tables
from helpers.studies.ergodic.condition import condition_of, save_conditions
from helpers.studies.ergodic.contrasts import by_position, by_seed
from helpers.studies.ergodic.dataset.dataset import describe_papers
from helpers.studies.ergodic.report.report import save_report
from helpers.studies.ergodic.results import Results, usable_results

SIGMA_NOTE = "± is the sample standard deviation over seeds; `-` means that there is no such number, or one seed only."
SAME_NOTE = (
    "ΔXE is XE(K) - XE(1) at the same seed (`pairs` counts the seeds). Its components differ between the two runs; "
    "ΔXE over the same components compares each component with a run that was trained on it alone at the same seed "
    "(`pairs (same)` counts the components over all runs), and only it is subject to the bound ln K / T, where T is "
    "the number of averaged positions."
)


def analyse(storage: Storage) -> list[Path]:
    """Write the tables, figures and report of the study and return their paths, the report last.

    The condition with most runs has the plain names (`fig/xe_vs_K.png`); further ones append their own.
    Raises ValueError if there is no usable result, with the reason for each file that was left out.
    """
    results = usable_results(storage)
    conditions = [condition_of(results, name, storage) for name in results.conditions]
    paths = save_tables(storage, results) + save_figures(storage, results)
    paths += save_conditions(storage, results, conditions)
    described = describe_papers(storage, results)
    paths += [path for description in described for path in description.paths]
    return storage.delivered(paths + save_report(storage, results, conditions, described))


def save_tables(storage: Storage, results: Results) -> list[Path]:
    """Each table as CSV, Markdown and LaTeX, all conditions in one file."""
    left_out = "\n".join(f"- left out: {escaped(line)}" for line in results.left_out) or "No file was left out."
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
        paths += save_table(storage, name, title, by_condition, note, tables.HEADINGS)
    return paths


def save_figures(storage: Storage, results: Results) -> list[Path]:
    """Each figure of each condition that there are numbers for, with their CSV."""
    paths = []
    for condition in results.conditions:
        suffix = results.file_suffix(condition)
        cells, positions = by_seed(results, condition), by_position(results, condition)
        drawn = {}
        if cells["xe"].notna().any():
            drawn["xe_vs_K"] = figures.xe_vs_k(cells, condition), cells
            drawn["xe_by_position"] = figures.xe_by_position(positions, condition), positions
        if figures.differences(cells):
            drawn["dxe_vs_K"] = figures.dxe_vs_k(cells, condition), cells
        for name, (figure, numbers) in drawn.items():
            paths += save_figure(storage, name + suffix, figure, numbers)
    return paths
