"""The model of the sample-scaling study: a recurrence of context layers, and token layers that read it.

Of a token with embedding e, the LayerNorm of its row:

    c_i = LN(c_{i-1} + ReLU(A_i [c_{i-1}; e] + a_i))    c_0: the last context of the token before, zeros at first
    t_i = LN(t_{i-1} + ReLU(D_i [c_i; t_{i-1}] + d_i))    t_0 = e

so that a token layer reads the context layer of its own depth. There are neither attention nor positions.

B batch, T positions, N tokens of one stream, D width, L layers, V vocabulary rows.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.model_config import ContextTokenConfig

_LINEAR_STD, _BIAS_STD, _EMBEDDING_STD = 0.1, 0.01, 0.02


class Layer(nn.Module):
    """LayerNorm(x + ReLU(W [left; right] + b)): a context layer as a token layer."""

    def __init__(self, d_model: int):
        super().__init__()
        self.linear = nn.Linear(2 * d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        nn.init.normal_(self.linear.weight, std=_LINEAR_STD)
        nn.init.normal_(self.linear.bias, std=_BIAS_STD)

    def forward(self, x: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.norm(x + F.relu(self.linear(torch.cat([left, right], dim=-1))))


class ContextToken(nn.Module):
    """A `LanguageModel`; its weights are drawn from torch's generator, the head begins at zero.

    The head's bias is its last column, beside which hidden states hold a 1: logits are `hidden @ head_VD.T`.
    """

    def __init__(self, model: ContextTokenConfig, vocab_size: int):
        super().__init__()
        d = model.d_model
        self.embedding = nn.Embedding(vocab_size, d)
        self.embedding_norm = nn.LayerNorm(d)
        self.context_layers = nn.ModuleList(Layer(d) for _ in range(0 if model.context == "none" else model.n_layer))
        self.token_layers = nn.ModuleList(Layer(d) for _ in range(model.n_layer))
        self.head = nn.Parameter(torch.zeros(vocab_size, d + 1))
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING_STD)

    @property
    def head_VD(self) -> torch.Tensor:
        return self.head

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids of any shape to embeddings [..., D] of mean 0 and variance 1."""
        return self.embedding_norm(self.embedding(ids))

    def contexts(self, c: torch.Tensor, e: torch.Tensor) -> list[torch.Tensor]:
        """The context [..., D] behind each layer, from the last context of the token before; the last one is passed on.
        Without context layers: none."""
        found = []
        for layer in self.context_layers:
            c = layer(c, c, e)
            found.append(c)
        return found

    def tokens(self, e: torch.Tensor, contexts_L: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Hidden states [..., D + 1] from embeddings and the context of each layer; zeros where there is none."""
        t = e
        for number, layer in enumerate(self.token_layers):
            c = contexts_L[number] if len(contexts_L) else torch.zeros_like(e)
            t = layer(t, c, t)
        return torch.cat([t, torch.ones_like(t[..., :1])], dim=-1)

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Token by token from zeros. Contexts carry no gradient: their block learns in its own phase alone."""
        e_BTD = self.embed(ids_BT)
        c_BD, contexts = torch.zeros_like(e_BTD[:, 0]), []
        with torch.no_grad():
            for e_BD in e_BTD.unbind(1) if self.context_layers else ():
                contexts.append(self.contexts(c_BD, e_BD))
                c_BD = contexts[-1][-1]
        return self.tokens(e_BTD, [torch.stack(c_TBD, 1) for c_TBD in zip(*contexts, strict=True)])

    def undecayed_matrices(self) -> list[nn.Parameter]:
        return [self.embedding.weight]

    @staticmethod
    def name_in_files(name: str) -> str:
        return name
