"""Which components and papers are selected: nesting, equal unique tokens, the shuffle control, and bad requests."""

import itertools

import numpy as np
import pytest

from helpers.config import ALIKE_AT_ONE, ARXIV_COMPONENTS, RunConfig
from helpers.data.components import component_pools, rotated_order, select
from helpers.runs.length import order_of, training_tokens
from helpers.settings import apply_overrides
from tests.caches import MemoryCache

ELEVEN = MemoryCache({name: [150 + 10 * n] * (80 + n) for n, name in enumerate(ARXIV_COMPONENTS)})


def run(*overrides: str, k: int = 1, seed: int = 0) -> RunConfig:
    return apply_overrides(RunConfig(study="ergodic", k=k, seed=seed), overrides)


@pytest.mark.parametrize("order", ["listed", "smallest_first", "rotate"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_active_sets_are_nested_in_k(order: str, seed: int) -> None:
    sets = [set(select(run(f"data.order={order}", k=k, seed=seed), ELEVEN).components) for k in range(1, 12)]
    assert all(small < large for small, large in itertools.pairwise(sets))


def test_rotation_gives_every_seed_another_set_and_every_component_every_place() -> None:
    orders = [rotated_order(ARXIV_COMPONENTS, seed) for seed in range(11)]
    assert all(sorted(place) == sorted(ARXIV_COMPONENTS) for place in zip(*orders, strict=True))
    for k in range(1, 11):
        assert len({frozenset(order[:k]) for order in orders}) == 11


def test_listed_order_is_the_documents_whatever_the_sources_order() -> None:
    backwards = MemoryCache(dict(reversed(ELEVEN.lengths.items())))
    assert select(run("data.order=listed", k=11), backwards).components == ARXIV_COMPONENTS


def test_smallest_first_counts_tokens() -> None:
    cache = MemoryCache({"many_short": [100] * 9, "one_long": [800], "few": [200] * 2})
    assert select(run("data.order=smallest_first", k=3), cache).components == ("few", "one_long", "many_short")


@pytest.mark.parametrize("k", [1, 2, 4, 8, 11])
def test_constant_unique_gives_every_k_the_smallest_categorys_tokens(k: int) -> None:
    selection = select(run("data.allocation=constant_unique", k=k, seed=3), ELEVEN)
    assert selection.unique_tokens == 80 * 150
    shares = selection.unique_tokens_by_component.values()
    assert max(shares) - min(shares) <= 1
    assert all((pool.length >= 100).all() for pool in selection.pools)


def test_constant_unique_cannot_give_a_component_less_than_a_window() -> None:
    with pytest.raises(ValueError, match="would give 75 tokens, less than a window"):
        select(run("data.allocation=constant_unique", k=2), MemoryCache({"a": [150], "b": [400]}))


def test_constant_unique_takes_a_prefix_of_one_order() -> None:
    cache = MemoryCache({"a": [300] * 40, "b": [300] * 40})
    half, whole = (
        set(select(run("data.allocation=constant_unique", "data.order=listed", k=k), cache).pools[0].paper.tolist())
        for k in (2, 1)
    )
    assert half < whole


@pytest.mark.parametrize("k", [1, 2, 4, 8, 11])
def test_matched_repeats_gives_each_component_a_kth_of_its_own_tokens(k: int) -> None:
    selection = select(run("data.allocation=matched_repeats", k=k, seed=3), ELEVEN)
    whole = {name: sum(lengths) for name, lengths in ELEVEN.lengths.items()}
    assert selection.unique_tokens_by_component == {name: whole[name] // k for name in selection.components}


def test_constant_exposure_trains_k_times_as_long_on_all_papers() -> None:
    for setting in ("train.steps=30", "train.tokens=70000"):
        free = [] if "steps" in setting else ["train.steps=none"]
        alone, mixed = (run("data.allocation=constant_exposure", *free, setting, k=k) for k in (1, 4))
        assert training_tokens(mixed) == 4 * training_tokens(alone)
        assert training_tokens(alone) == training_tokens(run(*free, setting))
    selection, full = (select(run(f"data.allocation={name}", k=4), ELEVEN) for name in ("constant_exposure", "full"))
    assert selection.unique_tokens_by_component == full.unique_tokens_by_component


def test_in_epochs_a_train_set_that_grows_with_k_is_constant_exposure_already() -> None:
    overrides = ["data.allocation=constant_exposure", "data.sampling=epoch", "train.steps=none", "train.epochs=3"]
    config = run(*overrides, "train.warmup_steps=0", k=4)
    selection = select(config, ELEVEN)
    assert order_of(config, selection).num_tokens == 3 * selection.unique_tokens


@pytest.mark.parametrize("allocation", ALIKE_AT_ONE)
def test_a_run_on_one_component_is_the_run_under_full_allocation(allocation: str) -> None:
    alone, mixed = (run(f"data.allocation={allocation}", k=k) for k in (1, 2))
    assert alone.run_id == run(k=1).run_id and mixed.run_id != run(k=2).run_id
    own, full = (select(config, ELEVEN) for config in (alone, run(k=1)))
    assert all(np.array_equal(a.paper, b.paper) for a, b in zip(own.pools, full.pools, strict=True))
    assert all(np.array_equal(a.length, b.length) for a, b in zip(own.pools, full.pools, strict=True))
    assert training_tokens(alone) == training_tokens(run(k=1))


def test_a_last_piece_shorter_than_a_window_borrows_from_an_earlier_paper() -> None:
    cache = MemoryCache({"a": [250, 250, 250], "b": [520], "c": [1000]})
    pool = select(run("data.allocation=constant_unique", "data.components=a"), cache).pools[0]
    assert pool.length.sum() == 520
    assert sorted(pool.length) == [100, 170, 250]


def test_short_papers_are_left_out_and_counted() -> None:
    selection = select(run(), MemoryCache({"a": [99, 100, 250, 3]}))
    assert selection.excluded_papers == 2
    assert selection.unique_tokens == 350


def test_shuffle_keeps_pool_sizes_and_changes_members() -> None:
    cache = MemoryCache({"a": [200] * 30, "b": [200] * 50})
    plain = component_pools(run().data, cache, "train", seed=5)
    shuffled = component_pools(run("data.shuffle_labels=true").data, cache, "train", seed=5)
    assert [len(pool.paper) for pool in shuffled.values()] == [30, 50]
    assert not np.array_equal(plain["a"].paper, shuffled["a"].paper)
    everyone = np.concatenate([pool.paper for pool in shuffled.values()])
    assert sorted(everyone) == list(range(80))


def test_too_many_components() -> None:
    with pytest.raises(ValueError, match=r"k = 12.*11 components; use 1 to 11"):
        select(run(k=12), ELEVEN)


def test_unknown_component() -> None:
    with pytest.raises(ValueError, match=r"data.components names 'cs.XX'"):
        select(run("data.components=cs.XX"), ELEVEN)


def test_named_components_are_as_many_as_k() -> None:
    with pytest.raises(ValueError, match=r"names 1 components, but k = 2; use k = 1"):
        select(run("data.components=cs.CV", k=2), ELEVEN)


def test_a_category_without_a_long_enough_paper() -> None:
    with pytest.raises(ValueError, match=r"component 'b' has no train paper .* \(its longest has 99\)"):
        select(run(k=2), MemoryCache({"a": [500], "b": [99]}))


def test_only_what_a_run_needs_has_to_hold_a_window() -> None:
    cache = MemoryCache({"a": [500], "b": [99], "c": [300]})
    assert select(run("data.order=listed", k=1), cache).components == ("a",)
    shares = select(run("data.components=a,c", "data.allocation=constant_unique", k=2), cache)
    assert shares.unique_tokens == 300  # of the smallest component that holds a window
    with pytest.raises(ValueError, match="component 'b' has no train paper"):
        select(run("data.order=listed", k=2), cache)
