"""What a run of the sample-scaling study does: its contexts become a fixed point, then tokens are learned from them.

Phase 1 has a step for each iteration over the whole stream, and ends when enough contexts have converged; the state
carries them as a tensor. Phase 2 freezes the context block and trains token layers and head on windows of the stream,
validates at the end of each epoch, and ends when its patience does. Everything is a function of (seed, step) and of the
state, so that a run that was killed goes on with the same bits.

N tokens, D width, V vocabulary rows.
"""

import torch
from accelerate import Accelerator
from torch import nn

from helpers.counter_rng import Stream, torch_seed
from helpers.data.window_order import Windows
from helpers.models.contexts import stream_contexts
from helpers.models.head import summed_cross_entropy
from helpers.models.language_model import build_model
from helpers.runs.checkpoints import Tensors
from helpers.studies.samples.embedding import pretrained_embedding
from helpers.studies.samples.evaluate import evaluate, rank_rows, validation_rows
from helpers.studies.samples.fixed_point import Iteration, iterate
from helpers.studies.samples.stream import (
    TRAIN,
    VALIDATION,
    Prepared,
    StreamModel,
    prepare,
    train_stream,
    validation_stream,
)  # fmt: skip
from helpers.training.optimizer import make_optimizer
from helpers.training.recipe import Recipe
from helpers.training.run import Run
from helpers.training.schedule import learning_rate
from helpers.training.state import Stepped, TrainState, update

_TABLE = ("embedding.weight", "embedding_norm.weight", "embedding_norm.bias")


def start(run: Run, accelerator: Accelerator) -> TrainState:
    """The state at step 0. What is never trained is not in the optimizer."""
    config, cache = run.config, run.cache
    validation_stream(run)  # whether there is one is told now
    model = StreamModel(build_model(config.model, cache.vocab_size, cache.bos_id, config.seed))
    if config.model.embedding_from:
        rows_VD = pretrained_embedding(config.model.embedding_from, tuple(model.model.embedding.weight.shape))
        model.model.embedding.weight.data = rows_VD
    _freeze(model, embedding=config.model.embedding == "frozen", context=config.model.context != "learned")
    optimizer = accelerator.prepare(make_optimizer(config.train, model.to(accelerator.device)))
    state = TrainState(accelerator=accelerator, model=model, optimizer=optimizer, micro_batch=1)
    state.extra = {} if run.dataset.order.lead_steps else _counters()
    return state


def step(run: Run, state: TrainState) -> Stepped:
    """An iteration of phase 1, or a window of phase 2."""
    return _iteration(run, state) if state.step < run.dataset.order.lead_steps else _window(run, state)


# Phase 1


def _iteration(run: Run, state: TrainState) -> Stepped:
    config, number = run.config.passes.fixed_point, state.step + 1
    _freeze(state.model, embedding=True, context=False)
    model, e_ND = state.model.model, _embeddings(run, state)
    if number == 1:  # reads the stream as it is, from zeros
        state.extra = {"contexts": stream_contexts(model, e_ND).last_ND, "residual": torch.zeros(())}
        row = {"kind": "iteration", "step": 1, "iteration": 1}
        row |= dict.fromkeys(("moved", "diversity", "loss", "converged", "residual", "contraction"))
        nothing = e_ND.new_zeros(())
        return Stepped(loss=nothing, grad_norm=nothing, lr=config.lr, rows=[row])
    found = iterate(model, e_ND, state.extra["contexts"], _noise(run, state, e_ND), config)
    grad_norm = update(state, config.lr, run.config.train.clip_norm)
    row = _iteration_row(number, found, float(state.extra["residual"]))
    state.extra = {"contexts": found.contexts_ND, "residual": torch.tensor(row["residual"], dtype=torch.float64)}
    left = run.dataset.order.lead_steps - number
    is_converged = number >= config.least_iterations and found.converged >= config.share
    rows = [row]
    if is_converged or not left:
        rows += rank_rows(found.contexts_ND, number, "last iteration")
        _end_phase_1(state)
    return Stepped(
        loss=e_ND.new_tensor(found.loss), grad_norm=grad_norm, lr=config.lr, rows=rows,
        skipped_steps=left if is_converged else 0,
    )  # fmt: skip


def _noise(run: Run, state: TrainState, like_ND: torch.Tensor) -> torch.Tensor:
    """Drawn on the CPU from (seed, step): the same on every device."""
    generator = torch.Generator().manual_seed(torch_seed(run.config.seed, Stream.NOISE, counter=state.step))
    noise_ND = torch.randn(like_ND.shape, generator=generator)
    return run.config.passes.fixed_point.noise * noise_ND.to(like_ND.device)


def _iteration_row(number: int, found: Iteration, residual_before: float) -> dict:
    """What an iteration found. `contraction`: how much of the residual before it is left, which says how fast contexts
    become a fixed point, where a share under a threshold says only whether they are near."""
    residual = found.moved**0.5
    return {
        "kind": "iteration",
        "step": number,
        "iteration": number,
        "moved": found.moved,
        "diversity": found.diversity,
        "loss": found.loss,
        "converged": found.converged,
        "residual": residual,
        "contraction": residual / residual_before if residual_before else None,
    }


def _end_phase_1(state: TrainState) -> None:
    """What is frozen from now on has neither gradients nor a memory of them."""
    _freeze(state.model, embedding=True, context=True)
    for parameter in state.model.model.context_layers.parameters():
        state.optimizer.optimizer.state.pop(parameter, None)
    state.model.e_ND = None
    state.extra = _counters()


# Phase 2


def _counters() -> Tensors:
    """Counters in float64, which holds them and the losses exactly as they were."""
    names = ("best", "waited", "loss_sum", "predictions", "began")
    values = (float("inf"), 0.0, 0.0, 0.0, -1.0)
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in zip(names, values, strict=True)}


def _window(run: Run, state: TrainState) -> Stepped:
    order, config, extra = run.dataset.order, run.config, state.extra
    is_trained = config.model.embedding == "trained"
    _freeze(state.model, embedding=not is_trained, context=True)
    if extra["began"] < 0:
        _begin_epoch(state, is_trained)
    prepared = _prepared(run, state, TRAIN)
    loss_sum, count = _window_loss(state, prepared, order.of_step(state.step), is_trained)
    state.accelerator.backward(loss_sum / count)
    lr = learning_rate(config, state.step, run.num_steps)
    grad_norm = update(state, lr, run.config.train.clip_norm)
    loss = loss_sum.detach() / count
    extra["loss_sum"], extra["predictions"] = extra["loss_sum"] + loss_sum.detach(), extra["predictions"] + count
    is_end = order.epoch_of(state.step + 1) > order.epoch_of(state.step)
    rows, is_last = _end_epoch(run, state) if is_end else ([], False)
    return Stepped(loss=loss, grad_norm=grad_norm, lr=lr, rows=rows, is_last=is_last)


def _window_loss(state: TrainState, prepared: Prepared, windows: Windows, is_trained: bool) -> tuple[torch.Tensor, int]:
    """The summed cross entropy of the tokens after each of a window's, and how many they are."""
    model, first = state.model.model, int(windows.start[0])
    last = min(first + int(windows.length[0]), len(prepared.ids_N) - 1)
    e_ND = model.embed(prepared.ids_N[first:last]) if is_trained else prepared.e_ND[first:last]
    hidden_ND = model.tokens(e_ND, prepared.contexts_LND[:, first:last])
    return summed_cross_entropy(hidden_ND, model.head_VD, prepared.ids_N[first + 1 : last + 1]), last - first


def _begin_epoch(state: TrainState, is_trained: bool) -> None:
    """A trained embedding changes the contexts: they are those of the table that the epoch began with, which the state
    carries, so that a run that goes on within an epoch has the same."""
    state.extra["began"] = torch.tensor(float(state.step), dtype=torch.float64)
    if is_trained:
        weights = state.model.model.state_dict()
        state.extra |= {name: weights[name].detach().clone() for name in _TABLE}
        state.model.prepared.clear()


def _end_epoch(run: Run, state: TrainState) -> tuple[list[dict], bool]:
    """Validate: rows, and whether patience is at an end."""
    extra, reached = state.extra, state.step + 1
    if run.config.model.embedding == "trained":
        state.model.prepared.pop(VALIDATION, None)
    rows = validation_rows(run, state.model.model, _prepared(run, state, VALIDATION), reached)
    xe = rows[-1]["xe"]
    epoch = {"kind": "epoch", "step": int(extra["began"]), "epoch": rows[-1]["epoch"], "steps": reached}
    epoch |= {"train_xe": float(extra["loss_sum"] / extra["predictions"])}
    is_better = xe < float(extra["best"])
    fresh = _counters() | {"best": torch.tensor(min(xe, float(extra["best"])), dtype=torch.float64)}
    fresh["waited"] = torch.zeros_like(extra["waited"]) if is_better else extra["waited"] + 1
    state.extra = fresh
    return [epoch, *rows], bool(fresh["waited"] >= run.config.passes.patience)


# Both


def _freeze(model: nn.Module, *, embedding: bool, context: bool) -> None:
    """By every step, so that a resumed run has frozen the same."""
    inner = model.model
    for parameter in [*inner.embedding.parameters(), *inner.embedding_norm.parameters()]:
        parameter.requires_grad_(not embedding)
    for parameter in inner.context_layers.parameters():
        parameter.requires_grad_(not context)


def _prepared(run: Run, state: TrainState, split: str) -> Prepared:
    """A stream with its contexts, computed once as long as what makes them is frozen."""
    cache = state.model.prepared
    if split not in cache:
        stream = train_stream(run) if split == TRAIN else validation_stream(run)
        has_own = split == TRAIN and _TABLE[0] in state.extra
        table = tuple(state.extra[name].to(state.accelerator.device) for name in _TABLE) if has_own else None
        cache[split] = prepare(state.model.model, stream, table)
    return cache[split]


def _embeddings(run: Run, state: TrainState) -> torch.Tensor:
    """Of the train stream, in the phase that does not change them."""
    if state.model.e_ND is None:
        with torch.no_grad():
            ids_N = torch.from_numpy(train_stream(run).ids_N).to(state.accelerator.device)
            state.model.e_ND = state.model.model.embed(ids_N)
    return state.model.e_ND


RECIPE = Recipe(start=start, step=step, evaluate=evaluate)
