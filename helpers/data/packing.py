"""Stories packed without padding into papers longer than a window.

A TinyStories story has some 220 tokens and a window 512, and windows never cross papers. So the stories of a part of
the cache are joined, the end-of-text token after each, and cut every 2,048 tokens; the last paper of a part takes the
rest as well. No token is padding, none is dropped, and every paper but the last of a part is four whole windows.
A part packs on its own, so that an interrupted build goes on with the first part that is missing.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from helpers.data.new_cache import Batch, SplitPapers

# Short enough that evaluation on a small test split has papers to cluster by, long enough for a small index.
PAPER_TOKENS = 2_048
# Some 7 million tokens: the 2.1 million stories make 65 parts of 15 MB in memory.
PART_STORIES = 2**15


def packing_request() -> dict[str, int]:
    """What decides, beside the stories and the tokenizer, which tokens lie in which paper of which part."""
    return {"paper_tokens": PAPER_TOKENS, "part_stories": PART_STORIES}


def packed(stories: SplitPapers, split: str, separator_id: int) -> SplitPapers:
    """`stories`, all of one component, as papers of PAPER_TOKENS; `separator_id` stands after every story."""

    def read(wanted: range) -> Iterator[Batch]:
        pieces, categories = [], set()
        for batch in stories.read(wanted):
            categories.update(batch.categories)
            for tokens in batch.tokens:
                pieces += [tokens, np.array([separator_id], tokens.dtype)]
        (category,) = categories
        papers = cut(np.concatenate(pieces))
        names = [f"{split}-{wanted.start:07d}-{number:05d}" for number in range(len(papers))]
        yield Batch(names, [category] * len(papers), papers)

    return dataclasses.replace(stories, read=read, part_papers=PART_STORIES)


def cut(tokens: np.ndarray) -> list[np.ndarray]:
    """Papers of PAPER_TOKENS, the last one with the rest: PAPER_TOKENS to twice as many, or fewer when all is short."""
    num_papers = max(1, len(tokens) // PAPER_TOKENS)
    return np.split(tokens, PAPER_TOKENS * np.arange(1, num_papers))
