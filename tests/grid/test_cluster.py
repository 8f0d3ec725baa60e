"""A plan on machines that are not at hand, by hand."""

import dataclasses

import pytest

from helpers.data.fetch_arxiv import ensure_cache
from helpers.grid.cluster import PEAK_FLOPS, on_cluster, parse_cluster
from helpers.grid.plan import plan_grid


def test_makespan_and_hours_by_hand(tiny_config, storage):
    ensure_cache(tiny_config.data, storage)
    configs = [dataclasses.replace(tiny_config, seed=seed) for seed in range(3)]
    plan = plan_grid(configs, storage, axes=("seed",), measure=lambda config, vocab_size: 0.5)
    assert [run.tokens for run in plan.runs] == [4000] * 3
    # 8,000 s each, two at a time: 16,000 s, and 24,000 s of GPUs.
    assert on_cluster(plan, "2xthis").startswith("on 2xthis, a run each: 4 h 26 min, 6.7 GPU-hours, storage ")
    runs = tuple(dataclasses.replace(run, flops=312 * 10**15) for run in plan.runs)  # 1,000 s at the peak of an A100
    words = on_cluster(dataclasses.replace(plan, runs=runs), "2xa100")
    assert words.startswith("on 2xa100, a run each: 55 min 33 s to 1 h 23 min, 1.4 to 2.1 GPU-hours")


def test_what_is_not_known_is_said(tiny_config, storage):
    plan = plan_grid([tiny_config], storage, axes=("seed",))
    assert on_cluster(plan, "8xthis") == "on 8xthis: time after fetch, storage after fetch"
    assert "GPU-hours, storage after fetch" in on_cluster(plan, "8xA100")  # a model's size is told by its settings
    ensure_cache(tiny_config.data, storage)
    plan = plan_grid([tiny_config], storage, axes=("seed",))
    assert on_cluster(plan, "8xthis").startswith("on 8xthis: time run plan without --no-measure, storage ")


@pytest.mark.parametrize("text", ["8", "x", "0xA100", "8xC64", "8 A100", "-1xT4"])
def test_a_cluster_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"cluster = .* is not possible; use NxCARD, such as 8xA100, with T4"):
        parse_cluster(text)


def test_cards_are_named_in_any_case():
    assert parse_cluster("16xh100") == (16, "H100") and PEAK_FLOPS["H100"] > PEAK_FLOPS["A100"]
