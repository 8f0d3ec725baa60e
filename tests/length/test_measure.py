"""The two ways to predict, held against one forward a target, and the conditions of a valid test-time method."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.model_config import TttConfig
from helpers.models.language_model import build_model
from helpers.models.stream_model import StreamModel
from helpers.studies.length import measure
from helpers.studies.length.measure import carried, total_variation, windowed

VOCABULARY, W, T = 17, 16, 85
MIXERS = ("ttt", "full", "sliding")


def model_of(mixer: str) -> StreamModel:
    """In float64, with an inner step that is felt."""
    config = TttConfig(size="ttt-20k", mixer=mixer, mini_batch=8, span=7)
    model = build_model(config, VOCABULARY, 0, seed=3).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(8 if "norm" not in name else 1)
    return model


def some_tokens(length: int = T, batch: int = 3) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, length + 1), generator=torch.Generator().manual_seed(1))


def loss_after(model: StreamModel, context_T: torch.Tensor, target: torch.Tensor) -> float:
    """One forward, one target."""
    with torch.no_grad():
        logits_V = model.hidden(context_T[None])[0, -1] @ model.head_VD.T
    return float(F.cross_entropy(logits_V[None], target[None]))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("stride", [1, 3, 16])
def test_a_window_is_one_forward_a_target_on_the_last_tokens(mixer, stride):
    model, tokens_BT = model_of(mixer), some_tokens(batch=1)
    loss_T = windowed(model, tokens_BT, W, stride)[0]
    assert loss_T.shape == (T,)
    for t in range(T):
        # The forward that scores target t ends at the next whole stride behind the first window, or at the end.
        end = t + 1 if t < W else min(T, W + -(-(t + 1 - W) // stride) * stride)
        assert W - stride + 1 <= t + 1 - max(0, end - W) <= W or t < W or end == T
        context_T = tokens_BT[0, max(0, end - W) : t + 1]
        assert float(loss_T[t]) == pytest.approx(loss_after(model, context_T, tokens_BT[0, t + 1]), abs=1e-9)


@pytest.mark.parametrize("mixer", MIXERS)
def test_carried_is_one_forward_a_target_on_all_tokens_before(mixer):
    model, tokens_BT = model_of(mixer), some_tokens(batch=1)
    loss_T, hidden_BWD = carried(model, tokens_BT, W)
    for t in range(T):
        assert float(loss_T[0, t]) == pytest.approx(
            loss_after(model, tokens_BT[0, : t + 1], tokens_BT[0, t + 1]), abs=1e-9
        )
    assert hidden_BWD.shape[1] == T % W


@pytest.mark.parametrize("stride", [1, 3, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_below_w_both_modes_agree_to_the_bit_at_any_stride(stride, dtype):
    model, tokens_BT = model_of("ttt").to(dtype), some_tokens()
    carried_BT, windowed_BT = carried(model, tokens_BT, W)[0], windowed(model, tokens_BT, W, stride)
    assert torch.equal(carried_BT[:, :W], windowed_BT[:, :W])
    assert (carried_BT[:, W + stride :] != windowed_BT[:, W + stride :]).float().mean() > 0.9


# Four conditions of a valid test-time method (arXiv 2407.04620's own use, and what is counted as cheating elsewhere)


@pytest.mark.parametrize("t", [0, 15, 16, 40, T])
def test_1_the_prediction_of_a_token_hangs_on_tokens_before_it_alone(t):
    model, tokens_BT = model_of("ttt"), some_tokens(batch=1)
    changed = tokens_BT.clone()
    changed[:, t] = (changed[:, t] + 1) % VOCABULARY
    for mode in (lambda ids: carried(model, ids, W)[0], lambda ids: windowed(model, ids, W)):
        before, after = mode(tokens_BT), mode(changed)
        assert torch.equal(before[:, : max(0, t - 1)], after[:, : max(0, t - 1)])
        if t > 0:  # the loss of the changed token moves, for it is another token; its prediction does not
            assert before[0, t - 1] != after[0, t - 1]


def test_2_probabilities_of_all_tokens_sum_to_1():
    """Each possible target of a position is scored in a pass of its own."""
    model, tokens_BT = model_of("ttt"), some_tokens(length=21, batch=1)
    every_VT = tokens_BT.repeat(VOCABULARY, 1)
    every_VT[:, -1] = torch.arange(VOCABULARY)
    for loss_VT in (carried(model, every_VT, W)[0], windowed(model, every_VT, W)):
        assert float((-loss_VT[:, -1]).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_3_a_token_is_scored_before_the_state_has_seen_it():
    """The loss of token t is that of the state behind tokens before t, which a pass that ends there leaves."""
    model, tokens_BT = model_of("ttt"), some_tokens(batch=1)
    whole = carried(model, tokens_BT, W)[0]
    for t in (1, 16, 17, 60):
        with torch.no_grad():
            _, states = model.read(tokens_BT[:, : t - 1]) if t > 1 else (None, None)
            hidden_BTD, _ = model.read(tokens_BT[:, t - 1 : t], states)
            log_p_V = (hidden_BTD[0, -1] @ model.head_VD.T).log_softmax(-1)
        assert float(whole[0, t - 1]) == pytest.approx(-float(log_p_V[tokens_BT[0, t]]), abs=1e-9)


def test_4_every_token_is_read_once(monkeypatch):
    model, tokens_BT, read = model_of("ttt"), some_tokens(), []
    original = StreamModel.read
    monkeypatch.setattr(
        StreamModel, "read", lambda self, ids, states=None: read.append(ids) or original(self, ids, states)
    )
    carried(model, tokens_BT, W)
    assert torch.equal(torch.cat(read, dim=1), tokens_BT[:, :-1])


def test_total_variation_is_half_the_sum_of_differences():
    model = model_of("ttt")
    left, right = (
        torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )
    p, q = ((hidden @ model.head_VD.T).softmax(-1) for hidden in (left, right))
    expected = 0.5 * (p - q).abs().sum(-1)
    torch.testing.assert_close(total_variation(model, left, right), expected)
    assert float(expected.detach().min()) > 0 and float(total_variation(model, left, left).max()) == 0


def test_many_windows_at_once_are_each_alone(monkeypatch):
    model, tokens_BT = model_of("ttt"), some_tokens()
    expected = windowed(model, tokens_BT, W)
    monkeypatch.setattr(measure, "BATCH_TOKENS", {"cpu": 3 * W})
    monkeypatch.setattr(measure, "CHUNK_LOGITS", {"cpu": 5 * VOCABULARY})
    np.testing.assert_allclose(windowed(model, tokens_BT, W), expected, rtol=1e-10)
