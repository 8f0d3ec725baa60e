"""GPT-NeoX models with the published Pythia shapes (Biderman et al. 2023, arXiv 2304.01373), randomly initialised.

What differs from the published configurations is the maximum context (128 instead of 2,048: rotary embeddings have no
parameters, so the totals stay) and dropout.

B batch, T positions, D width, V vocabulary rows.
"""

import re

import torch
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from helpers.model_config import PythiaConfig
from helpers.models.counts import embedding_rows
from helpers.models.pythia_counts import FEED_FORWARD_MULTIPLE

_NAMES = (
    (r"^(?:embed_out|lm_head)\.", "head."),  # transformers 5.0 and later versions
    (r"^gpt_neox\.embed_in\.", "embedding."),
    (r"^gpt_neox\.final_layer_norm\.", "final_norm."),
    (r"^gpt_neox\.layers\.", "layers."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".mlp_norm."),
    (r"\.attention\.query_key_value\.", ".attention.qkv."),
    (r"\.attention\.dense\.", ".attention.out."),
    (r"\.mlp\.dense_h_to_4h\.", ".mlp.up."),
    (r"\.mlp\.dense_4h_to_h\.", ".mlp.down."),
)
"""Names of transformers' tensors, and ours in their place."""


class PythiaForCausalLM(GPTNeoXForCausalLM):
    """transformers' model, with its names and weights, as a `LanguageModel`."""

    @property
    def head_VD(self) -> torch.Tensor:
        return self.get_output_embeddings().weight

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state

    def undecayed_matrices(self) -> list[nn.Parameter]:
        return []

    @staticmethod
    def name_in_files(name: str) -> str:
        for pattern, own in _NAMES:
            name = re.sub(pattern, own, name)
        return name


def neox_config(model: PythiaConfig, vocab_size: int, bos_id: int) -> GPTNeoXConfig:
    shape = model.shape
    return GPTNeoXConfig(
        vocab_size=embedding_rows(vocab_size),
        hidden_size=shape.d_model,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        intermediate_size=FEED_FORWARD_MULTIPLE * shape.d_model,
        max_position_embeddings=model.max_context_tokens,
        hidden_act="gelu",
        rotary_pct=0.25,
        rotary_emb_base=10_000,
        attention_dropout=model.dropout,
        hidden_dropout=model.dropout,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        bos_token_id=bos_id,
        eos_token_id=bos_id,
        use_cache=False,
    )
