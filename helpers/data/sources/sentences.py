"""Sentences of no language, made here: a source of text that needs neither a file nor a network.

Words are made of syllables and are as frequent as words are (Zipf 1949). After a word comes one of the few that it
prefers, or any; a sample keeps to a topic, which owns some of the words. So there is something to learn at every
distance: letters of words, pairs of words, and what the sample is about.
"""

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers.config import SENTENCES_SOURCE, DataConfig
from helpers.counter_rng import Stream, integers_below, salt_of, words
from helpers.data.sources.source import Load, Report, Source

if TYPE_CHECKING:
    from helpers.data.papers import TextSource

SAMPLES = {"train": 4_000, "test": 500}
NUM_WORDS, TOPICS, PREFERRED = 2_000, 10, 4
_SYLLABLES = [a + b + c for a, b, c in itertools.product("bdfgklmnprstv", "aeiou", ("", "n", "r", "s"))]
_ONSET, _STICKS, _ON_TOPIC = 2.7, 0.55, 0.5
_FEWEST_WORDS, _MORE_WORDS = 15, 60


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """The samples of one split as rows with a column text: a function of the split alone."""

    split: str

    def __iter__(self) -> Iterator[dict[str, str]]:
        vocabulary, ladder = _vocabulary(), _ladder()
        for number in range(SAMPLES[self.split]):
            yield {"text": _sample(self.split, number, vocabulary, ladder)}


def read(data: DataConfig, cache_folder: Path, report: Report, load: Load) -> "TextSource":
    """Both splits."""
    from helpers.data.papers import TextSource, story_splits

    rows = {split: Sentences(split=split) for split in SAMPLES}
    limit = data.max_papers_per_component
    splits = story_splits(rows, component=SENTENCES_SOURCE, cache_folder=cache_folder, limit=limit)
    return TextSource(origin=SENTENCES_SOURCE, splits=splits)


def _vocabulary() -> list[str]:
    """Different words, the frequent ones short."""
    drawn = integers_below(len(_SYLLABLES), words(0, Stream.WINDOWS, 4 * 3 * NUM_WORDS, salt=salt_of("words")))
    made: dict[str, None] = {}
    for rank, syllables in enumerate(drawn.reshape(-1, 4)):
        length = 1 + min(3, int(np.log10(rank + 1)))
        made["".join(_SYLLABLES[syllable] for syllable in syllables[:length])] = None
        if len(made) == NUM_WORDS:
            break
    return list(made)


def _ladder() -> list[float]:
    """Cumulative probabilities of the ranks, p ~ 1 / (rank + 2.7) (Mandelbrot 1953)."""
    weights = 1 / (np.arange(NUM_WORDS) + _ONSET)
    return (weights.cumsum() / weights.sum()).tolist()


def _sample(split: str, number: int, vocabulary: list[str], ladder: list[float]) -> str:
    most = _FEWEST_WORDS + _MORE_WORDS
    random = (words(0, Stream.WINDOWS, 3 * most + 2, counter=number, salt=salt_of(split)) >> np.uint64(11)) * 2.0**-53
    topic, length = int(random[-1] * TOPICS), _FEWEST_WORDS + int(random[-2] * _MORE_WORDS)
    word, made = -1, []
    for sticks, which, on_topic in random[: 3 * length].reshape(-1, 3):
        if word >= 0 and sticks < _STICKS:
            word = (word * 7 + 13 * int(which * PREFERRED) + 1) % NUM_WORDS  # one of those that the word prefers
        else:
            word = min(bisect.bisect(ladder, which), NUM_WORDS - 1)
            if on_topic < _ON_TOPIC:
                word = min(word // TOPICS * TOPICS + topic, NUM_WORDS - 1)
        made.append(vocabulary[word])
    sentences = [made[first : first + 9] for first in range(0, len(made), 9)]
    return " ".join(" ".join(sentence).capitalize() + "." for sentence in sentences)


SOURCE = Source(
    word=SENTENCES_SOURCE,
    identity=lambda data: {SENTENCES_SOURCE: 1, "samples": SAMPLES},
    component_names=lambda data: (SENTENCES_SOURCE,),
    read=read,
)
