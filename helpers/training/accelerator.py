"""What a run computes with: an Accelerator, and how many windows at once."""

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers

from helpers.config import RunConfig
from helpers.environment import hidden_settings
from helpers.models.window_model import WindowModel
from helpers.storage import Storage
from helpers.training.together import num_processes

CPU_MICRO_BATCH = 32  # windows; larger ones leave the caches of a CPU and are no faster
_MEMORY_SHARE = 0.9  # of the card; the rest is for fragmentation and what else lives there


def make_accelerator(config: RunConfig, storage: Storage, device: torch.device, precision: str) -> Accelerator:
    """An Accelerator for one run, of settings that only its config gives. ValueError for a tracker that is not
    installed."""
    available = [str(tracker) for tracker in get_available_trackers()]
    missing = [tracker for tracker in config.execution.trackers if tracker not in available]
    if missing:
        raise ValueError(f"execution.trackers names {missing[0]!r}, which is not installed; there are {available}")
    # One process may train several runs after each other; Accelerate keeps the first one's settings unless reset.
    AcceleratorState._reset_state(reset_partial_state=True)
    with hidden_settings():
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            log_with=list(config.execution.trackers) or None,
            project_dir=str(storage.tensorboard(config.run_id).parent),
        )


def choose_micro_batch(config: RunConfig, accelerator: Accelerator, model: WindowModel) -> int:
    """Windows computed at once: as configured, else all of the process's share of the batch, on a GPU halved until a
    step fits the card."""
    share = -(-config.train.batch_size // num_processes())
    micro_batch = config.execution.micro_batch or share
    if config.execution.micro_batch or accelerator.device.type == "cpu":
        limit = micro_batch if config.execution.micro_batch else CPU_MICRO_BATCH
        return min(limit, share)
    while not _fits(accelerator, model, micro_batch, config.data.window_tokens):
        if micro_batch == 1:
            raise ValueError(f"model.size = {config.model.size!r} does not fit this GPU; use a smaller size")
        micro_batch = -(-micro_batch // 2)
    return micro_batch


def memory_bytes(device: torch.device) -> int:
    """Peak allocated GPU memory, or the resident memory of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _fits(accelerator: Accelerator, model: WindowModel, windows: int, window_tokens: int) -> bool:
    """Whether forward and backward of so many windows, and AdamW's two states, fit the GPU."""
    device = accelerator.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        tokens_BT = torch.zeros(windows, window_tokens, dtype=torch.long, device=device)
        with accelerator.autocast():
            loss = model(tokens_BT)
        accelerator.backward(loss / tokens_BT.numel())
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
    states_bytes = sum(2 * 4 * parameter.numel() for parameter in model.parameters())
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_reserved(device) + states_bytes <= _MEMORY_SHARE * total_bytes
