"""A pretrained embedding of tokens, such as GPT-2's, from the Hub or from a file."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

NAMES = ("wte.weight", "transformer.wte.weight")
"""What GPT-2's embedding is called, in the Hub's file and as the library saves it."""


def pretrained_embedding(
    name: str, shape: tuple[int, int], download: Callable[[str, str], str] | None = None
) -> torch.Tensor:
    """The rows [V, D] of `name`, a .safetensors file or a Hub model, in float32.

    `download` stands in for `huggingface_hub.hf_hub_download`. ValueError for a file without such an embedding,
    RuntimeError when the Hub cannot be read.
    """
    path = Path(name).expanduser() if name.endswith(".safetensors") else _download(name, download)
    try:
        with safe_open(path, framework="pt") as file:
            found = [key for key in NAMES if key in set(file.keys())]
            rows_VD = file.get_tensor(found[0]).float() if found else None
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"model.embedding_from = {name!r} cannot be read ({error}); use a .safetensors file"
        ) from error
    if rows_VD is None:
        raise ValueError(f"model.embedding_from = {name!r} has none of {', '.join(NAMES)}; use a GPT-2")
    if tuple(rows_VD.shape) != shape:
        raise ValueError(
            f"model.embedding_from = {name!r} has {rows_VD.shape[0]:,} rows of width {rows_VD.shape[1]}, but the "
            f"tokenizer has {shape[0]:,} tokens and model.d_model is {shape[1]}; use its own tokenizer and width"
        )
    return rows_VD


def _download(name: str, download: Callable[[str, str], str] | None) -> Path:
    if download is None:
        from huggingface_hub import hf_hub_download as download  # slow to import, and only this way needs it
    try:
        return Path(download(name, "model.safetensors"))
    except Exception as error:  # the Hub fails in many ways: no network, no such name, no such file
        raise RuntimeError(
            f"model.embedding_from = {name!r} could not be read from the Hub ({type(error).__name__}: "
            f"{str(error)[:200]}); check the network, use a .safetensors file, or leave it empty for a drawn embedding"
        ) from error
