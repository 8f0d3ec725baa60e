"""What a run on rows of one stream of documents is: what a row begins with, how it is measured, when it stops."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from helpers.errors import require
from helpers.model_config import ModelConfig, TttConfig


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Rows of one stream of documents: what state a row begins with, how long sequences are measured, when to stop."""

    MULTIPLES: ClassVar[tuple[int, ...]] = (1, 2, 5, 10, 20)
    """The contexts that are reported, in windows W; the last one is a sequence."""

    state: Literal["fresh", "carried", "passed", "noise"] = "fresh"
    """Of a training row's first token. fresh: the learned start. carried: what the row before it left, on contiguous
    rows; the learned start again behind the end of a document. passed: what another sequence left, for every second
    row. noise: the learned start with noise."""
    noise: float = 1.0
    """Standard deviation of the noise, in root mean squares of the learned start."""
    sequences: int = 64
    """Evaluation sequences, each of one document; the same for every run of a cache."""
    sequence_tokens: int = 2_560
    """Targets of a sequence. A run of window W reads the last 20 W of them: the last ones are the same for every W."""
    chunk_tokens: int = 16
    """Targets behind a reported number of each sequence."""
    strides: tuple[int, ...] = (16,)
    """Of the sliding window, beside 1: how many targets one forward scores."""
    evaluations: int = 50
    """Equally spaced steps at which is measured, the untrained model and the end among them."""
    patience: int = 10
    """Evaluations without an improvement after which the run ends; 0: never."""
    threshold: Literal["nats", "ppl"] = "nats"
    """What an improvement is counted in. An absolute ppl asks less of a bad model than of a good one: at a best of 240,
    50 ppl is a fifth, so that a run that still falls is ended."""
    min_delta: float = 0.01
    """The least improvement."""

    def __post_init__(self) -> None:
        for name, least in (("sequences", 2), ("chunk_tokens", 1), ("evaluations", 2), ("patience", 0)):
            require(getattr(self, name) >= least, f"stream.{name}", getattr(self, name), f"{least} or more")
        require(self.noise > 0, "stream.noise", self.noise, "1.0")
        require(self.min_delta >= 0, "stream.min_delta", self.min_delta, "0.01")
        require(
            all(s > 1 for s in self.strides), "stream.strides", self.strides, "strides above 1: 1 is always measured"
        )

    def require_fit(self, window: int, model: ModelConfig) -> None:
        """ValueError unless a window and a model can be trained and measured so."""
        legal = f"one of {', '.join(TttConfig.SIZES)} where the section stream is given"
        require(isinstance(model, TttConfig), "model.size", model.size, legal)
        most, longest = self.sequence_tokens // self.MULTIPLES[-1], max(self.strides, default=1)
        require(window <= most, "data.window_tokens", window, f"at most stream.sequence_tokens / 20 = {most}")
        whole = window % model.mini_batch == 0
        require(whole, "data.window_tokens", window, f"a multiple of model.mini_batch = {model.mini_batch}")
        require(longest <= window, "stream.strides", self.strides, f"strides up to data.window_tokens = {window}")
        chunk = self.chunk_tokens
        require(chunk <= window, "stream.chunk_tokens", chunk, f"at most data.window_tokens = {window}")
        require(window % chunk == 0, "stream.chunk_tokens", chunk, f"a divisor of data.window_tokens = {window}")
        ttt = model.mixer == "ttt"
        require(ttt or self.state == "fresh", "stream.state", self.state, "fresh, or model.mixer=ttt")
