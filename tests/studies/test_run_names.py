"""Stored runs keep their names: a storage of an earlier version holds results under exactly these."""

import pytest

from helpers.studies import find_preset, known_components

STORED = {
    ("ergodic", "smoke"): ["ergodic-synthetic-tiny-k1-s0-a485a58071"],
    ("ergodic", "demo"): [
        "ergodic-synthetic-tiny-k11-s1-28ce976d23",
        "ergodic-synthetic-tiny-k1-s0-hmm01-cdcb82f8ad",
    ],
    ("ergodic", "known"): ["ergodic-synthetic-tiny-k1-s0-hmm06-792a27186c"],
    ("ergodic", "quick"): ["ergodic-arxiv-14m-k11-s0-2d1d4155ca"],
    ("ergodic", "paper"): [
        "ergodic-arxiv-70m-k1-s1-cs.DS-9fb356eb0f",
        "ergodic-arxiv-70m-k11-s2-shuffle-0513362e55",
    ],
    ("ergodic", "size"): ["ergodic-arxiv-410m-k1-s2-math.ST-3db233d3e7"],
    ("activation", "smoke"): ["activation-tinystories-gpt_10k-gelu-k1-s0-1bb5693b5c"],
    ("activation", "cpu"): ["activation-tinystories-gpt_10k-swiglu-k1-s1-ac0270c5b3"],
    ("activation", "lr_sweep"): ["activation-tinystories-gpt_10k-swiglu-k1-s0-ed22613e99"],
    ("activation", "paper"): ["activation-tinystories-gpt_85m-swiglu-k1-s2-182e6c7055"],
    ("samples", "smoke"): ["samples-sentences-context32x3-none-frozen-k1-s0-n10-epochs-c089abb8f6"],
    ("samples", "demo"): ["samples-sentences-context128x3-random-frozen-k1-s0-n320-epochs-748b6fe306"],
    ("samples", "quick"): ["samples-ultrachat-context768x3-random-frozen-k1-s42-n500-epochs-d1bb486a26"],
    ("samples", "paper"): ["samples-ultrachat-context768x3-learned-frozen-k1-s46-n500-epochs-b417a6a8c3"],
}


@pytest.mark.parametrize(("study", "name"), STORED)
def test_a_preset_still_has_the_runs_that_storages_hold(study: str, name: str) -> None:
    preset = find_preset(study, name)
    runs = {run.run_id for run in preset.runs(known_components(preset.config.data))}
    assert set(STORED[study, name]) <= runs
