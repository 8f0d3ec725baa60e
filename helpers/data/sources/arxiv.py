"""arXiv papers of eleven categories, from the Hugging Face Hub.

`ccdv/arxiv-classification` was published with a loading script, which `datasets` 4 no longer runs, and was converted
since. Its `no_ref` form has the eleven label strings deleted from every text, so that a paper does not name its
class. A chain tries the four forms in which it may be reachable, best first, and says what it tried.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import ARXIV_COMPONENTS, ARXIV_SOURCE, DataConfig
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

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


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The arXiv papers by the first attempt that works; RuntimeError names them all when none does."""
    from helpers.data.papers import TextSource, first_cause, paper_splits

    failures, limit = [], data.max_papers_per_component
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
            failures.append(f"{attempt.name}: {type(error).__name__}: {first_cause(error)}")
            report(f"could not read {failures[-1]}")
        else:
            report(f"papers from {attempt.name}")
            return TextSource(origin=attempt.name, splits=splits)
    raise RuntimeError(
        "the arXiv papers could not be read from the Hub in any of these ways:\n  " + "\n  ".join(failures) + "\n"
        "Check the network and run again, or go on without the Hub: source = synthetic needs no download, and a path "
        "reads your own train/validation/test files, Parquet or JSONL with columns text and label (--source on the "
        "command line, SOURCE in a notebook)."
    )


def _identity(data: DataConfig) -> dict[str, Any]:
    return {"hub": ARXIV_REPOSITORY, "config": "no_ref"}


SOURCE = Source(word=ARXIV_SOURCE, identity=_identity, component_names=lambda data: ARXIV_COMPONENTS, read=read)
