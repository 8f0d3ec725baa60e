"""The grids of the length study (seed document 002).

Models of one size are trained on rows of W tokens and measured on sequences of 20 W. Nothing but W differs between two
windows that are compared: steps, batch, rate, mini-batch and the last targets of the sequences are the same.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from helpers.config import (
    URNS_SOURCE,
    WIKITEXT_SOURCE,
    DataConfig,
    EvalConfig,
    ExecutionConfig,
    RunConfig,
    TrainConfig,
)
from helpers.model_config import TttConfig
from helpers.settings import field_value, replace_fields
from helpers.stream_config import StreamConfig
from helpers.studies.preset import Components, Preset

NAME = "length"
WINDOW, MIXER, INNER, STATE = "data.window_tokens", "model.mixer", "model.inner", "stream.state"
FACTORS = (MIXER, INNER, STATE)
AXES = (WINDOW, *FACTORS, "seed")
REFERENCE = {MIXER: "ttt", INNER: "descent", STATE: "fresh"}
BASELINES = ({MIXER: "full"}, {MIXER: "sliding"})
ARMS = (*BASELINES, {INNER: "none"}, {INNER: "ascent"}, {STATE: "carried"}, {STATE: "passed"}, {STATE: "noise"})
"""What the reference is compared with, one factor at a time."""


def _compared_with(arms: Sequence[dict[str, str]]):
    def companions(grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
        """Each arm at the smallest window of the grid, for each of its seeds that trains the reference there."""
        smallest = min(config.data.window_tokens for config in grid)
        for config in grid:
            is_reference = all(field_value(config, name) == value for name, value in REFERENCE.items())
            if is_reference and config.data.window_tokens == smallest:
                yield from (replace_fields(config, arm) for arm in arms)

    return companions


def _axes(windows: tuple[int, ...], seeds: tuple[int, ...]) -> dict[str, tuple]:
    return {WINDOW: windows, **{name: (value,) for name, value in REFERENCE.items()}, "seed": seeds}


_PAPER = RunConfig(
    study=NAME,
    data=DataConfig(source=WIKITEXT_SOURCE, tokenizer="openai-community/gpt2", window_tokens=128),
    model=TttConfig(size="ttt-125m"),
    train=TrainConfig(
        batch_size=32, steps=100_000, peak_lr=3e-4, min_lr_ratio=0.0, warmup_steps=2_000, precision="bf16"
    ),
    eval=EvalConfig(split="validation"),
    stream=StreamConfig(strides=(16, 64)),
)
_QUICK = dataclasses.replace(
    _PAPER,
    model=TttConfig(size="ttt-5m"),
    train=TrainConfig(batch_size=32, steps=5_000, peak_lr=1e-3, min_lr_ratio=0.0, warmup_steps=100),
    stream=StreamConfig(strides=(16, 64), evaluations=11),
)
_DEMO = dataclasses.replace(
    _PAPER,
    data=DataConfig(source=URNS_SOURCE, window_tokens=32),
    model=TttConfig(size="ttt-20k", mini_batch=8, span=8),
    train=TrainConfig(batch_size=32, steps=500, peak_lr=4e-3, min_lr_ratio=0.0, warmup_steps=30, precision="fp32"),
    stream=StreamConfig(sequences=32, sequence_tokens=640, chunk_tokens=8, strides=(8, 16), evaluations=6),
    execution=ExecutionConfig(threads=1),
)
_NOTE = """\
A row of 2 W tokens has twice as many targets as one of W: at equal steps the larger window has also seen twice the
tokens. train.batch_size set in proportion holds the tokens instead; it is another condition."""

PRESETS = {
    "smoke": Preset(
        description="a minute on a CPU: two windows, a few steps on urns; shows that the chain works",
        config=dataclasses.replace(
            _DEMO,
            train=dataclasses.replace(_DEMO.train, steps=60, warmup_steps=4),
            stream=dataclasses.replace(_DEMO.stream, sequences=8, evaluations=4),
        ),
        axes=_axes((16, 32), seeds=(0, 1)),
    ),
    "demo": Preset(
        description="ten minutes on a CPU: windows 16 and 32 on urns, where the best loss is known; all arms",
        config=_DEMO,
        axes=_axes((16, 32), seeds=(0, 1, 2)),
        companions=_compared_with(ARMS),
        note=_NOTE,
    ),
    "quick": Preset(
        description="an evening on a T4: 5M parameters, windows 64 and 128, WikiText-103, with attention of that size",
        config=_QUICK,
        axes=_axes((64, 128), seeds=(0, 1)),
        companions=_compared_with(BASELINES),
        note=_NOTE,
    ),
    "paper": Preset(
        description="days of A100: TTT-125M, windows 64 and 128, 100,000 steps, 50 evaluations, three seeds",
        config=_PAPER,
        axes=_axes((64, 128), seeds=(0, 1, 2)),
        companions=_compared_with(BASELINES),
        note=_NOTE,
    ),
    "factors": Preset(
        description="days of A100: the inner step and the state at the start of a row, one factor at a time, W = 64",
        config=_PAPER,
        axes=_axes((64,), seeds=(0, 1, 2)),
        companions=_compared_with(ARMS),
        note=_NOTE,
    ),
}
