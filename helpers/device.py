"""The device and the precision that a run computes on, told from its settings and the machine."""

import torch

from helpers.config import ExecutionConfig, TrainConfig


def choose_device(execution: ExecutionConfig) -> torch.device:
    """ValueError for a GPU that torch does not see."""
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("execution.device = 'cuda', but torch sees no GPU; use execution.device=auto or cpu")
    return torch.device("cuda" if execution.device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(train: TrainConfig, device: torch.device) -> tuple[str, str | None]:
    """The precision to train in, and why it is not the configured one (None if it is).

    ValueError for bf16 on a card that only emulates it (`torch.cuda.is_bf16_supported` counts emulation).
    """
    wanted = train.precision
    if device.type == "cpu":
        reason = f"train.precision = {wanted} is for GPUs: this CPU trains in fp32"
        return "fp32", reason if wanted != "fp32" else None
    if wanted == "bf16" and torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"train.precision = 'bf16', but {name} computes bf16 only by emulation; use fp16 or fp32")
    return wanted, None
