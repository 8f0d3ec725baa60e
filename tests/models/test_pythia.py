"""Model shapes against the published parameter totals, initialisation, and FLOPs by hand."""

import pytest
import torch

from helpers.model_config import PythiaConfig
from helpers.models.counts import embedding_rows
from helpers.models.families import count_parameters, flops_per_token
from helpers.models.language_model import build_model

PYTHIA_TOKENS = 50_277
# Totals of the published checkpoints: EleutherAI/pythia README and the model cards.
PUBLISHED = {
    "14m": (14_067_712, 1_189_888),
    "31m": (30_494_720, 4_739_072),
    "70m": (70_426_624, 18_915_328),
    "160m": (162_322_944, 85_056_000),
    "410m": (405_334_016, 302_311_424),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_totals_are_the_published_ones(size: str) -> None:
    counts = count_parameters(PythiaConfig(size=size), PYTHIA_TOKENS)
    assert (counts.total, counts.non_embedding) == PUBLISHED[size]


@pytest.mark.parametrize("size", ["tiny", "14m", "70m"])
def test_closed_forms_count_the_model_that_is_built(size: str) -> None:
    model = build_model(PythiaConfig(size=size), PYTHIA_TOKENS, 0, seed=0)
    counts = count_parameters(PythiaConfig(size=size), PYTHIA_TOKENS)
    assert sum(p.numel() for p in model.parameters()) == counts.total
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed_in" not in name)
    assert matrices == counts.matmul


def test_rows_are_padded_as_published() -> None:
    assert embedding_rows(PYTHIA_TOKENS) == embedding_rows(50_257) == 50_304
    assert embedding_rows(33) == embedding_rows(128) == 128


def test_flops_of_70m_by_hand() -> None:
    """6 x (6 layers x 12 x 512^2 + 50,304 x 512) + 12 x 6 x 512 x 100 = 271.5 MFLOP a token."""
    assert flops_per_token(PythiaConfig(size="70m"), PYTHIA_TOKENS, 100) == 271_466_496


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = build_model(PythiaConfig(size="tiny"), 33, 32, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = build_model(PythiaConfig(size="tiny"), 33, 32, seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build_model(PythiaConfig(size="tiny"), 33, 32, seed=6).state_dict()
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_a_new_model_predicts_almost_uniformly() -> None:
    model = build_model(PythiaConfig(size="tiny"), 33, 32, seed=0)
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.05)
