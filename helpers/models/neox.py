"""A Pythia as transformers' GPTNeoXForCausalLM: what other tools load, and what tests and benchmarks compare with.

    model = as_transformers(config.model, vocab_size, bos_id, load_weights)

Importing transformers' model takes seconds, so nothing that trains a run imports this.
"""

from collections.abc import Mapping

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from helpers.model_config import PythiaConfig
from helpers.models.counts import embedding_rows
from helpers.models.pythia import INIT_STD, ROTARY_BASE, ROTARY_SHARE, Pythia
from helpers.models.pythia_counts import FEED_FORWARD_MULTIPLE


def as_transformers(
    model: PythiaConfig, vocab_size: int, bos_id: int, weights: Mapping[str, torch.Tensor]
) -> GPTNeoXForCausalLM:
    """transformers' model with the tensors of a snapshot (or of `weights_of`), in evaluation mode."""
    found = GPTNeoXForCausalLM(neox_config(model, vocab_size, bos_id))
    found.load_state_dict({name: weights[Pythia.name_in_files(name)] for name in found.state_dict()})
    return found.eval()


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
        rotary_pct=ROTARY_SHARE,
        rotary_emb_base=ROTARY_BASE,
        attention_dropout=model.dropout,
        hidden_dropout=model.dropout,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        initializer_range=INIT_STD,
        layer_norm_eps=1e-5,
        bos_token_id=bos_id,
        eos_token_id=bos_id,
        use_cache=False,
    )
