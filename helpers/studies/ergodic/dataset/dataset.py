"""The dataset analysis: every table and figure about a token cache, and how often the runs of a study repeat it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis import latex, tables
from helpers.analysis.figures import save_figure
from helpers.analysis.results import Results
from helpers.config import DataConfig
from helpers.data.token_cache import SPLITS, TokenCache
from helpers.storage import Storage, publish_text
from helpers.studies.ergodic.dataset import figures as dataset_figures
from helpers.studies.ergodic.dataset.frames import Dataset, describe_dataset, repetition_by_run

HEADINGS = tables.HEADINGS | {
    "component": "category",
    "rank": "rank",
    "five_largest": "among the five largest",
    **{f"{split}_{unit}": f"{split} {unit}" for split in SPLITS for unit in ("papers", "tokens")},
    "papers": "papers",
    "tokens": "tokens",
    "min": "shortest (tokens)",
    "q1": "first quartile (tokens)",
    "median": "median (tokens)",
    "q3": "third quartile (tokens)",
    "mean": "mean (tokens)",
    "max": "longest (tokens)",
    "share_short": "share shorter than a window",
    "split": "split",
    "kept": "papers kept",
    "ambiguous_label": "dropped: more than one label",
    "held_out": "dropped: held-out split has it",
    "duplicate": "dropped: repeated",
    "distinct_tokens": "distinct tokens",
    "entropy": "unigram entropy (nats)",
    "jsd_mixture": "JSD to the mixture (nats)",
    "labels": "labels",
    "categories": "categories",
    "first_token_gain": "gain from the first token (nats)",
    "bound": "ln K (nats)",
    "min_jsd": "least JSD of a pair (nats)",
    "mean_jsd": "mean JSD of pairs (nats)",
    "max_jsd": "greatest JSD of a pair (nats)",
}
TITLES = {
    "dataset_papers": "Papers and tokens by category and split",
    "dataset_lengths": "Length of a train paper by category",
    "dataset_drops": "Papers dropped before the cache was made",
    "dataset_unigrams": "Unigrams of the train tokens by category",
    "dataset_separation": "How far the categories are apart in single tokens",
    "dataset_overlap": "Jensen-Shannon divergence of the unigrams of categories (nats)",
    "dataset_repetition": "Repetition of each run",
}
"""The tables in the order of a report."""


def analyse_dataset(
    storage: Storage, cache: TokenCache, results: Results | None, window_tokens: int = DataConfig.window_tokens
) -> list[Path]:
    """Write the tables and figures about `cache` and, if there are runs, their repetition of it; returns the paths.

    Tables first, then figures; equal caches and results give equal files. Raises what `describe_dataset` does.
    """
    dataset = describe_dataset(storage, cache, window_tokens)
    paths = save_dataset_tables(storage, dataset)
    if results is not None and not results.runs.empty:
        repetition = {condition: repetition_by_run(results, condition) for condition in results.conditions}
        note = "How often a run saw each of its unique tokens: tokens trained on, over tokens in its papers."
        paths += tables.save_table(storage, "dataset_repetition", TITLES["dataset_repetition"], repetition, note)
    return paths + save_dataset_figures(storage, dataset)


def save_dataset_tables(storage: Storage, dataset: Dataset) -> list[Path]:
    """Each table of a cache as CSV, with all digits, and as Markdown and LaTeX."""
    counts = dataset.counts
    contents = {
        "dataset_papers": (
            f"From {tables.escaped(dataset.origin)}: {counts['papers'].sum():,} papers with "
            f"{counts['tokens'].sum():,} tokens. Rank and the five largest are by train tokens.",
            counts,
        ),
        "dataset_lengths": (
            f"Rounded; papers shorter than a window of {dataset.window_tokens} tokens are not trained on.",
            dataset.lengths,
        ),
        "dataset_drops": (
            "A dropped paper counts once, under the first that holds: its text has more than one label, a held-out "
            "split has it too (test before validation before train), or its own split repeats it.",
            dataset.drops,
        ),
        "dataset_unigrams": (
            "The mixture gives every category the same weight, as training does when all are active.",
            dataset.unigrams,
        ),
        "dataset_separation": (
            "Who knows the unigrams but not the category of a window gains so much about it from the first token, at "
            "most ln K. What shuffled labels give comes from finite text alone.",
            dataset.separation,
        ),
        "dataset_overlap": (
            f"At most ln 2 = {np.log(2):.3f}; train tokens. Columns are the categories by their numbers.",
            dataset.overlap.reset_index(names="component"),
        ),
    }
    return [path for name, content in contents.items() for path in _save_table(storage, name, *content)]


def saved_dataset_tables(storage: Storage) -> dict[str, pd.DataFrame]:
    """Those of TITLES that lie in the storage, by name. A category may be named NA; counts with a gap are counts."""
    paths = {name: storage.table(f"{name}.csv") for name in TITLES}
    return {
        name: pd.read_csv(path, keep_default_na=False, na_values=[""]).convert_dtypes()
        for name, path in paths.items()
        if path.is_file()
    }


def readable(name: str, table: pd.DataFrame) -> tuple[pd.DataFrame, Mapping[str, str]]:
    """A table of TITLES as it is read, and its headings.

    Lengths are whole tokens. The columns of the overlap are numbers of its rows: a name from the data is no heading,
    and may be long.
    """
    if name != "dataset_overlap":
        lengths = dict.fromkeys([column for column in ("q1", "median", "q3", "mean") if column in table], 0)
        return table.round(lengths).astype(dict.fromkeys(lengths, int)), HEADINGS
    numbers = [str(number) for number in range(1, len(table) + 1)]
    numbered = table.set_axis(["component", *numbers], axis="columns")
    numbered.insert(0, "number", numbers)
    return numbered, HEADINGS | {"number": "number"} | {number: number for number in numbers}


def save_dataset_figures(storage: Storage, dataset: Dataset) -> list[Path]:
    """`fig/dataset` and `fig/dataset_overlap`, as PNG and CSV."""
    lengths = dataset.lengths.drop(columns="papers")
    sizes = dataset.counts.merge(lengths, on="component", how="left").sort_values("rank")
    overlap = dataset_figures.similar_together(dataset.overlap)
    drawn = {
        "dataset": (dataset_figures.dataset(sizes, dataset.window_tokens, dataset.origin), sizes),
        "dataset_overlap": (
            dataset_figures.dataset_overlap(overlap, dataset.separation),
            overlap.reset_index(names="component"),
        ),
    }
    return [path for name, content in drawn.items() for path in save_figure(storage, name, *content)]


def _save_table(storage: Storage, name: str, note: str, table: pd.DataFrame) -> list[Path]:
    shown, headings = readable(name, table)
    text = f"# {TITLES[name]}\n\n{note}\n\n{tables.markdown(shown, headings)}\n"
    csv = publish_text(storage.table(f"{name}.csv"), table.to_csv(index=False, lineterminator="\n"))
    tex = publish_text(storage.table(f"{name}.tex"), latex.booktabs(*tables.cells(shown, str, headings), TITLES[name]))
    return [csv, publish_text(storage.table(f"{name}.md"), text), tex]
