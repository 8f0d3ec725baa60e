"""What a model is: a frozen section of settings for each family, with its sizes and rules.

A size names one model of one family, and no two families share a name: so the size alone tells which section a stored
run has, and setting `model.size` chooses the family. A size lists its fields once, here; what it costs is in `models`.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from helpers.errors import require


@dataclass(frozen=True, kw_only=True)
class Shape:
    d_model: int
    n_layer: int
    n_head: int


@dataclass(frozen=True, kw_only=True)
class PythiaConfig:
    """A published Pythia shape (GPT-NeoX), randomly initialised; named by all its parameters."""

    SIZES: ClassVar[Mapping[str, Shape]] = {
        # Of the Hub's config.json files and EleutherAI/pythia's models/*.yml (Biderman et al. 2023, arXiv 2304.01373);
        # `tiny` and `small` are ours, for CPU presets.
        "tiny": Shape(d_model=32, n_layer=2, n_head=2),
        "small": Shape(d_model=64, n_layer=2, n_head=4),
        "14m": Shape(d_model=128, n_layer=6, n_head=4),
        "31m": Shape(d_model=256, n_layer=6, n_head=8),
        "70m": Shape(d_model=512, n_layer=6, n_head=8),
        "160m": Shape(d_model=768, n_layer=12, n_head=12),
        "410m": Shape(d_model=1024, n_layer=24, n_head=16),
    }

    size: str = "70m"
    dropout: float = 0.1
    """In hidden states and in attention."""
    max_context_tokens: int = 128

    def __post_init__(self) -> None:
        _require_decoder(self)

    @property
    def shape(self) -> Shape:
        return self.SIZES[self.size]

    @property
    def words(self) -> tuple[str, ...]:
        """What a run's name says of its model."""
        return (self.size,)


@dataclass(frozen=True, kw_only=True)
class GptConfig:
    """A pre-norm decoder with learned positions; named by its parameters that are no embedding, which both activations
    have within 5 %."""

    SIZES: ClassVar[Mapping[str, Shape]] = {
        "gpt-10k": Shape(d_model=28, n_layer=1, n_head=2),
        "gpt-30k": Shape(d_model=36, n_layer=2, n_head=2),
        "gpt-100k": Shape(d_model=64, n_layer=2, n_head=2),
        "gpt-300k": Shape(d_model=80, n_layer=4, n_head=4),
        "gpt-1m": Shape(d_model=128, n_layer=5, n_head=4),
        "gpt-3m": Shape(d_model=224, n_layer=5, n_head=7),
        "gpt-10m": Shape(d_model=320, n_layer=8, n_head=5),
        "gpt-17m": Shape(d_model=448, n_layer=7, n_head=7),
        "gpt-30m": Shape(d_model=512, n_layer=10, n_head=8),
        "gpt-85m": Shape(d_model=768, n_layer=12, n_head=12),
    }

    size: str = "gpt-10m"
    activation: Literal["gelu", "swiglu"] = "gelu"
    """Of the feed-forward layers."""
    dropout: float = 0.1
    """In hidden states and in attention."""
    max_context_tokens: int = 128

    def __post_init__(self) -> None:
        _require_decoder(self)

    @property
    def shape(self) -> Shape:
        return self.SIZES[self.size]

    @property
    def words(self) -> tuple[str, ...]:
        return (self.size, self.activation)


@dataclass(frozen=True, kw_only=True)
class StreamShape(Shape):
    d_ff: int


@dataclass(frozen=True, kw_only=True)
class TttConfig:
    """A decoder that reads a stream in chunks: its mixer is TTT-Linear, or attention of the same size."""

    SIZES: ClassVar[Mapping[str, StreamShape]] = {
        # Sun et al., arXiv 2407.04620, appendix C; the tiny ones are ours, for CPU presets.
        "ttt-20k": StreamShape(d_model=32, n_layer=2, n_head=2, d_ff=88),
        "ttt-100k": StreamShape(d_model=64, n_layer=2, n_head=4, d_ff=176),
        "ttt-5m": StreamShape(d_model=256, n_layer=6, n_head=4, d_ff=688),
        "ttt-125m": StreamShape(d_model=768, n_layer=12, n_head=12, d_ff=2048),
        "ttt-350m": StreamShape(d_model=1024, n_layer=24, n_head=16, d_ff=2736),
    }
    max_context_tokens: ClassVar[int] = 2**20
    """No position is learned: any length can be read."""

    size: str = "ttt-125m"
    mixer: Literal["ttt", "full", "sliding"] = "ttt"
    """TTT-Linear, attention over all tokens before, or attention over the last `span` of them."""
    inner: Literal["descent", "none", "ascent"] = "descent"
    """What the inner model of TTT does with the gradient of its loss."""
    mini_batch: int = 16
    """Tokens whose inner gradients are taken at the same weights."""
    span: int = 32
    """Tokens that a token sees under sliding attention, itself among them."""

    def __post_init__(self) -> None:
        require(self.size in self.SIZES, "model.size", self.size, f"one of {', '.join(self.SIZES)}")
        require(self.mini_batch >= 1, "model.mini_batch", self.mini_batch, "16")
        require(self.span >= 1, "model.span", self.span, "32")
        ttt = self.mixer == "ttt"
        require(ttt or self.inner == "descent", "model.inner", self.inner, "descent, or model.mixer=ttt")

    @property
    def shape(self) -> StreamShape:
        return self.SIZES[self.size]

    @property
    def words(self) -> tuple[str, ...]:
        return (self.size, self.mixer, *([] if self.inner == "descent" else [self.inner]))


@dataclass(frozen=True, kw_only=True)
class ContextTokenConfig:
    """A recurrent model: context layers carry what was read, token layers of the same depth predict from it."""

    SIZES: ClassVar[Mapping[str, Shape]] = {"context-token": Shape(d_model=768, n_layer=3, n_head=1)}
    """Of its document; width and depth are free."""
    max_context_tokens: ClassVar[float] = math.inf
    """A recurrence has no positions."""

    size: str = "context-token"
    d_model: int = 768
    n_layer: int = 3
    """Context layers, and as many token layers."""
    context: Literal["learned", "random", "none"] = "learned"
    """learned: trained in a fixed-point phase. random: as it was drawn. none: no context layers, zeros instead."""
    embedding: Literal["frozen", "trained"] = "frozen"
    """Whether token embeddings are trained on next tokens."""
    embedding_from: str = ""
    """A Hub model with GPT-2's `wte.weight`, or a .safetensors file with it; empty: drawn from N(0, 0.02)."""

    def __post_init__(self) -> None:
        require(self.size in self.SIZES, "model.size", self.size, f"one of {', '.join(self.SIZES)}")
        for name in ("d_model", "n_layer"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "1 or more")

    @property
    def shape(self) -> Shape:
        return Shape(d_model=self.d_model, n_layer=self.n_layer, n_head=1)

    @property
    def words(self) -> tuple[str, ...]:
        return (f"context{self.d_model}x{self.n_layer}", self.context, self.embedding)


ModelConfig = PythiaConfig | GptConfig | TttConfig | ContextTokenConfig
MODEL_CONFIGS: tuple[type[ModelConfig], ...] = typing.get_args(ModelConfig)


def model_of_size(size: str, model: ModelConfig) -> ModelConfig:
    """`model` with another size; one of another family keeps the settings that both families have.

    ValueError for a size that no family has.
    """
    kind = model_config_of(size)
    if isinstance(model, kind):
        return dataclasses.replace(model, size=size)
    shared = {field.name for field in dataclasses.fields(kind)} & {field.name for field in dataclasses.fields(model)}
    return kind(**{name: getattr(model, name) for name in shared} | {"size": size})


def model_config_of(size: object) -> type[ModelConfig]:
    """The section of the family that has a size of this name."""
    for kind in MODEL_CONFIGS:
        if isinstance(size, str) and size in kind.SIZES:
            return kind
    sizes = ", ".join(name for kind in MODEL_CONFIGS for name in kind.SIZES)
    raise ValueError(f"model.size = {size!r}: expected one of {sizes}")


def _require_decoder(model: PythiaConfig | GptConfig) -> None:
    require(model.size in model.SIZES, "model.size", model.size, f"one of {', '.join(model.SIZES)}")
    require(0 <= model.dropout < 1, "model.dropout", model.dropout, "0.1")
