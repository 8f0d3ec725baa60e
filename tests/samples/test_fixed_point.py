"""One iteration of the fixed-point phase against autograd on the loss as it is written."""

import dataclasses

import pytest
import torch

from helpers.model_config import ContextTokenConfig
from helpers.models.language_model import build_model
from helpers.passes_config import FixedPointConfig
from helpers.studies.samples import fixed_point
from helpers.studies.samples.fixed_point import iterate


@pytest.fixture
def setting():
    model = build_model(ContextTokenConfig(d_model=8, n_layer=3), 20, 0, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    e_ND, previous_ND, noise_ND = (torch.randn(37, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    return model, e_ND, previous_ND, 0.1 * noise_ND


@pytest.mark.parametrize("diversity", ["frobenius", "rms"])
@pytest.mark.parametrize("chunk", [5, 1_000])
def test_gradients_are_those_of_the_written_loss(setting, monkeypatch, diversity: str, chunk: int) -> None:
    model, e_ND, previous_ND, noise_ND = setting
    config = FixedPointConfig(diversity_weight=0.3, diversity=diversity)
    inputs_ND = torch.cat([previous_ND[-1:], previous_ND[:-1]]) + noise_ND
    x_ND = model.contexts(inputs_ND, e_ND)[-1]
    spread = torch.linalg.matrix_norm(x_ND - x_ND.mean(0, keepdim=True), "fro")
    spread = spread / 37 if diversity == "frobenius" else spread / (37 * 8) ** 0.5
    loss = 0.7 * torch.nn.functional.mse_loss(x_ND, previous_ND) - 0.3 * spread
    parameters = list(model.context_layers.parameters())
    expected = torch.autograd.grad(loss, parameters)

    monkeypatch.setattr(fixed_point, "CHUNK_TOKENS", chunk)
    found = iterate(model, e_ND, previous_ND, noise_ND, config)
    assert found.loss == pytest.approx(float(loss.detach()), abs=1e-12)
    torch.testing.assert_close(found.contexts_ND, x_ND.detach(), atol=1e-12, rtol=0)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-12, rtol=1e-9)
    assert model.head.grad is None and model.token_layers[0].linear.weight.grad is None


def test_the_share_that_converged_is_counted_by_token(setting) -> None:
    model, e_ND, previous_ND, noise_ND = setting
    found = iterate(model, e_ND, previous_ND, noise_ND, FixedPointConfig(threshold=1.6))
    moved_N = ((found.contexts_ND - previous_ND) ** 2).mean(1)
    share = sum(float(value) < 1.6 for value in moved_N) / 37
    assert found.converged == pytest.approx(share) and 0 < share < 1
    assert found.moved == pytest.approx(float(moved_N.mean()))


def test_only_the_documents_diversity_depends_on_how_many_tokens_there_are(setting) -> None:
    model, *tensors = setting
    twice = [torch.cat([tensor, tensor]) for tensor in tensors]
    for diversity, ratio in (("frobenius", 2**-0.5), ("rms", 1.0)):
        config = FixedPointConfig(diversity=diversity)
        once, again = (iterate(model, *each, config).diversity for each in (tensors, twice))
        assert again / once == pytest.approx(ratio)


def test_settings_that_cannot_be_are_refused_with_their_name() -> None:
    with pytest.raises(ValueError, match=r"passes\.fixed_point\.most_iterations = 2"):
        FixedPointConfig(most_iterations=2)
    with pytest.raises(ValueError, match=r"passes\.fixed_point\.share = 95"):
        dataclasses.replace(FixedPointConfig(), share=95)
