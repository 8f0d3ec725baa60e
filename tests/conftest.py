"""What all tests share: no network, a storage that ends with the test, a run of seconds."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # models of a few thousand weights, in as many processes as there are cores
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # read at import

import dataclasses

import pytest

from helpers.analysis.figures import STYLE
from helpers.config import RunConfig, SyntheticConfig
from helpers.environment import leave_out_address_parsers, quiet_libraries
from helpers.storage import Storage
from helpers.studies import find_preset

quiet_libraries()
leave_out_address_parsers()
STYLE["savefig.dpi"] = 60  # a figure is drawn as always, and encoded in a third of the time


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path / "storage")


@pytest.fixture
def tiny_config() -> RunConfig:
    """K = 2 of three small processes, five steps of eight windows."""
    smoke = find_preset("ergodic", "smoke", overrides=["train.steps=5", "train.warmup_steps=1", "train.batch_size=8"])
    processes = SyntheticConfig(num_components=3, papers_per_component=4, paper_tokens=300)
    data = dataclasses.replace(smoke.config.data, synthetic=processes)
    return dataclasses.replace(smoke.at(k=2, seed=0), data=data)
