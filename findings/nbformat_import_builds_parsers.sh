#!/bin/sh
# nbformat 5.10.4 with jsonschema 4.26.0 and rfc3987-syntax 1.1.0: importing nbformat takes seconds of a processor.
#
# Expected: the import of a package that reads and writes notebooks, which are JSON, takes a fraction of a second, and
# takes the same where more packages are installed.
# Seen: jsonschema's extra format-nongpl, which jupyter-events and with it every Jupyter server installs, brings
# rfc3987-syntax; jsonschema imports it if it is there, and at import it builds one parser for each of 38 rules of a
# grammar of addresses. nbformat asks for none of these checks. The import takes over five times as long as without.
# Why it matters: papermill, nbclient and nbconvert import nbformat, so that each process that executes one notebook of
# a grid pays for it: seconds a notebook, on the environments in which people have notebooks.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nbformat==5.10.4 "jsonschema[format-nongpl]==4.26.0" rfc3987-syntax==1.1.0 lark==1.3.1
cat > "$folder/program.py" <<'PROGRAM'
import importlib.metadata
import subprocess
import sys

print({name: importlib.metadata.version(name) for name in ("nbformat", "jsonschema", "rfc3987-syntax", "lark")})
TIMED = "import sys, time; {}; began = time.process_time(); import nbformat; print(time.process_time() - began)"


def seconds(before):
    """Of a processor, the least of three imports, each in a fresh interpreter."""
    program = [sys.executable, "-c", TIMED.format(before)]
    return min(float(subprocess.run(program, capture_output=True, text=True, check=True).stdout) for _ in range(3))


with_it, without = seconds("pass"), seconds("sys.modules['rfc3987_syntax'] = None")
print(f"import nbformat: {with_it:.2f} s with rfc3987-syntax, {without:.2f} s without")
sys.exit(with_it < 5 * without)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" || { echo "this has changed"; exit 1; }
