"""The dataset analysis: every table and figure about a token cache, and how often the runs of a study repeat it."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis import dataset_figures, latex, tables
from helpers.analysis.dataset_frames import Dataset, describe_dataset, repetition_by_run
from helpers.analysis.figures import save_figure
from helpers.analysis.results import Results
from helpers.config import DataConfig
from helpers.data.token_cache import TokenCache
from helpers.storage import Storage, publish_text

HEADINGS = {
    "component": "category",
    "five_largest": "among the five largest",
    "q1": "first quartile",
    "q3": "third quartile",
    "share_short": "share shorter than a window",
    "ambiguous_label": "dropped: more than one label",
    "held_out": "dropped: held-out split has it",
    "duplicate": "dropped: repeated",
    "entropy": "unigram entropy (nats)",
    "jsd_mixture": "JSD to the mixture (nats)",
    "first_token_gain": "gain from the first token (nats)",
    "bound": "ln K",
    "min_jsd": "least JSD of a pair",
    "mean_jsd": "mean JSD of pairs",
    "max_jsd": "greatest JSD of a pair",
}


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
        paths += tables.save_table(storage, "dataset_repetition", "Repetition of each run", repetition, note)
    return paths + save_dataset_figures(storage, dataset)


def save_dataset_tables(storage: Storage, dataset: Dataset) -> list[Path]:
    """Each table of a cache as CSV, with all digits, and as Markdown and LaTeX."""
    counts = dataset.counts
    contents = {
        "dataset_papers": (
            "Papers and tokens by category and split",
            f"From {tables.escaped(dataset.origin)}: {counts['papers'].sum():,} papers with "
            f"{counts['tokens'].sum():,} tokens. Rank and the five largest are by train tokens.",
            counts,
        ),
        "dataset_lengths": (
            "Length of a train paper by category",
            f"In tokens, rounded; papers shorter than a window of {dataset.window_tokens} tokens are not trained on.",
            dataset.lengths,
        ),
        "dataset_drops": (
            "Papers dropped before the cache was made",
            "A dropped paper counts once, under the first that holds: its text has more than one label, a held-out "
            "split has it too (test before validation before train), or its own split repeats it.",
            dataset.drops,
        ),
        "dataset_unigrams": (
            "Unigrams of the train tokens by category",
            "The mixture gives every category the same weight, as training does when all are active.",
            dataset.unigrams,
        ),
        "dataset_separation": (
            "How far the categories are apart in single tokens",
            "Who knows the unigrams but not the category of a window gains so much about it from the first token, at "
            "most ln K; JSD in nats. What shuffled labels give comes from finite text alone.",
            dataset.separation,
        ),
    }
    paths = []
    for name, (title, note, table) in contents.items():
        paths += _save_table(storage, name, title, note, table, _readable(table))
    return paths + _save_overlap_table(storage, dataset.overlap)


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


def _save_overlap_table(storage: Storage, overlap: pd.DataFrame) -> list[Path]:
    """The matrix. Its readable columns are numbers of its rows: a name from the data is no heading, and may be long."""
    title = "Jensen-Shannon divergence of the unigrams of categories"
    note = f"In nats, at most ln 2 = {np.log(2):.3f}; train tokens. Columns are the categories by their numbers."
    numbers = [str(number) for number in range(1, len(overlap) + 1)]
    readable = overlap.set_axis(numbers, axis="columns").reset_index(names="category")
    readable.insert(0, "number", numbers)
    return _save_table(storage, "dataset_overlap", title, note, overlap.reset_index(names="component"), readable)


def _save_table(
    storage: Storage, name: str, title: str, note: str, exact: pd.DataFrame, readable: pd.DataFrame
) -> list[Path]:
    text = f"# {title}\n\n{note}\n\n{tables.markdown(readable)}\n"
    csv = publish_text(storage.table(f"{name}.csv"), exact.to_csv(index=False, lineterminator="\n"))
    tex = publish_text(storage.table(f"{name}.tex"), latex.booktabs(*tables.cells(readable, str), title))
    return [csv, publish_text(storage.table(f"{name}.md"), text), tex]


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Lengths as whole tokens, and headings in words."""
    lengths = [name for name in ("q1", "median", "q3", "mean") if name in table]
    whole = table.round(dict.fromkeys(lengths, 0)).astype(dict.fromkeys(lengths, int))
    return whole.rename(columns=lambda name: HEADINGS.get(name, name.replace("_", " ")))
