"""The contexts of a stream against the per-token loop over the model's own layers."""

import pytest
import torch

from helpers.model_config import ContextTokenConfig
from helpers.models import contexts
from helpers.models.contexts import measure_contraction, stream_contexts
from helpers.models.language_model import build_model


def model_and_stream(num_tokens: int, dtype: torch.dtype, d_model: int = 32):
    model = build_model(ContextTokenConfig(d_model=d_model, n_layer=2), 50, 0, seed=3).to(dtype).requires_grad_(False)
    ids = torch.randint(50, (num_tokens,), generator=torch.Generator().manual_seed(0))
    return model, model.embed(ids)


def loop(model, e_ND: torch.Tensor, c_D: torch.Tensor) -> torch.Tensor:
    rows = []
    for e_D in e_ND:
        rows.append(torch.stack(model.contexts(c_D, e_D)))
        c_D = rows[-1][-1]
    return torch.stack(rows, dim=1)


def damped(model, factor: float):
    """The same block with another strength of what is passed on."""
    for layer in model.context_layers:
        layer.linear.weight[:, : layer.linear.out_features] *= factor
    return model


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_in_order_it_is_the_loop_within_rounding(start: float) -> None:
    model, e_ND = model_and_stream(300, torch.float64)
    start_D = torch.full((32,), start, dtype=torch.float64)
    found = stream_contexts(model, e_ND, start_D, segments=1)
    assert found.segments == 1 and found.contraction is None and str(found) == "in order"
    torch.testing.assert_close(found.layers_LND, loop(model, e_ND, start_D), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "mean", "most"), [(torch.float64, 1e-7, 1e-6), (torch.float32, 1e-6, 2e-5)])
def test_segments_give_the_loops_contexts(dtype: torch.dtype, mean: float, most: float) -> None:
    """In float32 two orders of one sum differ in the last digits, and the recurrence carries that on."""
    model, e_ND = model_and_stream(3_001, dtype)
    found = stream_contexts(damped(model, 0.3), e_ND)
    assert found.segments > 1 and found.warm_up_tokens > 0
    difference_LND = found.layers_LND - loop(model, e_ND, torch.zeros_like(e_ND[0]))
    assert float((difference_LND**2).mean().sqrt()) < mean
    assert float(difference_LND.abs().max()) < most


def test_a_warm_up_that_is_too_short_is_found_at_a_seam_and_doubled(monkeypatch) -> None:
    model, e_ND = model_and_stream(3_000, torch.float64)
    damped(model, 0.3)
    enough = stream_contexts(model, e_ND).warm_up_tokens
    monkeypatch.setattr(contexts, "_warm_up", lambda contraction: 3)
    found = stream_contexts(model, e_ND)
    assert found.segments > 1 and 3 < found.warm_up_tokens <= 2 * enough
    assert found.warm_up_tokens in [3 * 2**doublings for doublings in range(1, 10)]
    torch.testing.assert_close(found.last_ND, stream_contexts(model, e_ND, segments=1).last_ND, atol=1e-6, rtol=0)


def test_a_block_that_does_not_contract_is_computed_in_order_and_says_so() -> None:
    model, e_ND = model_and_stream(600, torch.float64)
    for layer in model.context_layers:  # LN(c + ReLU(4 c)): neither start is ever forgotten
        layer.linear.weight.copy_(torch.cat([4 * torch.eye(32), torch.zeros(32, 32)], dim=1))
    found = stream_contexts(model, e_ND)
    assert found.segments == 1 and found.contraction > 0.99
    assert "in order (contraction" in str(found)
    start_D = torch.zeros_like(e_ND[0])
    torch.testing.assert_close(found.layers_LND, loop(model, e_ND, start_D), atol=1e-12, rtol=0)


def test_the_contraction_is_that_of_two_starts() -> None:
    """A block whose every token multiplies a difference by the same number: LN undone, no ReLU at work."""
    model, e_ND = model_and_stream(400, torch.float64)
    stronger = measure_contraction(damped(model, 0.5), e_ND)
    weaker = measure_contraction(damped(model, 0.5), e_ND)
    assert 0 < weaker < stronger < 1
