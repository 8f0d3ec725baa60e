"""Folders as users have them: their layouts, shards, schemas and labels give exactly their papers, or a refusal."""

import bz2
import gzip
import json
import random
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from helpers.config import SPLITS, DataConfig
from helpers.data.sources import files
from helpers.data.sources.split_files import split_files
from tests.data.test_fuzz import fuzz

NAMES = ["vision", "groups", "languages"]
ROWS = {split: [(f"{split} paper {i}", NAMES[i % 3]) for i in range(7)] for split in SPLITS}


def read(folder: Path, report=lambda line: None) -> dict[str, list[tuple[str, str]]]:
    with tempfile.TemporaryDirectory() as arrow:
        texts = files.read(DataConfig(source=str(folder)), Path(arrow), report, None)
        return {name: [tuple(paper) for paper in split.read(range(len(split)))] for name, split in texts.splits.items()}


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """In the form that the name says, the columns in one order or the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"label": label, "text": text}) + "\n" for text, label in rows).encode()
    match path.suffix.lower():
        case ".parquet":
            pq.write_table(pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}), path)
        case ".gz":
            path.write_bytes(gzip.compress(lines))
        case ".bz2":
            path.write_bytes(bz2.compress(lines))
        case ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(lines)
        case _:
            path.write_bytes(lines)


LAYOUTS = {
    "side by side": "{split}.parquet",
    "the Hub's": "data/{split}-00000-of-00001.parquet",
    "a folder a split": "{split}/anything.jsonl",
    "a folder a split below data": "data/{split}/0000.parquet",
    "Spark's": "{split}.parquet/part-00000-0a1b2c3d-c000.snappy.parquet",
    "gzip": "{split}.jsonl.gz",
    "zstd": "data/{split}.jsonl.zst",
    "bzip2": "{split}/part-0.jsonl.bz2",
}
VALIDATION = ["validation", "valid", "val", "dev"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [str.lower, str.capitalize, str.upper])
def test_a_layout_gives_its_papers(tmp_path: Path, layout: str, case) -> None:
    words = {"train": "train", "validation": VALIDATION[len(layout) % 4], "test": "test"}
    for split, word in words.items():
        write(tmp_path / LAYOUTS[layout].format(split=case(word)), ROWS[split])
    assert read(tmp_path) == ROWS


def test_capital_endings_are_read(tmp_path: Path) -> None:
    write(tmp_path / "TRAIN.JSONL", ROWS["train"])
    write(tmp_path / "Test.Parquet", ROWS["test"])
    assert read(tmp_path) == {"train": ROWS["train"], "test": ROWS["test"]}


REFUSED = {
    "a shard of three is missing": (
        ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet", "test.parquet"],
        "part 1 is missing among the 2 files of train",
    ),
    "the last shard is missing": (["train-0-of-2.jsonl", "test.jsonl"], "part 1 is missing among the 1 files of train"),
    "shards of two sets": (
        ["train-0-of-2.parquet", "train-1-of-2.parquet", "train-0-of-1.parquet", "test.parquet"],
        r"several sets \(of 1, of 2\)",
    ),
    "a shard twice": (
        ["train-0-of-2-a.parquet", "train-0-of-2-b.parquet", "train-1-of-2.parquet", "test.parquet"],
        "part 0 is there more than once",
    ),
    "a whole beside its shards": (
        ["train.parquet", "train-0-of-1.parquet", "test.parquet"],
        "train.parquet stands beside",
    ),
    "a gap in part numbers": (["train/part-0.jsonl", "train/part-2.jsonl", "test.jsonl"], "part 1 is missing"),
    "the first part is missing": (["train_2.jsonl", "train_3.jsonl", "test.jsonl"], "part 1 is missing"),
    "a split in two places": (
        ["train.parquet", "data/train.parquet", "test.parquet"],
        "holds train in ./ and in data/",
    ),
    "two kinds of a split": (["train.parquet", "train.jsonl", "test.parquet"], "both Parquet and JSONL files of train"),
    "one folder too deep": (["en/train.parquet", "en/test.parquet"], "There are en/test.parquet, en/train.parquet"),
    "a kind that is not read": (["train.csv", "test.csv"], "There are test.csv, train.csv"),
    "nothing": ([], "There is no file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_whole_is_refused_in_words(tmp_path: Path, case: str) -> None:
    names, message = REFUSED[case]
    for name in names:
        write(tmp_path / name, ROWS["train"])
    with pytest.raises(ValueError, match=message):
        split_files(str(tmp_path))


def test_parts_from_0_or_from_1_are_whole(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test_1.jsonl", "test_2.jsonl", "dev/a.jsonl", "dev/b.jsonl"):
        write(tmp_path / name, ROWS["train"])
    assert {split: len(paths) for split, paths in split_files(str(tmp_path)).items()} == dict.fromkeys(SPLITS, 2)


def test_files_that_no_split_takes_are_named(tmp_path: Path) -> None:
    for name in ("train.parquet", "test.parquet", "arxiv_train.parquet", "old/train.jsonl"):
        write(tmp_path / name, ROWS["train"])
    lines: list[str] = []
    read(tmp_path, lines.append)
    assert lines == ["not read, for their names belong to no split: arxiv_train.parquet, old/train.jsonl"]


def test_each_file_says_what_its_own_integers_mean(tmp_path: Path) -> None:
    for split, names in {"train": NAMES, "test": sorted(NAMES)}.items():
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        columns = {"text": [text for text, _ in ROWS[split]], "label": [names.index(name) for _, name in ROWS[split]]}
        Dataset.from_dict(columns, features=features).to_parquet(tmp_path / f"{split}.parquet")
    assert read(tmp_path) == {split: ROWS[split] for split in ("train", "test")}


def test_other_columns_are_not_looked_at(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS["train"], columns=["text", "label"])
    write(tmp_path / "train-0.parquet", ROWS["train"][:3])
    frame.iloc[3:].to_parquet(tmp_path / "train-1.parquet")  # with its index, as pandas writes it
    frame.assign(label=frame["label"].astype("category"), year=2026, tags=[["a"]] * 7).to_parquet(
        tmp_path / "dev.parquet"
    )
    lines = [{"text": text, "label": label, "when": i or "never"} for i, (text, label) in enumerate(ROWS["test"])]
    (tmp_path / "test.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert read(tmp_path) == {"train": ROWS["train"], "validation": ROWS["train"], "test": ROWS["test"]}


def test_labels_of_json_lines_are_the_text_that_stands_there(tmp_path: Path) -> None:
    rows = [("one", "2024-01-03"), ("two", "007"), ("three", "1e3"), ("four", "null"), ("five", "12:30")]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", rows[::-1])
    assert read(tmp_path) == {"train": rows, "test": rows[::-1]}


BAD_JSON = {
    '{"text": "a", "label": 7}': "label = 7 is a number without a name",
    '{"text": "a", "label": true}': "label = True is a number without a name",
    '{"text": "a", "label": ["x", "y"]}': r"label = \['x', 'y'\] is a list; one label a paper is needed",
    '{"text": "a", "label": {"x": 1}}': "names no component",
    '{"text": ["a"], "label": "x"}': r"text = \['a'\] holds no text",
    '{"text": "a", "label": "x", "label": "y"}': "'label' stands there twice",
    '{"Text": "a", "label": "x"}': "column 'text' is missing; there are Text, label",
    '["a", "x"]': r"is \['a', 'x'\]; each line is one object",
    '{"text": "\\ud83d", "label": "x"}': "text holds half of a character",
    '[{"text": "a", "label": "x"},': "is not JSON",
}


@pytest.mark.parametrize("line", BAD_JSON)
def test_a_bad_line_is_named_with_its_file(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "good", "label": "x"}\n' + line + "\n")
    write(tmp_path / "test.jsonl", ROWS["test"])
    with pytest.raises(ValueError, match=r"train\.jsonl line 2") as refused:
        read(tmp_path)
    assert refused.match(BAD_JSON[line])


BAD_COLUMNS = {
    "numbers": (pa.array([1]), r"column 'label' holds numbers \(int64\) without a name"),
    "lists": (pa.array([["vision", "other"]]), r"column 'label' holds lists \(list<.*string>\); one label a paper"),
    "dates": (pa.array([0], pa.date32()), "column 'label' holds date32.*; it needs text"),
    "null": (pa.array([None], pa.string()), r"row 0: label = None names no component"),
    "bytes": (pa.array([b"vision"]), "column 'label' holds binary; it needs text"),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_a_bad_label_column_is_named_with_its_file(tmp_path: Path, case: str) -> None:
    column, message = BAD_COLUMNS[case]
    pq.write_table(pa.table({"label": column, "text": ["a"]}), tmp_path / "train.parquet")
    write(tmp_path / "test.jsonl", ROWS["test"])
    with pytest.raises(ValueError, match=rf"train\.parquet:? {message}".replace(":? row", " row")):
        read(tmp_path)


def test_two_columns_of_one_name_and_no_parquet_at_all(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ROWS["test"])
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["x"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "label"]), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet: column 'text' is there more than once"):
        read(tmp_path)
    (tmp_path / "train.parquet").write_text("not Parquet")
    with pytest.raises(ValueError, match=r"train\.parquet cannot be read as Parquet"):
        read(tmp_path)
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"train\.jsonl: no row; a split needs papers"):
        read(tmp_path)


def test_a_long_bad_text_is_quoted_in_part(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ROWS["test"])
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": ["a"] * 100_000, "label": "x"}))
    with pytest.raises(ValueError) as refused:
        read(tmp_path)
    assert len(str(refused.value)) < 400


ANY_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
ANY_ROWS = st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=8)
FORMS = st.sampled_from([".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2"])
PLACES = st.sampled_from(
    ["{split}{part}", "data/{split}{part}", "{split}/x{part}", "data/{split}/{part}", "{split}.parquet/f{part}"]
)


@settings(fuzz(40), phases=[Phase.generate])
@given(
    rows=st.fixed_dictionaries({split: ANY_ROWS for split in SPLITS}),
    forms=st.tuples(FORMS, FORMS, FORMS),
    places=st.tuples(PLACES, PLACES, PLACES),
    shards=st.tuples(*[st.integers(1, 3)] * 3),
    missing=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_mix_of_layouts_gives_what_was_written_or_names_what_is_missing(rows, forms, places, shards, missing, seed):
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        for split, form, place, count in zip(SPLITS, forms, places, shards, strict=True):
            word = draw.choice(VALIDATION) if split == "validation" else split
            word = draw.choice([str.lower, str.capitalize, str.upper])(word)
            for shard in range(count):
                part = draw.choice([f"-{shard:05d}-of-{count:05d}", f"-of{shard}"][:1])
                name = place.format(split=word, part=part) + form
                cut = slice(shard * len(rows[split]) // count, (shard + 1) * len(rows[split]) // count)
                write_any(Path(folder) / name, rows[split][cut], draw)
        if missing and max(shards) > 1:
            split = SPLITS[shards.index(max(shards))]
            split_files(folder)[split][draw.randrange(max(shards))].unlink()
            with pytest.raises(ValueError, match=f"is missing among the {max(shards) - 1} files of {split}"):
                read(Path(folder))
        else:
            assert read(Path(folder)) == rows


def write_any(path: Path, rows: list[tuple[str, str]], draw: random.Random) -> None:
    """As one of the label types that say the same, among other columns, in any order."""
    if path.suffix != ".parquet" or not rows:
        write(path, rows)
        return
    names = sorted({label for _, label in rows}, key=lambda name: draw.random())
    match draw.randrange(3):
        case 0:
            labels, label = pa.array([names.index(label) for _, label in rows]), ClassLabel(names=names)
        case 1:
            labels, label = pa.array([label for _, label in rows]).dictionary_encode(), None
        case 2:
            labels, label = pa.array([label for _, label in rows], pa.large_string()), None
    columns = {"text": pa.array([text for text, _ in rows]), "label": labels, "extra": pa.array([[1.5]] * len(rows))}
    order = draw.sample(list(columns), 3)
    table = pa.table({name: columns[name] for name in order})
    if label:
        features = {"info": {"features": {"label": {"names": label.names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
