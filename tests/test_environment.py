"""What is left over in the environment changes no number, makes nothing wait, and is recorded."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from helpers.environment import hidden_settings, recorded_environment
from helpers.processes import Place, own_place
from helpers.repository import ROOT
from helpers.runs.result_file import read_result
from helpers.runs.sessions import changes, sessions
from helpers.storage import Storage
from helpers.training.accelerator import make_accelerator
from helpers.training.train_single_k import train_single_k

SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_USE_FSDP": "true",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
    "WORLD_SIZE": "1",
}


def test_settings_of_accelerate_and_of_launchers_change_no_number(tiny_config, storage, tmp_path, monkeypatch):
    plain = read_result(train_single_k(tiny_config, storage))
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    other = Storage.at(tmp_path / "other")
    result = read_result(train_single_k(tiny_config, other))
    assert result.run["weights_sha256"] == plain.run["weights_sha256"]
    assert result.summaries == plain.summaries
    (session,) = sessions(result.run["provenance"])
    assert session["environment"].items() >= SETTINGS.items()
    assert os.environ["LOCAL_RANK"] == "0", "what is hidden from Accelerate stays for others"


def test_an_accelerator_accumulates_nothing_and_compiles_nothing(tiny_config, storage, monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    accelerator = make_accelerator(tiny_config, storage, torch.device("cpu"), "fp32")
    assert accelerator.gradient_accumulation_steps == 1 and accelerator.num_processes == 1
    assert accelerator.mixed_precision == "no" and accelerator.distributed_type.value == "NO"
    assert accelerator.state.dynamo_plugin.backend.value == "NO"


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_a_launcher_s_size_is_refused_within_seconds(name, tmp_path):
    command = ["-m", "helpers", "train", "--preset", "smoke", "--only", "k=1", "--storage", str(tmp_path)]
    began, environment = time.monotonic(), os.environ | {name: "2"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert f"{name} = '2' is in the environment" in ended.stderr and f"unset {name}" in ended.stderr
    assert time.monotonic() - began < 60 and not (tmp_path / "cache").exists()


def test_one_process_is_what_runs_train_in(monkeypatch):
    for value in ("1", " 1 ", ""):
        monkeypatch.setenv("WORLD_SIZE", value)
        assert own_place() == Place(rank=0, count=1)


def test_hidden_variables_come_back_after_an_error_too(monkeypatch):
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(KeyError), hidden_settings():
        assert "FSDP_VERSION" not in os.environ
        raise KeyError
    assert os.environ["FSDP_VERSION"] == "2"


def test_secrets_are_not_recorded(monkeypatch):
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in json.dumps(recorded_environment())


def session(step: int, **facts) -> dict:
    return {
        "from_step": step,
        "device": "T4",
        "precision": "fp16",
        "packages": {"torch": "2.6", "numpy": "2.0"},
    } | facts


def test_changes_between_sessions_are_told_with_their_steps():
    assert changes({"sessions": [session(0), session(50), session(70)]}) == []
    assert changes({"device": "T4", "precision": "fp16"}) == [], "a record from before sessions were told apart"
    told = [session(0, micro_batch=2), session(50, micro_batch=16), session(70, micro_batch=2, device="L4")]
    assert changes({"sessions": told}) == [
        "device: T4, from step 70: L4",
        "micro_batch: 2, from step 50: 16, from step 70: 2",
    ]
    newer = session(50, packages={"torch": "2.6", "numpy": "2.1"})
    assert changes({"sessions": [session(0), newer]}) == ["packages: numpy 2.0, from step 50: numpy 2.1"]
