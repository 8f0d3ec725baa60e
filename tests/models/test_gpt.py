"""The activation study's decoder: parameters, layers and loss against torch's own, and runs that resume to the bit."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import xlogy
from torch import nn
from torch.nn import functional as F

from helpers.__main__ import main
from helpers.config import RunConfig, TrainConfig
from helpers.data import hidden_markov
from helpers.data.window_dataset import NO_LOSS
from helpers.model_config import GptConfig
from helpers.models.counts import embedding_rows
from helpers.models.families import count_non_embedding, count_parameters, flops_per_token
from helpers.models.gpt import GPT, Layer
from helpers.models.gpt_counts import feed_forward_width
from helpers.models.head import CHUNK_LOGITS
from helpers.models.language_model import build_model
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import load_newest_checkpoint, load_snapshot
from helpers.runs.result_file import read_result
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.optimizer import make_optimizer
from helpers.training.train_single_k import train_single_k
from tests import small_run
from tests.small_run import Interrupted, interrupt_at, numbers

ACTIVATIONS = ("gelu", "swiglu")
SIZES = list(GptConfig.SIZES)
GPT2_TOKENS = 50_257


def config_of(size: str, activation: str, **changes) -> GptConfig:
    return GptConfig(size=size, activation=activation, **{"dropout": 0.0, **changes})


def small_model(activation: str, vocab_size: int = 41, **changes) -> GPT:
    """Two layers and two heads, with LayerNorms that are not the identity they begin as."""
    model = build_model(config_of("gpt-30k", activation, **changes), vocab_size, 0, seed=3)
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            for parameter in (module.weight, module.bias):
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def some_ids(batch: int, positions: int, vocab_size: int = 40) -> torch.Tensor:
    return torch.randint(0, vocab_size, (batch, positions), generator=torch.Generator().manual_seed(1))


# Parameters


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_closed_forms_count_the_model_that_is_built(size: str, activation: str) -> None:
    config = config_of(size, activation)
    counts = count_parameters(config, GPT2_TOKENS)
    with torch.device("meta"):  # shapes without memory
        parameters = dict(GPT(config, GPT2_TOKENS).named_parameters())
    elements = {name: parameter.numel() for name, parameter in parameters.items()}
    assert counts.total == sum(elements.values())
    assert counts.without_positions == counts.total - elements["position_embedding.weight"]
    assert counts.non_embedding == counts.without_positions - elements["token_embedding.weight"]
    assert counts.non_embedding == count_non_embedding(config)
    matrices = {name for name, parameter in parameters.items() if parameter.dim() == 2}
    assert counts.matmul == sum(elements[name] for name in matrices - {"position_embedding.weight"})


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_a_size_has_the_parameters_of_its_name(size: str, activation: str) -> None:
    number, unit = size.removeprefix("gpt-")[:-1], size[-1]
    named = int(number) * {"k": 1_000, "m": 1_000_000}[unit]
    assert count_non_embedding(config_of(size, activation)) == pytest.approx(named, rel=0.05)


def test_gpt_85m_is_gpt_2_without_its_biases() -> None:
    """GPT-2's published 124,439,808 (Hub, openai-community/gpt2) have 9 d + 3 d biases a layer and 50,257 rows."""
    counts = count_parameters(config_of("gpt-85m", "gelu", max_context_tokens=1024), GPT2_TOKENS)
    biases, padding = 12 * (3 + 1 + 4 + 1) * 768, (50_304 - GPT2_TOKENS) * 768
    assert counts.total - padding + biases == 124_439_808


@pytest.mark.parametrize("size", SIZES)
def test_feed_forward_layers_of_both_activations_have_equal_parameters(size: str) -> None:
    d_model = GptConfig.SIZES[size].d_model
    assert feed_forward_width(config_of(size, "gelu")) == 4 * d_model
    assert 3 * feed_forward_width(config_of(size, "swiglu")) == pytest.approx(8 * d_model, rel=0.005)


def test_swiglu_widths_are_multiples_that_tensor_cores_like() -> None:
    """By hand: 8 d / 3 is 2048, 1365.3 and 1194.7; 64 and 32 would miss the latter two by more than 0.5 %."""
    widths = [feed_forward_width(config_of(size, "swiglu")) for size in ("gpt-85m", "gpt-30m", "gpt-17m")]
    assert widths == [2048, 1360, 1200]


def test_parameters_and_flops_of_10m_by_hand() -> None:
    counts = count_parameters(config_of("gpt-10m", "gelu", max_context_tokens=512), GPT2_TOKENS)
    assert embedding_rows(GPT2_TOKENS) == 50_304
    assert counts.non_embedding == 8 * (12 * 320**2 + 4 * 320) + 2 * 320 == 9_841_280
    assert counts.without_positions == 9_841_280 + 50_304 * 320
    assert counts.total == 9_841_280 + 50_304 * 320 + 512 * 320
    flops = flops_per_token(config_of("gpt-10m", "gelu"), GPT2_TOKENS, 512)
    assert flops == 6 * (8 * 12 * 320**2 + 50_304 * 320) + 12 * 8 * 320 * 512 == 171_294_720


# Forward


def torch_layer(layer: Layer, n_head: int, activation: str) -> nn.TransformerEncoderLayer:
    """torch's own pre-norm layer with the weights of `layer`; SwiGLU is its activation of two halves: gate, value."""
    ours, d_model = layer.feed_forward, layer.attention.out.weight.shape[0]
    function = F.gelu if activation == "gelu" else lambda x: F.silu(x.chunk(2, dim=-1)[0]) * x.chunk(2, dim=-1)[1]
    inputs = [ours.up.weight] if activation == "gelu" else [ours.gate.weight, ours.up.weight]
    theirs = nn.TransformerEncoderLayer(d_model, n_head, 8, 0.0, function, batch_first=True, norm_first=True)
    theirs.linear1.weight, theirs.linear2.weight = nn.Parameter(torch.cat(inputs)), ours.down.weight
    theirs.self_attn.in_proj_weight = layer.attention.qkv.weight
    theirs.self_attn.out_proj.weight = layer.attention.out.weight
    theirs.linear1.bias = theirs.linear2.bias = None
    nn.init.zeros_(theirs.self_attn.in_proj_bias)
    nn.init.zeros_(theirs.self_attn.out_proj.bias)
    theirs.norm1, theirs.norm2 = layer.attention_norm, layer.feed_forward_norm
    return theirs


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_states_are_those_of_torchs_transformer(activation: str) -> None:
    model, ids_BT = small_model(activation), some_ids(3, 50)
    x_BTD = F.embedding(ids_BT, model.token_embedding.weight) + model.position_embedding(torch.arange(50))
    mask = nn.Transformer.generate_square_subsequent_mask(50)
    for layer in model.layers:
        x_BTD = torch_layer(layer, GptConfig.SIZES["gpt-30k"].n_head, activation)(x_BTD, src_mask=mask, is_causal=True)
    theirs = F.layer_norm(x_BTD, (36,), model.norm.weight, model.norm.bias)
    torch.testing.assert_close(model.hidden(ids_BT), theirs, atol=2e-5, rtol=1e-4)


def test_attention_is_a_softmax_over_the_past() -> None:
    attention = small_model("gelu").layers[0].attention.double()
    x_TD = torch.randn(9, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    query_TD, key_TD, value_TD = (x_TD @ weight.T for weight in attention.qkv.weight.split(36))
    heads = []
    for head in (slice(0, 18), slice(18, 36)):
        score_TT = query_TD[:, head] @ key_TD[:, head].T / math.sqrt(18)
        score_TT[torch.ones(9, 9).triu(1).bool()] = -math.inf
        heads.append(score_TT.exp() / score_TT.exp().sum(dim=1, keepdim=True) @ value_TD[:, head])
    theirs_TD = torch.cat(heads, dim=1) @ attention.out.weight.T
    torch.testing.assert_close(attention(x_TD[None])[0], theirs_TD)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_later_token_changes_no_earlier_state(activation: str) -> None:
    model, ids_BT = small_model(activation), some_ids(2, 60)
    changed_BT = ids_BT.clone()
    changed_BT[:, 30] = (changed_BT[:, 30] + 1) % 40
    before, after = model.hidden(ids_BT), model.hidden(changed_BT)
    torch.testing.assert_close(before[:, :30], after[:, :30], atol=1e-6, rtol=0)
    assert (before[:, 30:] - after[:, 30:]).abs().amax(dim=-1).min() > 1e-4


def test_dropout_acts_in_training_alone() -> None:
    model, ids_BT = small_model("gelu", dropout=0.1), some_ids(2, 20)
    plain = small_model("gelu").hidden(ids_BT)
    assert not torch.equal(model.train().hidden(ids_BT), model.hidden(ids_BT))
    torch.testing.assert_close(model.eval().hidden(ids_BT), plain)


# Loss and its gradient


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_and_gradients_are_those_of_whole_logits(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", 7 * 128)
    model, bos = small_model(activation), 40
    tokens_BT = some_ids(3, 25)
    tokens_BT[1, 11:] = NO_LOSS
    ours = WindowModel(model, bos)(tokens_BT)
    gradients = torch.autograd.grad(ours, list(model.parameters()))
    inputs_BT = torch.cat([torch.full((3, 1), bos), tokens_BT[:, :-1].clamp(min=0)], dim=1)
    logits_BTV = model.hidden(inputs_BT) @ model.token_embedding.weight.T
    theirs = F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT.flatten(), ignore_index=NO_LOSS, reduction="sum")
    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-5)
    for mine, reference in zip(gradients, torch.autograd.grad(theirs, list(model.parameters())), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


def test_a_tied_weight_has_one_storage_and_one_gradient() -> None:
    """Central differences of the loss in float64, for tokens that are input, target, both or neither."""
    window_model = WindowModel(small_model("swiglu").double(), 40)
    weight_VD = window_model.model.token_embedding.weight
    assert window_model.model.head_VD is weight_VD
    tokens_BT = torch.tensor([[3, 5, 3, 8], [5, 9, 1, 0]])
    window_model(tokens_BT).backward()
    for token in (40, 3, 5, 8, 9, 33):
        difference = 0.0
        for sign in (1, -1):
            with torch.no_grad():
                weight_VD[token, 2] += sign * 1e-5
                difference += sign * window_model(tokens_BT).item() / 2e-5
                weight_VD[token, 2] -= sign * 1e-5
        assert weight_VD.grad[token, 2].item() == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_low_precision_is_close_to_full(activation: str) -> None:
    model, tokens_BT = WindowModel(small_model(activation), 40), some_ids(4, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(tokens_BT)
    assert low.item() == pytest.approx(model(tokens_BT).item(), rel=2e-3)


# Weights


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initial_weights_have_the_deviations_of_the_study(activation: str) -> None:
    """0.02, and 0.02 / sqrt(2 L) where the residual stream is added to; 3 % is 4.9 standard errors of the smallest."""
    model = build_model(config_of("gpt-1m", activation), 2_000, 0, seed=0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, name.endswith("weight")))
        else:
            shrinks = "attention.out" in name or "feed_forward.down" in name
            expected = 0.02 / math.sqrt(2 * 5) if shrinks else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_weights_depend_on_the_seed_alone(activation: str) -> None:
    config = config_of("gpt-10k", activation)
    torch.manual_seed(1)
    one = build_model(config, 33, 32, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = build_model(config, 33, 32, seed=5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build_model(config, 33, 32, seed=6).state_dict()
    assert all(not torch.equal(one[name], other[name]) for name in one if "norm" not in name)


def test_weight_decay_leaves_embeddings_and_norms_alone() -> None:
    """With a gradient of zero AdamW does nothing but decay: p (1 - lr wd)."""
    window_model = WindowModel(small_model("swiglu"), 40)
    start = {name: parameter.clone() for name, parameter in window_model.model.named_parameters()}
    for parameter in window_model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(TrainConfig(peak_lr=0.5, weight_decay=0.1), window_model).step()
    for name, parameter in window_model.model.named_parameters():
        is_decayed = "norm" not in name and "embedding" not in name
        torch.testing.assert_close(parameter, start[name] * (1 - 0.05 * is_decayed), atol=0, rtol=1e-6)


# Runs


def run_config(activation: str) -> RunConfig:
    return apply_overrides(small_run.CONFIG, ["model.size=gpt-30k", f"model.activation={activation}", "train.steps=20"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_interrupted_run_ends_with_the_same_bits(activation: str, tmp_path: Path) -> None:
    config = run_config(activation)
    undisturbed, storage = Storage.at(tmp_path / "one"), Storage.at(tmp_path / "two")
    train_single_k(config, undisturbed, ())
    with pytest.raises(Interrupted):
        train_single_k(config, storage, [interrupt_at(15)])
    assert storage.checkpoint_steps(config.run_id) == [10, 5]
    train_single_k(config, storage, ())
    assert numbers(storage, config) == numbers(undisturbed, config)
    # 32 symbols and BOS take one block of 128 rows.
    params = read_result(storage.result(config.run_id)).run["params"]
    assert params["without_positions"] == params["non_embedding"] + 128 * 36
    assert params["total"] == params["without_positions"] + 128 * 36


def test_checkpoints_and_snapshots_hold_every_parameter_once(tmp_path: Path) -> None:
    config, storage = apply_overrides(run_config("swiglu"), ["train.steps=25"]), Storage.at(tmp_path)
    with pytest.raises(Interrupted):
        train_single_k(config, storage, [interrupt_at(25)])
    checkpoint = load_newest_checkpoint(storage, config.run_id, print)
    model = build_model(config.model, 33, 32, seed=0)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert {name: tensor.shape for name, tensor in checkpoint.model.items()} == shapes
    moments = {f"model.{name}/{key}" for name in shapes for key in ("exp_avg", "exp_avg_sq", "step")}
    assert checkpoint.optimizer.keys() == moments
    snapshot = load_snapshot(storage, config.run_id, 20)
    assert checkpoint.step == 20
    assert all(torch.equal(snapshot[name], checkpoint.model[name]) for name in shapes)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_comes_near_the_bayes_value(activation: str, tmp_path: Path) -> None:
    """Two processes of few symbols each: context tells which one, and nine tenths of what it tells are learned."""
    config = apply_overrides(
        run_config(activation),
        ["model.dropout=0", "train.steps=150", "train.peak_lr=1e-2", "execution.micro_batch=8",
         "execution.log_every_steps=50", "execution.snapshot_every_steps=150", "eval.windows_per_component=64",
         "data.synthetic.concentration=0.1", "data.synthetic.papers_per_component=40"],
    )  # fmt: skip
    storage = Storage.at(tmp_path)
    train_single_k(config, storage, ())
    result = read_result(storage.result(config.run_id))
    active = [int(name.removeprefix("hmm")) for name in result.run["components"]]
    tensors = hidden_markov.processes(config.data.synthetic)[active]
    p_X = np.mean([np.einsum("i,xij->x", hidden_markov.stationary(tensor), tensor) for tensor in tensors], axis=0)
    without_context = -xlogy(p_X, p_X).sum()
    bayes, xe = result.summaries[-1]["bayes_xe"], result.summaries[-1]["xe"]
    assert bayes < xe < bayes + 0.1 * (without_context - bayes)


def test_the_command_line_trains_a_gpt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = ("model.size=gpt-10k", "model.activation=swiglu", "train.steps=3", "train.warmup_steps=1")
    arguments = ["train", "--preset", "smoke", "--only=k=2", "--storage", str(tmp_path)]
    assert main([*arguments, *(f"--set={field}" for field in fields)]) == 0
    (path,) = (tmp_path / "results").glob("*.jsonl")
    assert path.name.startswith("ergodic-synthetic-gpt_10k-swiglu-k2-s0-")
    assert read_result(path).run["config"]["model"]["activation"] == "swiglu"
    capsys.readouterr()
    assert main([*arguments, "--set=model.activation=swiglu"]) == 2
    assert "unknown field 'activation' in 'model.activation'" in capsys.readouterr().err
