"""`verify` as a command: exit codes, one line a damaged file, and folders that hold what is not ours."""

import os
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.data.cache_id import cache_id
from helpers.runs.result_file import Result, read_result, write_result
from helpers.runs.verify import verify_storage
from helpers.storage import Storage
from tests.training.test_faults import BEGUN, CONFIG, DONE, begin, tree


def verify(root: Path, capsys: pytest.CaptureFixture) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = main(["verify", "--storage", str(root)])
    return code, capsys.readouterr().out.splitlines()


def test_a_whole_storage_ends_with_0(storage: Storage, capsys: pytest.CaptureFixture) -> None:
    begin(storage, DONE)
    # Marker; manifest, index, three parts, two unpacked splits; result; config, provenance, metrics, two snapshots.
    assert verify(storage.root, capsys) == (0, ["14 files and checkpoints checked: all whole"])


def test_each_damage_is_one_line_that_names_the_file_and_the_way_on(
    storage: Storage, capsys: pytest.CaptureFixture
) -> None:
    begin(storage, BEGUN)
    part = storage.cache(cache_id(CONFIG.data)) / "train/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    checkpoint = storage.checkpoint(CONFIG.run_id, 6)
    (checkpoint / "model.safetensors").unlink()
    config = storage.run(CONFIG.run_id) / "config.json"
    config.write_text("{}")
    (storage.root / ".ergodic-storage").write_text("")
    before = tree(storage.root)
    code, lines = verify(storage.root, capsys)
    assert code == 1 and len(lines) == 5 and lines[-1].endswith("checked: 4 damaged")
    for line, path, fault, remedy in zip(
        lines,
        [storage.root, part, config, checkpoint],
        ["has lost its marker", "bytes instead of", "is not a whole JSON file", "model.safetensors is missing"],
        ["run the same again", "fetch or run again", "run the same again", "the checkpoint before it"],
        strict=False,
    ):
        assert line.startswith(str(path)) and fault in line and remedy in line
    assert tree(storage.root) == before


def test_an_empty_storage_has_nothing_damaged_and_no_folder_is_wrong_usage(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert verify(storage.root, capsys) == (0, ["1 files and checkpoints checked: all whole"])
    assert main(["verify", "--storage", str(tmp_path / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_is_not_ours_is_passed_over(storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    begin(storage, BEGUN)
    run = storage.run(CONFIG.run_id)
    for file in (
        "cache/notes.txt", "runs/notes.txt", "runs/.DS_Store", "results/notes.txt", "results/.partial-1-x.jsonl",
        f"runs/{run.name}/checkpoints/step_6", f"runs/{run.name}/checkpoints/.partial-1-step_000000009/state.json",
        f"runs/{run.name}/checkpoints/step_000000006 (1)/state.json", f"runs/{run.name}/snapshots/step_x.safetensors",
        f"runs/{run.name}/snapshots/step_000000006 (1).safetensors", "cache/copy of a cache (1)/manifest.json",
        "runs/copy of a run (1)/config.json", "desktop.ini", "scratch/tokens/other/train/tokens.bin",
    ):  # fmt: skip
        (storage.root / file).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / file).write_bytes(b"\x80\x04junk")
    code, lines = verify(storage.root, capsys)
    assert (code, len(lines)) == (0, 1)


@pytest.mark.parametrize(
    "place",
    [
        "cache/mine/manifest.json", "results/mine.jsonl", "runs/mine/config.json", "runs/mine/metrics.jsonl",
        "runs/mine/snapshots/step_000000003.safetensors", "runs/mine/checkpoints/step_000000003/manifest.json",
        "runs/mine/checkpoints/step_000000003",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "junk", [b"", b"\x00" * 64, b"[" * 100_000, b'{"sha256": 3}', b'[{"sha256": []}]', b"NaN", b"\xff\xfe", None]
)
def test_junk_in_the_place_of_our_files_is_damage_and_no_crash(
    storage: Storage, capsys: pytest.CaptureFixture, place: str, junk: bytes | None
) -> None:
    path = storage.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if junk is None:
        path.mkdir()
    else:
        path.write_bytes(junk)
    code, lines = verify(storage.root, capsys)
    if code == 0:  # a folder of that name, empty: no checkpoint and no run was ever there
        assert junk is None and place == "runs/mine/config.json"
    assert lines[-1].endswith("damaged") and all(str(storage.root) in line for line in lines[:-1])


@pytest.mark.parametrize("kind", ["cache", "runs"])
def test_a_link_out_of_the_storage_is_named_and_not_followed(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str
) -> None:
    begin(storage, DONE)
    (inside,) = (storage.root / kind).iterdir()
    outside = tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    code, lines = verify(storage.root, capsys)
    assert code == 1
    assert any("leads out of the storage" in line for line in lines)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file, whatever its mode")
def test_a_file_that_may_not_be_read_is_named(storage: Storage, capsys: pytest.CaptureFixture) -> None:
    begin(storage, DONE)
    storage.result(CONFIG.run_id).chmod(0)
    code, lines = verify(storage.root, capsys)
    assert code == 1 and "cannot be read (Permission denied)" in lines[0]


def test_a_snapshot_that_the_result_was_not_measured_on_is_named(storage: Storage, tmp_path: Path) -> None:
    """Both files are whole, and the run's own: only the hash in the result tells."""
    begin(storage, DONE)
    path = storage.result(CONFIG.run_id)
    result = read_result(path)
    write_result(
        path, Result(run=result.run | {"weights_sha256": "0" * 64}, rows=result.rows, summaries=result.summaries)
    )
    (found,) = verify_storage(storage.root).damaged
    assert found.path == storage.snapshot(CONFIG.run_id, 12) and "not what the result was measured on" in found.fault
