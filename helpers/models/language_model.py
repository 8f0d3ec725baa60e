"""What a language model is to training and evaluation, and the one place that builds it, of whatever family.

B batch, T positions, D width, V vocabulary rows.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from helpers.counter_rng import Stream, torch_seed
from helpers.model_config import ModelConfig
from helpers.models.families import FAMILIES


class LanguageModel(Protocol):
    """A causal torch module up to its last hidden states, and the head that turns them into logits.

    The logits are `hidden_BTD @ head_VD.T`: the loss makes them, a chunk at a time. Where the head is also the input
    embedding, it is one parameter, and the state_dict holds it once.
    """

    @property
    def head_VD(self) -> torch.Tensor: ...

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Hidden states [B, T, D] behind the last LayerNorm; position t depends on ids 0 .. t."""
        ...

    def undecayed_matrices(self) -> list[nn.Parameter]:
        """The matrices that weight decay leaves alone, as it leaves all vectors."""
        ...

    @staticmethod
    def name_in_files(name: str) -> str:
        """What a tensor is called in checkpoints and snapshots, which outlive a library's names; a name that is already
        one of these stays."""
        ...


def build_model(model: ModelConfig, vocab_size: int, bos_id: int, seed: int) -> LanguageModel:
    """A randomly initialised model in float32 on the CPU: the same weights for the same seed on every machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, Stream.WEIGHTS))
        return FAMILIES[type(model)].build(model, vocab_size, bos_id)


def weights_of(model: LanguageModel) -> dict[str, torch.Tensor]:
    """The model's tensors on the CPU, by their names in files."""
    tensors = model.state_dict().items()
    return {model.name_in_files(name): tensor.detach().cpu().contiguous() for name, tensor in tensors}


def load_weights(model: LanguageModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Give `model` the tensors of a file, whichever version of a library named them. RuntimeError where they differ in
    names or shapes."""
    found = {model.name_in_files(name): tensor for name, tensor in weights.items()}
    wanted = {model.name_in_files(name): name for name in model.state_dict()}
    model.load_state_dict({wanted.get(name, name): tensor for name, tensor in found.items()})
