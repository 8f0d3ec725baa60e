"""The grids of the activation study (seed document 004).

Decoders of several sizes N, each with both activations, are trained on D = 20 N tokens of TinyStories and measured on
the same windows. A law is fitted to the smaller sizes; what it says of the largest is written before that is trained.
"""

import dataclasses

from helpers.config import TINYSTORIES_SOURCE, DataConfig, EvalConfig, RunConfig, SyntheticConfig, TrainConfig
from helpers.model_config import GptConfig
from helpers.studies.preset import Preset

NAME = "activation"
AXES = ("model.size", "model.activation", "seed")
ARMS = ("gelu", "swiglu")
"""The reference first."""

_NOTE = """\
The learning rate falls as 1 / d_model and the batch is the same for every size, so size, learning rate and number of
steps change together: the exponent is that of the recipe. Preset lr_sweep shows how far each size is from its best
rate."""

_CPU_NOTE = f"""\
Every size sees the same million tokens, where preset paper gives 20 N to each: a CPU has no time for more. Compute then
grows through N alone, and the exponent is that of N at constant D.
{_NOTE}"""

_KNOWN_NOTE = """\
The source is one hidden Markov process, of which a small model learns nearly all: the curve flattens at the exact Bayes
value, and what separates the activations is how fast they come near it. It shows that the chain works, not a law of
text."""

_STORIES = DataConfig(source=TINYSTORIES_SOURCE, tokenizer="openai-community/gpt2", window_tokens=512, sampling="epoch")
_PAPER = RunConfig(
    study=NAME,
    data=_STORIES,
    model=GptConfig(size="gpt-3m", dropout=0.0, max_context_tokens=512),
    train=TrainConfig(
        batch_size=32, steps=None, tokens_per_parameter=20, peak_lr=3e-4, lr_at_width=224, warmup_steps=100
    ),
)
_CPU = dataclasses.replace(
    _PAPER,
    data=dataclasses.replace(_STORIES, tokenizer="train:2000", window_tokens=128, max_papers_per_component=20_000),
    model=GptConfig(size="gpt-10k", dropout=0.0, max_context_tokens=128),
    train=TrainConfig(batch_size=4, steps=None, tokens=1_000_000, peak_lr=2e-3, lr_at_width=64, warmup_steps=50),
    eval=EvalConfig(windows_per_component=256),
)
_CPU_SIZES = ("gpt-10k", "gpt-30k", "gpt-100k", "gpt-300k")


def _axes(sizes: tuple[str, ...], seeds: tuple[int, ...]) -> dict[str, tuple]:
    return dict(zip(AXES, (sizes, ARMS, seeds), strict=True))


PRESETS = {
    "smoke": Preset(
        description="two minutes on a CPU: four sizes, a few steps; shows that the chain works",
        config=dataclasses.replace(
            _CPU,
            train=dataclasses.replace(_CPU.train, tokens=8_192, warmup_steps=4),
            eval=EvalConfig(windows_per_component=16),
        ),
        axes=_axes(("gpt-10k", "gpt-30k", "gpt-100k", "gpt-300k"), seeds=(0, 1)),
        held_out={"model.size": ("gpt-300k",)},
    ),
    "known": Preset(
        description="minutes on a CPU and no download: a made-up process, whose exact Bayes value stands beside XE",
        config=dataclasses.replace(
            _CPU,
            data=DataConfig(
                synthetic=SyntheticConfig(num_components=1, num_states=4, persistence=0.8, papers_per_component=1000),
                window_tokens=128,
                sampling="epoch",
            ),
            train=dataclasses.replace(_CPU.train, tokens=500_000),
        ),
        axes=_axes(_CPU_SIZES, seeds=(0, 1)),
        held_out={"model.size": ("gpt-300k",)},
        note=_KNOWN_NOTE,
    ),
    "cpu": Preset(
        description="a quarter of an hour on a CPU: five sizes from 10k to 1M, the largest held out, two seeds",
        config=_CPU,
        axes=_axes((*_CPU_SIZES, "gpt-1m"), seeds=(0, 1)),
        held_out={"model.size": ("gpt-1m",)},
        note=_CPU_NOTE,
    ),
    "lr_sweep": Preset(
        description="minutes on a CPU: half, one and two times the learning rate at every size, one seed",
        config=_CPU,
        axes={
            **_axes(_CPU_SIZES, seeds=(0,)),
            "train.peak_lr": tuple(factor * _CPU.train.peak_lr for factor in (0.5, 1.0, 2.0)),
        },
        note=_CPU_NOTE,
    ),
    "paper": Preset(
        description="days of A100: 3M to 30M fitted, 85M held out, D = 20 N tokens of TinyStories, three seeds",
        config=_PAPER,
        axes=_axes(("gpt-3m", "gpt-10m", "gpt-17m", "gpt-30m", "gpt-85m"), seeds=(0, 1, 2)),
        held_out={"model.size": ("gpt-85m",)},
        note=_NOTE,
    ),
}
