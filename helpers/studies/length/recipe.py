"""What a run of the length study does in the shared loop: rows in, a state before each row, patience at the end.

What a row's state begins with (`stream.state`) is the training's side of the question: a model that has never met the
state behind a long context may not know what to do with it (arXiv 2507.02782).

L layers, B rows, W inputs of a row, H heads, I x E weights of a head.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from helpers.counter_rng import Stream, salt_of, torch_seed
from helpers.models.head import summed_cross_entropy
from helpers.models.language_model import build_model
from helpers.models.stream_model import StreamModel
from helpers.models.ttt import TTTState
from helpers.models.window_model import WindowModel
from helpers.runs.checkpoints import save_best
from helpers.runs.result_file import Measured
from helpers.studies.length.evaluate import evaluate, sequences_of
from helpers.studies.length.rows import batch_of
from helpers.training.accelerator import choose_micro_batch
from helpers.training.optimizer import make_optimizer
from helpers.training.recipe import Recipe
from helpers.training.run import Run
from helpers.training.state import Stepped, TrainState, descend

_CARRIED, _BEST, _BEST_STEP, _RECORD, _WAITED = "carried", "best_xe", "best_step", "record_xe", "waited"
_BEST_WEIGHTS = "best/"
Begin = Callable[[torch.Tensor], torch.Tensor]
"""The learned start [L, B, H, I, E] -> the weights with which rows begin."""


class RowModel(nn.Module):
    """A stream model as a function of rows: their summed cross entropy, and the weights that they leave."""

    def __init__(self, model: StreamModel):
        super().__init__()
        self.model = model

    def forward(self, rows_BT: torch.Tensor, begin: Begin | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Nats over the W targets of each row [B, W + 1]; the weights [L, B, H, I, E] where `begin` was given."""
        states = None
        if begin is not None:
            start_LBHIE = torch.stack([layer.mixer.start(len(rows_BT)) for layer in self.model.layers])
            states = [TTTState.at(weights_BHIE) for weights_BHIE in begin(start_LBHIE)]
        hidden_BTD, after = self.model.read(rows_BT[:, :-1], states)
        loss = summed_cross_entropy(hidden_BTD.flatten(0, 1), self.model.head_VD, rows_BT[:, 1:].flatten())
        return loss, None if begin is None else torch.stack([state.weights_BHIE for state in after])


def start(run: Run, accelerator: Accelerator) -> TrainState:
    """A run at step 0. ValueError, before anything is trained, if there is too little text to train or measure on."""
    sequences_of(run)
    batch_of(run, 0)
    config, bos_id = run.config, run.cache.bos_id
    model = RowModel(build_model(config.model, run.cache.vocab_size, bos_id, config.seed))
    model.to(accelerator.device).train()
    best = {_BEST: torch.tensor(float("inf"), dtype=torch.float64), _BEST_STEP: torch.tensor(0)}
    patience = {_RECORD: torch.tensor(float("inf"), dtype=torch.float64), _WAITED: torch.tensor(0)}
    return TrainState(
        accelerator=accelerator,
        model=model,
        optimizer=accelerator.prepare(make_optimizer(config.train, model)),
        micro_batch=choose_micro_batch(config, accelerator, WindowModel(model.model, bos_id)),
        extra=best | patience,
    )


def step(run: Run, state: TrainState) -> Stepped:
    """One update with the rows of the state's step."""
    batch, kind, left = batch_of(run, state.step), run.config.stream.state, []
    rows_BT = torch.from_numpy(batch.rows).to(state.accelerator.device, non_blocking=True)
    num_targets = rows_BT[:, 1:].numel()

    def losses() -> Iterator[torch.Tensor]:
        for first in range(0, len(rows_BT), state.micro_batch):
            place = slice(first, first + state.micro_batch)
            begin = _begin(run, state, batch.continues[place], place)
            loss, after_LBHIE = state.forward(rows_BT[place], begin)
            left.append(after_LBHIE.detach() if kind in ("carried", "passed") else None)
            yield loss / num_targets

    stepped = descend(run, state, losses())
    if kind in ("carried", "passed"):
        state.extra[_CARRIED] = torch.cat(left, dim=1)
    is_last = _is_out_of_patience(run, state)
    if (is_last or state.step + 1 == run.num_steps) and (best := _best_weights(state)):
        save_best(run.outbox, int(state.extra[_BEST_STEP]), best)
    return dataclasses.replace(stepped, is_last=is_last)


def judge(run: Run, state: TrainState, measured: Measured) -> None:
    """Remember the best model, and count the evaluations since the last improvement.

    The two differ: the best is the lowest XE of all, an improvement is one by more than `min_delta`.
    """
    xe, at = float(measured.summary["xe"]), measured.summary["step"]
    if xe < float(state.extra[_BEST]):
        state.extra |= {_BEST: torch.tensor(xe, dtype=torch.float64), _BEST_STEP: torch.tensor(at)}
        state.extra |= {f"{_BEST_WEIGHTS}{name}": tensor.clone() for name, tensor in state.weights.items()}
    if improves(xe, float(state.extra[_RECORD]), run.config.stream.threshold, run.config.stream.min_delta):
        state.extra |= {_RECORD: torch.tensor(xe, dtype=torch.float64), _WAITED: torch.tensor(0)}
    else:
        state.extra[_WAITED] = state.extra[_WAITED] + 1


def improves(xe: float, record: float, threshold: str, min_delta: float) -> bool:
    """Whether `xe` is below the record by more than `min_delta`, in nats or in ppl."""
    if record == float("inf"):
        return True
    return (record - xe if threshold == "nats" else float(np.exp(record) - np.exp(xe))) > min_delta


def evaluation_steps(run: Run) -> Sequence[int]:
    """Equally spaced from the untrained model to the end, as the document has them."""
    last = run.config.stream.evaluations - 1
    return sorted({run.num_steps * i // last for i in range(last)})


def _begin(run: Run, state: TrainState, continues_B: np.ndarray, place: slice) -> Begin | None:
    """What the rows at `place` of the batch begin with."""
    kind, device = run.config.stream.state, state.accelerator.device
    if kind == "fresh":
        return None
    if kind == "noise":
        seed = torch_seed(run.config.seed, Stream.DROPOUT, counter=state.step, salt=salt_of(f"noise {place.start}"))
        generator = torch.Generator().manual_seed(seed)
        return lambda start: _with_noise(start, run.config.stream.noise, generator)
    if _CARRIED not in state.extra:
        return lambda start: start
    given_LBHIE = state.extra[_CARRIED].to(device)
    if kind == "carried":
        is_given_B = continues_B
    else:  # every second row begins with what its neighbour's row before left, the others train the learned start
        given_LBHIE = given_LBHIE.roll(1, dims=1)
        is_given_B = (np.arange(place.start, place.start + len(continues_B)) + state.step) % 2 == 0
    mask_B = torch.from_numpy(is_given_B).to(device)[:, None, None, None]
    return lambda start: torch.where(mask_B, given_LBHIE[:, place], start)


def _with_noise(start_LBHIE: torch.Tensor, relative: float, generator: torch.Generator) -> torch.Tensor:
    """Each layer's start with normal noise, `relative` to the root mean square of its weights."""
    size_L = start_LBHIE.detach()[:, 0].square().flatten(1).mean(1).sqrt()
    noise_LBHIE = torch.randn(start_LBHIE.shape, generator=generator).to(start_LBHIE)
    return start_LBHIE + relative * size_L[:, None, None, None, None] * noise_LBHIE


def _is_out_of_patience(run: Run, state: TrainState) -> bool:
    patience = run.config.stream.patience
    return patience > 0 and int(state.extra[_WAITED]) >= patience


def _best_weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(_BEST_WEIGHTS): tensor.detach().cpu().contiguous()
        for name, tensor in state.extra.items()
        if name.startswith(_BEST_WEIGHTS)
    }


RECIPE = Recipe(start=start, step=step, evaluate=evaluate, evaluate_at=evaluation_steps, judge=judge)
