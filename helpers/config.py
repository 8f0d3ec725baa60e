"""What a run is: frozen settings, their validation, and the run_id that names them.

A run's science (`RunConfig.science`) is everything that changes its numbers. Its run_id is a hash of the science
and nothing else: the same run on a laptop, on Colab or in a cluster has the same name, and a changed setting can
never resume or overwrite another run. How a run is executed (`ExecutionConfig`) is not hashed.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from helpers.errors import require
from helpers.model_config import ContextTokenConfig, ModelConfig, PythiaConfig
from helpers.passes_config import PassesConfig
from helpers.stream_config import StreamConfig

# Seed document, section 0, in its order. The Hub data set numbers them differently: labels are mapped by name.
ARXIV_COMPONENTS = (
    "cs.CV", "cs.AI", "cs.SY", "cs.CE", "cs.PL", "cs.IT", "cs.DS", "cs.NE", "math.AC", "math.GR", "math.ST",
)  # fmt: skip
ARXIV_SOURCE = "arxiv"
SYNTHETIC_SOURCE = "synthetic"
TINYSTORIES_SOURCE = "tinystories"
WIKITEXT_SOURCE = "wikitext"
URNS_SOURCE = "urns"
ULTRACHAT_SOURCE = "ultrachat"
SENTENCES_SOURCE = "sentences"
SPLITS = ("train", "validation", "test")
PYTHIA_TOKENIZER = "EleutherAI/pythia-70m"

ALIKE_AT_ONE = ("constant_exposure", "matched_repeats")
"""Allocations whose runs on one component are those of `full`: they train on the same windows."""

TRAIN = "train:"
"""Before the number of tokens of a tokenizer that is trained on the train split."""

_SEEDS = 2**63  # random words are drawn with a seed of 64 bits

LATE = {"late": True}
"""Metadata of a setting that came after runs were stored: at its default it is left out of `science`, so that a run
from before there was that setting keeps its name."""


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The known-answer source: independent hidden Markov processes."""

    num_components: int = 11
    num_states: int = 2
    """Hidden states of each process."""
    persistence: float = 0.5
    """Extra probability to stay in a state: above 0, the past tells the state and so the next symbol."""
    num_symbols: int = 32
    """Emitted alphabet; token ids 0 .. num_symbols - 1, BOS is num_symbols."""
    concentration: float = 1.0
    """Dirichlet concentration of every transition and emission row: smaller is more predictable."""
    seed: int = 0
    """Draws the processes and their papers; independent of the run's seed."""
    papers_per_component: int = 200
    """Train papers of each component; validation and test have a quarter as many."""
    paper_tokens: int = 1000

    def __post_init__(self) -> None:
        for name in ("num_components", "num_states", "papers_per_component"):
            require(getattr(self, name) >= 1, f"data.synthetic.{name}", getattr(self, name), "1 or more")
        require(self.num_symbols >= 2, "data.synthetic.num_symbols", self.num_symbols, "32")
        require(0 <= self.persistence < 1, "data.synthetic.persistence", self.persistence, "0.5")
        require(self.concentration > 0, "data.synthetic.concentration", self.concentration, "1.0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which papers, and how windows are drawn from them."""

    source: str = SYNTHETIC_SOURCE
    """`arxiv`, `tinystories` or `ultrachat` (the Hub), `synthetic` or `sentences` (embedded), or a path: to Parquet or
    JSONL files with columns text and label, or to a .txt file of stories with <|endoftext|> between them; under
    `stream` sampling, to one .txt or .jsonl file of short texts."""
    tokenizer: str = PYTHIA_TOKENIZER
    """A Hub name, a path to a tokenizer.json, or `train:N` (BPE of N tokens); unused by the synthetic source."""
    bos_token: str = field(default="", metadata=LATE)
    """The token before each window; empty: the one that the tokenizer's file itself names."""
    max_papers_per_component: int | None = None
    """Read only this many papers of each component and split."""
    near_duplicates: Literal["drop", "keep"] = field(default="drop", metadata=LATE)
    """drop: no paper that nearly repeats a held-out one is trained on. keep: they are only counted."""
    window_tokens: int = 100
    sampling: Literal["uniform", "epoch", "stream"] = "uniform"
    """uniform: component, paper and offset uniform. epoch: every token once an epoch. stream: papers end to end, in
    their order; a window may cross them."""
    samples: int | None = field(default=None, metadata=LATE)
    """Train on the first so many papers alone, under `stream` sampling: nested sets of one cache. None: all."""
    max_paper_tokens: int | None = field(default=None, metadata=LATE)
    """Cut every paper after so many tokens."""
    order: Literal["listed", "smallest_first", "rotate"] = "rotate"
    """Which components are active first; the active sets are nested in K."""
    components: tuple[str, ...] = ()
    """Exactly these components (as many as K), instead of an order. A baseline names its one component."""
    allocation: Literal["full", "constant_unique", "matched_repeats", "constant_exposure"] = "full"
    """full: every paper of an active component. constant_unique: as many unique tokens for every K. matched_repeats: a
    K-th of each active component, which so repeats as often as alone. constant_exposure: every paper, and K times the
    training tokens, so that each component is seen as often as alone."""
    shuffle_labels: bool = False
    """Control: permute the papers' labels before components are formed; pool sizes stay."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        require(self.window_tokens >= 2, "data.window_tokens", self.window_tokens, "100")
        names, limit = self.components, self.max_papers_per_component
        require(len(set(names)) == len(names), "data.components", names, "each name once")
        require(limit is None or limit >= 1, "data.max_papers_per_component", limit, "none or at least 1")
        if self.bos_token and self.tokenizer.startswith(TRAIN):
            raise ValueError(f"data.bos_token = {self.bos_token!r}: a tokenizer that is trained here has its own BOS")
        is_stream, most, cut = self.sampling == "stream", self.samples, self.max_paper_tokens
        require(
            most is None or (is_stream and most >= 1), "data.samples", most, "none, or 50 with data.sampling=stream"
        )
        require(cut is None or cut >= 1, "data.max_paper_tokens", cut, "none or at least 1")

    @property
    def unused(self) -> tuple[str, ...]:
        """The fields that have no part in a run with this source."""
        of_texts = ("tokenizer", "bos_token", "max_papers_per_component", "max_paper_tokens", "near_duplicates")
        if self.source == URNS_SOURCE:
            return (*of_texts, "synthetic")
        return of_texts if self.source == SYNTHETIC_SOURCE else ("synthetic",)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Seed document, section 4. Exactly one of steps, tokens, epochs and tokens_per_parameter sets the length."""

    batch_size: int = 256
    """Windows a step over all processes and micro-batches."""
    steps: int | None = 100_000
    tokens: int | None = None
    """Training tokens; with it, the other lengths are None."""
    epochs: float | None = None
    """Passes over the selected train set; needs `data.sampling=epoch` or `stream`, and the other lengths are None."""
    tokens_per_parameter: float | None = field(default=None, metadata=LATE)
    """Training tokens as a multiple of the non-embedding parameters: 20 is D = 20 N of Hoffmann et al. 2022."""
    peak_lr: float = 2e-4
    lr_at_width: int | None = field(default=None, metadata=LATE)
    """The d_model that `peak_lr` is for: a model of width d has peak_lr * lr_at_width / d, as hidden matrices want it
    under Adam (Yang et al. 2022, arXiv 2203.03466, table 3). None: peak_lr at every width."""
    min_lr_ratio: float = 0.1
    warmup_steps: int = 1_000
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    """On matrices; biases and norms are not decayed, nor are the embeddings of a gpt size."""
    clip_norm: float = 1.0
    precision: Literal["fp16", "bf16", "fp32"] = "fp16"
    """What a GPU uses. A CPU trains in bf16 when asked, which pays where it has instructions for it, else in fp32, and
    says so."""
    divergence_factor: float = 2.0
    """A logged loss above this multiple of its running mean ends the run as failed."""

    def __post_init__(self) -> None:
        names = ("steps", "tokens", "epochs", "tokens_per_parameter")
        lengths = [getattr(self, name) for name in names]
        given = [length for length in lengths if length is not None]
        fields = ", ".join(f"train.{name}" for name in names)
        require(len(given) == 1 and given[0] > 0, fields, lengths, "exactly one above 0 and the others none")
        for name in ("batch_size", "peak_lr", "epsilon", "clip_norm"):
            require(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "a number above 0")
        width = self.lr_at_width
        require(width is None or width >= 1, "train.lr_at_width", width, "none, or a d_model such as 256")
        require(self.warmup_steps >= 0, "train.warmup_steps", self.warmup_steps, "0 or more")
        require(self.divergence_factor > 1, "train.divergence_factor", self.divergence_factor, "2.0")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Seed document, section 5."""

    windows_per_component: int = 1_024
    seed: int = 0
    """Draws the evaluation windows: the same for every run, so that differences are paired."""
    split: Literal["validation", "test"] = "test"

    def __post_init__(self) -> None:
        require(self.windows_per_component >= 2, "eval.windows_per_component", self.windows_per_component, "1024")


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How a run is executed; not hashed, and without influence on its numbers beyond floating-point rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch: int | None = None
    """Windows computed at once; None: the global batch, halved until it fits the card."""
    processes: int | None = None
    """Processes of this machine that train a run together, on a GPU each where there are any; None: as launched."""
    threads: int | None = None
    """CPU threads of torch; None: its default. Bit-exact resume on a CPU needs the same number."""
    log_every_steps: int = 50
    checkpoint_every_minutes: float = 5.0
    max_minutes: float | None = None
    """Stop cleanly after so long, with a checkpoint: before Colab does."""
    storage_patience_minutes: float = 10.0
    """How long the end of a run waits for a storage that is away."""
    snapshot_every_steps: int = 10_000
    """A snapshot and a checkpoint every so many steps."""
    keep_snapshots: int = 12
    keep_evaluated_snapshots: int = 12
    """How many of them stay when the run is done."""
    keep_checkpoints: int = 2
    trackers: tuple[str, ...] = ("tensorboard",)
    """Accelerate trackers beside metrics.jsonl: tensorboard, wandb, mlflow, trackio."""

    def __post_init__(self) -> None:
        counts = (
            "log_every_steps", "snapshot_every_steps", "keep_snapshots", "keep_evaluated_snapshots", "keep_checkpoints",
        )  # fmt: skip
        for name in counts:
            require(getattr(self, name) >= 1, f"execution.{name}", getattr(self, name), "at least 1")
        processes = self.processes
        require(processes is None or processes >= 1, "execution.processes", processes, "none or at least 1")
        micro = self.micro_batch
        require(micro is None or micro >= 1, "execution.micro_batch", micro, "none or at least 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training and its evaluation."""

    study: str
    """The experiment that the run belongs to."""
    k: int = 1
    """Number of active components."""
    seed: int = 0
    """Weights, dropout, data order, and the component order when it is `rotate`."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=PythiaConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    stream: StreamConfig | None = field(default=None, metadata=LATE)
    """Only of runs on a stream of documents, which measure otherwise than `eval` says, on its split."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    passes: PassesConfig | None = field(default=None, metadata=LATE)
    """How one stream of tokens is trained on, under `data.sampling=stream`."""

    def __post_init__(self) -> None:
        """Each section has checked itself; here are the rules between them."""
        require(self.k >= 1, "k", self.k, "a number of components from 1 up")
        require(0 <= self.seed < _SEEDS, "seed", self.seed, "a whole number from 0 up, such as 0")
        window, most = self.data.window_tokens, self.model.max_context_tokens
        require(window <= most, "data.window_tokens", window, f"at most model.max_context_tokens = {most}")
        epochs = self.train.epochs
        in_epochs = self.data.sampling in ("epoch", "stream")
        require(epochs is None or in_epochs, "train.epochs", epochs, "none, or data.sampling=epoch")
        self._require_passes()
        if self.stream is not None:
            self.stream.require_fit(window, self.model)

    def _require_passes(self) -> None:
        """Stream sampling, its section and a recurrent model go together."""
        is_stream, train, sampling = self.data.sampling == "stream", self.train, self.data.sampling
        legal = "stream where the section passes is given, and only there"
        require((self.passes is not None) == is_stream, "data.sampling", sampling, legal)
        if is_stream:
            is_recurrent, passes = isinstance(self.model, ContextTokenConfig), train.epochs
            require(is_recurrent, "model.size", self.model.size, "context-token under data.sampling=stream")
            require(passes is not None and passes % 1 == 0, "train.epochs", passes, "10 under data.sampling=stream")
            require(train.batch_size == 1, "train.batch_size", train.batch_size, "1: a window of the stream is a batch")
            require(train.precision == "fp32", "train.precision", train.precision, "fp32 under data.sampling=stream")

    def science(self) -> dict[str, Any]:
        """Every setting that changes the numbers, as JSON types. A path counts by its last two names, not its place."""
        science = _without_late(to_json(self), self)
        del science["execution"]
        data = science["data"]
        data["source"] = portable_name(self.data.source)
        data["tokenizer"] = portable_name(self.data.tokenizer)
        for name in self.data.unused:
            data.pop(name, None)
        if self.k == 1 and self.data.allocation in ALIKE_AT_ONE:
            data["allocation"] = "full"
        return science

    @functools.cached_property
    def run_id(self) -> str:
        """A readable name that ends in a hash of `science`; safe as a file name on every system."""
        words = [self.study, Path(self.data.source).stem, *self.model.words, f"k{self.k}", f"s{self.seed}"]
        words += [f"n{self.data.samples}", self.passes.match] if self.passes and self.data.samples else []
        words += ["-".join(self.data.components)] if self.data.components else []
        words += ["shuffle"] if self.data.shuffle_labels else []
        words += [f"w{self.data.window_tokens}", self.stream.state] if self.stream else []
        digest = hashlib.sha256(canonical_json(self.science()).encode()).hexdigest()
        return "-".join([file_name(word) for word in words] + [digest[:10]])


def to_json(config: Any) -> dict[str, Any]:
    """A config as nested dicts, lists and scalars, as `settings.from_json` reads them."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _without_late(values: dict[str, Any], config: Any) -> dict[str, Any]:
    """The JSON of `config` without its late settings that are at their default."""
    kept = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            kept[item.name] = _without_late(values[item.name], value)
        elif not item.metadata.get("late") or value != item.default:
            kept[item.name] = values[item.name]
    return kept


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def portable_name(name: str) -> str:
    """A source or tokenizer without its place on this machine: `/x/y/arxiv_abstracts` -> `y/arxiv_abstracts`."""
    path = Path(os.path.realpath(os.path.expanduser(name))) if is_path(name) else Path(name)
    return "/".join(path.parts[-2:])


def is_path(name: str) -> bool:
    """Whether a tokenizer is a local file rather than a Hub name, by its spelling alone."""
    return name.startswith((".", "/", "~")) or name.endswith((".json", ".jsonl", ".parquet", ".txt"))


def file_name(word: str) -> str:
    """A word with everything but letters, digits, dot and underscore replaced, and no leading dot."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", word).lstrip(".")[:60] or "_"
