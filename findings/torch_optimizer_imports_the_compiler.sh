#!/bin/sh
# torch 2.13.0: the first optimizer of a process imports torch._dynamo, the front of the compiler.
#
# Expected: a program that never compiles anything does not load the compiler. `import torch` leaves it out for that
# reason, and an SGD of one parameter is a few lines.
# Seen: torch.optim.Optimizer.add_param_group, zero_grad and state_dict are marked as not to be compiled; the mark
# imports torch._dynamo on the first call, over 700 modules of torch and sympy, for as long again as `import torch` took.
# Why it matters: a process a run, as a notebook kernel of a grid is, pays it each time: seconds of a processor beside
# a run of seconds, and it looks like the cost of the optimizer.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$folder/program.py" <<'PROGRAM'
import sys
import time

began = time.process_time()
import torch

loaded, num_before = time.process_time(), len(sys.modules)
is_there = "torch._dynamo" in sys.modules
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
made, num_after = time.process_time(), len(sys.modules)
print("torch", torch.__version__)
print(f"import torch: {loaded - began:.2f} s, torch._dynamo loaded: {is_there}")
print(f"one SGD of one number: {made - loaded:.2f} s, {num_after - num_before} modules more,", end=" ")
print("torch._dynamo loaded:", "torch._dynamo" in sys.modules)
sys.exit(is_there or "torch._dynamo" not in sys.modules)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" 2> "$folder/words" || { cat "$folder/words"; echo "this has changed"; exit 1; }
