"""How a notebook begins: where its storage is, here and on Colab, and the four lines that say so."""

import types
from pathlib import Path

import pytest
import torch

from helpers.config import ExecutionConfig
from helpers.device import choose_device
from helpers.notebook import setup
from helpers.notebook.setup import open_storage
from helpers.notebook.start import has_front_end, start_report
from helpers.studies import find_preset
from tests import colab as fake_colab
from tests.simulated_results import flat_curves, write_run


@pytest.fixture
def colab(monkeypatch, tmp_path):
    return fake_colab.install(monkeypatch, tmp_path)


@pytest.fixture
def preset():
    return find_preset("ergodic", "smoke")


def test_elsewhere_the_storage_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("", interactive=True).root == tmp_path / "outputs"
    assert open_storage(str(tmp_path / "other"), interactive=False).root == tmp_path / "other"


def test_colab_mounts_drive_and_keeps_scratch_local(colab, preset, tmp_path):
    storage = open_storage("", interactive=True)
    assert storage.root == tmp_path / "drive/MyDrive/ergodic-scaling"
    assert storage.scratch == tmp_path / "scratch"
    assert colab.mounts == [str(tmp_path / "drive")]
    assert "which survives a disconnect" in start_report(preset, storage)


def test_colab_without_drive_goes_on_locally_and_says_so(colab, preset, tmp_path):
    colab.fails, lines = ValueError("mount failed"), []
    storage = open_storage("", interactive=True, report=lines.append)
    assert storage.root == tmp_path / "outputs"
    assert len(lines) == 1 and "mount failed" in lines[0]
    assert "which does not survive a disconnect" in start_report(preset, storage)


def test_colab_never_mounts_for_a_program(colab, tmp_path):
    assert open_storage("", interactive=False).root == tmp_path / "outputs"
    with pytest.raises(ValueError, match="not mounted"):
        open_storage(str(tmp_path / "drive/MyDrive/mine"), interactive=False)
    assert colab.mounts == []


def test_start_report_has_four_lines(preset, storage):
    write_run(storage, preset.at(k=2, seed=0), flat_curves({"c1": 3.0}))
    lines = start_report(preset, storage).splitlines()
    assert [line.split(":")[0] for line in lines] == ["device", "precision", "results", "done"]
    assert lines[-1] == "done: 1 of the 5 runs of this preset"


def test_without_a_gpu_it_says_how_to_get_one_and_what_needs_none(preset, storage, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device, precision = start_report(preset, storage).splitlines()[:2]
    assert "demo" in device and "Change runtime type" in device
    assert precision.startswith("precision: fp32, because")


@pytest.mark.parametrize("capability, words", [((7, 5), "would only emulate bf16"), ((8, 0), "computes bf16 too")])
def test_with_a_gpu_it_names_it_and_says_why_the_precision(preset, storage, monkeypatch, capability, words):
    card = types.SimpleNamespace(name="A card", total_memory=15 * 2**30, major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "compute_90"])
    device, precision = start_report(preset, storage).splitlines()[:2]
    assert device == "device: A card, 15.0 GiB"
    assert precision.startswith("precision: fp16, as train.precision says") and words in precision


@pytest.mark.parametrize(
    "capability, built, fits",
    [
        ((6, 0), ["sm_70", "sm_75", "sm_80", "compute_90"], False),  # Kaggle's P100 on wheels of CUDA 12.8 and later
        ((6, 0), ["sm_50", "sm_60", "sm_70"], True),
        ((8, 9), ["sm_75", "sm_80", "sm_90a"], True),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((9, 4), ["gfx942"], True),  # AMD names its cards otherwise: nothing is known, and nothing refused
    ],
)
def test_a_card_that_torch_was_not_built_for_is_said_in_words(monkeypatch, capability, built, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla P100-PCIE-16GB")
    if fits:
        assert choose_device(ExecutionConfig()).type == "cuda"
    else:
        with pytest.raises(ValueError, match=r"no kernels for Tesla P100.* such as a T4, or execution\.device"):
            choose_device(ExecutionConfig())
    assert choose_device(ExecutionConfig(device="cpu")).type == "cpu"


def test_kaggle_keeps_results_in_its_output_folder_and_says_how(monkeypatch, preset, tmp_path):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr(setup, "KAGGLE", tmp_path / "working")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    storage = open_storage("", interactive=True)
    assert storage.root == tmp_path / "working/outputs"
    report = start_report(preset, storage)
    assert "Save Version" in report and "Settings, Accelerator, GPU T4 x2" in report


def test_before_the_papers_are_there_it_does_not_guess_what_is_done(storage, tmp_path):
    for split in ("train", "validation", "test"):
        (Path(tmp_path) / f"{split}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    preset = find_preset("ergodic", "known", source=str(tmp_path))
    assert start_report(preset, storage).splitlines()[-1].startswith("done: told once the token cache is there")


def test_a_program_has_no_front_end():
    assert has_front_end() is False
