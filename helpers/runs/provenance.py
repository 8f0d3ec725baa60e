"""Where a session's numbers come from: versions, revision, machine, environment. Recorded, never hashed."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from helpers.environment import recorded_environment

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "pyarrow", "safetensors")


def provenance(device: torch.device) -> dict[str, Any]:
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "environment": recorded_environment(),
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def git_revision() -> str | None:
    """The commit of the code, with `+changes` if the working tree differs from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
