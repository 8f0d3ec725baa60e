"""The sampler: uniform in all three choices, every token once an epoch, exact token budgets, no state."""

import numpy as np
import pytest
from scipy import stats

from helpers.config import RunConfig
from helpers.data.components import select
from helpers.data.window_dataset import NO_LOSS, WindowDataset
from helpers.runs.length import order_of
from helpers.settings import apply_overrides
from tests.caches import MemoryCache


def dataset(cache: MemoryCache, *overrides: str, k: int = 1, seed: int = 0) -> WindowDataset:
    config = apply_overrides(RunConfig(study="ergodic", k=k, seed=seed), ["train.warmup_steps=0", *overrides])
    return WindowDataset(flat=cache.flat(), order=order_of(config, select(config, cache)))


UNEVEN = MemoryCache({"a": [300, 120, 500], "b": [110, 1000], "c": [100, 100, 100, 350, 220]})


def test_components_papers_and_offsets_are_uniform() -> None:
    """Chi-square tests at p > 1e-4 each: a wrong sampler of this size fails at p < 1e-30."""
    windows = [dataset(UNEVEN, "train.steps=400", k=3, seed=1).order.of_step(step) for step in range(400)]
    component = np.concatenate([w.component for w in windows])
    paper = np.concatenate([w.paper for w in windows])
    start = np.concatenate([w.start for w in windows])
    assert stats.chisquare(np.bincount(component)).pvalue > 1e-4
    for active in range(3):
        counts = np.unique(paper[component == active], return_counts=True)[1]
        assert stats.chisquare(counts).pvalue > 1e-4
    for row, length in enumerate(UNEVEN.index("train").num_tokens):
        counts = np.bincount(start[paper == row], minlength=length - 99)
        assert len(counts) == length - 99
        if len(counts) > 1:
            assert stats.chisquare(counts).pvalue > 1e-4


def test_draws_of_different_steps_and_seeds_are_independent() -> None:
    one, two = (
        np.concatenate([dataset(UNEVEN, "train.steps=50", k=3, seed=s).order.of_step(t).component for t in range(50)])
        for s in (0, 1)
    )
    table = np.histogram2d(one, two, bins=3)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert stats.chi2_contingency(np.histogram2d(one[:-256], one[256:], bins=3)[0]).pvalue > 1e-4


@pytest.mark.parametrize("sampling", ["uniform", "epoch"])
def test_batch_and_items_are_the_same_windows(sampling: str) -> None:
    windows = dataset(
        UNEVEN, f"data.sampling={sampling}", "train.batch_size=7", "train.steps=none", "train.tokens=12345", k=3
    )
    batches = np.concatenate([windows.batch(step).tokens for step in range(windows.order.num_steps)])
    assert len(batches) == len(windows)
    assert np.array_equal(batches, np.stack(windows.__getitems__(list(range(len(windows))))))
    shuffled = np.random.default_rng(0).permutation(len(windows)).tolist()
    assert np.array_equal(batches[shuffled], np.stack([windows[number] for number in shuffled]))


@pytest.mark.parametrize("sampling", ["uniform", "epoch"])
@pytest.mark.parametrize("num_tokens", [1, 99, 100, 3000, 12_345])
def test_a_run_consumes_exactly_its_tokens_for_every_k(sampling: str, num_tokens: int) -> None:
    for k in (1, 2, 3):
        windows = dataset(
            UNEVEN, f"data.sampling={sampling}", "train.batch_size=7", "train.steps=none",
            f"train.tokens={num_tokens}", k=k,
        )  # fmt: skip
        batches = [windows.batch(step) for step in range(windows.order.num_steps)]
        assert sum(batch.num_tokens for batch in batches) == num_tokens
        assert sum((batch.tokens != NO_LOSS).sum() for batch in batches) == num_tokens
        seen = np.cumsum([0, *(batch.num_tokens for batch in batches)])
        assert [windows.order.tokens_before(step) for step in range(len(batches) + 1)] == seen.tolist()


@pytest.mark.parametrize("sampling", ["uniform", "epoch"])
@pytest.mark.parametrize("multiple", [0.3, 1.05])
def test_length_as_a_multiple_of_the_parameters(sampling: str, multiple: float) -> None:
    """gpt-10k has one layer of width 28: 12 x 28^2 + 4 x 28, and 2 x 28 behind it."""
    windows = dataset(
        UNEVEN, f"data.sampling={sampling}", "model.size=gpt-10k", "train.batch_size=7", "train.steps=none",
        f"train.tokens_per_parameter={multiple}", k=3,
    )  # fmt: skip
    seen = sum(windows.batch(step).num_tokens for step in range(windows.order.num_steps))
    assert seen == round(multiple * 9_576)


def test_epoch_visits_every_token_once() -> None:
    windows = dataset(UNEVEN, "data.sampling=epoch", "train.steps=none", "train.epochs=3", "train.batch_size=4", k=3)
    tokens = np.concatenate([windows.batch(step).tokens.ravel() for step in range(windows.order.num_steps)])
    tokens = tokens[tokens != NO_LOSS].reshape(3, -1)
    for epoch in tokens:
        assert sorted(epoch) == list(range(2900))
    assert not np.array_equal(tokens[0], tokens[1])


def test_windows_are_consecutive_tokens_of_one_paper() -> None:
    for sampling in ("uniform", "epoch"):
        windows = dataset(UNEVEN, f"data.sampling={sampling}", "train.steps=20", "train.batch_size=16", k=3)
        for step in range(windows.order.num_steps):
            batch = windows.batch(step)
            ends = windows.flat.offsets[batch.windows.paper + 1]
            for row, end in zip(batch.tokens, ends, strict=True):
                tokens = row[row != NO_LOSS]
                assert (np.diff(tokens) == 1).all()
                assert tokens[-1] < end


def test_arms_share_their_draws() -> None:
    """The same seed and step give the same component and paper numbers whatever the tokens are."""
    other = MemoryCache({name: [length + 7 for length in lengths] for name, lengths in UNEVEN.lengths.items()})
    one, two = (dataset(cache, "train.steps=5", k=3).order.of_step(3) for cache in (UNEVEN, other))
    assert np.array_equal(one.component, two.component)
    assert np.array_equal(one.paper, two.paper)


def test_steps_beyond_the_run_do_not_exist() -> None:
    windows = dataset(UNEVEN, "train.steps=5")
    for step in (-1, 5):
        with pytest.raises(IndexError, match="outside the run's 5 steps"):
            windows.batch(step)


def test_warm_up_must_fit() -> None:
    with pytest.raises(
        ValueError, match=r"train.warmup_steps = 10 does not fit into the run's 10 steps; use at most 9"
    ):
        dataset(UNEVEN, "train.steps=10", "train.warmup_steps=10")
