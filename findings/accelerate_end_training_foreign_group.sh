#!/bin/sh
# accelerate 1.15.0 with torch 2.13.0: Accelerator.end_training() destroys a process group that it did not make.
#
# Expected: an Accelerator that was made in one process, without a launcher, knows of no group: num_processes is 1 and
# the state says "no distribution". Its end_training() "finishes any open trackers", and leaves to a program the
# process group that the program makes itself afterwards.
# Seen: the group is gone after the call, though the Accelerator still says that it is one process of one.
# Why it matters: a training loop that sums gradients over its own group and calls end_training() to close a tracker
# cannot evaluate or synchronise any more afterwards; the error, far from the call, speaks of a group that "has not been
# initialized".
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy accelerate==1.15.0
cat > "$folder/program.py" <<'PROGRAM'
import sys
import tempfile

import accelerate
import torch
import torch.distributed as dist

print("accelerate", accelerate.__version__, "torch", torch.__version__)
accelerator = accelerate.Accelerator(cpu=True)
print("before:", accelerator.num_processes, accelerator.distributed_type)
with tempfile.TemporaryDirectory() as folder:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
    accelerator.end_training()
    print("after:", accelerator.num_processes, accelerator.distributed_type, "group there:", dist.is_initialized())
sys.exit(dist.is_initialized())
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" 2> "$folder/words" || { cat "$folder/words"; echo "this has changed"; exit 1; }
