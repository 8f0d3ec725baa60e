"""The processes of one run: which of them this is, by its launcher's variables, and that it ends with its parent."""

import os
import sys
from dataclasses import dataclass

from helpers.parents import die_with_parent

PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many processes a launcher started: torchrun, MPICH and Intel's MPI, Open MPI, MVAPICH."""
_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Of this process among those of its run; the first writes, the others only compute."""

    rank: int = 0
    local_rank: int = 0
    """Among those of this machine: which of its GPUs is this one's."""
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def own_place() -> Place:
    """What torchrun, or `accelerate launch` on GPUs, says. ValueError for another launcher, and for variables that one
    has left over: who believed them would wait for the others for ever."""
    several = {name: value for name in PROCESSES if (value := (os.environ.get(name) or "1").strip()) != "1"}
    if not several:
        return Place()
    missing = [name for name in _TORCHRUN if not os.environ.get(name)]
    if missing or list(several) != ["WORLD_SIZE"]:
        name, value = next(iter(several.items()))
        raise ValueError(
            f"{name} = {value!r} is in the environment, as a launcher of several processes sets it, but not by "
            "torchrun: start with `torchrun --nproc_per_node N -m helpers train`, or take the variable away "
            f"(unset {name})"
        )
    rank, local_rank, count = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return Place(rank=rank, local_rank=local_rank, count=count)


def require_one_process(what: str) -> None:
    """ValueError where several processes were launched for what one does."""
    count = own_place().count
    if count > 1:
        raise ValueError(f"{count} processes were launched, but {what}; start it without a launcher")


if __name__ == "__main__":  # PARENT MODULE ARGUMENTS: what is started so ends with its parent, whatever it is
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
