"""Files name tensors by the project's own names, whatever the library calls them; older files are read."""

import dataclasses
import re

import pytest
import torch

from helpers.data.fetch_arxiv import ensure_cache
from helpers.evaluation.eval_xe import load_model
from helpers.model_config import GptConfig, PythiaConfig
from helpers.models.language_model import build_model, load_weights, weights_of
from helpers.models.neox import as_transformers
from helpers.models.pythia import Pythia
from helpers.runs.checkpoints import load_newest_checkpoint, load_snapshot, weights_sha256
from helpers.runs.result_file import read_result
from helpers.runs.verify import verify_storage
from helpers.storage import Storage
from helpers.training.train_single_k import TimeIsUp, train_single_k

# Of one layer, by hand.
TENSORS = {"embedding.weight", "head.weight", "final_norm.weight", "final_norm.bias"} | {
    f"layers.0.{part}.{kind}"
    for part in ("attention_norm", "mlp_norm", "attention.qkv", "attention.out", "mlp.up", "mlp.down")
    for kind in ("weight", "bias")
}


def test_every_tensor_has_a_name_of_ours():
    model = build_model(PythiaConfig(size="tiny"), 300, 0, seed=0)
    names = weights_of(model)
    assert {re.sub(r"layers\.\d+", "layers.0", name) for name in names} == TENSORS
    assert len(names) == len(model.state_dict())
    assert all(model.name_in_files(name) == name for name in names), "a name in files stays"


@pytest.mark.parametrize("head", ["embed_out.weight", "lm_head.weight"])
def test_files_of_both_versions_of_transformers_are_read(head):
    config = PythiaConfig(size="tiny")
    model = build_model(config, 300, 0, seed=0)
    theirs = as_transformers(config, 300, 0, weights_of(model)).state_dict()
    theirs = {re.sub("^(embed_out|lm_head).weight$", head, name): tensor for name, tensor in theirs.items()}
    assert head in theirs
    other = build_model(config, 300, 0, seed=1)
    load_weights(other, theirs)
    assert weights_sha256(weights_of(other)) == weights_sha256(weights_of(model))


def test_a_tensor_that_is_missing_or_unknown_is_an_error():
    for config in (PythiaConfig(size="tiny"), GptConfig(size="gpt-10k", max_context_tokens=32)):
        model = build_model(config, 300, 0, seed=0)
        weights = weights_of(model)
        name = sorted(weights)[0]
        with pytest.raises(RuntimeError, match="Missing"):
            load_weights(model, {key: value for key, value in weights.items() if key != name})
        with pytest.raises(RuntimeError, match="Unexpected"):
            load_weights(model, weights | {"other.weight": torch.zeros(1)})


def as_before(name: str) -> str:
    """What a file of an earlier version, under transformers 5.0, calls a tensor."""
    return re.sub("^head", "embed_out", name)


def test_a_run_that_began_under_older_names_goes_on_to_the_same_bits(tiny_config, tmp_path, monkeypatch):
    whole, cut = Storage.at(tmp_path / "whole"), Storage.at(tmp_path / "cut")
    expected = read_result(train_single_k(tiny_config, whole))
    stopped = dataclasses.replace(tiny_config.execution, max_minutes=1e-9, log_every_steps=1, snapshot_every_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(Pythia, "name_in_files", staticmethod(as_before))
        with pytest.raises(TimeIsUp):
            train_single_k(dataclasses.replace(tiny_config, execution=stopped), cut)
    checkpoint = load_newest_checkpoint(cut, tiny_config.run_id, print)
    assert "embed_out.weight" in checkpoint.model and "model.embed_out.weight/exp_avg" in checkpoint.optimizer

    result = read_result(train_single_k(tiny_config, cut))
    assert result.run["weights_sha256"] == expected.run["weights_sha256"]
    assert result.summaries == expected.summaries and result.rows == expected.rows

    old = load_snapshot(cut, tiny_config.run_id, checkpoint.step)
    assert "embed_out.weight" in old, "its hash, over the names it was written with, verifies"
    assert verify_storage(cut.root).damaged == []
    load_model(tiny_config, ensure_cache(tiny_config.data, cut), old)
