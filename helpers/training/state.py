"""The state of a run in memory, one step of training on windows, and the checkpoint that holds all of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from helpers.counter_rng import Stream, torch_seed
from helpers.models.language_model import LanguageModel, build_model, load_weights, weights_of
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import Checkpoint, Tensors
from helpers.runs.result_file import Row
from helpers.training.accelerator import choose_micro_batch
from helpers.training.optimizer import make_optimizer
from helpers.training.run import Run
from helpers.training.schedule import learning_rate
from helpers.training.together import own_share, rank, sum_gradients


@dataclass(kw_only=True)
class LossMean:
    """The running mean of the loss, against which divergence is judged, and the losses since it was last brought up."""

    mean: float | None = None
    total: torch.Tensor | float = 0.0
    """Sum of the losses of `num_steps` steps; it may still be on the device."""
    num_steps: int = 0

    def add(self, loss: torch.Tensor) -> None:
        self.total = self.total + loss
        self.num_steps += 1

    def to_json(self) -> dict[str, Any]:
        return {"loss_mean": self.mean, "loss_total": float(self.total), "loss_steps": self.num_steps}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "LossMean":
        """Of a checkpoint's state; those of earlier versions have a mean alone."""
        return cls(mean=state["loss_mean"], total=state.get("loss_total", 0.0), num_steps=state.get("loss_steps", 0))


@dataclass(kw_only=True)
class TrainState:
    """Weights, optimizer and scaler, and how many steps they have seen. Randomness is no state: see `window_step`."""

    accelerator: Accelerator
    model: nn.Module
    """A module that holds the language model as `model` (such as WindowModel). Accelerate does not prepare it: that
    wraps its forward as `forward` does, and imports as much as torch itself."""
    optimizer: Any
    micro_batch: int
    step: int = 0
    is_ended: bool = False
    """Whether the last step said that it was the run's last, before all were done."""
    extra: Tensors = field(default_factory=dict)
    """What a study carries from step to step beside the weights, such as contexts or a counter: it travels in the
    checkpoint as they do."""
    loss: LossMean = field(default_factory=LossMean)

    def forward(self, *inputs: torch.Tensor | None) -> Any:
        """Of the model, in the run's precision."""
        with self.accelerator.autocast():
            return self.model(*inputs)

    @property
    def weights(self) -> Tensors:
        """The language model's tensors on the CPU, by their names in files."""
        return weights_of(self.language_model)

    @property
    def language_model(self) -> LanguageModel:
        return self.model.model


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What one step of training tells."""

    loss: torch.Tensor
    """Mean over the step's tokens, nats per token; it may still be on the device."""
    grad_norm: torch.Tensor
    lr: float
    is_last: bool = False
    """Whether the run ends here, because it has converged or its patience is at an end."""
    skipped_steps: int = 0
    """Steps of the run that are left out behind this one, because its phase has converged before them."""
    rows: Sequence[Row] = ()
    """What the step has measured, as `Recipe.evaluate` would: a summary stands behind what it sums up."""


def window_state(run: Run, accelerator: Accelerator) -> TrainState:
    """A run on windows at step 0."""
    config, cache = run.config, run.cache
    model = WindowModel(build_model(config.model, cache.vocab_size, cache.bos_id, config.seed), cache.bos_id)
    model.to(accelerator.device).train()
    return TrainState(
        accelerator=accelerator,
        model=model,
        optimizer=accelerator.prepare(make_optimizer(config.train, model)),
        micro_batch=choose_micro_batch(config, accelerator, model),
    )


def window_step(run: Run, state: TrainState) -> Stepped:
    """One update with the global batch of the state's step, of which each process of the run computes its share."""
    batch = run.dataset.batch(state.step)
    tokens_BT = own_share(torch.from_numpy(batch.tokens)).to(state.accelerator.device, non_blocking=True)
    parts = tokens_BT.split(state.micro_batch) if len(tokens_BT) else ()
    return descend(run, state, (state.forward(part) / batch.num_tokens for part in parts))


def descend(run: Run, state: TrainState, losses: Iterable[torch.Tensor]) -> Stepped:
    """One update by the gradient of the sum of `losses`, one a micro-batch, each computed when it is asked for.

    Gradients are summed over micro-batches and processes, so the update is that of the whole batch. Dropout is drawn
    from (seed, step, process): nothing random is carried from one step to the next.
    """
    config, accelerator = run.config, state.accelerator
    lr = learning_rate(config, state.step, run.num_steps)
    torch.manual_seed(torch_seed(config.seed, Stream.DROPOUT, counter=state.step, salt=rank()))
    loss_sum = torch.zeros((), device=accelerator.device)
    for loss in losses:
        accelerator.backward(loss)
        loss_sum += loss.detach()
    sum_gradients(state.model.parameters(), loss_sum)
    return Stepped(loss=loss_sum, grad_norm=update(state, lr, config.train.clip_norm), lr=lr)


def update(state: TrainState, lr: float, clip_norm: float) -> torch.Tensor:
    """One step of the optimizer on what has a gradient; the norm of that before it was clipped.

    Accelerate's own clipping calls the same, and imports distributed tensors to see that there are none.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.accelerator.unscale_gradients()
    grad_norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    return grad_norm


def to_checkpoint(state: TrainState, rows: dict[str, list[dict[str, Any]]]) -> Checkpoint:
    """`state`, with the rows of the run's files that were gathered until now, by the name of the file."""
    scaler = state.accelerator.scaler
    named = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, entry in zip(_names(state), _entries(state), strict=True)
        for key, value in entry.items()
    }
    return Checkpoint(
        step=state.step,
        model=state.weights,
        optimizer=named,
        extra={name: tensor.detach().cpu().contiguous() for name, tensor in state.extra.items()},
        state=state.loss.to_json()
        | {"is_ended": state.is_ended, "scaler": scaler.state_dict() if scaler else None}
        | rows,
    )


def restore(state: TrainState, checkpoint: Checkpoint) -> None:
    """Make `state` what it was when `checkpoint` was taken. A parameter that had not been updated then, because it is
    frozen or the scaler skipped every update, has no entry in the optimizer."""
    load_weights(state.language_model, checkpoint.model)
    entries: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in checkpoint.optimizer.items():
        name, _, part = key.rpartition("/")
        entries.setdefault(_in_files(state, name), {})[part] = value
    numbered = {number: entries[name] for number, name in enumerate(_names(state)) if name in entries}
    optimizer = state.optimizer.optimizer
    optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})
    if checkpoint.state["scaler"]:
        state.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    state.step = checkpoint.step
    state.is_ended = checkpoint.state.get("is_ended", False)
    state.extra = {name: tensor.to(state.accelerator.device) for name, tensor in checkpoint.extra.items()}
    state.loss = LossMean.from_json(checkpoint.state)


def _names(state: TrainState) -> list[str]:
    """The parameters' names in files, in the optimizer's own order."""
    names = {id(p): name for name, p in state.model.named_parameters()}
    return [_in_files(state, names[id(p)]) for group in state.optimizer.param_groups for p in group["params"]]


def _in_files(state: TrainState, name: str) -> str:
    """Of a parameter of the model of windows, in which the language model is called `model`."""
    prefix, _, inner = name.partition("model.")
    return name if prefix else f"model.{state.language_model.name_in_files(inner)}"


def _entries(state: TrainState) -> list[dict[str, torch.Tensor]]:
    inner = state.optimizer.optimizer
    return [inner.state[p] for group in inner.param_groups for p in group["params"]]
