"""The windows of a run on one stream: its papers end to end, read in order, pass after pass.

Of N tokens, N - 1 are predicted from those before. A window of a step is so many consecutive tokens to predict from;
the last token of the stream, which predicts none, belongs to the last window.
"""

from dataclasses import dataclass

import numpy as np

from helpers.config import RunConfig
from helpers.data.components import Selection
from helpers.data.window_order import WindowOrder, Windows


@dataclass(frozen=True, kw_only=True)
class StreamOrder(WindowOrder):
    """Passes over a stream, behind steps that read all of it and train no token's prediction."""

    cuts: np.ndarray
    """int64 [W + 1]: where the W windows of a pass begin, and the stream's end."""
    lead_steps: int
    """How many steps of a fixed-point phase come first; each reads the whole stream. One that has converged leaves
    the rest out."""
    epoch_tokens: int
    """After so many tokens is validated."""

    @property
    def num_stream_tokens(self) -> int:
        return int(self.cuts[-1])

    @property
    def windows_per_pass(self) -> int:
        return len(self.cuts) - 1

    @property
    def num_windows(self) -> int:
        passes, rest = divmod(self.num_tokens, self.num_stream_tokens)
        return passes * self.windows_per_pass + int(np.searchsorted(self.cuts, rest))

    @property
    def num_steps(self) -> int:
        return self.lead_steps + self.num_windows

    def tokens_before(self, step: int) -> int:
        """Of next-token training alone."""
        passes, place = divmod(max(0, step - self.lead_steps), self.windows_per_pass)
        return passes * self.num_stream_tokens + int(self.cuts[place])

    def epoch_of(self, step: int) -> int:
        """How many epochs the steps before `step` have finished."""
        return self.tokens_before(step) // self.epoch_tokens

    def of_step(self, step: int) -> Windows:
        """The one window of a step. IndexError beyond the run."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is outside the run's {self.num_steps} steps")
        return self._draw(step, 1)

    def _draw(self, step: int, count: int) -> Windows:
        assert count == 1, "a step reads one window"
        place = (step - self.lead_steps) % self.windows_per_pass
        first, last = (0, self.windows_per_pass) if step < self.lead_steps else (place, place + 1)
        start, length = self.cuts[first], self.cuts[last] - self.cuts[first]
        zero_B = np.zeros(1, np.int64)
        # Papers of a split lie behind each other: a window of the first one may run on into those after it.
        paper_B = self.selection.joined.paper[:1]
        return Windows(component=zero_B, paper=paper_B, start=zero_B + start, length=zero_B + length)


def stream_order(config: RunConfig, selection: Selection) -> StreamOrder:
    """The windows of a run on the stream of `selection`. ValueError where it is too short to be cut."""
    paper_P = selection.joined.paper
    if len(selection.pools) > 1 or not np.array_equal(paper_P, paper_P[0] + np.arange(len(paper_P))):
        raise ValueError(
            f"data.sampling = 'stream' reads the papers of one component in their order; k is {config.k}, "
            f"data.allocation {config.data.allocation!r}, data.shuffle_labels {config.data.shuffle_labels}: "
            "use k=1, data.allocation=full and data.shuffle_labels=false"
        )
    passes, num_tokens, epochs = config.passes, selection.unique_tokens, int(config.train.epochs)
    if num_tokens < 2:
        raise ValueError(f"the stream has {num_tokens} token, and a prediction needs two; use more data.samples")
    cuts = _equal_cuts(num_tokens, passes.matched_steps) if passes.match == "steps" else _cuts(config, num_tokens)
    epoch_tokens = passes.matched_tokens if passes.match == "tokens" else num_tokens
    has_lead = config.model.context == "learned"
    return StreamOrder(
        selection=selection,
        window_tokens=config.data.window_tokens,
        batch_size=1,
        seed=config.seed,
        num_tokens=epochs * epoch_tokens,
        cuts=cuts,
        lead_steps=passes.fixed_point.most_iterations if has_lead else 0,
        epoch_tokens=epoch_tokens,
    )


def _cuts(config: RunConfig, num_tokens: int) -> np.ndarray:
    """Windows of equal length, the last one with the rest."""
    return np.append(np.arange(0, max(1, num_tokens - 1), config.data.window_tokens), num_tokens)


def _equal_cuts(num_tokens: int, num_windows: int) -> np.ndarray:
    """So many windows, equal within a token."""
    if num_windows > num_tokens - 1:
        raise ValueError(
            f"passes.matched_steps = {num_windows} is not possible: the stream has {num_tokens} tokens; "
            f"use at most {num_tokens - 1}, or more data.samples"
        )
    return np.append(np.arange(num_windows) * (num_tokens - 1) // num_windows, num_tokens)
