"""The grids of the sample-scaling study (seed document 003).

A model of context and token layers is trained on the first 50 to 500 samples; how its validation perplexity falls is
fitted as a power of the train tokens. In the document a larger sample also means more optimiser steps. Here a run says
what runs of unequal samples have in common, so that the two can be told apart.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from helpers.config import (
    SENTENCES_SOURCE,
    ULTRACHAT_SOURCE,
    DataConfig,
    EvalConfig,
    ExecutionConfig,
    RunConfig,
    TrainConfig,
)  # fmt: skip
from helpers.grid.status_table import GRID
from helpers.model_config import ContextTokenConfig
from helpers.passes_config import FixedPointConfig, PassesConfig
from helpers.studies.preset import Components, Preset

NAME = "samples"
AXES = ("data.samples", "passes.match", "model.context", "model.embedding", "seed")
MATCHES = ("epochs", "steps", "tokens")
CONTROL = "control"

_GPT2 = "openai-community/gpt2"
_PAPER = RunConfig(
    study=NAME,
    data=DataConfig(
        source=ULTRACHAT_SOURCE, tokenizer=_GPT2, window_tokens=512, sampling="stream", samples=50,
        max_paper_tokens=128, max_papers_per_component=5_000,
    ),
    model=ContextTokenConfig(embedding_from=_GPT2),
    train=TrainConfig(
        batch_size=1, steps=None, epochs=10, peak_lr=2e-3, min_lr_ratio=1.0, warmup_steps=0, beta2=0.999,
        weight_decay=0.0, precision="fp32",
    ),
    eval=EvalConfig(split="test"),
    execution=ExecutionConfig(log_every_steps=10),
    passes=PassesConfig(),
)  # fmt: skip
_SMALL = dataclasses.replace(
    _PAPER,
    data=dataclasses.replace(
        _PAPER.data, source=SENTENCES_SOURCE, tokenizer="train:2000", max_papers_per_component=None
    ),
    model=ContextTokenConfig(d_model=128),
    execution=ExecutionConfig(log_every_steps=10, threads=1, trackers=()),
)

_NOTE = """\
match=epochs is the document's: more samples are more steps as well. match=steps gives every run the same steps in each
pass, match=tokens the same steps and tokens. Together they tell whether samples or steps lower the perplexity."""


def role_of(config: RunConfig) -> str:
    """A run without learned contexts is what the others are compared with."""
    return GRID if config.model.context == "learned" else CONTROL


def controls(grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
    """Each run that is matched in epochs, of the first seed, with contexts as they were drawn and without any."""
    first = min(config.seed for config in grid)
    for config in grid:
        if config.seed == first and config.passes.match == "epochs" and config.model.context == "learned":
            for context in ("random", "none"):
                yield dataclasses.replace(config, model=dataclasses.replace(config.model, context=context))


def _axes(samples: tuple[int, ...], seeds: tuple[int, ...], matches: tuple[str, ...] = MATCHES) -> dict[str, tuple]:
    return dict(zip(AXES, (samples, matches, ("learned",), ("frozen",), seeds), strict=True))


PRESETS = {
    "smoke": Preset(
        description="minutes on a CPU: three sample counts, width 32; shows that the chain works",
        config=dataclasses.replace(
            _SMALL,
            data=dataclasses.replace(_SMALL.data, tokenizer="train:400", max_papers_per_component=100),
            model=ContextTokenConfig(d_model=32),
            train=dataclasses.replace(_SMALL.train, epochs=3),
            passes=PassesConfig(matched_steps=8, matched_tokens=3_500, fixed_point=FixedPointConfig(most_iterations=4)),
        ),
        axes=_axes((10, 20, 40), seeds=(0,), matches=("epochs", "steps")),
        companions=controls,
        note=_NOTE,
    ),
    "demo": Preset(
        description="minutes on a CPU: six sample counts, three seeds, width 128, sentences of no language",
        config=dataclasses.replace(
            _SMALL, passes=PassesConfig(matched_steps=75, matched_tokens=38_300, validation_samples=100)
        ),
        axes=_axes((10, 20, 40, 80, 160, 320), seeds=(0, 1, 2), matches=("epochs", "steps")),
        companions=controls,
        note=_NOTE,
    ),
    "quick": Preset(
        description="a T4: the document's model on UltraChat, six sample counts, three seeds, 200 validation samples",
        config=dataclasses.replace(_PAPER, passes=PassesConfig(validation_samples=200)),
        axes=_axes((50, 100, 200, 300, 400, 500), seeds=(42, 43, 44)),
        companions=controls,
        note=_NOTE,
    ),
    "paper": Preset(
        description="a GPU: the document's four sample counts and its ten samples of validation, five seeds",
        config=_PAPER,
        axes=_axes((50, 100, 200, 500), seeds=(42, 43, 44, 45, 46), matches=("epochs",)),
        note=_NOTE,
    ),
}
