"""Tokenizers: from the Hub, from a tokenizer.json, or trained on the train split; and what the cache needs of one.

Encoding runs on all cores in threads of the `tokenizers` library, in this process; nothing is forked afterwards.
With TOKENIZERS_PARALLELISM=false in the environment it gives the same tokens on one core.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from helpers.config import is_path, portable_name
from helpers.data.new_cache import token_dtype
from helpers.data.tokenizer_spec import TRAIN, read_tokenizer_file

_BOS_NAMES = ("<|endoftext|>", "<s>", "<bos>")


@dataclass(frozen=True, kw_only=True)
class PaperTokenizer:
    name: str
    file: bytes
    """The whole tokenizer.json."""

    @classmethod
    def read(cls, name: str, file: bytes) -> "PaperTokenizer":
        """ValueError when `file` is no tokenizer.json or its vocabulary has no BOS token."""
        tokenizer = cls(name=name, file=file)
        try:
            vocabulary = tokenizer.backend.get_vocab()
        except Exception as error:  # the Rust library raises a bare Exception
            raise ValueError(f"tokenizer = {name!r} is not a tokenizer.json ({error})") from error
        if not any(bos in vocabulary for bos in _BOS_NAMES):
            raise ValueError(f"tokenizer = {name!r} has no BOS token; it needs one of {', '.join(_BOS_NAMES)}")
        return tokenizer

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
        return next(id_ for id_ in map(self.backend.token_to_id, _BOS_NAMES) if id_ is not None)

    @functools.cached_property
    def vocab_size(self) -> int:
        """One above the largest token id: added tokens count (Pythia: 50,277, though its base vocabulary is 50,254)."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, without special tokens, in the cache's type (`token_dtype`)."""
        dtype = token_dtype(self.vocab_size)
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype) for encoding in encodings]


def load_tokenizer(spec: str, download: Callable[..., str] | None = None) -> PaperTokenizer:
    """The tokenizer of a Hub name or of a path; `download` stands in for `huggingface_hub.hf_hub_download`.

    Raises ValueError for a file that is no tokenizer.json or has no BOS token, RuntimeError when the Hub fails.
    """
    file = read_tokenizer_file(spec) if is_path(spec) else _download(spec, download)
    return PaperTokenizer.read(portable_name(spec), file)


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
