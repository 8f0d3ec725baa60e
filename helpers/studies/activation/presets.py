"""The activation study: does SwiGLU move the exponent of L(C) against GeLU, or only its constant? (Seed document 004.)

Decoders of several sizes N, each with both activations, are trained on D = 20 N tokens of TinyStories and measured on
the same windows. A law is fitted to the smaller sizes; what it says of the largest is written before that is trained.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from helpers.data.sources.stories import TINYSTORIES_SOURCE
from helpers.settings import replace_field
from helpers.storage import Storage
from helpers.studies.preset import Preset

NOTEBOOK = "studies/activation_scaling.ipynb"
PARAMETERS = {"SIZE": "model.size", "ACTIVATION": "model.activation", "SEED": "seed"}
ANALYSIS = (NOTEBOOK, {"ANALYSE_ONLY": True})
ACTIVATIONS = ("gelu", "swiglu")


@dataclass(frozen=True, kw_only=True)
class ActivationGrid(Preset):
    """Every size with both activations and every seed."""

    sizes: tuple[str, ...]
    """The anchors, to which the laws are fitted, ascending."""
    held_out: tuple[str, ...] = ()
    """Sizes that are predicted from the anchors before they are trained."""
    lr_factors: tuple[float, ...] = (1.0,)
    """Each run also with these multiples of its learning rate."""

    def runs(self, num_tokens: Mapping[str, int | None] | None) -> Iterator[RunConfig]:
        """By size, so that the dear ones come last; the components play no part."""
        rates = [self.config.train.peak_lr * factor for factor in self.lr_factors]
        for size, seed, activation, rate in itertools.product(
            (*self.sizes, *self.held_out), self.seeds, ACTIVATIONS, rates
        ):
            config = self.run(1, seed)
            for field, value in {"model.size": size, "model.activation": activation, "train.peak_lr": rate}.items():
                config = replace_field(config, field, value)
            yield config

    def is_held_out(self, config: RunConfig) -> bool:
        return config.model.size in self.held_out


_NOTE = """\
The learning rate falls as 1 / d_model and the batch is the same for every size, so size, learning rate and number of
steps change together: the exponent is that of the recipe. Preset lr_sweep shows how far each size is from its best
rate."""

_CPU_NOTE = f"""\
Every size sees the same million tokens, where preset paper gives 20 N to each: a CPU has no time for more. Compute then
grows through N alone, and the exponent is that of N at constant D.
{_NOTE}"""

_STORIES = DataConfig(source=TINYSTORIES_SOURCE, tokenizer="openai-community/gpt2", window_tokens=512, sampling="epoch")
_PAPER = RunConfig(
    study="activation",
    data=_STORIES,
    model=ModelConfig(size="gpt-3m", dropout=0.0, max_context_tokens=512),
    train=TrainConfig(
        batch_size=32, steps=None, tokens_per_parameter=20, peak_lr=3e-4, lr_at_width=224, warmup_steps=100
    ),
)
_CPU = dataclasses.replace(
    _PAPER,
    data=dataclasses.replace(_STORIES, tokenizer="train:2000", window_tokens=128, max_papers_per_component=20_000),
    model=ModelConfig(size="gpt-10k", dropout=0.0, max_context_tokens=128),
    train=TrainConfig(batch_size=4, steps=None, tokens=1_000_000, peak_lr=2e-3, lr_at_width=64, warmup_steps=50),
    eval=EvalConfig(windows_per_component=256),
)
_CPU_SIZES = ("gpt-10k", "gpt-30k", "gpt-100k", "gpt-300k")

PRESETS = {
    "smoke": ActivationGrid(
        description="two minutes on a CPU: four sizes, a few steps; shows that the chain works",
        config=dataclasses.replace(
            _CPU,
            train=dataclasses.replace(_CPU.train, tokens=8_192, warmup_steps=4),
            eval=EvalConfig(windows_per_component=16),
        ),
        sizes=("gpt-10k", "gpt-30k", "gpt-100k"),
        held_out=("gpt-300k",),
        seeds=(0, 1),
    ),
    "cpu": ActivationGrid(
        description="a quarter of an hour on a CPU: five sizes from 10k to 1M, the largest held out, two seeds",
        config=_CPU,
        sizes=_CPU_SIZES,
        held_out=("gpt-1m",),
        seeds=(0, 1),
        note=_CPU_NOTE,
    ),
    "lr_sweep": ActivationGrid(
        description="minutes on a CPU: half, one and two times the learning rate at every size, one seed",
        config=_CPU,
        sizes=_CPU_SIZES,
        seeds=(0,),
        lr_factors=(0.5, 1.0, 2.0),
        note=_CPU_NOTE,
    ),
    "paper": ActivationGrid(
        description="days of A100: 3M to 30M fitted, 85M held out, D = 20 N tokens of TinyStories, three seeds",
        config=_PAPER,
        sizes=("gpt-3m", "gpt-10m", "gpt-17m", "gpt-30m"),
        held_out=("gpt-85m",),
        seeds=(0, 1, 2),
        note=_NOTE,
    ),
}


def predict(preset: ActivationGrid, storage: Storage, report: Callable[[str], None]) -> str | None:
    """Write what the anchors say of the held-out runs, unless it is written. None, or why it cannot be written yet."""
    from helpers.studies.activation.predictions import write_prediction  # scipy: only once there are results

    runs = list(preset.runs(None))
    anchors = [config for config in runs if not preset.is_held_out(config)]
    return write_prediction(anchors, [config for config in runs if preset.is_held_out(config)], storage, report)


def analyse(storage: Storage) -> list[Path]:
    """Write the study's tables, figure, verdict and numbers, and return their paths."""
    from helpers.studies.activation.analyse import analyse as draw

    return draw(storage)
