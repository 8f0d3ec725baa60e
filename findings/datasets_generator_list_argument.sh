#!/bin/sh
# datasets 5.2.0: Dataset.from_generator calls the generator once for every item of a list among its arguments.
#
# Expected: gen_kwargs are the generator's arguments. The documentation speaks of shards only together with num_proc
# above 1, so a call without num_proc should pass a list on whole.
# Seen: without num_proc the generator is called three times, each time with a list of one item. With a tuple it is
# called once. The rows are the same only as long as the generator carries nothing from one item to the next.
# Why it matters: a generator that stops after so many rows of each label, or that checks at its end that there was any
# row at all, does so once for each file instead of once for the split: more rows than were asked for, without an error.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0
cat > "$folder/program.py" <<'PROGRAM'
import sys
import tempfile

import datasets

calls = []


def first_two_rows(files):
    """At most two rows of all files together."""
    calls.append(files)
    taken = 0
    for file in files:
        for row in range(3):
            if taken < 2:
                taken += 1
                yield {"file": file, "row": row}


def rows_of(kind):
    calls.clear()
    with tempfile.TemporaryDirectory() as cache:
        made = datasets.Dataset.from_generator(first_two_rows, cache_dir=cache, gen_kwargs={"files": kind("abc")})
        return len(made), len(calls)


print("datasets", datasets.__version__)
with_list, with_tuple = rows_of(list), rows_of(tuple)
print(f"list:  {with_list[0]} rows from {with_list[1]} calls")
print(f"tuple: {with_tuple[0]} rows from {with_tuple[1]} calls")
sys.exit((with_list, with_tuple) != ((6, 3), (2, 1)))
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" 2> "$folder/bars" || { cat "$folder/bars"; echo "this has changed"; exit 1; }
