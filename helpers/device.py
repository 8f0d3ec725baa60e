"""The device and the precision that a run computes on, told from its settings and the machine."""

import torch

from helpers.config import ExecutionConfig, TrainConfig


def choose_device(execution: ExecutionConfig) -> torch.device:
    """ValueError for a GPU that torch does not see, or that it was not built for."""
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("execution.device = 'cuda', but torch sees no GPU; use execution.device=auto or cpu")
    if execution.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    _require_kernels(execution)
    return torch.device("cuda")


def _require_kernels(execution: ExecutionConfig) -> None:
    """ValueError for a card that torch sees and has no kernels for, such as Kaggle's P100: its first operation would
    fail. Kernels of sm_75 run on cards of 7.5 to 7.9, those of compute_75 are compiled for all later ones."""
    have, built = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    versions = [(name.partition("_")[0], divmod(int(name.partition("_")[2].rstrip("af")), 10))
                for name in built if name.startswith(("sm_", "compute_"))]  # fmt: skip
    fits = [have >= version and (kind == "compute" or have[0] == version[0]) for kind, version in versions]
    if versions and not any(fits):
        least = min(version for _, version in versions)
        raise ValueError(
            f"execution.device = {execution.device!r}, but torch {torch.__version__} has no kernels for "
            f"{torch.cuda.get_device_name()}: it is of compute capability {have[0]}.{have[1]}, and they begin at "
            f"{least[0]}.{least[1]}. Choose another accelerator, such as a T4, or execution.device=cpu"
        )


def choose_precision(train: TrainConfig, device: torch.device) -> tuple[str, str | None]:
    """The precision to train in, and why it is not the configured one (None if it is).

    ValueError for bf16 on a card that only emulates it (`torch.cuda.is_bf16_supported` counts emulation).
    """
    wanted = train.precision
    if device.type == "cpu" and wanted != "bf16":
        reason = f"train.precision = {wanted} is for GPUs: this CPU trains in fp32"
        return "fp32", reason if wanted != "fp32" else None
    if wanted == "bf16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"train.precision = 'bf16', but {name} computes bf16 only by emulation; use fp16 or fp32")
    return wanted, None
