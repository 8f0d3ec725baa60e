"""Text sources: arXiv papers and TinyStories from the Hugging Face Hub, and local files of papers or of stories.

`ccdv/arxiv-classification` was published with a loading script, which `datasets` 4 no longer runs, and was converted
since. Its `no_ref` form has the eleven label strings deleted from every text, so that a paper does not name its
class. A chain tries the four forms in which it may be reachable, best first, and says what it tried.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import datasets.exceptions

from helpers.config import ARXIV_COMPONENTS, ARXIV_SOURCE
from helpers.data.sources import files as local_files
from helpers.data.sources import stories
from helpers.data.sources.papers import PaperSplit, paper_splits, story_splits
from helpers.data.token_cache import SPLITS

Report = Callable[[str], None]
Load = Callable[..., Mapping[str, Any]]
"""`datasets.load_dataset`, or a stand-in of the same shape."""

ARXIV_REPOSITORY = "ccdv/arxiv-classification"
_SCRIPT_REVISION = "f9bd92144ed76200d6eb3ce73a8bd4eba9ffdc85"
_MIRROR, _MIRROR_REVISION = "mteb/ArxivClassification", "5e80893bf045abefbf8cbe5d713bddc91ae158d5"

# The repository's own numbering: the order of its ClassLabel, and the order in which no_ref deletes the strings.
HUB_LABELS = (
    "math.AC", "cs.CV", "cs.AI", "cs.SY", "math.GR", "cs.CE", "cs.PL", "cs.IT", "cs.DS", "cs.NE", "math.ST",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to reach the papers: arguments of `load_dataset`, and what its data lack."""

    name: str
    arguments: dict[str, Any]
    deleted: tuple[str, ...] = ()
    """Strings to delete from every text, where the data are not `no_ref` yet."""
    label_names: tuple[str, ...] | None = None
    """What integer labels mean, where the data do not say."""


def _script_files() -> dict[str, str]:
    root = f"hf://datasets/{ARXIV_REPOSITORY}@{_SCRIPT_REVISION}"
    stems = {"train": "train", "validation": "val", "test": "test"}
    return {split: f"{root}/{stem}_data.txt" for split, stem in stems.items()}


ATTEMPTS = (
    Attempt(
        name=f"{ARXIV_REPOSITORY} (no_ref)",
        arguments={"path": ARXIV_REPOSITORY, "name": "no_ref"},
    ),
    Attempt(  # data_dir, not name: without it the branch gives both configurations, every paper twice
        name=f"{ARXIV_REPOSITORY}@refs/convert/parquet (no_ref)",
        arguments={"path": ARXIV_REPOSITORY, "data_dir": "no_ref", "revision": "refs/convert/parquet"},
    ),
    Attempt(
        name=f"{ARXIV_REPOSITORY}@{_SCRIPT_REVISION[:7]} (JSON lines, label strings deleted here)",
        arguments={"path": "json", "data_files": _script_files()},
        deleted=HUB_LABELS,
    ),
    Attempt(
        name=f"{_MIRROR}@{_MIRROR_REVISION[:7]} (mirror, label strings deleted here)",
        arguments={"path": _MIRROR, "revision": _MIRROR_REVISION},
        deleted=HUB_LABELS,
        label_names=HUB_LABELS,
    ),
)


@dataclass(frozen=True, kw_only=True)
class TextSource:
    origin: str
    """Which attempt or files the papers came from; no folder of this machine."""
    splits: dict[str, PaperSplit] = field(repr=False)


def load_source(source: str, limit: int | None, cache_folder: Path, report: Report, load: Load | None) -> TextSource:
    """The papers of `source`: `arxiv`, `tinystories` or a path. `limit`: only the first of each label and split.

    Arrow files are kept in `cache_folder`. `load` stands in for `datasets.load_dataset`. Raises ValueError for a bad
    source and RuntimeError when the Hub cannot be read in any way.
    """
    load = load or datasets.load_dataset
    if source == ARXIV_SOURCE:
        loaded = load_arxiv(limit, cache_folder, report, load)
    elif source == stories.TINYSTORIES_SOURCE:
        loaded = load_tinystories(limit, cache_folder, load)
    elif stories.is_stories(source):
        loaded = load_story_file(source, limit, cache_folder)
    else:
        loaded = load_local(source, limit, cache_folder, load)
    for split in SPLITS:
        if split not in loaded.splits:
            report(f"{loaded.origin} has no {split} split: nothing can be evaluated on it")
    return loaded


def load_arxiv(limit: int | None, cache_folder: Path, report: Report, load: Load) -> TextSource:
    """The arXiv papers by the first attempt that works; RuntimeError names them all when none does."""
    failures = []
    for attempt in ATTEMPTS:
        try:
            splits = paper_splits(
                load(**attempt.arguments, cache_dir=str(cache_folder), streaming=limit is not None),
                cache_folder=cache_folder,
                limit=limit,
                label_names=attempt.label_names,
                legal_labels=ARXIV_COMPONENTS,
                deleted=attempt.deleted,
            )
        except Exception as error:  # a loader fails in its own ways: network, script, schema, label names
            failures.append(f"{attempt.name}: {type(error).__name__}: {_reason(error)}")
            report(f"could not read {failures[-1]}")
        else:
            report(f"papers from {attempt.name}")
            return TextSource(origin=attempt.name, splits=splits)
    raise RuntimeError(
        "the arXiv papers could not be read from the Hub in any of these ways:\n  " + "\n  ".join(failures) + "\n"
        "Check the network and run again, or go on without the Hub: --source synthetic needs no download, and "
        "--source FOLDER reads your own train/validation/test files (Parquet or JSONL with columns text and label)."
    )


def load_tinystories(limit: int | None, cache_folder: Path, load: Load) -> TextSource:
    """TinyStories with the Hub's validation split as `test`, on which runs are evaluated; RuntimeError without it."""
    try:
        loaded = load(
            path=stories.HUB_REPOSITORY,
            revision=stories.HUB_REVISION,
            cache_dir=str(cache_folder),
            streaming=limit is not None,
        )
        splits = story_splits(
            {"train": loaded["train"], "test": loaded["validation"]},
            component=stories.TINYSTORIES_SOURCE,
            cache_folder=cache_folder,
            limit=limit,
        )
    except Exception as error:  # a loader fails in its own ways: network, schema, a full disk
        raise RuntimeError(
            f"{stories.HUB_REPOSITORY} could not be read from the Hub ({type(error).__name__}: {_reason(error)}). "
            "Check the network and run again, or go on without the Hub: --source FILE.txt reads your own stories, "
            f"with {stories.SEPARATOR} between them"
        ) from error
    return TextSource(origin=f"{stories.HUB_REPOSITORY}@{stories.HUB_REVISION[:7]}", splits=splits)


def load_story_file(source: str, limit: int | None, cache_folder: Path) -> TextSource:
    """The stories of a text file, split by `is_held_out`; ValueError for a file that cannot be read as stories."""
    path = stories.story_file(source)
    stories.require_stories(path)
    rows = {split: stories.FileStories(path=path, split=split) for split in stories.FILE_SPLITS}
    splits = story_splits(rows, component=stories.story_component(source), cache_folder=cache_folder, limit=limit)
    return TextSource(origin=f"local file {path.name}", splits=splits)


def load_local(source: str, limit: int | None, cache_folder: Path, load: Load) -> TextSource:
    """The papers of local files; ValueError names the file or row that cannot be read."""
    files = local_files.split_files(source)
    local_files.require_utf8(files)
    names = ", ".join(path.name for paths in files.values() for path in paths)
    try:
        loaded = load(
            path=local_files.builder_name(files),
            data_files={split: [str(path) for path in paths] for split, paths in files.items()},
            cache_dir=str(cache_folder),
            streaming=limit is not None,
        )
        splits = paper_splits(loaded, cache_folder=cache_folder, limit=limit)
    except (ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise ValueError(f"source = {source!r} could not be read from {names}: {_reason(error)}") from error
    return TextSource(origin=f"local files {names}", splits=splits)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first: `datasets` wraps the cause in words that name nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
