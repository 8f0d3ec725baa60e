"""Every table and figure of a study, from its result files to the storage."""

from pathlib import Path

from helpers.analysis import figures, tables
from helpers.analysis.contrasts import by_position, by_seed
from helpers.analysis.results import Results, condition_file_name, load_results
from helpers.storage import Storage

SIGMA_NOTE = "± is the sample standard deviation over seeds; `-` means that there is no such number, or one seed only."
SAME_NOTE = (
    "ΔXE is XE(K) - XE(1) at the same seed (`pairs` counts the seeds). Its components differ between the two runs; "
    "ΔXE over the same components compares each component with a run that was trained on it alone at the same seed "
    "(`pairs (same)` counts the components over all runs), and only it is subject to the bound ln K / T, where T is "
    "the number of averaged positions."
)


def analyse(storage: Storage, study: str) -> list[Path]:
    """Write the tables and figures of `study` and return their paths: tables first, then figures.

    The condition with most runs has the plain names (`fig/xe_vs_K.png`); further ones append their own.
    Raises ValueError if there is no usable result, with the reason for each file that was left out.
    """
    results = load_results(storage, study)
    if results.runs.empty:
        left_out = "".join(f"\n  left out: {line}" for line in results.left_out)
        raise ValueError(
            f"no result of study {study!r} in {storage.results()}; make some with "
            f"`python -m helpers grid --study {study} --storage {storage.root}`{left_out}"
        )
    return save_tables(storage, results) + save_figures(storage, results)


def save_tables(storage: Storage, results: Results) -> list[Path]:
    """Each table as CSV and Markdown, all conditions in one file."""
    left_out = "\n".join(f"- left out: {line}" for line in results.left_out) or "No file was left out."
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
    for index, condition in enumerate(results.conditions):
        suffix = f"-{condition_file_name(condition)}" if index else ""
        cells, positions = by_seed(results, condition), by_position(results, condition)
        drawn = {
            "xe_vs_K": (figures.xe_vs_k(cells, condition), cells),
            "dxe_vs_K": (figures.dxe_vs_k(cells, condition), cells),
            "xe_by_position": (figures.xe_by_position(positions, condition), positions),
        }
        for name, (figure, numbers) in drawn.items():
            paths += figures.save_figure(storage, name + suffix, figure, numbers)
    return paths
