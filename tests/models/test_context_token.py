"""The model of context and token layers against its document: counts, and the equations written out in numpy."""

import numpy as np
import pytest
import torch

from helpers.model_config import ContextTokenConfig
from helpers.models.context_token import ContextToken
from helpers.models.context_token_counts import count_parameters, count_trained, flops_per_token
from helpers.models.language_model import build_model
from helpers.models.window_model import WindowModel

SMALL = ContextTokenConfig(d_model=8, n_layer=2)


def shuffled(model: ContextToken) -> ContextToken:
    """Weights that are all unlike their beginning, in float64."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2
    return model


def layer(weights: dict, name: str, x: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    inner = weights[f"{name}.linear.weight"] @ np.concatenate([left, right]) + weights[f"{name}.linear.bias"]
    return norm(weights, f"{name}.norm", x + np.maximum(inner, 0))


def norm(weights: dict, name: str, x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def logits_by_hand(model: ContextToken, ids: list[int]) -> np.ndarray:
    """Token by token, as the document's equations read."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    carried, rows = np.zeros(8), []
    for token in ids:
        e = norm(weights, "embedding_norm", weights["embedding.weight"][token])
        c1 = layer(weights, "context_layers.0", carried, carried, e)
        c2 = layer(weights, "context_layers.1", c1, c1, e)
        t1 = layer(weights, "token_layers.0", e, c1, e)
        t2 = layer(weights, "token_layers.1", t1, c2, t1)
        rows.append(weights["head"][:, :-1] @ t2 + weights["head"][:, -1])
        carried = c2
    return np.array(rows)


def test_the_documents_counts_to_the_unit() -> None:
    published = ContextTokenConfig()
    assert count_parameters(published, 50_257).total == 84_338_257
    assert count_trained(published, 50_257) == 42_193_489


@pytest.mark.parametrize("context", ["learned", "random", "none"])
@pytest.mark.parametrize("embedding", ["frozen", "trained"])
def test_closed_forms_are_those_of_the_module(context: str, embedding: str) -> None:
    config = ContextTokenConfig(d_model=12, n_layer=2, context=context, embedding=embedding)
    model = ContextToken(config, 31)
    counts = count_parameters(config, 31)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert counts.total == sum(sizes.values())
    outside = sizes["embedding.weight"] + sizes["head"]
    assert counts.non_embedding == counts.total - outside
    linear = sum(size for name, size in sizes.items() if name.endswith("linear.weight"))
    assert counts.matmul == linear + 31 * 12
    trained = {name for name in sizes if name.startswith("token_layers") or name == "head"}
    trained |= {name for name in sizes if embedding == "trained" and name.startswith("embedding")}
    assert count_trained(config, 31) == sum(sizes[name] for name in trained)
    assert flops_per_token(config, 31, 100) == 6 * (2 * 2 * 12**2 + 31 * 12)


def test_logits_are_those_of_the_equations() -> None:
    model = shuffled(ContextToken(SMALL, 11))
    ids = [3, 0, 10, 3, 7]
    logits = model.hidden(torch.tensor([ids]))[0] @ model.head_VD.T
    np.testing.assert_allclose(logits.detach().numpy(), logits_by_hand(model, ids), atol=1e-12)


def test_without_context_layers_a_token_sees_itself_alone() -> None:
    model = shuffled(ContextToken(ContextTokenConfig(d_model=8, n_layer=2, context="none"), 11))
    one, other = model.hidden(torch.tensor([[3, 0, 7], [5, 9, 7]]))
    assert torch.equal(one[2], other[2]) and not torch.equal(one[1], other[1])


def test_it_begins_at_the_uniform_distribution_with_the_documents_spreads() -> None:
    model = build_model(ContextTokenConfig(d_model=256), 1000, 0, seed=4)
    loss = WindowModel(model, 0)(torch.randint(1000, (2, 6))) / 12
    assert float(loss.detach()) == pytest.approx(np.log(1000), abs=1e-6)
    assert float(model.context_layers[0].linear.weight.detach().std()) == pytest.approx(0.1, rel=0.02)
    assert float(model.token_layers[2].linear.bias.detach().std()) == pytest.approx(0.01, rel=0.2)
    assert float(model.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_contexts_carry_no_gradient_and_the_head_does() -> None:
    model = shuffled(ContextToken(SMALL, 11)).float()
    WindowModel(model, 0)(torch.tensor([[1, 2, 3]])).backward()
    assert all(parameter.grad is None for parameter in model.context_layers.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in [model.head, *model.token_layers.parameters()])
