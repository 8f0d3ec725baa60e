"""Which papers are kept: no text in two splits, twice in one, or under two labels.

The Hub's arXiv set holds 1,067 repeated train papers and 159 test papers that are also in train (MTEB's descriptive
statistics). A held-out paper seen in training would flatter the cross entropy, so papers are compared by the hash of
their normalised text before anything is tokenised. One pass reads the texts; only 16 bytes of each are kept.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from helpers.config import SPLITS
from helpers.data.papers import PaperSplit

_BATCH_PAPERS = 64
_HELD_OUT_FIRST = ("test", "validation", "train")


@dataclass(frozen=True, kw_only=True)
class KeptPapers:
    """The papers of one split that are kept, in their order (N papers)."""

    rows: np.ndarray
    """int64 [N], rows of the source's split."""
    paper_ids: list[str]
    labels: list[str]
    num_chars: np.ndarray
    """int64 [N]."""
    drops: dict[str, int]
    """Rows left out: ambiguous_label, held_out, duplicate; each row counts once, in this order."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    splits: dict[str, KeptPapers]
    content_sha256: str
    """Over (split, label, SHA-256 of the text) of every row read."""


@dataclass(frozen=True, kw_only=True)
class _Survey:
    digests: list[bytes]
    labels: list[str]
    num_chars: list[int]


def normalised(text: str) -> str:
    """`text` as it is compared: NFKC, casefolded, runs of whitespace as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> bytes:
    """The first 16 bytes of the SHA-256 of the normalised text; the first 8, in hex, are the paper_id."""
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:16]


def clean(splits: Mapping[str, PaperSplit], report: Callable[[str], None]) -> Cleaned:
    """Choose the papers to keep; a line of counts for each split goes to `report`.

    A text under more than one label is dropped everywhere; test keeps its texts from validation and train, and
    validation from train; of repeats within a split the first stays. Raises ValueError for a bad row, or when a
    split has nothing left.
    """
    content = hashlib.sha256()
    surveys = {name: _survey(splits[name], content) for name in SPLITS if name in splits}
    ambiguous = _ambiguous(surveys)
    kept: dict[str, KeptPapers] = {}
    held_out: set[bytes] = set()
    for name in _HELD_OUT_FIRST:
        if name in surveys:
            kept[name] = _keep(surveys[name], ambiguous, held_out)
            held_out.update(surveys[name].digests)
            report(_describe(name, kept[name]))
            if not len(kept[name].rows):
                raise ValueError(f"split {name!r} has no paper left ({_describe(name, kept[name])})")
    return Cleaned(splits={name: kept[name] for name in surveys}, content_sha256=content.hexdigest())


def _survey(split: PaperSplit, content: "hashlib._Hash") -> _Survey:
    survey = _Survey(digests=[], labels=[], num_chars=[])
    for start in range(0, len(split), _BATCH_PAPERS):
        for paper in split.read(range(start, min(start + _BATCH_PAPERS, len(split)))):
            exact = hashlib.sha256(paper.text.encode("utf-8", "surrogatepass")).hexdigest()
            content.update(f"{split.name}\0{paper.label}\0{exact}\n".encode())
            survey.digests.append(text_digest(paper.text))
            survey.labels.append(paper.label)
            survey.num_chars.append(len(paper.text))
    return survey


def _ambiguous(surveys: Mapping[str, _Survey]) -> set[bytes]:
    label_of: dict[bytes, str] = {}
    return {
        digest
        for survey in surveys.values()
        for digest, label in zip(survey.digests, survey.labels, strict=True)
        if label_of.setdefault(digest, label) != label
    }


def _keep(survey: _Survey, ambiguous: set[bytes], held_out: set[bytes]) -> KeptPapers:
    rows: list[int] = []
    drops = {"ambiguous_label": 0, "held_out": 0, "duplicate": 0}
    own: set[bytes] = set()
    for row, digest in enumerate(survey.digests):
        if digest in ambiguous:
            drops["ambiguous_label"] += 1
        elif digest in held_out:
            drops["held_out"] += 1
        elif digest in own:
            drops["duplicate"] += 1
        else:
            own.add(digest)
            rows.append(row)
    return KeptPapers(
        rows=np.array(rows, np.int64),
        paper_ids=[survey.digests[row].hex()[:16] for row in rows],
        labels=[survey.labels[row] for row in rows],
        num_chars=np.array([survey.num_chars[row] for row in rows], np.int64),
        drops=drops,
    )


def _describe(name: str, kept: KeptPapers) -> str:
    drops, total = kept.drops, len(kept.rows) + sum(kept.drops.values())
    return (
        f"{name}: {total:,} papers read, {len(kept.rows):,} kept; dropped {drops['duplicate']:,} repeated, "
        f"{drops['held_out']:,} that a held-out split holds, {drops['ambiguous_label']:,} under more than one label"
    )
