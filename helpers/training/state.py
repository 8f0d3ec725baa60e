"""The state of a run in memory, one step of training, and the checkpoint that holds all of it."""

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from helpers.config import RunConfig, TrainConfig
from helpers.counter_rng import Stream, torch_seed
from helpers.data.window_dataset import WindowBatch
from helpers.models.language_model import build_model
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import Checkpoint, Tensors
from helpers.training.device import choose_micro_batch


@dataclass(kw_only=True)
class TrainState:
    """Weights, optimizer and scaler, and how many steps they have seen. Randomness is no state: see `train_step`."""

    accelerator: Accelerator
    model: nn.Module
    """WindowModel, as Accelerate wraps it."""
    optimizer: Any
    micro_batch: int
    step: int = 0
    loss_mean: float | None = None
    """Running mean of the logged losses, against which divergence is judged."""

    @property
    def weights(self) -> Tensors:
        """The language model's tensors on the CPU, by its own names."""
        tensors = self.accelerator.unwrap_model(self.model).model.state_dict()
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def new_state(config: RunConfig, accelerator: Accelerator, vocab_size: int, bos_id: int) -> TrainState:
    """A run at step 0."""
    window_model = WindowModel(build_model(config.model, vocab_size, bos_id, config.seed), bos_id)
    optimizer = make_optimizer(config.train, window_model.to(accelerator.device))
    model, optimizer = accelerator.prepare(window_model, optimizer)
    model.train()
    return TrainState(
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        micro_batch=choose_micro_batch(config, accelerator, model),
    )


def make_optimizer(train: TrainConfig, model: WindowModel) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices only, and of these on all but the model's
    `undecayed_matrices`; fused, which AdamW does not choose by itself."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    undecayed = {id(p) for p in parameters if p.dim() < 2} | {id(p) for p in model.model.undecayed_matrices()}
    groups = [
        {"params": [p for p in parameters if id(p) not in undecayed], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if id(p) in undecayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.peak_lr, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)


def train_step(
    state: TrainState, batch: WindowBatch, config: RunConfig, learning_rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update with a global batch: its mean loss (nats per token) and gradient norm, both still on the device.

    Gradients are summed over micro-batches and divided by the batch's tokens, so the update is that of the whole
    batch. Dropout is drawn from (seed, step): nothing random is carried from one step to the next.
    """
    accelerator = state.accelerator
    torch.manual_seed(torch_seed(config.seed, Stream.DROPOUT, counter=state.step))
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    tokens_BT = torch.from_numpy(batch.tokens).to(accelerator.device, non_blocking=True)
    loss_sum = torch.zeros((), device=accelerator.device)
    for micro_batch_BT in tokens_BT.split(state.micro_batch):
        loss = state.model(micro_batch_BT) / batch.num_tokens
        accelerator.backward(loss)
        loss_sum += loss.detach()
    grad_norm = accelerator.clip_grad_norm_(state.model.parameters(), config.train.clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    return loss_sum, grad_norm


def to_checkpoint(state: TrainState, rows: list[dict[str, Any]]) -> Checkpoint:
    """`state`, with the lines of metrics.jsonl that were logged until now."""
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
        state={"loss_mean": state.loss_mean, "scaler": scaler.state_dict() if scaler else None, "metrics": rows},
    )


def restore(state: TrainState, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Make `state` what it was when `checkpoint` was taken; the lines of metrics.jsonl until then."""
    state.accelerator.unwrap_model(state.model).model.load_state_dict(checkpoint.model)
    entries: dict[int, dict[str, torch.Tensor]] = {}
    if checkpoint.optimizer:  # empty as long as the scaler has skipped every update
        for number, name in enumerate(_names(state)):
            keys = ("step", "exp_avg", "exp_avg_sq")
            entries[number] = {key: checkpoint.optimizer[f"{name}/{key}"] for key in keys}
    optimizer = state.optimizer.optimizer
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    if checkpoint.state["scaler"]:
        state.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    state.step = checkpoint.step
    state.loss_mean = checkpoint.state["loss_mean"]
    return checkpoint.state["metrics"]


def _names(state: TrainState) -> list[str]:
    """Parameter names in the optimizer's own order."""
    names = {id(p): name for name, p in state.accelerator.unwrap_model(state.model).named_parameters()}
    return [names[id(p)] for group in state.optimizer.param_groups for p in group["params"]]


def _entries(state: TrainState) -> list[dict[str, torch.Tensor]]:
    inner = state.optimizer.optimizer
    return [inner.state[p] for group in inner.param_groups for p in group["params"]]
