"""The two streams of a run: its train samples end to end, and the validation samples that are the same for every run.

N tokens, D width, L layers, S samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from helpers.data.flat_tokens import flat_tokens
from helpers.models.context_token import ContextToken
from helpers.models.contexts import Contexts, stream_contexts
from helpers.training.run import Run

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """Token ids, and which sample each belongs to."""

    ids_N: np.ndarray
    """int64."""
    sample_N: np.ndarray
    """Counts `names`."""
    names: list[str]


def train_stream(run: Run) -> TokenStream:
    """The run's samples; their order is that of the cache, so that fewer of them are a beginning of more."""
    return _stream(run, "train", run.selection.joined.paper)


def validation_stream(run: Run) -> TokenStream:
    """The first `passes.validation_samples` of the evaluation's split. ValueError if there are fewer."""
    split, wanted = run.config.eval.split, run.config.passes.validation_samples
    found = len(run.cache.index(split).num_tokens)
    if found < wanted:
        raise ValueError(f"passes.validation_samples = {wanted} is not possible: {split} has {found} samples")
    return _stream(run, split, np.arange(wanted))


def _stream(run: Run, split: str, paper_S: np.ndarray) -> TokenStream:
    flat, index = flat_tokens(run.cache, split, run.storage), run.cache.index(split)
    first, last = flat.offsets[paper_S[0]], flat.offsets[paper_S[-1] + 1]
    return TokenStream(
        ids_N=flat.tokens[first:last].astype(np.int64),
        sample_N=np.repeat(np.arange(len(paper_S)), np.diff(flat.offsets[paper_S[0] : paper_S[-1] + 2])),
        names=index.paper_ids[paper_S].tolist(),
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A stream on the device, with what a frozen block makes of it."""

    stream: TokenStream
    ids_N: torch.Tensor
    e_ND: torch.Tensor
    contexts: Contexts | None
    """None where the model has no context layers."""

    @property
    def contexts_LND(self) -> torch.Tensor:
        return self.e_ND.new_empty(0, *self.e_ND.shape) if self.contexts is None else self.contexts.layers_LND


class StreamModel(nn.Module):
    """The language model as `model`, beside the streams that are prepared for it: no part of its state, for they are a
    function of the weights that are frozen."""

    def __init__(self, model: ContextToken):
        super().__init__()
        self.model = model
        self.prepared: dict[str, Prepared] = {}
        self.e_ND: torch.Tensor | None = None
        """Embeddings of the train stream, before it has contexts."""


@torch.no_grad()
def prepare(model: ContextToken, stream: TokenStream, table: tuple[torch.Tensor, ...] | None = None) -> Prepared:
    """Embeddings and contexts of a whole stream. `table`: the embedding and the weight and bias of its LayerNorm, where
    they are not the model's own."""
    ids_N = torch.from_numpy(stream.ids_N).to(model.head_VD.device)
    e_ND = model.embed(ids_N) if table is None else _embed(ids_N, *table)
    contexts = stream_contexts(model, e_ND) if len(model.context_layers) else None
    return Prepared(stream=stream, ids_N=ids_N, e_ND=e_ND, contexts=contexts)


def _embed(ids_N: torch.Tensor, rows_VD: torch.Tensor, weight_D: torch.Tensor, bias_D: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(F.embedding(ids_N, rows_VD), weight_D.shape, weight_D, bias_D)
