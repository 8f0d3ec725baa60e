#!/bin/sh
# papermill 2.7.0: a notebook whose kernel never started is saved with every cell marked "completed".
#
# Expected: a cell that did not run is "pending", as papermill itself marks all cells before the first one.
# Seen: when the kernel ends before it answers, execute_notebook raises, and the output notebook that it leaves behind
# has papermill.status "completed" for every cell, with no exception, no execution_count and no outputs.
# Why it matters: the output notebook is what a batch keeps. A reader, or a scheduler that looks for failed cells, finds
# a run that succeeded; only the missing execution counts tell it from one.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet papermill==2.7.0 nbclient==0.11.0 ipykernel
cat > "$folder/program.py" <<'PROGRAM'
import json
import os
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
spec = folder / "jupyter/kernels/silent/kernel.json"
spec.parent.mkdir(parents=True)
spec.write_text(json.dumps({"argv": [sys.executable, "-c", "pass"], "display_name": "silent", "language": "python"}))
os.environ["JUPYTER_PATH"] = str(folder / "jupyter")

import nbformat
import papermill
from nbformat.v4 import new_code_cell, new_notebook

spec = {"name": "silent", "display_name": "silent", "language": "python"}
notebook = new_notebook(cells=[new_code_cell("1 + 1"), new_code_cell("2 + 2")], metadata={"kernelspec": spec})
nbformat.write(notebook, folder / "in.ipynb")
try:
    papermill.execute_notebook(str(folder / "in.ipynb"), str(folder / "out.ipynb"), progress_bar=False)
except RuntimeError as error:
    print(f"raised: {type(error).__name__}")
cells = nbformat.read(folder / "out.ipynb", 4).cells
found = [(cell.metadata.papermill.status, cell.metadata.papermill.exception, cell.execution_count) for cell in cells]
print("papermill", papermill.__version__, found)
sys.exit(found != [("completed", None, None)] * 2)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" "$folder" 2> "$folder/log" || { cat "$folder/log"; echo "this has changed"; exit 1; }
