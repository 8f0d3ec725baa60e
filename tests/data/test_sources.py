"""Local papers and cleaning: what is read, what is dropped, and the words for every bad input."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.config import DataConfig
from helpers.data.cache_id import cache_id
from helpers.data.cleaning import clean, normalised, text_digest
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.papers import paper_splits
from helpers.data.sources import files
from helpers.data.sources.files import split_files
from helpers.storage import Storage

GOOD = [("on rings", "math.AC"), ("on groups", "math.GR")]
NAMES = ["math.AC", "math.GR"]


def write_jsonl(path: Path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row if isinstance(row, dict) else {"text": row[0], "label": row[1]}) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_folder(folder: Path, train: list, test: list = GOOD) -> Path:
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "test.jsonl", [(f"held out {text}", label) for text, label in test])
    return folder


def write_parquet(path: Path, rows: list, label: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


def read(folder: Path, tmp_path: Path, limit: int | None = None) -> dict:
    data = DataConfig(source=str(folder), max_papers_per_component=limit)
    source = files.read(data, tmp_path / "arrow", print, datasets.load_dataset)
    return {name: [tuple(paper) for paper in split.read(range(len(split)))] for name, split in source.splits.items()}


def require_nothing_written(data: DataConfig, storage: Storage, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ensure_cache(data, storage, report=lambda line: None)
    assert not (storage.root / "cache").exists()


@pytest.mark.parametrize("limit", [None, 5])
def test_parquet_class_labels_and_jsonl_strings_read_alike(tmp_path: Path, limit: int | None) -> None:
    write_jsonl(tmp_path / "a/train.jsonl", GOOD)
    write_jsonl(tmp_path / "a/dev.jsonl", GOOD[:1])
    write_jsonl(tmp_path / "a/test-0.jsonl", GOOD[1:])
    numbered = [(text, NAMES.index(label)) for text, label in GOOD]
    for name, rows in {"train": numbered, "val": numbered[:1], "test_part": numbered[1:]}.items():
        write_parquet(tmp_path / f"b/{name}.parquet", rows, datasets.ClassLabel(names=NAMES))
    expected = {"train": GOOD, "validation": GOOD[:1], "test": GOOD[1:]}
    assert read(tmp_path / "a", tmp_path, limit) == expected
    assert read(tmp_path / "b", tmp_path, limit) == expected


def test_a_limit_takes_the_first_papers_of_each_label(tmp_path: Path) -> None:
    rows = [(f"paper {i}", NAMES[i % 3 == 0]) for i in range(20)]
    write_folder(tmp_path / "papers", rows)
    taken = read(tmp_path / "papers", tmp_path, limit=3)["train"]
    assert [text for text, _ in taken] == [f"paper {i}" for i in (0, 1, 2, 3, 4, 6)]


def test_a_stream_is_left_once_every_label_has_its_papers(tmp_path: Path) -> None:
    pulled = []

    def rows():
        for i in range(1000):
            pulled.append(i)
            yield {"text": f"paper {i}", "label": i % 2}

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
    table = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]}, features=features)
    stream = Stream(rows, features)
    splits = paper_splits({"train": stream, "test": table}, cache_folder=tmp_path, limit=4)
    assert len(splits["train"]) == 8
    assert len(pulled) == 8


class Stream:
    """The face of an IterableDataset, with a count of what is pulled."""

    def __init__(self, rows, features) -> None:
        self.rows, self.features, self.column_names = rows, features, list(features)

    def __iter__(self):
        return iter(self.rows())

    def __reduce__(self):  # datasets hashes a generator's arguments by pickling them
        return (str, ("a stream",))


def test_a_file_stands_for_the_files_of_its_kind_beside_it(tmp_path: Path) -> None:
    write_folder(tmp_path, GOOD)
    write_parquet(tmp_path / "train.parquet", GOOD, datasets.Value("string"))
    assert set(split_files(str(tmp_path / "train.jsonl"))) == {"train", "test"}
    with pytest.raises(ValueError, match="both Parquet and JSONL"):
        split_files(str(tmp_path))


def test_clean_by_hand(tmp_path: Path) -> None:
    train = [
        ("A  Ring", "x"),  # kept
        ("a ring", "x"),  # repeats the first
        ("shared with test", "x"),
        ("shared with validation", "y"),
        ("two labels", "x"),
        ("two labels", "y"),
        ("\ufb01eld", "y"),  # the ligature fi
        ("field", "y"),  # repeats it after NFKC
    ]
    splits = {
        "train": train,
        "validation": [("SHARED with validation", "y"), ("shared with test", "x"), ("own", "x")],
        "test": [("shared\nwith test", "x"), ("two  labels", "y"), ("last", "y")],
    }
    for name, rows in splits.items():
        write_jsonl(tmp_path / "papers" / f"{name}.jsonl", rows)
    lines: list[str] = []
    source = files.read(DataConfig(source=str(tmp_path / "papers")), tmp_path / "arrow", print, datasets.load_dataset)
    cleaned = clean(source.splits, lines.append).splits
    assert {name: kept.rows.tolist() for name, kept in cleaned.items()} == {
        "train": [0, 6],
        "validation": [0, 2],
        "test": [0, 2],
    }
    assert cleaned["train"].drops == {"ambiguous_label": 2, "held_out": 2, "near_held_out": 0, "duplicate": 2}
    assert cleaned["validation"].drops == {"ambiguous_label": 0, "held_out": 1, "near_held_out": 0, "duplicate": 0}
    assert cleaned["test"].drops == {"ambiguous_label": 1, "held_out": 0, "near_held_out": 0, "duplicate": 0}
    assert cleaned["train"].paper_ids[0] == text_digest("a ring").hex()[:16]
    assert cleaned["train"].num_chars.dtype == np.int64
    assert lines[-1] == (
        "train: 8 papers read, 2 kept; dropped 2 repeated, 2 that a held-out split holds, 0 that nearly repeat one of "
        "those, 2 under more than one label"
    )


def test_normalised() -> None:
    assert normalised("  Stra\u00dfe\t\n \ufb01eld ") == "strasse field"


BAD_ROWS = {
    "empty text": ([*GOOD, ("", "math.AC")], "train.jsonl line 3: text = ''"),
    "blank text": ([*GOOD, (" \n", "math.AC")], "train.jsonl line 3: text"),
    "null text": ([*GOOD, (None, "math.AC")], "train.jsonl line 3: text = None"),
    "null label": ([*GOOD, ("on fields", None)], "train.jsonl line 3: label = None names no component"),
    "number": ([("on rings", 3), ("on groups", 4)], "train.jsonl line 1: label = 3 is a number without a name"),
    "no label column": ([{"text": "on rings"}], "column 'label' is missing; there are text"),
    "no text column": ([{"body": "on rings", "label": "x"}], "column 'text' is missing; there are body, label"),
}


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path: Path, case: str, limit: int | None) -> None:
    rows, message = BAD_ROWS[case]
    folder = tmp_path / "papers"
    write_jsonl(folder / "train.jsonl", rows)
    columns = rows[0] if isinstance(rows[0], dict) else {"text": "held out", "label": rows[0][1]}
    write_jsonl(folder / "test.jsonl", [columns | {"text": "held out"} if "text" in columns else columns])
    data = DataConfig(source=str(folder), tokenizer="train:300", max_papers_per_component=limit)
    require_nothing_written(data, Storage.at(tmp_path / "out"), message)


def test_jsonl_that_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "papers", GOOD)
    with open(folder / "train.jsonl", "ab") as file:
        file.write(b'{"text": "caf\xe9", "label": "math.AC"}\n')
    data = DataConfig(source=str(folder), tokenizer="train:300")
    require_nothing_written(data, Storage.at(tmp_path / "out"), r"train\.jsonl line 3 is not UTF-8")


@pytest.mark.parametrize("limit", [None, 5])
def test_parquet_that_is_not_utf8_is_an_error(tmp_path: Path, limit: int | None) -> None:
    folder = tmp_path / "papers"
    write_parquet(folder / "test.parquet", GOOD, datasets.Value("string"))
    raw = pa.array([b"good", b"caf\xe9 and more"])
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"text": text, "label": ["x", "y"]}), folder / "train.parquet")
    data = DataConfig(source=str(folder), tokenizer="train:300", max_papers_per_component=limit)
    message = "train.parquet row 1: text is not UTF-8"
    require_nothing_written(data, Storage.at(tmp_path / "out"), message)


def test_json_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "papers", GOOD)
    (folder / "train.jsonl").write_text('{"text": "cut', encoding="utf-8")
    data = DataConfig(source=str(folder), tokenizer="train:300")
    require_nothing_written(data, Storage.at(tmp_path / "out"), r"train\.jsonl line 1 is not JSON")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"test.jsonl": GOOD}, "has no train split"),
        ({"train.jsonl": GOOD}, "has no test split"),
        ({"training_notes.jsonl": GOOD, "test.jsonl": GOOD}, "has no train split"),
        ({}, "has no train split"),
    ],
)
def test_a_folder_without_a_split_is_an_error(tmp_path: Path, files: dict, message: str) -> None:
    (tmp_path / "papers").mkdir()
    for name, rows in files.items():
        write_jsonl(tmp_path / "papers" / name, rows)
    data = DataConfig(source=str(tmp_path / "papers"), tokenizer="train:300")
    require_nothing_written(data, Storage.at(tmp_path / "out"), message)


def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source = 'arxvi' does not exist; use arxiv, synthetic"):
        cache_id(DataConfig(source="arxvi", tokenizer="train:300"))


def test_a_split_of_nothing_but_repeats_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    write_jsonl(folder / "train.jsonl", GOOD)
    write_jsonl(folder / "test.jsonl", GOOD)
    data = DataConfig(source=str(folder), tokenizer="train:300")
    require_nothing_written(data, Storage.at(tmp_path / "out"), "split 'train' has no paper left")
