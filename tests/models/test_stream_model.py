"""The models of the length study: counted to the unit, causal, and the same however they are cut into chunks."""

import pytest
import torch
from torch.nn import functional as F

from helpers.model_config import TttConfig
from helpers.models.families import count_parameters, flops_per_token
from helpers.models.language_model import build_model
from helpers.models.rope_attention import RopeAttention
from helpers.models.stream_model import StreamModel
from helpers.models.window_model import WindowModel

MIXERS = ("ttt", "full", "sliding")
VOCABULARY = 41


def model_of(mixer: str, **changes) -> StreamModel:
    config = TttConfig(size="ttt-20k", mixer=mixer, span=5, **changes)
    return build_model(config, VOCABULARY, 0, seed=3).double()


def some_ids(length: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def test_the_published_size_to_the_unit():
    """The figure of the TTT authors' own 125M configuration, with the inner bias, at GPT-2's vocabulary."""
    assert count_parameters(TttConfig(size="ttt-125m"), 50_257).total == 124_298_064


@pytest.mark.parametrize("size", TttConfig.SIZES)
@pytest.mark.parametrize("mixer", MIXERS)
def test_parameters_are_those_that_are_counted(mixer, size):
    config = TttConfig(size=size, mixer=mixer)
    with torch.device("meta"):
        model = StreamModel(config, VOCABULARY)
    counts = count_parameters(config, VOCABULARY)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.total - counts.non_embedding == VOCABULARY * config.shape.d_model
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert counts.matmul == sum(weight.numel() for weight in linear) + model.head_VD.numel()


def test_the_baselines_are_of_the_same_size():
    ratios = {}
    for size in TttConfig.SIZES:
        ttt, full, sliding = (count_parameters(TttConfig(size=size, mixer=mixer), 50_257).total for mixer in MIXERS)
        assert full == sliding < ttt
        ratios[size] = ttt / full
    assert ratios["ttt-125m"] < 1.007 and max(ratios.values()) < 1.02


def test_flops_are_those_of_the_products():
    """Of a layer of attention over T positions 12 L D T a token in training (Chowdhery et al. 2022, appendix B)."""
    full = TttConfig(size="ttt-125m", mixer="full")
    matmul = count_parameters(full, 50_257).matmul
    assert flops_per_token(full, 50_257, 2048) == 6 * matmul + 12 * 12 * 768 * 2048
    sliding = TttConfig(size="ttt-125m", mixer="sliding", span=64)
    assert flops_per_token(sliding, 50_257, 2048) == 6 * matmul + 12 * 12 * 768 * 64
    ttt = TttConfig(size="ttt-125m")
    assert flops_per_token(ttt, 50_257, 2048) == flops_per_token(ttt, 50_257, 64)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_token_changes_nothing_before_it(mixer):
    model, ids_BT = model_of(mixer), some_ids(21)
    for t in (0, 5, 16, 20):
        changed = ids_BT.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCABULARY
        before, after = model.hidden(ids_BT), model.hidden(changed)
        assert torch.equal(before[:, :t], after[:, :t]) and (before[:, t] != after[:, t]).any()


@pytest.mark.parametrize("mixer", MIXERS)
def test_in_chunks_it_is_one_pass(mixer):
    model, ids_BT = model_of(mixer), some_ids(40)
    whole_BTD = model.hidden(ids_BT)
    for cuts in ([1], [16], [3, 4, 17], [20, 33]):
        states, parts = None, []
        for chunk in torch.tensor_split(ids_BT, cuts, dim=1):
            part, states = model.read(chunk, states)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), whole_BTD, rtol=1e-10, atol=1e-10)


def test_the_predictions_are_a_distribution_of_all_tokens():
    """The second condition of a valid test-time method: probabilities of one pass that sum to 1 at every position."""
    model, ids_BT = model_of("ttt"), some_ids(40)
    p_BTV = (model.hidden(ids_BT) @ model.head_VD.T).softmax(-1)
    torch.testing.assert_close(p_BTV.sum(-1), torch.ones(2, 40, dtype=torch.float64))
    loss = WindowModel(model, 0).cross_entropy(ids_BT[:, 1:])
    assert loss.shape == (2, 39) and (loss > 0).all()


def test_sliding_attention_sees_its_span_and_no_further():
    layer = RopeAttention(8, 2, span=4).double()
    x_BTD = torch.randn(1, 12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = x_BTD.clone()
    changed[:, 3] += 1
    moved = (layer(x_BTD)[0] != layer(changed)[0]).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [3, 4, 5, 6]
    _, state = layer(x_BTD)
    assert state.keys_BHSE.shape[2] == 3 and state.position == 12


def test_full_attention_is_torchs_own_up_to_the_rotation(monkeypatch):
    monkeypatch.setattr("helpers.models.rope_attention.rotate", lambda x, positions: x)
    layer, theirs = (
        RopeAttention(8, 2).double(),
        torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True).double(),
    )
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.queries.weight, layer.keys.weight, layer.values.weight]))
        theirs.out_proj.weight.copy_(layer.out.weight)
    x_BTD = torch.randn(2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    expected, _ = theirs(x_BTD, x_BTD, x_BTD, attn_mask=mask, is_causal=True)
    torch.testing.assert_close(layer(x_BTD)[0], expected)


def test_rmsnorm_is_torchs_own():
    model = model_of("ttt")
    x_BTD = torch.randn(2, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model.norm.weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.norm(x_BTD), F.rms_norm(x_BTD, (32,), model.norm.weight, eps=1e-6))


def test_vectors_of_a_head_are_not_decayed():
    model = model_of("ttt")
    names = {id(p): name for name, p in model.named_parameters()}
    undecayed = {names[id(p)].rpartition(".")[2] for p in model.undecayed_matrices()}
    assert undecayed == {"start_bias_H1E", "gain_HE", "shift_HE"}
    assert model_of("full").undecayed_matrices() == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": "125m"}, "model.size = '125m'"),
        ({"mini_batch": 0}, "model.mini_batch = 0"),
        ({"span": 0}, "model.span = 0"),
        ({"mixer": "full", "inner": "ascent"}, "model.inner = 'ascent' is not possible; use descent, or model.mixer"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TttConfig(**changes)
