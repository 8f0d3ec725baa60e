"""What libraries read from the environment: what is fixed here, what is hidden from them, and recorded."""

import contextlib
import os
import sys
from collections.abc import Iterator

from helpers.processes import PROCESSES

_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error", "DATASETS_VERBOSITY": "error", "ACCELERATE_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "true",
}  # fmt: skip
_LAUNCHERS = (
    *PROCESSES, "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT",
    "NODE_RANK", "CROSS_RANK", "PMI_", "OMPI_COMM_", "MV2_COMM_", "MPI_LOCAL", "TORCHELASTIC_",
)  # fmt: skip
_ACCELERATE = (
    "ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "MEGATRON_LM_", "DEEPSPEED_", "FP8_", "TORCH_TP_", "XLA_",
    "FORK_LAUNCHED",
)  # fmt: skip
_NUMBERS = (
    "ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "GOTO_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTORCH_",
    "PYTHONHASHSEED", "RAYON_NUM_THREADS", "TORCH",
)  # fmt: skip
"""What may change speed, rounding or the kernels that are chosen. None of them holds a secret."""


def quiet_libraries() -> None:
    """Keep libraries from printing on success; a level that the user has set stays. Call before they are imported."""
    for name, level in _QUIET.items():
        os.environ.setdefault(name, level)


def leave_out_address_parsers() -> None:
    """Where rfc3987-syntax is installed, jsonschema and with it nbformat would build its parsers at import, for seconds
    and for a check that no notebook asks for. Call before they are imported."""
    sys.modules.setdefault("rfc3987_syntax", None)


@contextlib.contextmanager
def hidden_settings() -> Iterator[None]:
    """Nothing that Accelerate would take from the environment is there: gradients accumulated, another precision, a
    compiler, a plugin or a process group would change the numbers of a run whose name does not say so."""
    hidden = {name: os.environ.pop(name) for name in _set(_ACCELERATE + _LAUNCHERS) if name not in _QUIET}
    try:
        yield
    finally:
        os.environ.update(hidden)


def recorded_environment() -> dict[str, str]:
    """The variables that are set and that libraries take settings of numbers from, whether hidden here or not."""
    names = [name for name in _set(_ACCELERATE + _LAUNCHERS + _NUMBERS) if name not in _QUIET]
    return {name: os.environ[name] for name in sorted(names)}


def _set(prefixes: tuple[str, ...]) -> list[str]:
    return [name for name in os.environ if name.startswith(prefixes)]
