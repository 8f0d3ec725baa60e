"""TTT-Linear held against its definition, token by token with torch's own gradients, and against linear attention."""

import math

import pytest
import torch
from torch.nn import functional as F

from helpers.models.rotary import rotate
from helpers.models.ttt import TTTLinear, TTTState

LENGTHS = (1, 2, 15, 16, 17, 47, 48, 49)
D, H, M = 12, 3, 16


def layer_of(inner: str = "descent", mini_batch: int = M, seed: int = 0) -> TTTLinear:
    """In float64, every parameter away from where it begins; some step scales are cut at 0."""
    layer = TTTLinear(D, H, mini_batch=mini_batch, inner=inner).double()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in layer.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_(1 + 0.3 * noise if name in ("gain_HE", "norm.weight") else 0.4 * noise)
    return layer


def tokens(length: int, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, D, generator=generator, dtype=torch.float64)


def primal(layer: TTTLinear, x_TD: torch.Tensor) -> torch.Tensor:
    """One sequence by the definition: arXiv 2407.04620, equations 1 to 4, gradients by torch, weights token by token.

    W_i = W - scale_i sum_{j <= i} rate_j grad l_j(W), the gradients all at the mini-batch's first weights W.
    """
    width, outputs = D // H, []
    for h in range(H):
        rows = slice(h * width, (h + 1) * width)
        q, k, v = (x_TD @ part.weight[rows].T for part in (layer.queries, layer.keys, layer.values))
        rates = layer.rate * torch.sigmoid(x_TD @ layer.rate_weight_HD[h] + layer.rate_bias_H[h])
        weight, bias = layer.start_weight_HEE[h], layer.start_bias_H1E[h, 0]
        answers = []

        def inner(u, w, b, h=h):
            return u + F.layer_norm(u @ w + b, (width,), layer.gain_HE[h], layer.shift_HE[h], eps=1e-6)

        for first in range(0, len(x_TD), layer.mini_batch):
            step_w, step_b = torch.zeros_like(weight), torch.zeros_like(bias)
            for i, t in enumerate(range(first, min(first + layer.mini_batch, len(x_TD)))):
                key, query = turned(k[t], i), turned(q[t], i)
                loss = 0.5 * (inner(key, weight, bias) - v[t]).square().sum()
                grad_w, grad_b = torch.autograd.grad(loss, (weight, bias), create_graph=True)
                step_w, step_b = step_w + rates[t] * grad_w, step_b + rates[t] * grad_b
                scale = torch.clamp(1 / (i + 1) + layer.scale_M[i], min=0)
                answers.append(inner(query, weight - scale * step_w, bias - scale * step_b))
            weight, bias = weight - scale * step_w, bias - scale * step_b
        outputs.append(torch.stack(answers))
    return layer.out(F.layer_norm(torch.cat(outputs, -1), (D,), layer.norm.weight, layer.norm.bias, eps=1e-6))


def turned(x_E: torch.Tensor, position: int) -> torch.Tensor:
    """RoPE as complex numbers: (x_2i + i x_2i+1) e^(i position base^(-2i/E))."""
    pairs = torch.view_as_complex(x_E.view(-1, 2))
    angle = position * 10_000.0 ** (-torch.arange(0, len(x_E), 2, dtype=torch.float64) / len(x_E))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten()


def gradients(outputs: torch.Tensor, layer: TTTLinear, *others: torch.Tensor) -> list[torch.Tensor]:
    seen = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = torch.autograd.grad((outputs * seen).sum(), [*layer.parameters(), *others], allow_unused=True)
    return [g for g in found if g is not None]


def assert_close(left: torch.Tensor, right: torch.Tensor, within: float = 1e-10) -> None:
    torch.testing.assert_close(left, right, rtol=within, atol=within)


# The layer


@pytest.mark.parametrize("inner", ["descent", "ascent"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_dual_form_is_the_primal_one(length, inner):
    layer, x_BTD = layer_of(inner, seed=length), tokens(length)
    expected = torch.stack([primal(layer, x_TD) for x_TD in x_BTD])
    assert_close(layer(x_BTD)[0], expected)


@pytest.mark.parametrize("length", [1, 15, 33])
def test_its_own_backward_gives_the_primal_forms_gradients(length):
    layer, x_BTD = layer_of(), tokens(length, batch=1).requires_grad_()
    dual = gradients(layer(x_BTD)[0], layer, x_BTD)
    token_by_token = gradients(primal(layer, x_BTD[0])[None], layer, x_BTD)
    assert len(dual) == len(token_by_token) == len(list(layer.parameters())) + 1
    for left, right in zip(dual, token_by_token, strict=True):
        assert_close(left, right, 1e-9)


def test_gradcheck_of_the_layer_and_of_its_state():
    layer, x_BTD = layer_of(mini_batch=4), tokens(10).requires_grad_()
    parameters = [layer.rate_weight_HD, layer.scale_M, layer.start_weight_HEE, layer.start_bias_H1E, layer.gain_HE]

    def outputs(*_):
        y_BTD, state = layer(x_BTD)
        return y_BTD, *state

    assert torch.autograd.gradcheck(outputs, (x_BTD, *parameters))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_token_changes_nothing_before_it(length):
    layer, x_BTD = layer_of(), tokens(length)
    for t in range(length):
        changed = x_BTD.clone()
        changed[:, t] += 1
        before, after = layer(x_BTD)[0], layer(changed)[0]
        assert torch.equal(before[:, :t], after[:, :t])
        assert (before[:, t] != after[:, t]).any()


@pytest.mark.parametrize("cut", range(0, 38))
def test_cut_anywhere_it_is_one_pass_gradients_included(cut):
    layer, x_BTD = layer_of(), tokens(37).requires_grad_()
    whole, end = layer(x_BTD)
    first, state = layer(x_BTD[:, :cut])
    second, state = layer(x_BTD[:, cut:], state)
    assert_close(torch.cat([first, second], 1), whole, 1e-12)
    for left, right in zip(state, end, strict=True):
        assert_close(left, right, 1e-12)
    in_parts = gradients(torch.cat([first, second], 1), layer, x_BTD)
    at_once = gradients(whole, layer, x_BTD)
    for left, right in zip(in_parts, at_once, strict=True):
        assert_close(left, right)


def test_token_by_token_it_is_one_pass():
    layer, x_BTD = layer_of(), tokens(35)
    state, parts = None, []
    for t in range(35):
        y_BTD, state = layer(x_BTD[:, t : t + 1], state)
        parts.append(y_BTD)
    assert_close(torch.cat(parts, 1), layer(x_BTD)[0], 1e-12)


def test_a_chunk_of_nothing_changes_nothing():
    layer, x_BTD = layer_of(), tokens(20)
    _, state = layer(x_BTD)
    nothing, after = layer(x_BTD[:, :0], state)
    assert nothing.shape == (2, 0, D)
    for left, right in zip(after, state, strict=True):
        assert torch.equal(left, right)
    assert torch.equal(layer(x_BTD[:, :0])[1].weights_BHIE, layer.start(2))


def test_without_a_step_it_is_the_model_that_it_begins_with():
    layer, x_BTD = layer_of("none"), tokens(37)
    q_BHTE = layer.queries(x_BTD).unflatten(-1, (H, -1)).transpose(1, 2)
    q_BHTE = rotate(q_BHTE, torch.arange(37) % M)
    z_BHTE = q_BHTE @ layer.start_weight_HEE + layer.start_bias_H1E
    normed = F.layer_norm(z_BHTE, (D // H,), eps=1e-6) * layer.gain_HE[:, None] + layer.shift_HE[:, None]
    expected = layer.out(layer.norm((q_BHTE + normed).transpose(1, 2).flatten(2)))
    y_BTD, state = layer(x_BTD)
    assert_close(y_BTD, expected)
    assert torch.equal(state.weights_BHIE, layer.start(2))


def test_without_norm_and_residual_and_from_zero_it_is_linear_attention(monkeypatch):
    """Theorem 1 of the paper: with f(u) = u W, W0 = 0 and one batch gradient step of all tokens so far, the answer is
    sum_{j <= i} scale_i rate_j (q_i . k_j) v_j."""
    monkeypatch.setattr("helpers.models.ttt_scan._norm", lambda z: (z, z[..., :1] * 0, z[..., :1] * 0 + 1))
    monkeypatch.setattr("helpers.models.ttt_scan._norm_backward", lambda d, *of: d)
    monkeypatch.setattr("helpers.models.ttt.F.layer_norm", lambda z, *_, **__: z)
    layer, length = layer_of(mini_batch=40), 37
    x_BTD, target = tokens(length), {}
    with torch.no_grad():
        layer.start_weight_HEE.zero_(), layer.start_bias_H1E.zero_(), layer.shift_HE.zero_(), layer.gain_HE.fill_(1)
    monkeypatch.setattr(layer, "norm", torch.nn.Identity())
    monkeypatch.setattr(layer, "out", torch.nn.Identity())
    q, k, v = (part(x_BTD).unflatten(-1, (H, -1)).transpose(1, 2) for part in (layer.queries, layer.keys, layer.values))
    q, k = rotate(q, torch.arange(length)), rotate(k, torch.arange(length))
    rates = layer.rate * torch.sigmoid(x_BTD @ layer.rate_weight_HD.T + layer.rate_bias_H).transpose(1, 2)
    scale = (1 / torch.arange(1, length + 1, dtype=torch.float64) + layer.scale_M[:length]).clamp(min=0)
    weights = (scale[:, None] * rates[:, :, None] * (q @ k.mT + 1)).tril()  # + 1: what the bias learns
    target = q + weights @ (v - k)
    assert_close(layer(x_BTD)[0], target.transpose(1, 2).flatten(2))


def test_mini_batches_of_one_are_steps_of_online_gradient_descent():
    layer, x_BTD = layer_of(mini_batch=1), tokens(9)
    assert_close(layer(x_BTD)[0], torch.stack([primal(layer, x_TD) for x_TD in x_BTD]))


def test_rows_of_a_batch_do_not_know_each_other():
    layer, x_BTD = layer_of(), tokens(37, batch=3)
    alone = torch.cat([layer(x_1TD)[0] for x_1TD in x_BTD.split(1)])
    assert_close(layer(x_BTD)[0], alone, 1e-12)


def test_positions_repeat_with_the_mini_batch():
    x_BHTE = torch.randn(1, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 5, 12])
    expected = torch.stack([turned(x, int(p)) for x, p in zip(x_BHTE[0, 0], positions, strict=True)])
    assert_close(rotate(x_BHTE, positions)[0, 0], expected, 1e-12)
    layer = layer_of("none")
    x_BTD = tokens(1).expand(-1, 2 * M, -1)
    y_BTD = layer(x_BTD)[0]
    assert_close(y_BTD[:, :M], y_BTD[:, M:], 1e-12)


def test_the_inner_loop_stays_in_float32_under_autocast():
    layer = TTTLinear(32, 2)
    x_BTD = torch.randn(2, 40, 32, generator=torch.Generator().manual_seed(2))
    exact = layer(x_BTD)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, low = layer(x_BTD)
    assert {part.dtype for part in low} == {torch.float32}
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


def test_what_it_keeps_for_the_backward_grows_with_the_length():
    """Linearly: twice the tokens are twice the bytes, up to the parameters."""
    layer = TTTLinear(32, 2)

    def saved_bytes(length: int) -> int:
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept = layer(torch.randn(1, length, 32, requires_grad=True))  # noqa: F841
        return sum(sizes.values())

    short, middle, long = (saved_bytes(length) for length in (256, 512, 1024))
    assert long - middle == pytest.approx(2 * (middle - short), rel=0.02)


def test_long_and_large_inputs_stay_finite():
    layer = TTTLinear(32, 2)
    x_BTD = (100 * torch.randn(1, 2000, 32, generator=torch.Generator().manual_seed(3))).requires_grad_()
    y_BTD, state = layer(x_BTD)
    y_BTD.sum().backward()
    assert y_BTD.isfinite().all() and x_BTD.grad.isfinite().all() and state.weights_BHIE.isfinite().all()


def test_a_width_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="d_model = 30 is not possible with 4 heads"):
        TTTLinear(30, 4)


def test_a_state_handed_over_by_hand_is_the_learned_start():
    layer, x_BTD = layer_of(), tokens(20)
    assert_close(layer(x_BTD, TTTState.at(layer.start(2)))[0], layer(x_BTD)[0], 0.0)
    assert math.isclose(layer.rate, 1 / (D // H))
