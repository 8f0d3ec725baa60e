#!/bin/sh
# torch 2.13.0: torchrun refuses an option that stands behind the program, if it begins like one of its own.
#
# Expected: what stands behind the program belongs to the program; torchrun's usage says "training_script_args ...".
# Seen: `torchrun program.py --run 7` ends with "ambiguous option: --run could match --run-path, --run_path", and
# nothing is started; `torchrun program.py --task 7` passes its option on. A `--` before the program mends it.
# Why it matters: a command that works under python breaks under torchrun, depending on the first letters of its
# options; and each release of torch that adds options of its own may break further ones.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$folder/program.py" <<'PROGRAM'
import sys

print("the program was told", sys.argv[1:])
PROGRAM
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
launch() {
    "$folder/venv/bin/torchrun" --standalone --nproc_per_node 1 "$@" 2>&1 | grep -E "was told|ambiguous" || echo "nothing"
}
refused=$(launch "$folder/program.py" --run 7)
passed=$(launch "$folder/program.py" --task 7)
behind=$(launch -- "$folder/program.py" --run 7)
printf 'program.py --run 7:     %s\nprogram.py --task 7:    %s\n-- program.py --run 7:  %s\n' "$refused" "$passed" "$behind"
case "$refused" in *ambiguous*) ;; *) echo "this has changed"; exit 1 ;; esac
case "$passed$behind" in *--task*--run*) ;; *) echo "this has changed"; exit 1 ;; esac
