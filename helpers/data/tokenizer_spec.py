"""What the name of a tokenizer means, told without loading it: a Hub name, a tokenizer.json, or `train:N`."""

import hashlib
import os
from pathlib import Path
from typing import Any

from helpers.config import TRAIN, is_path

_BYTES = 256
HUB_VOCAB_SIZES = {"EleutherAI/pythia-": 50_277, "openai-community/gpt2": 50_257}
"""Token ids, special ones too, of the tokenizers that presets name: by the beginning of their Hub name."""


def tokenizer_identity(spec: str) -> dict[str, Any]:
    """What names the tokenizer `spec` in a cache_id: the Hub name, the file's content, or how many tokens to train."""
    if (num_tokens := trained_tokens(spec)) is not None:
        return {"train": num_tokens}
    if is_path(spec):
        return {"sha256": hashlib.sha256(read_tokenizer_file(spec)).hexdigest()}
    return {"hub": spec}


def trained_tokens(spec: str) -> int | None:
    """N of `train:N`, None for other tokenizers; ValueError when N cannot be."""
    if not spec.startswith(TRAIN):
        return None
    number = spec.removeprefix(TRAIN)
    if not number.isdecimal() or int(number) <= _BYTES + 1:
        raise ValueError(f"tokenizer = {spec!r}: train:N needs N above {_BYTES + 1}, for example train:4096")
    return int(number)


def known_vocab_size(spec: str) -> int | None:
    """The token ids of a tokenizer as far as they can be told without loading it: of `train:N` the most that there will
    be."""
    size = trained_tokens(spec)
    return size if size is not None else next((n for name, n in HUB_VOCAB_SIZES.items() if spec.startswith(name)), None)


def read_tokenizer_file(path: str) -> bytes:
    """The bytes of a local tokenizer; ValueError if it cannot be read."""
    try:
        return Path(os.path.expanduser(path)).read_bytes()
    except OSError as error:
        raise ValueError(
            f"tokenizer = {path!r} cannot be read ({error.strerror or error}); "
            "use a tokenizer.json, a Hub name, or train:4096"
        ) from error
