"""Tokenizers: from the Hub, from a tokenizer.json, or trained on the train split; and what the cache needs of one.

Encoding runs on all cores in threads of the `tokenizers` library, in this process; nothing is forked afterwards.
With TOKENIZERS_PARALLELISM=false in the environment it gives the same tokens on one core.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from helpers.config import TRAIN, is_path, portable_name
from helpers.data.new_cache import token_dtype
from helpers.data.tokenizer_spec import read_tokenizer_file
from helpers.errors import shortened

_BOS_NAMES = ("<|endoftext|>", "<s>", "<bos>", "<|begin_of_text|>")
"""Looked for, in this order, in a file whose template names none."""


@dataclass(frozen=True, kw_only=True)
class PaperTokenizer:
    name: str
    file: bytes
    """The whole tokenizer.json."""
    bos: str
    """The token that stands before a window."""

    @classmethod
    def read(cls, name: str, file: bytes, bos: str = "") -> "PaperTokenizer":
        """With the BOS token `bos`, or else with that which the file's template or a known name tells.

        ValueError when `file` is no tokenizer.json or its vocabulary has no such token.
        """
        try:
            vocabulary = Tokenizer.from_str(file.decode("utf-8")).get_vocab(with_added_tokens=True)
        except Exception as error:  # the Rust library raises a bare Exception
            raise ValueError(f"tokenizer = {name!r} is not a tokenizer.json ({shortened(str(error))})") from error
        content = json.loads(file)
        if bos and bos not in vocabulary:
            raise ValueError(f"data.bos_token = {bos!r} is no token of {name!r}; {_special_tokens(content)}")
        candidates = [bos] if bos else [*_declared_bos(content.get("post_processor")), *_BOS_NAMES]
        found = next((token for token in candidates if token in vocabulary), None)
        if found is None:
            raise ValueError(
                f"tokenizer = {name!r} has no BOS token: neither does its template name one, nor has it one of "
                f"{', '.join(_BOS_NAMES)}; choose one by data.bos_token. {_special_tokens(content)}"
            )
        return cls(name=name, file=file, bos=found)

    @functools.cached_property
    def backend(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.file.decode("utf-8"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A paper that spells out <|endoftext|> has written those letters: the BOS token stands before windows only.
        tokenizer.encode_special_tokens = True
        return tokenizer

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file).hexdigest()

    @property
    def bos_id(self) -> int:
        return self.backend.token_to_id(self.bos)

    @functools.cached_property
    def vocab_size(self) -> int:
        """One above the largest token id: added tokens count (Pythia: 50,277, though its base vocabulary is 50,254)."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, without special tokens, in the cache's type (`token_dtype`)."""
        dtype = token_dtype(self.vocab_size)
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype) for encoding in encodings]


def load_tokenizer(spec: str, bos: str = "", download: Callable[..., str] | None = None) -> PaperTokenizer:
    """The tokenizer of a Hub name or of a path, with the BOS token `bos` or its own.

    `download` stands in for `huggingface_hub.hf_hub_download`. Raises ValueError for a file that is no tokenizer.json
    or has no BOS token, RuntimeError when the Hub fails.
    """
    file = read_tokenizer_file(spec) if is_path(spec) else _download(spec, download)
    return PaperTokenizer.read(portable_name(spec), file, bos)


def train_tokenizer(num_tokens: int, texts: Iterable[str]) -> PaperTokenizer:
    """Byte-level BPE (Sennrich et al. 2016, on bytes as GPT-2) of at most `num_tokens` tokens, BOS included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=[_BOS_NAMES[0]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PaperTokenizer.read(f"{TRAIN}{num_tokens}", tokenizer.to_str().encode("utf-8"))


def _download(name: str, download: Callable[..., str] | None) -> bytes:
    if download is None:
        from huggingface_hub import hf_hub_download as download  # slow to import, and only this way needs it
    try:
        return Path(download(name, "tokenizer.json")).read_bytes()
    except Exception as error:  # the Hub fails in many ways: no network, no such name, no such file
        raise RuntimeError(
            f"tokenizer = {name!r} could not be read from the Hub ({type(error).__name__}: {str(error)[:200]}); "
            "check the name and the network, or use a path to a tokenizer.json, or train:4096"
        ) from error


def _declared_bos(processor: dict[str, Any] | None) -> list[str]:
    """The special token that a tokenizer.json itself puts before a text, if there is one."""
    match processor:
        case {"type": "Sequence", "processors": list(inner)}:
            return [token for one in inner for token in _declared_bos(one)]
        case {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": str(token)}}, *_]}:
            return [token]
        case {"cls": [str(token), _]}:  # of BERT and RoBERTa
            return [token]
    return []


def _special_tokens(content: dict[str, Any]) -> str:
    names = [token["content"] for token in content.get("added_tokens") or () if token.get("special")]
    return f"Its special tokens are {', '.join(names[:8])}" if names else "It has no special tokens"
