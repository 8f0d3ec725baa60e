"""Model shapes against the published parameter totals, initialisation, and FLOPs by hand."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXForCausalLM

from helpers.counter_rng import Stream, torch_seed
from helpers.model_config import PythiaConfig
from helpers.models.counts import embedding_rows
from helpers.models.families import count_parameters, flops_per_token
from helpers.models.language_model import build_model, weights_of
from helpers.models.neox import as_transformers, neox_config
from helpers.models.window_model import WindowModel

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
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name)
    assert matrices == counts.matmul


def test_rows_are_padded_as_published() -> None:
    assert embedding_rows(PYTHIA_TOKENS) == embedding_rows(50_257) == 50_304
    assert embedding_rows(33) == embedding_rows(128) == 128


def test_flops_of_70m_by_hand() -> None:
    """6 x (6 layers x 12 x 512^2 + 50,304 x 512) + 12 x 6 x 512 x 100 = 271.5 MFLOP a token."""
    assert flops_per_token(PythiaConfig(size="70m"), PYTHIA_TOKENS, 100) == 271_466_496


@pytest.mark.parametrize("size", ["tiny", "14m"])
def test_flops_are_those_that_torch_counts(size: str) -> None:
    """Every product of a step, forward and backward, with attention as the two products that it is."""
    config = PythiaConfig(size=size, dropout=0.0)
    model, tokens_BT = WindowModel(build_model(config, 300, 0, seed=0), 0), torch.zeros(2, 50, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens_BT).backward()
    assert counter.get_total_flops() == tokens_BT.numel() * flops_per_token(config, 300, 50)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = build_model(PythiaConfig(size="tiny"), 33, 32, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = build_model(PythiaConfig(size="tiny"), 33, 32, seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build_model(PythiaConfig(size="tiny"), 33, 32, seed=6).state_dict()
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_a_new_model_predicts_almost_uniformly() -> None:
    model = build_model(PythiaConfig(size="tiny"), 33, 32, seed=0)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_initial_weights_are_those_of_transformers() -> None:
    """To the bit, from the same generator: runs of earlier versions, which were that library's models, began so."""
    config = PythiaConfig(size="tiny")
    model = build_model(config, 33, 32, seed=5)
    torch.manual_seed(torch_seed(5, Stream.WEIGHTS))
    theirs = GPTNeoXForCausalLM(neox_config(config, 33, 32)).state_dict()
    assert {model.name_in_files(name) for name in theirs} == model.state_dict().keys()
    assert all(torch.equal(model.state_dict()[model.name_in_files(name)], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("size", ["tiny", "14m"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_hidden_states_and_gradients_are_those_of_transformers(size: str, dropout: float) -> None:
    """In float64."""
    config = PythiaConfig(size=size, dropout=dropout)
    model = build_model(config, 300, 0, seed=1).double().train()
    theirs = as_transformers(config, 300, 0, weights_of(model)).double().train()
    ids_BT = torch.randint(0, 300, (3, 50))
    towards_BTD = torch.randn(3, 50, config.shape.d_model, dtype=torch.float64)
    hidden = {}
    for module, states in ((model, model.hidden), (theirs, lambda ids: theirs.base_model(ids).last_hidden_state)):
        torch.manual_seed(2)  # of the dropout
        hidden[module] = states(ids_BT)
        (hidden[module] * towards_BTD).sum().backward()
    torch.testing.assert_close(hidden[model], hidden[theirs], atol=1e-10, rtol=0)
    ours = dict(model.named_parameters())
    for name, parameter in theirs.base_model.named_parameters(prefix="gpt_neox"):
        torch.testing.assert_close(ours[model.name_in_files(name)].grad, parameter.grad, atol=1e-8, rtol=1e-8)
