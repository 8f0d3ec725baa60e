"""What a run is: frozen settings, their validation, and the run_id that names them.

A run's science (`RunConfig.science`) is everything that changes its numbers. Its run_id is a hash of the science
and nothing else: the same run on a laptop, on Colab or in a cluster has the same name, and a changed setting can
never resume or overwrite another run. How a run is executed (`ExecutionConfig`) is not hashed.
"""

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

# Seed document, section 0, in its order. The Hub data set numbers them differently: labels are mapped by name.
ARXIV_COMPONENTS = (
    "cs.CV", "cs.AI", "cs.SY", "cs.CE", "cs.PL", "cs.IT", "cs.DS", "cs.NE", "math.AC", "math.GR", "math.ST",
)  # fmt: skip
ARXIV_SOURCE = "arxiv"
SYNTHETIC_SOURCE = "synthetic"
PYTHIA_TOKENIZER = "EleutherAI/pythia-70m"

PythiaSize = Literal["tiny", "14m", "31m", "70m", "160m", "410m"]
GptSize = Literal[
    "gpt-10k", "gpt-30k", "gpt-100k", "gpt-300k", "gpt-1m", "gpt-3m", "gpt-10m", "gpt-17m", "gpt-30m", "gpt-85m",
]  # fmt: skip


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


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which papers, and how windows are drawn from them."""

    source: str = SYNTHETIC_SOURCE
    """`arxiv` or `tinystories` (the Hub), `synthetic`, or a path: to Parquet/JSONL files with columns text and label,
    or to a .txt file of stories with <|endoftext|> between them."""
    tokenizer: str = PYTHIA_TOKENIZER
    """A Hub name, a path to a tokenizer.json, or `train:N` (BPE of N tokens); unused by the synthetic source."""
    max_papers_per_component: int | None = None
    """Read only this many papers of each component and split."""
    window_tokens: int = 100
    sampling: Literal["uniform", "epoch"] = "uniform"
    """uniform: component, paper and offset uniform. epoch: every token once an epoch."""
    order: Literal["listed", "smallest_first", "rotate"] = "rotate"
    """Which components are active first; the active sets are nested in K."""
    components: tuple[str, ...] = ()
    """Exactly these components (as many as K), instead of an order. A baseline names its one component."""
    allocation: Literal["full", "constant_unique"] = "full"
    """full: every paper of an active component. constant_unique: as many unique tokens for every K."""
    shuffle_labels: bool = False
    """Control: permute the papers' labels before components are formed; pool sizes stay."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A randomly initialised decoder; its size implies its family."""

    size: PythiaSize | GptSize = "70m"
    """A published Pythia shape (GPT-NeoX), named by all its parameters, or a decoder of the activation study, named
    by those that are no embedding."""
    activation: Literal["gelu", "swiglu"] = "gelu"
    """Of the feed-forward layers; a Pythia has gelu."""
    dropout: float = 0.1
    """In hidden states and in attention."""
    max_context_tokens: int = 128

    @property
    def family(self) -> Literal["pythia", "gpt"]:
        return "gpt" if self.size in get_args(GptSize) else "pythia"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Seed document, section 4. Exactly one of steps, tokens, epochs and tokens_per_parameter sets the length."""

    batch_size: int = 256
    """Windows a step over all processes and micro-batches."""
    steps: int | None = 100_000
    tokens: int | None = None
    """Training tokens; with it, the other lengths are None."""
    epochs: float | None = None
    """Passes over the selected train set; needs `data.sampling=epoch`, and the other lengths are None."""
    tokens_per_parameter: float | None = None
    """Training tokens as a multiple of the non-embedding parameters: 20 is D = 20 N of Hoffmann et al. 2022."""
    peak_lr: float = 2e-4
    lr_at_width: int | None = None
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
    """What a GPU uses; a CPU trains in fp32 and says so."""
    divergence_factor: float = 2.0
    """A logged loss above this multiple of its running mean ends the run as failed."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Seed document, section 5."""

    windows_per_component: int = 1_024
    seed: int = 0
    """Draws the evaluation windows: the same for every run, so that differences are paired."""
    split: Literal["validation", "test"] = "test"


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How a run is executed; not hashed, and without influence on its numbers beyond floating-point rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch: int | None = None
    """Windows computed at once; None: the global batch, halved until it fits the card."""
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


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training and its evaluation."""

    study: str = "ergodic"
    k: int = 1
    """Number of active components."""
    seed: int = 0
    """Weights, dropout, data order, and the component order when it is `rotate`."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def __post_init__(self) -> None:
        _validate(self)

    def science(self) -> dict[str, Any]:
        """Every setting that changes the numbers, as JSON types. A path counts by its last two names, not its place."""
        science = to_json(self)
        del science["execution"]
        data = science["data"]
        data["source"] = portable_name(self.data.source)
        data["tokenizer"] = portable_name(self.data.tokenizer)
        if self.data.source == SYNTHETIC_SOURCE:
            del data["tokenizer"], data["max_papers_per_component"]
        else:
            del data["synthetic"]
        # Where a setting has no say it is left out, so that a run from before there was that setting keeps its name.
        if self.model.family == "pythia":
            del science["model"]["activation"]
        for name in ("tokens_per_parameter", "lr_at_width"):
            if getattr(self.train, name) is None:
                del science["train"][name]
        return science

    @property
    def run_id(self) -> str:
        """A readable name that ends in a hash of `science`; safe as a file name on every system."""
        words = [self.study, Path(self.data.source).stem, self.model.size]
        words += [self.model.activation] if self.model.family == "gpt" else []
        words += [f"k{self.k}", f"s{self.seed}"]
        words += ["-".join(self.data.components)] if self.data.components else []
        words += ["shuffle"] if self.data.shuffle_labels else []
        digest = hashlib.sha256(canonical_json(self.science()).encode()).hexdigest()
        return "-".join([file_name(word) for word in words] + [digest[:10]])


def to_json(config: Any) -> dict[str, Any]:
    """A config as nested dicts, lists and scalars, as `overrides.from_json` reads them."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


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


def _validate(config: RunConfig) -> None:
    data, train, execution = config.data, config.train, config.execution
    _require(config.k >= 1, "k", config.k, "a number of components from 1 up")
    _require(config.seed >= 0, "seed", config.seed, "a whole number from 0 up")
    _require(data.window_tokens >= 2, "data.window_tokens", data.window_tokens, "100")
    most = config.model.max_context_tokens
    legal = f"at most model.max_context_tokens = {most}"
    _require(data.window_tokens <= most, "data.window_tokens", data.window_tokens, legal)
    names = data.components
    _require(len(set(names)) == len(names), "data.components", names, "each name once")
    limit = data.max_papers_per_component
    _require(limit is None or limit >= 1, "data.max_papers_per_component", limit, "none or at least 1")
    _validate_length(train)
    _require(
        train.epochs is None or data.sampling == "epoch", "train.epochs", train.epochs, "none, or data.sampling=epoch"
    )
    for name in ("batch_size", "peak_lr", "epsilon", "clip_norm"):
        _require(getattr(train, name) > 0, f"train.{name}", getattr(train, name), "a number above 0")
    width = train.lr_at_width
    _require(width is None or width >= 1, "train.lr_at_width", width, "none, or a d_model such as 256")
    _require(train.warmup_steps >= 0, "train.warmup_steps", train.warmup_steps, "0 or more")
    _require(train.divergence_factor > 1, "train.divergence_factor", train.divergence_factor, "2.0")
    model = config.model
    _require(0 <= model.dropout < 1, "model.dropout", model.dropout, "0.1")
    legal = f"gelu with model.size = {model.size}, or a gpt size such as model.size=gpt-10m"
    _require(model.family == "gpt" or model.activation == "gelu", "model.activation", model.activation, legal)
    windows = config.eval.windows_per_component
    _require(windows >= 2, "eval.windows_per_component", windows, "1024")
    for name in (
        "log_every_steps",
        "snapshot_every_steps",
        "keep_snapshots",
        "keep_evaluated_snapshots",
        "keep_checkpoints",
    ):
        _require(getattr(execution, name) >= 1, f"execution.{name}", getattr(execution, name), "at least 1")
    micro = execution.micro_batch
    _require(micro is None or micro >= 1, "execution.micro_batch", micro, "none or at least 1")
    synthetic = data.synthetic
    for name in ("num_components", "num_states", "papers_per_component"):
        _require(getattr(synthetic, name) >= 1, f"data.synthetic.{name}", getattr(synthetic, name), "1 or more")
    _require(synthetic.num_symbols >= 2, "data.synthetic.num_symbols", synthetic.num_symbols, "32")
    _require(0 <= synthetic.persistence < 1, "data.synthetic.persistence", synthetic.persistence, "0.5")
    _require(synthetic.concentration > 0, "data.synthetic.concentration", synthetic.concentration, "1.0")


def _validate_length(train: TrainConfig) -> None:
    names = ("steps", "tokens", "epochs", "tokens_per_parameter")
    given = [getattr(train, name) for name in names if getattr(train, name) is not None]
    _require(
        len(given) == 1 and given[0] > 0,
        ", ".join(f"train.{name}" for name in names),
        [getattr(train, name) for name in names],
        "exactly one above 0 and the others none",
    )


def _require(holds: bool, name: str, value: Any, legal: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r} is not possible; use {legal}")
