"""Checkpoints and snapshots as files: published whole, verified when read, and without pickle anywhere.

A checkpoint is a folder `step_*/` with model.safetensors, optimizer.safetensors, state.json, extra.safetensors where a
study carries further tensors, and a manifest of their sizes and SHA-256: everything a run needs to go on. A snapshot is
one safetensors file of the weights, which carries the hash of its own tensors. Loading takes the newest checkpoint that
verifies; a damaged one is set aside and reported, and the one before is used.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from helpers.outbox import Outbox, pending_or_delivered
from helpers.seals import read_sealed, sealed
from helpers.storage import ASIDE, STEP, Storage, file_sha256, remove_leftovers

Tensors = dict[str, torch.Tensor]
_MODEL, _OPTIMIZER, _EXTRA, _STATE = "model.safetensors", "optimizer.safetensors", "extra.safetensors", "state.json"
_NEEDED = {_MODEL, _OPTIMIZER, _STATE}
_LAST = "last"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    step: int
    model: Tensors
    optimizer: Tensors
    """`<parameter>/<state>`, such as exp_avg, for each parameter that has been updated."""
    extra: Tensors = field(default_factory=dict)
    """What a study carries from step to step beside the weights."""
    state: dict[str, Any]
    """What is not a tensor: the running mean of the loss, the gradient scaler, the rows of metrics.jsonl."""


def save_checkpoint(outbox: Outbox, checkpoint: Checkpoint, keep: int) -> Path:
    """Send `checkpoint` to the storage, and once it is there delete all but the newest `keep` of its run."""
    storage, run_id = outbox.storage, outbox.run_id
    target = storage.checkpoint(run_id, checkpoint.step)
    outbox.put(target, lambda folder: _write_checkpoint(folder, run_id, checkpoint), supersedes=True)
    if not outbox.is_away:
        for old in storage.checkpoint_steps(run_id)[keep:]:
            storage.delete(storage.checkpoint(run_id, old))
    return target


def load_newest_checkpoint(storage: Storage, run_id: str, report: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None if there is none; `report` is told of each damaged one.

    RuntimeError if there are checkpoints and none can be read at present: to begin anew would waste what is safe.
    """
    remove_leftovers(storage.checkpoints(run_id))
    unreadable = []
    for step in storage.checkpoint_steps(run_id):
        folder = storage.checkpoint(run_id, step)
        try:
            fault = checkpoint_fault(folder, run_id)
            if fault is None:
                return _read_checkpoint(folder, step)
            folder.rename(folder.with_name(f"{ASIDE}{folder.name}"))
            if storage.store:
                storage.store.delete(folder)  # what was set aside here is what stays of it
            report(f"checkpoint {folder} is damaged ({fault}); it was set aside, and the one before it is used")
        except OSError as error:
            unreadable.append(f"{folder}: {error.strerror or error}")
    if unreadable:
        raise RuntimeError(
            f"the checkpoints of run {run_id} cannot be read now ({'; '.join(unreadable)}); nothing was changed. "
            "Run the same again when the storage is back"
        )
    return None


def load_checkpoint(storage: Storage, run_id: str, step: int) -> Checkpoint:
    """That of a step, which another process has chosen. ValueError if it is damaged."""
    folder = storage.checkpoint(run_id, step)
    if fault := checkpoint_fault(folder, run_id):
        raise ValueError(f"checkpoint {folder} is damaged ({fault}), but was whole a moment ago")
    return _read_checkpoint(folder, step)


def checkpoint_fault(folder: Path, run_id: str) -> str | None:
    """What is wrong with a checkpoint's files, by size and SHA-256, or None. OSError if they cannot be read."""
    try:
        manifest = read_sealed(folder / "manifest.json")
        if (manifest["run_id"], f"step_{manifest['step']:09d}") != (run_id, folder.name):
            return f"it is step {manifest['step']} of run {manifest['run_id']}"
        if not _NEEDED <= manifest["files"].keys() <= _NEEDED | {_EXTRA}:
            return "its manifest.json does not name the files of a checkpoint"
        for name, expected in manifest["files"].items():
            file = folder / name
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if file_sha256(file) != expected["sha256"]:
                return f"{name} does not have the SHA-256 of its manifest"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError):
        return "its manifest.json is not whole"
    return None


def delete_checkpoints(storage: Storage, run_id: str) -> None:
    """Free the space of a run that is done: its weights stay in its snapshots."""
    storage.delete(storage.checkpoints(run_id))


def save_snapshot(outbox: Outbox, step: int, model: Tensors, keep: int, *, is_last: bool) -> None:
    """Send the weights of a step to the storage, then delete all but the newest `keep` snapshots of the run.

    `is_last` marks the end of the run: its steps may be fewer than were planned.
    """
    metadata = {"run_id": outbox.run_id, "step": str(step), "weights_sha256": weights_sha256(model)}
    metadata |= {_LAST: "true"} if is_last else {}
    target = outbox.storage.snapshot(outbox.run_id, step)
    outbox.put(target, lambda path: save_file(model, path, metadata=metadata))
    if not outbox.is_away:
        thin_snapshots(outbox.storage, outbox.run_id, keep)


def save_best(outbox: Outbox, step: int, model: Tensors) -> None:
    """Send the weights of the step that its study calls the best of the run; they stay beside the snapshots."""
    metadata = {"run_id": outbox.run_id, "step": str(step), "weights_sha256": weights_sha256(model)}
    target = best_path(outbox.storage, outbox.run_id)
    outbox.put(target, lambda path: save_file(model, path, metadata=metadata))


def best_path(storage: Storage, run_id: str) -> Path:
    return storage.snapshot(run_id, 0).with_name("best.safetensors")


def read_best(storage: Storage, run_id: str) -> tuple[int, Tensors]:
    """Step and weights. ValueError if they are damaged or another run's, FileNotFoundError if there are none."""
    path = best_path(storage, run_id)
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"snapshot {path} is damaged ({error})") from error
    return step, read_snapshot(path, run_id, step)


def is_last_snapshot(path: Path) -> bool:
    """Whether a snapshot says that its run ended there; False for one that cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(_LAST) == "true"
    except (OSError, SafetensorError):
        return False


def thin_snapshots(storage: Storage, run_id: str, keep: int) -> None:
    """Delete all but the newest `keep` snapshots of a run."""
    for _, old in snapshots(storage, run_id)[:-keep]:
        storage.delete(old)


def load_snapshot(storage: Storage, run_id: str, step: int) -> Tensors:
    """The weights of a step. ValueError if the file is missing, damaged or another run's; OSError if unreadable."""
    path = pending_or_delivered(storage, run_id, storage.snapshot(run_id, step))
    try:
        return read_snapshot(path, run_id, step)
    except FileNotFoundError as error:
        retained = ", ".join(str(step) for step, _ in snapshots(storage, run_id)) or "none"
        raise ValueError(f"snapshot {path} is missing; retained steps: {retained}") from error


def read_snapshot(path: Path, run_id: str, step: int) -> Tensors:
    """The weights in `path`. ValueError if they are damaged or those of another run or step; OSError if unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"snapshot {path} is damaged ({error})") from error
    if (metadata.get("run_id"), metadata.get("step")) != (run_id, str(step)):
        raise ValueError(f"snapshot {path} belongs to step {metadata.get('step')} of run {metadata.get('run_id')}")
    if metadata.get("weights_sha256") != weights_sha256(tensors):
        raise ValueError(f"snapshot {path} is damaged: its tensors do not have the SHA-256 it names")
    return tensors


def snapshots(storage: Storage, run_id: str) -> list[tuple[int, Path]]:
    """Step and file of each retained snapshot, ascending."""
    folder = storage.snapshot(run_id, 0).parent
    names = ((STEP.fullmatch(file.stem), file) for file in folder.glob("step_*.safetensors"))
    return sorted((int(name[1]), file) for name, file in names if name)


def weights_sha256(tensors: Tensors) -> str:
    """SHA-256 over every tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.view(torch.uint8).numpy() if tensor.dim() else tensor.numpy().tobytes())
    return digest.hexdigest()


def _write_checkpoint(folder: Path, run_id: str, checkpoint: Checkpoint) -> None:
    folder.mkdir()
    save_file(checkpoint.model, folder / _MODEL)
    save_file(checkpoint.optimizer, folder / _OPTIMIZER)
    if checkpoint.extra:
        save_file(checkpoint.extra, folder / _EXTRA)
    (folder / _STATE).write_text(json.dumps(checkpoint.state), encoding="utf-8")
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(folder.iterdir())
    }
    manifest = sealed({"run_id": run_id, "step": checkpoint.step, "files": files})
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")


def _read_checkpoint(folder: Path, step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        model=load_file(folder / _MODEL),
        optimizer=load_file(folder / _OPTIMIZER),
        extra=load_file(folder / _EXTRA) if (folder / _EXTRA).exists() else {},
        state=json.loads((folder / _STATE).read_text(encoding="utf-8")),
    )
