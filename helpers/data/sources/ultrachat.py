"""UltraChat on the Hugging Face Hub (Ding et al. 2023, arXiv:2305.14233; the 200k of HuggingFaceH4): first user turns.

A sample is what a person wrote first, and nothing of what was answered. Rows 500 to 1,499 are held out as `test`: seed
document 003 validates on the first ten of them. The others are `train`, in their order.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.config import ULTRACHAT_SOURCE, DataConfig
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

HUB_REPOSITORY, HUB_SPLIT = "HuggingFaceH4/ultrachat_200k", "train_sft"
HELD_OUT_ROWS = range(500, 1_500)
_INSTEAD = "--source FILE.jsonl or FILE.txt reads your own samples, and --source sentences needs no file"


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """The first turns, streamed: no more is downloaded than is read. RuntimeError without the Hub."""
    from helpers.data.papers import TextSource, hub_failure, story_splits

    try:
        rows = load(path=HUB_REPOSITORY, split=HUB_SPLIT, streaming=True, cache_dir=str(cache_folder))
        splits = story_splits(
            {split: FirstTurns(rows=rows, split=split) for split in ("train", "test")},
            component=ULTRACHAT_SOURCE,
            cache_folder=cache_folder,
            limit=data.max_papers_per_component,
        )
    except Exception as error:  # a loader fails in its own ways: network, schema, a full disk
        raise hub_failure(HUB_REPOSITORY, error, _INSTEAD) from error
    return TextSource(origin=f"{HUB_REPOSITORY} ({HUB_SPLIT}, first turns)", splits=splits)


@dataclass(frozen=True, kw_only=True)
class FirstTurns:
    """The first user turns of one split as rows with a column text."""

    rows: Iterable[Mapping[str, Any]]
    split: str

    def __iter__(self) -> Iterator[dict[str, str]]:
        for number, row in enumerate(self.rows):
            if self.split == "test" and number >= HELD_OUT_ROWS.stop:
                return
            if (number in HELD_OUT_ROWS) == (self.split == "test"):
                yield {"text": first_user_turn(row, f"{HUB_SPLIT} row {number}")}


def first_user_turn(row: Mapping[str, Any], where: str) -> str:
    """What the person wrote first. ValueError for a row that does not begin so."""
    messages = row.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    if not isinstance(first, Mapping) or first.get("role") != "user" or not isinstance(first.get("content"), str):
        raise ValueError(f"{where}: messages does not begin with a user's turn; a row has messages of role and content")
    return first["content"]


SOURCE = Source(
    word=ULTRACHAT_SOURCE,
    identity=lambda data: {
        "hub": HUB_REPOSITORY,
        "split": HUB_SPLIT,
        "held_out": [HELD_OUT_ROWS[0], HELD_OUT_ROWS[-1]],
    },
    component_names=lambda data: (ULTRACHAT_SOURCE,),
    read=read,
)
