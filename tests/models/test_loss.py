"""The loss against transformers' own on padded sequences, torch's cross entropy, and finite differences."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPTNeoXForCausalLM

from helpers.data.window_dataset import NO_LOSS
from helpers.model_config import PythiaConfig
from helpers.models import head
from helpers.models.head import CHUNK_LOGITS, chunk_tokens, cross_entropy, summed_cross_entropy
from helpers.models.language_model import build_model, weights_of
from helpers.models.neox import as_transformers
from helpers.models.pythia import Pythia
from helpers.models.window_model import WindowModel

BOS = 40
TINY = PythiaConfig(size="tiny", dropout=0.0)


@pytest.fixture
def model() -> WindowModel:
    return WindowModel(build_model(TINY, 41, BOS, seed=3), BOS)


@pytest.fixture
def theirs(model: WindowModel) -> GPTNeoXForCausalLM:
    return as_transformers(TINY, 41, BOS, weights_of(model.model))


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
    model: WindowModel, theirs: GPTNeoXForCausalLM, lengths: tuple[int, ...]
) -> None:
    tokens_BT = windows(*lengths)
    ours = model(tokens_BT) / sum(lengths)
    ours.backward()
    gradients = {name: p.grad for name, p in model.model.named_parameters()}
    inputs, mask, labels = padded_to_128(tokens_BT)
    loss = theirs(input_ids=inputs, attention_mask=mask, labels=labels).loss
    loss.backward()
    assert ours.item() == pytest.approx(loss.item(), abs=1e-5)
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(gradients[Pythia.name_in_files(name)], p.grad, atol=1e-6, rtol=1e-4)


def test_token_losses_are_those_of_transformers(model: WindowModel, theirs: GPTNeoXForCausalLM) -> None:
    tokens_BT = windows(100, 100, 55)
    inputs, mask, labels = padded_to_128(tokens_BT)
    logits = theirs(input_ids=inputs, attention_mask=mask).logits
    losses = F.cross_entropy(logits[:, :100].transpose(1, 2), labels[:, 1:101], reduction="none")
    torch.testing.assert_close(model.cross_entropy(tokens_BT), losses.detach(), atol=1e-5, rtol=0)


@pytest.fixture(params=[1, 7, 1000])
def tokens_a_chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(head, "chunk_tokens", lambda head_VD: request.param)
    return request.param


def some_tokens(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states [50, 6], a head [11, 6] and targets [50], some of which are not scored."""
    hidden = torch.randn(50, 6, dtype=dtype, requires_grad=True)
    weight = torch.randn(11, 6, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 11, (50,))
    targets[::9] = NO_LOSS
    return hidden, weight, targets


def test_chunks_do_not_change_the_loss(tokens_a_chunk: int) -> None:
    hidden, weight, targets = some_tokens()
    ours, theirs = (
        torch.autograd.grad(3 * loss, (hidden, weight))
        for loss in (
            summed_cross_entropy(hidden, weight, targets),
            F.cross_entropy(hidden @ weight.T, targets, ignore_index=NO_LOSS, reduction="sum"),
        )
    )
    torch.testing.assert_close(ours, theirs)


def test_losses_of_tokens_are_those_of_torch(tokens_a_chunk: int) -> None:
    hidden, weight, targets = some_tokens()
    theirs = F.cross_entropy(hidden @ weight.T, targets, ignore_index=NO_LOSS, reduction="none")
    torch.testing.assert_close(cross_entropy(hidden, weight, targets), theirs.detach())


def test_an_improbable_target_has_its_finite_loss() -> None:
    """Its probability, e^-200, is no float32."""
    hidden, weight = torch.tensor([[200.0]]), torch.tensor([[1.0], [0.0]], requires_grad=True)
    assert cross_entropy(hidden, weight, torch.tensor([1])).tolist() == [200.0]
    assert summed_cross_entropy(hidden, weight, torch.tensor([1])).item() == 200.0


def test_gradient_against_central_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "chunk_tokens", lambda head_VD: 4)
    hidden, weight, targets = some_tokens()
    gradients = torch.autograd.grad(summed_cross_entropy(hidden, weight, targets), (hidden, weight))
    with torch.no_grad():
        for values, gradient in zip((hidden, weight), gradients, strict=True):
            for place in range(0, values.numel(), 5):
                difference = 0.0
                for sign in (1, -1):
                    values.view(-1)[place] += sign * 1e-5
                    difference += sign * cross_entropy(hidden, weight, targets).sum().item() / 2e-5
                    values.view(-1)[place] -= sign * 1e-5
                assert gradient.view(-1)[place].item() == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_gradients_are_taken_once() -> None:
    """They are scaled in place: a second time would scale them again."""
    hidden, weight, targets = some_tokens()
    loss = summed_cross_entropy(hidden, weight, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        loss.backward()


@pytest.mark.parametrize(
    "rows, width, expected", [(50_304, 128, 64), (50_304, 512, 256), (128, 32, 2**14), (50_304, 32, 41)]
)
def test_a_chunk_follows_the_head_s_size(rows: int, width: int, expected: int) -> None:
    assert chunk_tokens(torch.empty(1).expand(rows, width)) == expected


def test_logits_of_a_whole_batch_never_exist() -> None:
    """The largest tensor that is made, forward or backward, is a chunk's logits."""
    model = WindowModel(build_model(TINY, 5_000, BOS, seed=3), BOS)
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


def test_no_second_matrix_of_gradients_is_made() -> None:
    """The head's gradient, its largest, is scaled where it lies, and given to the parameter without a copy."""
    hidden, weight, targets = some_tokens(torch.float32)
    loss = summed_cross_entropy(hidden, weight, targets)
    place = loss.grad_fn.gradients[1].data_ptr()
    loss.backward()
    assert weight.grad.data_ptr() == place


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


def test_low_precision_sums_its_gradients_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4,096 chunks with equal gradients of the head: in bfloat16 the sum would stop growing at 256 times one."""
    monkeypatch.setattr(head, "chunk_tokens", lambda head_VD: 1)
    hidden = torch.ones(4_096, 2, dtype=torch.bfloat16)
    weight = torch.zeros(4, 2, requires_grad=True)
    summed_cross_entropy(hidden, weight, torch.zeros(4_096, dtype=torch.long)).backward()
    assert weight.grad[:, 0].tolist() == [4_096 * (0.25 - (row == 0)) for row in range(4)]
