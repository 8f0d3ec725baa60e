"""The moments at which a run is killed: calls of functions of `helpers`, hooked in the process that is to die.

No hook lives in the product. A moment is named by what would be lost or left half done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import outbox
from helpers.data import cache_writer, flat_tokens
from helpers.evaluation import eval_xe
from helpers.models.window_model import WindowModel
from helpers.object_store import ObjectStore
from helpers.outbox import Outbox
from helpers.runs import checkpoints
from helpers.runs.metrics import RowLog
from helpers.training import train_single_k as training

_MODEL = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Before or after a call of `function` of `owner`, if `applies` accepts the call's arguments."""

    owner: Any
    function: str
    is_after: bool = True
    applies: Callable[..., bool] = lambda *arguments: True
    halves: bool = False
    """The file that the call's last argument names is to be cut to half, like a write that was under way."""

    def install(self, hit: Callable[[Path | None], None]) -> None:
        """Replace the function in this process by one that calls `hit`, with the file to be cut or None."""
        original = getattr(self.owner, self.function)

        def hooked(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named) if self.is_after else None
            if self.applies(*arguments):
                hit(arguments[-1] if self.halves else None)
            return result if self.is_after else original(*arguments, **named)

        setattr(self.owner, self.function, hooked)


def _is_inside_step(model: WindowModel, tokens_BT: Any) -> bool:
    """A forward pass while there are gradients: not that of a step's first micro-batch, nor of the evaluation."""
    return model.model.head_VD.grad is not None


def _is_checkpoint_pending(box: Outbox) -> bool:
    return any("checkpoints" in place.name for place in box.storage.outbox(box.run_id).glob("[!.]*"))


def _is_checkpoint(box: Outbox, target: Path, *others: Any) -> bool:
    return target.parent.name == "checkpoints"


def _is_checkpoint_file(tensors: Any, path: Path) -> bool:
    return path.name in ("model.safetensors", "optimizer.safetensors")


def _holds_result(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(b'{"kind": "run"')


MOMENTS = {
    "between two files of the token cache": Moment(owner=cache_writer, function="_publish"),
    "tokens unpacked, not yet in their place": Moment(owner=flat_tokens, function="_unpack"),
    "before the first step": Moment(owner=training, function="_train_steps", is_after=False),
    "between two micro-batches": Moment(
        owner=WindowModel, function="forward", is_after=False, applies=_is_inside_step
    ),
    "between metrics and checkpoint": Moment(owner=RowLog, function="publish"),
    "between snapshot and checkpoint": Moment(owner=training, function="save_snapshot"),
    "inside a checkpoint's write to the outbox": Moment(
        owner=checkpoints, function="save_file", applies=_is_checkpoint_file, halves=True
    ),
    "checkpoint whole in the outbox, not yet delivered": Moment(
        owner=Outbox, function="deliver", is_after=False, applies=_is_checkpoint_pending
    ),
    "inside a checkpoint's copy to the storage": Moment(
        owner=outbox, function="copy_verified", applies=lambda source, _: "checkpoints" in source.parent.name,
        halves=True,
    ),
    "checkpoint renamed, not yet gone from the outbox": Moment(
        owner=outbox, function="_deliver", applies=lambda storage, place, _: place.is_dir()
    ),
    "checkpoint delivered, older ones not yet deleted": Moment(owner=Outbox, function="put", applies=_is_checkpoint),
    "in evaluation": Moment(owner=eval_xe, function="cross_entropy", is_after=False),
    "half of the result written to the outbox": Moment(
        owner=outbox, function="flush", is_after=False, applies=_holds_result, halves=True
    ),
    "half of the result copied to the storage": Moment(
        owner=outbox, function="copy_verified", applies=lambda source, _: source.name.startswith("results"),
        halves=True,
    ),
    "result delivered, checkpoints not yet deleted": Moment(
        owner=training, function="delete_checkpoints", is_after=False
    ),
}  # fmt: skip

STORE_MOMENTS = {
    "between two objects of a checkpoint": Moment(
        owner=ObjectStore, function="_put_file", applies=lambda store, target, source: target.name == _MODEL
    ),
    "between a file and the index that names it": Moment(owner=ObjectStore, function="_put_index", is_after=False),
    "between the index and the copy here": Moment(owner=ObjectStore, function="_put_index"),
    "before the objects of an old file are deleted": Moment(owner=ObjectStore, function="_remove", is_after=False),
    "while a machine brings what another one saved": Moment(owner=ObjectStore, function="_get_file"),
}
"""Those of a storage in an object store."""
