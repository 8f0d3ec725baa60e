"""One run in several processes, by torch.distributed: each takes its share of every batch, and the first one writes.

    torchrun --nproc_per_node 2 -m helpers train --preset demo --only k=4 --only seed=0

The batch of a step is a function of (seed, step), so all processes know the same one and no data is sent. Gradients
are summed over them once a step, each loss having been divided by the tokens of the whole batch: weights stay equal in
all processes, whatever their number. Shares may differ in size or be empty: hence a sum, and not DDP's mean.
Accelerate is not told of the others: it would have to be told in five different ways (CPU, GPU, launcher), and starts
one process in silence where it is not.

The first process tells the others what comes next (`tell`); they follow it until it says that the run is at its end.
"""

import atexit
import contextlib
import datetime
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist

from helpers.processes import Place
from helpers.storage import Storage

_TO_MEET = datetime.timedelta(minutes=5)
_PATIENCE = datetime.timedelta(hours=24)
"""The others wait while the first builds a cache or measures. One that dies is noticed at once, by its connection."""


class ProcessLost(RuntimeError):
    """Another process of this run has ended."""


def require_together(count: int, storage: Storage, study: str, splits: bool) -> None:
    """ValueError for several processes where one has to do, because its steps do not split, or others do not see the
    storage."""
    if count > 1 and not splits:
        raise ValueError(
            f"{count} processes are not possible: a run of study {study!r} trains in one, for its steps are not cut "
            "into shares. Start it without a launcher or execution.processes; several runs at once are `grid --workers`"
        )
    if count > 1 and storage.store:
        storage.store.require_shared("the processes of a run")


def join(place: Place, device: torch.device) -> None:
    """Make this process one of its run's, until it ends. RuntimeError if it finds others than were launched."""
    if place.count == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(place.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _noticing():
        store, own_rank, count = next(dist.rendezvous("env://", timeout=_TO_MEET))
        dist.init_process_group(backend, store=store, rank=own_rank, world_size=count, timeout=_PATIENCE)
    atexit.register(dist.destroy_process_group)
    if num_processes() != place.count:
        raise RuntimeError(
            f"{place.count} processes were launched, but {num_processes()} have joined; nothing was trained. Start all "
            "of them with one torchrun"
        )


def num_processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def own_share(tokens_BT: torch.Tensor) -> torch.Tensor:
    """The windows of a batch that this process computes: equal shares as far as that is possible."""
    return tokens_BT.tensor_split(num_processes())[rank()]


def sum_gradients(parameters: Iterable[torch.nn.Parameter], loss: torch.Tensor) -> None:
    """Make the gradients, and `loss`, the sums of those of all processes, in one message."""
    if num_processes() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:  # an empty share
            parameter.grad = torch.zeros_like(parameter)
    parts = [loss, *(parameter.grad for parameter in trained)]
    message = torch.cat([part.reshape(-1).float() for part in parts])
    with _noticing():
        dist.all_reduce(message)
    for part, summed in zip(parts, message.split([part.numel() for part in parts]), strict=True):
        part.copy_(summed.view_as(part))


def tell(value: Any) -> Any:
    """What the first process says, in all of them; each calls it at the same place."""
    if num_processes() == 1:
        return value
    said = [value]
    with _noticing():
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    return said[0]


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's, NCCL's, or of the store at which they meet
        raise ProcessLost(
            f"another process of this run has ended or cannot be reached ({str(error).splitlines()[0]:.200}); what was "
            "saved is kept. Run the same again: it goes on from the newest checkpoint"
        ) from error
