"""The dataset analysis: every table and figure about the papers of a token cache, and how often runs repeat them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis import latex, tables
from helpers.analysis.figures import save_figure
from helpers.config import SPLITS, DataConfig
from helpers.data.token_cache import TokenCache, described_cache
from helpers.storage import Storage, is_name, publish_text
from helpers.studies.ergodic.dataset import figures as dataset_figures
from helpers.studies.ergodic.dataset.frames import Dataset, describe_dataset, repetition_by_run
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.tables import HEADINGS as RUN_HEADINGS

HEADINGS = RUN_HEADINGS | {
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


@dataclass(frozen=True, kw_only=True)
class Description:
    """What was written about the papers of one cache."""

    conditions: tuple[str, ...]
    """Whose runs were trained on them."""
    tables: dict[str, pd.DataFrame]
    """Those of TITLES, in their order."""
    figures: tuple[Path, ...]
    paths: tuple[Path, ...]
    """Every file that was written, tables first."""


def describe_papers(storage: Storage, results: Results) -> list[Description]:
    """Write tables and figures about the papers of each condition whose cache is in the storage, once for each cache.

    Those of the first condition have the plain names; further ones append the name of their condition.
    """
    by_cache: dict[tuple[str, int], list[str]] = {}
    for condition in results.conditions:
        runs = results.runs_of(condition)
        cache_id = results.run_lines[runs["run_id"].iloc[0]]["provenance"].get("cache_id")
        if is_name(cache_id):
            by_cache.setdefault((cache_id, int(runs["window_tokens"].iloc[0])), []).append(condition)
    found = []
    for (cache_id, window_tokens), conditions in by_cache.items():
        if cache := described_cache(storage, cache_id):
            suffix = results.file_suffix(conditions[0])
            found.append(analyse_dataset(storage, cache, results, conditions, window_tokens, suffix))
    return found


def analyse_dataset(
    storage: Storage, cache: TokenCache, results: Results | None = None, conditions: Sequence[str] = (),
    window_tokens: int = DataConfig.window_tokens, suffix: str = "",
) -> Description:  # fmt: skip
    """Write the tables and figures about `cache` and, where there are runs on it, their repetition of its tokens.

    Equal caches and results give equal files. Raises what `describe_dataset` does.
    """
    dataset = describe_dataset(storage, cache, window_tokens)
    frames = dataset_tables(dataset)
    paths = [path for name, (note, table) in frames.items() for path in _save_table(storage, name, suffix, note, table)]
    contents = {name: table for name, (_, table) in frames.items()}
    if results is not None and conditions:
        repetition = {condition: repetition_by_run(results, condition) for condition in conditions}
        note = "How often a run saw each of its unique tokens: tokens trained on, over tokens in its papers."
        name, title = f"dataset_repetition{suffix}", TITLES["dataset_repetition"]
        paths += tables.save_table(storage, name, title, repetition, note, HEADINGS)
        contents["dataset_repetition"] = pd.concat(
            [table.assign(condition=condition) for condition, table in repetition.items()], ignore_index=True
        )
    figures = save_dataset_figures(storage, dataset, suffix)
    pictures = tuple(path for path in figures if path.suffix == ".png")
    return Description(conditions=tuple(conditions), tables=contents, figures=pictures, paths=(*paths, *figures))


def dataset_tables(dataset: Dataset) -> dict[str, tuple[str, pd.DataFrame]]:
    """A note and the numbers of each table of a cache."""
    counts = dataset.counts
    return {
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


def save_dataset_figures(storage: Storage, dataset: Dataset, suffix: str = "") -> list[Path]:
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
    return [path for name, content in drawn.items() for path in save_figure(storage, name + suffix, *content)]


def _save_table(storage: Storage, name: str, suffix: str, note: str, table: pd.DataFrame) -> list[Path]:
    """Each table of a cache as CSV, with all digits, and as Markdown and LaTeX."""
    shown, headings = readable(name, table)
    text = f"# {TITLES[name]}\n\n{note}\n\n{tables.markdown(shown, headings)}\n"
    file = f"{name}{suffix}"
    csv = publish_text(storage.table(f"{file}.csv"), table.to_csv(index=False, lineterminator="\n"))
    tex = publish_text(storage.table(f"{file}.tex"), latex.booktabs(*tables.cells(shown, str, headings), TITLES[name]))
    return [csv, publish_text(storage.table(f"{file}.md"), text), tex]
