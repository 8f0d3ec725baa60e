"""What every text source becomes: three splits whose rows read as (text, label name), with errors that name the row."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetGenerationError

from helpers.config import SPLITS
from helpers.errors import shortened

COLUMNS = ("text", "label")


class Paper(NamedTuple):
    text: str
    label: str
    """As it is written: white space may stand around the name."""


@dataclass(frozen=True, kw_only=True)
class PaperSplit:
    """The papers of one split. Texts stay on disk (Arrow) until they are read."""

    name: str
    rows: Dataset
    """Columns text and label; a label is a name, or an integer that counts `label_names`."""
    label_names: tuple[str, ...] | None = None
    legal_labels: tuple[str, ...] | None = None
    """The only names a label may have; None: any."""
    deleted: tuple[str, ...] = ()
    """Strings to delete from every text."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Rows of the source that are not among `rows`, by reason."""

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Sequence[int]) -> list[Paper]:
        """The papers at `rows`; ValueError names the split and the row of a bad text or label."""
        try:
            batch = self.rows[rows]
        except UnicodeDecodeError:
            batch = self._read_one_by_one(rows)
        return [self._paper(*item) for item in zip(rows, batch["text"], batch["label"], strict=True)]

    def _read_one_by_one(self, rows: Sequence[int]) -> dict[str, list[Any]]:
        papers = []
        for row in rows:
            try:
                papers.append(self.rows[row])
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.name} row {row}: text is not UTF-8 ({error}); save it as UTF-8") from error
        return {column: [paper[column] for paper in papers] for column in COLUMNS}

    def _paper(self, row: int, text: Any, label: Any) -> Paper:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"{self.name} row {row}: text = {shortened(text)} holds no text; remove the row or fill it in"
            )
        for string in self.deleted:
            text = text.replace(string, "")
        return Paper(text, self._label_name(row, label))

    def _label_name(self, row: int, label: Any) -> str:
        where = f"{self.name} row {row}: label = {shortened(label)}"
        if isinstance(label, int) and self.label_names is None:
            raise ValueError(f"{where} is a number without a name; give names, or a ClassLabel feature that holds them")
        if isinstance(label, int) and 0 <= label < len(self.label_names):
            label = self.label_names[label]
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{where} names no component; every paper needs one, for example 'math.GR'")
        if self.legal_labels and label.strip() not in self.legal_labels:
            raise ValueError(f"{where} is unknown; the labels here are {', '.join(self.legal_labels)}")
        return label


@dataclass(frozen=True, kw_only=True)
class TextSource:
    origin: str
    """Where the papers came from, in words; no folder of this machine."""
    splits: dict[str, PaperSplit] = field(repr=False)


def paper_splits(
    loaded: Mapping[str, Dataset | IterableDataset],
    *,
    cache_folder: Path,
    limit: int | None = None,
    label_names: tuple[str, ...] | None = None,
    legal_labels: tuple[str, ...] | None = None,
    deleted: tuple[str, ...] = (),
) -> dict[str, PaperSplit]:
    """The splits that `datasets.load_dataset` gave, in the order of SPLITS.

    With a `limit`, only the first so many papers of each label and split are read and kept in `cache_folder`; a
    stream is left as soon as every label has them. `label_names` stands in where the data carry no ClassLabel.
    Raises ValueError for a missing split (validation may be missing) or column, or unknown ClassLabel names.
    """
    missing = [name for name in ("train", "test") if name not in loaded]
    if missing:
        raise ValueError(f"split {missing[0]!r} is missing; there are {', '.join(loaded) or 'none'}")
    splits = {}
    for name in SPLITS:
        if name in loaded:
            rows = loaded[name]
            _require_columns(name, rows)
            names = _class_names(rows) or label_names
            if legal_labels and names and set(names) - set(legal_labels):
                unknown = sorted(set(names) - set(legal_labels))
                raise ValueError(f"{name}: label {unknown[0]!r} is unknown; the labels are {', '.join(legal_labels)}")
            rows = _first_papers(rows, limit, names or legal_labels, cache_folder) if limit else rows
            splits[name] = PaperSplit(
                name=name,
                rows=rows.select_columns(list(COLUMNS)),
                label_names=names,
                legal_labels=legal_labels,
                deleted=deleted,
            )
    return splits


def story_splits(
    stories: Mapping[str, Iterable[Mapping[str, Any]]], *, component: str, cache_folder: Path, limit: int | None
) -> dict[str, PaperSplit]:
    """The stories of each split, rows with a column text, as papers of one component, kept in `cache_folder`.

    White space around a story is no part of it. Blank stories, of which TinyStories has a few, are left out and
    counted. With a `limit`, only the first so many rows of each split are read.
    """
    splits = {}
    for name, rows in stories.items():
        arguments = {"rows": rows, "component": component, "limit": limit}
        read = generated_split(name, _walk_stories, arguments, cache_folder).rows
        told = read.filter(lambda texts: list(map(bool, texts)), input_columns="text", batched=True)
        splits[name] = PaperSplit(name=name, rows=told, drops={"blank": len(read) - len(told)})
    return splits


def generated_split(
    name: str, rows: Callable[..., Iterator[dict[str, str]]], arguments: dict[str, Any], cache_folder: Path
) -> PaperSplit:
    """The split of the rows that `rows(**arguments)` yields, kept in `cache_folder`; its ValueError is passed on."""
    features = Features({column: Value("string") for column in COLUMNS})
    try:
        kept = Dataset.from_generator(rows, features=features, cache_dir=str(cache_folder), gen_kwargs=arguments)
    except DatasetGenerationError as error:
        raise (error.__cause__ if isinstance(error.__cause__, ValueError) else error) from None
    return PaperSplit(name=name, rows=kept)


def _walk_stories(rows: Iterable[Mapping[str, Any]], component: str, limit: int | None) -> Iterator[dict[str, str]]:
    for row in itertools.islice(rows, limit):
        yield {"text": row["text"].strip(), "label": component}


def _require_columns(split: str, rows: Dataset | IterableDataset) -> None:
    columns = rows.column_names or list(next(iter(rows), {}))  # a stream may know its columns only from a row
    for column in COLUMNS:
        if column not in columns:
            raise ValueError(f"{split}: column {column!r} is missing; there are {', '.join(columns) or 'none'}")


def _class_names(rows: Dataset | IterableDataset) -> tuple[str, ...] | None:
    feature = (rows.features or {}).get("label")
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None


def _first_papers(
    rows: Dataset | IterableDataset, limit: int, labels: tuple[str, ...] | None, cache_folder: Path
) -> Dataset:
    features = Features({column: rows.features[column] for column in COLUMNS}) if rows.features else None
    arguments = {"rows": rows, "limit": limit, "num_labels": len(labels) if labels else None}
    return Dataset.from_generator(_walk, features=features, cache_dir=str(cache_folder), gen_kwargs=arguments)


def _walk(rows: Dataset | IterableDataset, limit: int, num_labels: int | None) -> Iterator[dict[str, Any]]:
    """The first `limit` rows of each label; ends early when all `num_labels` have that many."""
    taken: dict[Any, int] = {}
    for row in rows:
        label = row["label"]
        if taken.get(label, 0) < limit:
            taken[label] = taken.get(label, 0) + 1
            yield {column: row[column] for column in COLUMNS}
            if sum(count == limit for count in taken.values()) == num_labels:
                return


def hub_failure(repository: str, error: BaseException, instead: str) -> RuntimeError:
    """That a repository of the Hub could not be read, why, and what can be done `instead`."""
    return RuntimeError(
        f"{repository} could not be read from the Hub ({type(error).__name__}: {first_cause(error)}). "
        f"Check the network and run again, or go on without the Hub: {instead}"
    )


def first_cause(error: BaseException) -> str:
    """The first line of what went wrong first: `datasets` wraps the cause in words that name nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
