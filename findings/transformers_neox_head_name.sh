#!/bin/sh
# transformers 5.0.0 and 5.23.0: the output matrix of GPTNeoXForCausalLM has another name in the same major version.
#
# Expected: parameter names are what saved weights are found by, so they stay within a major version.
# Seen: 5.0.0 has `embed_out.weight`, 5.23.0 has `lm_head.weight`; all other names, shapes and the number of tensors are
# the same. load_state_dict of one version's tensors into the other's model raises "Missing key(s)", although
# from_pretrained, which renames, does not.
# Why it matters: a requirement such as transformers>=5.0 lets a training be resumed under the other version, where its
# own checkpoints (model and optimizer, by name) do not fit, and a hash over names and bytes of equal weights differs.
# Date: 2026-11-28.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PROGRAM'
import json

import transformers

config = transformers.GPTNeoXConfig(
    vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)
tensors = transformers.GPTNeoXForCausalLM(config).state_dict()
print(json.dumps({"version": transformers.__version__, "names": sorted(tensors)}))
PROGRAM
for version in 5.0.0 5.23.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet torch==2.13.0 transformers==$version
    "$folder/$version/bin/python" "$folder/program.py" > "$folder/$version.json" 2> "$folder/$version.log"
done
python3 - "$folder" <<'PROGRAM'
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
old, new = (json.loads((folder / f"{version}.json").read_text()) for version in ("5.0.0", "5.23.0"))
gone, come = sorted(set(old["names"]) - set(new["names"])), sorted(set(new["names"]) - set(old["names"]))
print(f"transformers {old['version']} alone has {gone}, {new['version']} alone has {come}")
sys.exit((gone, come) != (["embed_out.weight"], ["lm_head.weight"]) and print("this has changed") is None)
PROGRAM
