"""The grids of the main study: K ergodic components at a constant number of training tokens (seed document 000)."""

from collections.abc import Iterable, Sequence

from helpers.config import ARXIV_SOURCE, DataConfig, EvalConfig, RunConfig, SyntheticConfig, TrainConfig
from helpers.model_config import PythiaConfig
from helpers.studies.ergodic.roles import Comparisons
from helpers.studies.preset import Components, Preset

NAME = "ergodic"
KS = (1, 2, 4, 8, 11)
ANSWER = "ergodic_answer.md"
"""In `tables/`: what was found, in words."""

_STEP_COUNT_NOTE = """\
The protocol gives 100,000 steps and about 12 epochs of 100 M tokens, which cannot both hold: 100,000 steps x 25,600
tokens are 2.56 B tokens, that is 25.6 epochs of 100 M, or 36 tokens a parameter of the 70M model. 12 epochs would be
46,875 steps. This preset follows the step count; --set train.steps=46875 follows the epochs."""

SIZES = ("14m", "31m", "70m", "160m", "410m")

_SIZE_NOTE = """\
Every size has the same tokens, batch and learning rate, so that sizes differ in nothing else; 2e-4 is not the best rate
of each. --set model.size=160m plans one size, and together with --set train.peak_lr=6e-4 one at a rate of its own,
which is then another condition. 10,000 steps are 256 M tokens: 18 a parameter for 14m, 0.6 for 410m."""

ALLOCATIONS = ("full", "matched_repeats", "constant_exposure", "constant_unique")

_ARMS_NOTE = """\
Under constant_exposure a run has K times the tokens that are named here, so that each component is seen as often as
alone. --set model.size=small plans the same at twice the width: what it loses less is capacity."""


def _compared_arms(grid: Sequence[RunConfig], components: Components | None) -> Iterable[RunConfig]:
    """Baselines of every allocation, and the shuffle control of `full`."""
    yield from Comparisons(baselines=True)(grid, components)
    full = [config for config in grid if config.data.allocation == "full"]
    yield from Comparisons(shuffle_control=True)(full, components)


# A tiny model learns to find out the coin within 400 small steps; of dice with 8 sides it has not begun to after 200
# larger ones. The order is the listed one: with two seeds, an interval over other coins would show how coins differ.
COINS = RunConfig(
    study=NAME,
    data=DataConfig(
        order="listed",
        window_tokens=50,
        synthetic=SyntheticConfig(num_states=1, num_symbols=2, papers_per_component=300),
    ),
    model=PythiaConfig(size="tiny", dropout=0.0),
    train=TrainConfig(batch_size=16, steps=400, peak_lr=1.6e-2, warmup_steps=40, min_lr_ratio=0.01, weight_decay=0.0),
    eval=EvalConfig(windows_per_component=512),
)
"""Eleven coins, each with a bias of its own, in windows of 50 throws: the known answer, near the Bayes limit."""

PRESETS = {
    "smoke": Preset(
        description="seconds on a CPU: synthetic source, tiny model, a few steps; shows that the chain works",
        config=RunConfig(
            study=NAME,
            data=DataConfig(synthetic=SyntheticConfig(papers_per_component=20, paper_tokens=400)),
            model=PythiaConfig(size="tiny", dropout=0.0),
            train=TrainConfig(batch_size=16, steps=200, peak_lr=8e-3, warmup_steps=20),
            eval=EvalConfig(windows_per_component=32),
        ),
        axes={"k": KS, "seed": (0,)},
    ),
    "demo": Preset(
        description="minutes on a CPU: eleven coins, two seeds, all baselines; what K costs, beside the exact value",
        config=COINS,
        axes={"k": KS, "seed": (0, 1)},
        companions=Comparisons(baselines=True),
    ),
    "known": Preset(
        description="half an hour on a CPU core: the known answer, near the Bayes limit, three seeds and all baselines",
        config=RunConfig(
            study=NAME,
            # Memoryless components of three symbols, which a tiny model learns to within 0.001 nats; more of them than
            # the largest K, so that the composition differs between seeds at every K.
            data=DataConfig(
                synthetic=SyntheticConfig(num_components=13, num_states=1, num_symbols=3, papers_per_component=1000)
            ),
            model=PythiaConfig(size="tiny", dropout=0.0),
            train=TrainConfig(
                batch_size=32, steps=2000, peak_lr=1.6e-2, warmup_steps=200, min_lr_ratio=0.01, weight_decay=0.0
            ),
            eval=EvalConfig(windows_per_component=512),
        ),
        axes={"k": KS, "seed": (0, 1, 2)},
        companions=Comparisons(baselines=True),
    ),
    "arms": Preset(
        description="minutes on a CPU core: few papers, tiny model; four allocations, which tell causes apart",
        config=RunConfig(
            study=NAME,
            data=DataConfig(source=ARXIV_SOURCE, tokenizer="train:2000", max_papers_per_component=60),
            model=PythiaConfig(size="tiny", dropout=0.0),
            train=TrainConfig(batch_size=8, steps=80, peak_lr=8e-3, warmup_steps=8),
            eval=EvalConfig(windows_per_component=128),
        ),
        axes={"data.allocation": ALLOCATIONS, "k": KS, "seed": (0, 1)},
        companions=_compared_arms,
        note=_ARMS_NOTE,
    ),
    "quick": Preset(
        description="minutes on a Colab T4: 1,980 arXiv papers, Pythia-14M; the shape of the real experiment",
        config=RunConfig(
            study=NAME,
            data=DataConfig(source=ARXIV_SOURCE, max_papers_per_component=60),
            model=PythiaConfig(size="14m"),
            train=TrainConfig(steps=1_500, peak_lr=1e-3, warmup_steps=100),
        ),
        axes={"k": KS, "seed": (0,)},
    ),
    "paper": Preset(
        description="days of A100: the whole experiment, Pythia-70M, three seeds, baselines and shuffle control",
        config=RunConfig(study=NAME, data=DataConfig(source=ARXIV_SOURCE)),
        axes={"k": KS, "seed": (0, 1, 2)},
        companions=Comparisons(baselines=True, shuffle_control=True),
        note=_STEP_COUNT_NOTE,
    ),
    "size": Preset(
        description="days of A100: model size as a factor beside K, Pythia-14M to 410M, three seeds, all baselines",
        config=RunConfig(
            study=NAME,
            data=DataConfig(source=ARXIV_SOURCE),
            train=TrainConfig(steps=10_000),
        ),
        axes={"model.size": SIZES, "k": KS, "seed": (0, 1, 2)},
        companions=Comparisons(baselines=True),
        note=_SIZE_NOTE,
    ),
}
