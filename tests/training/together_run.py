"""What each process of a launch does in the tests of several processes: runs after each other, in given folders.

    torchrun --standalone --nproc_per_node 2 -m tests.training.together_run FOLDER

`whole` is trained from the beginning, `begun` stops at its first log, and `left` is gone on with.
"""

import contextlib
import sys
from pathlib import Path

import torch

from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.train_single_k import TimeIsUp, train_single_k
from tests.small_run import CONFIG as WITH_DROPOUT

# Batches of 10 windows and a last one of 2: shares of four processes are unequal, and there some are empty.
SETTINGS = ("train.batch_size=10", "train.steps=none", "train.tokens=19_140", "train.warmup_steps=2")
CONFIG = apply_overrides(WITH_DROPOUT, (*SETTINGS, "model.dropout=0"))
DROPPED = apply_overrides(WITH_DROPOUT, SETTINGS)
STOPPED = ("execution.max_minutes=0",)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for config, name in ((CONFIG, "whole"), (CONFIG, "begun"), (CONFIG, "left"), (DROPPED, "dropped")):
        with contextlib.suppress(TimeIsUp):
            own = apply_overrides(config, STOPPED) if name == "begun" else config
            train_single_k(own, Storage.at(folder / name), ())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
