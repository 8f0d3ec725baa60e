"""Which papers are kept: no text in two splits, twice in one, or under two labels.

The Hub's arXiv set holds 1,067 repeated train papers and 159 test papers that are also in train (MTEB's descriptive
statistics). A held-out paper seen in training would flatter the cross entropy, so papers are compared by the hash of
their normalised text, and those that nearly repeat a held-out paper are found (`near_duplicates`), before anything is
tokenised. One pass reads the texts, the held-out splits first; two hashes of each are kept.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from helpers.config import SPLITS
from helpers.data.near_duplicates import HeldOut, signatures
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
    """Rows left out: ambiguous_label, held_out, near_held_out, duplicate; each row counts once, in this order."""
    notes: dict[str, int]
    """What was seen and left as it is: near_held_out, where these are kept; labels with white space around them,
    which is taken off (labels_stripped)."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    splits: dict[str, KeptPapers]
    content_sha256: str
    """Over (split, label, SHA-256 of the text) of every row read, and over the rows that nearly repeat another."""


@dataclass(kw_only=True)
class _Survey:
    """What is kept of each row of a split."""

    contents: list[bytes] = field(default_factory=list)
    """SHA-256 of the text as it is."""
    digests: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    num_chars: list[int] = field(default_factory=list)
    near: list[int] = field(default_factory=list)
    """Rows that nearly repeat a paper of a split that comes before this one in _HELD_OUT_FIRST."""
    labels_stripped: int = 0


def normalised(text: str) -> str:
    """`text` as it is compared: NFKC, casefolded, runs of whitespace as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> bytes:
    """The first 16 bytes of the SHA-256 of the normalised text; the first 8, in hex, are the paper_id."""
    return _digest(normalised(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def clean(
    splits: Mapping[str, PaperSplit], report: Callable[[str], None], *, drop_near_duplicates: bool = True
) -> Cleaned:
    """Choose the papers to keep; a line of counts for each split goes to `report`.

    A text under more than one label is dropped everywhere; test keeps its texts from validation and train, and
    validation from train, near repeats too unless these are only to be counted; of repeats within a split the first
    stays. Raises ValueError for a bad row, or when a split has nothing left.
    """
    surveys, held_out = {}, HeldOut()
    for name in _HELD_OUT_FIRST:
        if name in splits:
            surveys[name] = _survey(splits[name], held_out, is_held_out=name != "train")
    ambiguous = _ambiguous(surveys)
    kept: dict[str, KeptPapers] = {}
    digests: set[bytes] = set()
    for name, survey in surveys.items():
        kept[name] = _keep(survey, ambiguous, digests, drop_near_duplicates)
        digests.update(survey.digests)
        report(_describe(name, kept[name]))
        if not len(kept[name].rows):
            raise ValueError(f"split {name!r} has no paper left ({_describe(name, kept[name])})")
    surveys, kept = ({name: found[name] for name in SPLITS if name in splits} for found in (surveys, kept))
    return Cleaned(splits=kept, content_sha256=_content_sha256(surveys, drop_near_duplicates))


def _survey(split: PaperSplit, held_out: HeldOut, *, is_held_out: bool) -> _Survey:
    """The split as it is; its near repeats of `held_out`, to which it is added if it is itself held out."""
    survey, own = _Survey(), []
    for start in range(0, len(split), _BATCH_PAPERS):
        papers = split.read(range(start, min(start + _BATCH_PAPERS, len(split))))
        texts = [normalised(paper.text) for paper in papers]
        signed = signatures(texts)
        survey.near += (start + held_out.near(signed)).tolist()
        own += [signed] * is_held_out
        for paper, text in zip(papers, texts, strict=True):
            survey.contents.append(hashlib.sha256(paper.text.encode("utf-8", "surrogatepass")).digest())
            survey.digests.append(_digest(text))
            survey.labels.append(paper.label.strip())
            survey.labels_stripped += paper.label != paper.label.strip()
            survey.num_chars.append(len(paper.text))
    held_out.add(own)
    return survey


def _content_sha256(surveys: Mapping[str, _Survey], drop_near_duplicates: bool) -> str:
    content = hashlib.sha256()
    for name, survey in surveys.items():
        for label, exact in zip(survey.labels, survey.contents, strict=True):
            content.update(f"{name}\0{label}\0{exact.hex()}\n".encode())
    for name, survey in surveys.items():
        if survey.near and drop_near_duplicates:
            content.update(f"{name}\0near\0{survey.near}\n".encode())
    return content.hexdigest()


def _ambiguous(surveys: Mapping[str, _Survey]) -> set[bytes]:
    label_of: dict[bytes, str] = {}
    return {
        digest
        for survey in surveys.values()
        for digest, label in zip(survey.digests, survey.labels, strict=True)
        if label_of.setdefault(digest, label) != label
    }


def _keep(survey: _Survey, ambiguous: set[bytes], held_out: set[bytes], drop_near_duplicates: bool) -> KeptPapers:
    rows: list[int] = []
    drops = {"ambiguous_label": 0, "held_out": 0, "near_held_out": 0, "duplicate": 0}
    notes = {"near_held_out": 0, "labels_stripped": survey.labels_stripped}
    own, near = set(), set(survey.near)
    for row, digest in enumerate(survey.digests):
        if digest in ambiguous:
            drops["ambiguous_label"] += 1
        elif digest in held_out:
            drops["held_out"] += 1
        elif row in near and drop_near_duplicates:
            drops["near_held_out"] += 1
        elif digest in own:
            drops["duplicate"] += 1
        else:
            notes["near_held_out"] += row in near
            own.add(digest)
            rows.append(row)
    return KeptPapers(
        rows=np.array(rows, np.int64),
        paper_ids=[survey.digests[row].hex()[:16] for row in rows],
        labels=[survey.labels[row] for row in rows],
        num_chars=np.array([survey.num_chars[row] for row in rows], np.int64),
        drops=drops,
        notes=notes,
    )


def _describe(name: str, kept: KeptPapers) -> str:
    drops, total = kept.drops, len(kept.rows) + sum(kept.drops.values())
    line = (
        f"{name}: {total:,} papers read, {len(kept.rows):,} kept; dropped {drops['duplicate']:,} repeated, "
        f"{drops['held_out']:,} that a held-out split holds, {drops['near_held_out']:,} that nearly repeat one of "
        f"those, {drops['ambiguous_label']:,} under more than one label"
    )
    if near := kept.notes["near_held_out"]:
        line += f"; kept {near:,} that nearly repeat a held-out paper (data.near_duplicates=keep)"
    if stripped := kept.notes["labels_stripped"]:
        line += f"; white space around {stripped:,} labels was taken off"
    return line
