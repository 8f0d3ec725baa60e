"""Checkpoints and snapshots as files: published whole, verified when read, and without pickle anywhere.

A checkpoint is a folder `step_*/` with model.safetensors, optimizer.safetensors, state.json and a manifest of their
sizes and SHA-256; everything a run needs to go on. A snapshot is one safetensors file of the weights, which carries
the hash of its own tensors. Loading takes the newest checkpoint that verifies; a damaged one is reported, and the one
before is used.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from helpers.storage import Storage, file_sha256, publish, publish_folder, remove_leftovers

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    step: int
    model: Tensors
    optimizer: Tensors
    """`<parameter>/<state>`: exp_avg, exp_avg_sq and step of each parameter."""
    state: dict[str, Any]
    """What is not a tensor: the running mean of the loss, the gradient scaler."""


def save_checkpoint(storage: Storage, run_id: str, checkpoint: Checkpoint, keep: int) -> Path:
    """Publish `checkpoint`, then delete all but the newest `keep` of its run."""
    folder = storage.checkpoint(run_id, checkpoint.step)
    if not folder.exists():
        with publish_folder(folder) as temporary:
            save_file(checkpoint.model, temporary / "model.safetensors")
            save_file(checkpoint.optimizer, temporary / "optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps(checkpoint.state))
            _write_manifest(temporary, run_id, checkpoint.step)
    for old in storage.checkpoint_steps(run_id)[keep:]:
        shutil.rmtree(storage.checkpoint(run_id, old), ignore_errors=True)
    return folder


def load_newest_checkpoint(storage: Storage, run_id: str, report: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None; `report` is told of each damaged one, which is set aside."""
    remove_leftovers(storage.checkpoints(run_id))
    for step in storage.checkpoint_steps(run_id):
        folder = storage.checkpoint(run_id, step)
        fault = checkpoint_fault(folder, run_id)
        if fault is None:
            return Checkpoint(
                step=step,
                model=load_file(folder / "model.safetensors"),
                optimizer=load_file(folder / "optimizer.safetensors"),
                state=json.loads((folder / "state.json").read_text()),
            )
        report(f"checkpoint {folder} is damaged ({fault}); it was deleted, and the one before it is used")
        shutil.rmtree(folder, ignore_errors=True)
    return None


def checkpoint_fault(folder: Path, run_id: str) -> str | None:
    """What is wrong with a checkpoint's files, by size and SHA-256, or None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["run_id"] != run_id:
            return f"it belongs to run {manifest['run_id']}"
        for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
            file, expected = folder / name, manifest["files"][name]
            if file.stat().st_size != expected["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
            if file_sha256(file) != expected["sha256"]:
                return f"{name} does not have the SHA-256 of its manifest"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def delete_checkpoints(storage: Storage, run_id: str) -> None:
    """Free the space of a run that is done: its weights stay in its snapshots."""
    shutil.rmtree(storage.checkpoints(run_id), ignore_errors=True)


def save_snapshot(storage: Storage, run_id: str, step: int, model: Tensors, keep: int) -> Path:
    """Publish the weights of a step, then delete all but the newest `keep` snapshots of the run."""
    path = storage.snapshot(run_id, step)
    metadata = {"run_id": run_id, "step": str(step), "weights_sha256": weights_sha256(model)}
    publish(path, lambda temporary: save_file(model, temporary, metadata=metadata))
    for _, old in snapshots(storage, run_id)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_snapshot(storage: Storage, run_id: str, step: int) -> Tensors:
    """The weights of a step. ValueError if the file is missing, damaged or another run's."""
    path = storage.snapshot(run_id, step)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        retained = ", ".join(str(step) for step, _ in snapshots(storage, run_id)) or "none"
        raise ValueError(f"snapshot {path} cannot be read ({error}); retained steps: {retained}") from error
    if (metadata.get("run_id"), metadata.get("step")) != (run_id, str(step)):
        raise ValueError(f"snapshot {path} belongs to step {metadata.get('step')} of run {metadata.get('run_id')}")
    if metadata.get("weights_sha256") != weights_sha256(tensors):
        raise ValueError(f"snapshot {path} is damaged: its tensors do not have the SHA-256 it names")
    return tensors


def snapshots(storage: Storage, run_id: str) -> list[tuple[int, Path]]:
    """Step and file of each retained snapshot, ascending."""
    folder = storage.snapshot(run_id, 0).parent
    return sorted((int(file.stem.removeprefix("step_")), file) for file in folder.glob("step_*.safetensors"))


def weights_sha256(tensors: Tensors) -> str:
    """SHA-256 over every tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.view(torch.uint8).numpy() if tensor.dim() else tensor.numpy().tobytes())
    return digest.hexdigest()


def _write_manifest(folder: Path, run_id: str, step: int) -> None:
    files = {file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)} for file in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"run_id": run_id, "step": step, "files": files}, indent=1))
