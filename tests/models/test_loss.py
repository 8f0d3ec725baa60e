"""The loss against transformers' own on padded sequences, torch's cross entropy, and finite differences."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.data.window_dataset import NO_LOSS
from helpers.model_config import PythiaConfig
from helpers.models.language_model import build_model
from helpers.models.window_model import CHUNK_LOGITS, WindowModel, summed_cross_entropy

BOS = 40


@pytest.fixture
def model() -> WindowModel:
    return WindowModel(build_model(PythiaConfig(size="tiny", dropout=0.0), 41, BOS, seed=3), BOS)


def windows(*lengths: int) -> torch.Tensor:
    tokens = torch.randint(0, 40, (len(lengths), 100), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        tokens[row, length:] = NO_LOSS
    return tokens


def padded_to_128(tokens_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The document's sequence, BOS + 100 + pad, as transformers takes it: input ids, attention mask, labels."""
    labels = torch.full((len(tokens_BT), 128), NO_LOSS)
    labels[:, 1:101] = tokens_BT
    inputs = labels.masked_fill(labels == NO_LOSS, 0)
    inputs[:, 0] = BOS
    mask = (labels != NO_LOSS).long()
    mask[:, 0] = 1
    return inputs, mask, labels


@pytest.mark.parametrize("lengths", [(100,) * 8, (100, 37, 1, 99)])
def test_loss_and_gradients_are_those_of_transformers_on_padded_sequences(
    model: WindowModel, lengths: tuple[int, ...]
) -> None:
    tokens_BT = windows(*lengths)
    ours = model(tokens_BT) / sum(lengths)
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in model.model.named_parameters()}
    model.zero_grad()
    inputs, mask, labels = padded_to_128(tokens_BT)
    theirs = model.model(input_ids=inputs, attention_mask=mask, labels=labels).loss
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    for name, p in model.model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, atol=1e-6, rtol=1e-4)


def test_token_losses_are_those_of_transformers(model: WindowModel) -> None:
    tokens_BT = windows(100, 100, 55)
    inputs, mask, labels = padded_to_128(tokens_BT)
    logits = model.model(input_ids=inputs, attention_mask=mask).logits
    theirs = F.cross_entropy(logits[:, :100].transpose(1, 2), labels[:, 1:101], reduction="none")
    torch.testing.assert_close(model.cross_entropy(tokens_BT), theirs.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
def test_chunks_do_not_change_the_loss(monkeypatch: pytest.MonkeyPatch, chunk_tokens: int) -> None:
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", 11 * chunk_tokens)
    hidden = torch.randn(50, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (50,))
    targets[::9] = NO_LOSS
    ours = torch.autograd.grad(3 * summed_cross_entropy(hidden, weight, targets), (hidden, weight))
    theirs = torch.autograd.grad(
        3 * F.cross_entropy(hidden @ weight.T, targets, ignore_index=NO_LOSS, reduction="sum"), (hidden, weight)
    )
    torch.testing.assert_close(ours, theirs)


def test_gradient_against_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", 5 * 4)
    hidden = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 4, 2, NO_LOSS, 1, 1, 3, 0, 2])
    assert torch.autograd.gradcheck(lambda h, w: summed_cross_entropy(h, w, targets), (hidden, weight))


def test_logits_of_a_whole_batch_never_exist() -> None:
    """The largest tensor that is made, forward or backward, is a chunk's logits."""
    model = WindowModel(build_model(PythiaConfig(size="tiny", dropout=0.0), 5_000, BOS, seed=3), BOS)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    tokens_BT = windows(*[100] * 64)
    with Watch():
        model(tokens_BT).backward()
    assert largest == CHUNK_LOGITS["cpu"] // 5_120 * 5_120 < tokens_BT.numel() * 5_120 / 10


def test_autocast_reaches_the_head() -> None:
    hidden, weight = torch.randn(20, 8), torch.randn(12, 8, requires_grad=True)
    targets = torch.randint(0, 12, (20,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = summed_cross_entropy(hidden, weight, targets)
    exact = F.cross_entropy(hidden.bfloat16().float() @ weight.detach().bfloat16().float().T, targets, reduction="sum")
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact.item(), rel=5e-3)
    low.backward()
    assert weight.grad.dtype == torch.float32
