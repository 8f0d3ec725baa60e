"""The archive of a storage: whole, small, the same for the same files; and where it goes on Colab."""

import zipfile

import pytest

from helpers.notebook.save import save, save_archive
from helpers.storage import Storage, publish_text
from tests import colab


@pytest.fixture
def filled(storage) -> Storage:
    for name in ("results/a.jsonl", "fig/x.png", "tables/t.csv", "report.html", "runs/a/metrics.jsonl", "cache/c/part"):
        publish_text(storage.root / name, name * 1000)
    publish_text(storage.root / "results/.partial-1234-b.jsonl", "half")
    return storage


def test_it_holds_results_figures_tables_and_report_and_nothing_else(filled):
    archive = zipfile.ZipFile(save_archive(filled))
    assert archive.namelist() == ["results/a.jsonl", "fig/x.png", "tables/t.csv", "report.html"]
    assert archive.testzip() is None
    assert archive.read("results/a.jsonl").decode() == "results/a.jsonl" * 1000
    assert save_archive(filled).stat().st_size < 2_000


def test_equal_files_give_equal_bytes(filled):
    first = save_archive(filled).read_bytes()
    (filled.root / "results/a.jsonl").touch()
    assert save_archive(filled).read_bytes() == first


def test_an_archive_that_cannot_be_finished_leaves_the_one_before(filled, monkeypatch):
    before = save_archive(filled).read_bytes()
    publish_text(filled.root / "results/z.jsonl", "new")

    def fail(*_arguments, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError):
        save_archive(filled)
    assert (filled.root / "results.zip").read_bytes() == before
    assert [path.name for path in filled.root.glob(".partial-*")] == []


def test_an_empty_storage_has_nothing_to_save(storage):
    with pytest.raises(ValueError, match="no result yet"):
        save_archive(storage)


def test_elsewhere_nothing_is_downloaded(filled):
    words = save(filled, interactive=True)
    assert str(filled.root / "results.zip") in words and "folder icon" not in words


def test_colab_downloads_it_for_a_reader_and_not_for_a_program(filled, monkeypatch, tmp_path):
    fake = colab.install(monkeypatch, tmp_path)
    assert "folder icon" in save(filled, interactive=False)
    assert fake.downloads == []
    save(filled, interactive=True)
    assert fake.downloads == [str(filled.root / "results.zip")]
