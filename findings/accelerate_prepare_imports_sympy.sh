#!/bin/sh
# accelerate 1.15.0 (torch 2.13.0): Accelerator.prepare of a model, on one CPU process, imports sympy and DTensor.
#
# Expected: without several processes, a compiler or mixed precision there is nothing to prepare: the same model comes
# back, and nothing is loaded for it.
# Seen: the same model does come back, but whether it has distributed tensors is asked by importing
# torch.distributed.tensor, which brings sympy and over 400 modules. It takes a large part of the time of `import torch`.
# Forward under `accelerator.autocast()`, of a model that was not prepared, computes the same without.
# Why it matters: a process a run, as a notebook kernel of a grid is, pays it each time, beside a run of seconds.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 accelerate==1.15.0
cat > "$folder/program.py" <<'PROGRAM'
import sys
import time

import accelerate
import torch

accelerator = accelerate.Accelerator(cpu=True)
model = torch.nn.Linear(2, 2)
is_there, num_before, began = "torch.distributed.tensor" in sys.modules, len(sys.modules), time.process_time()
prepared = accelerator.prepare(model)
took = time.process_time() - began
print("torch", torch.__version__, "accelerate", accelerate.__version__)
print("before: torch.distributed.tensor loaded:", is_there)
print(f"prepare of a 2 by 2 layer: {took:.2f} s, {len(sys.modules) - num_before} modules more, the same model:", end=" ")
print(prepared is model)
sys.exit(is_there or "torch.distributed.tensor" not in sys.modules or prepared is not model)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" 2> "$folder/words" || { cat "$folder/words"; echo "this has changed"; exit 1; }
