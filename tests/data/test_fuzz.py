"""Arbitrary input to everything that reads: a value, or an error of ours that says what is wrong; never another one.

The seeds are fixed, so that a run of these tests is the same everywhere. What a reader should give is taken from the
writers of the standard library and from files that a reader of ours did not make.
"""

import contextlib
import dataclasses
import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers.config import DataConfig, RunConfig, to_json
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.token_cache import MANIFEST, TokenCache, open_cache, read_manifest
from helpers.data.tokenizers import PaperTokenizer
from helpers.runs.metrics import read_metrics
from helpers.runs.result_file import Result, read_result, result_text
from helpers.seals import publish_sealed, read_sealed
from helpers.settings import apply_overrides, from_json
from helpers.storage import Storage
from helpers.studies.ergodic.analyse import save_tables
from helpers.studies.ergodic.results import Results, load_results
from tests.simulated_results import simulate_grid


def fuzz(max_examples: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(derandomize=True, deadline=None, max_examples=max_examples, suppress_health_check=slow)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
JSON = st.recursive(
    SCALARS | st.sampled_from([10**400, -1, 0, 1e308, "~nobody/x", "../x", "\ud800", "a\0b", "arxiv", "epoch"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 100_000
LONG_NUMBER = b"9" * 5_000


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    """`value` with what lies at `path` replaced, or removed where `new` is `...`."""
    copy = json.loads(json.dumps(value))
    node = copy
    for key in path[:-1]:
        node = node[key]
    if new is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = new
    return copy


# Settings

CONFIG_JSON = to_json(RunConfig(study="ergodic"))


def require_usable(config: RunConfig) -> None:
    """What every config can do that was let through: have a name, be written, and be read again as itself."""
    assert config.run_id.isascii()
    assert from_json(RunConfig, json.loads(json.dumps(to_json(config)))) == config


@fuzz(300)
@given(JSON)
def test_any_json_is_a_config_or_a_value_error(value):
    with contextlib.suppress(ValueError):
        config = from_json(RunConfig, value)
        assert isinstance(value, dict)
        require_usable(config)


@fuzz(600)
@given(st.sampled_from(list(places(CONFIG_JSON))), JSON | st.just(...))
@example(("train", "peak_lr"), math.inf)
@example(("train", "peak_lr"), 10**400)
@example(("data", "source"), "~nobody/x")
@example(("study",), "\ud800")
def test_any_value_in_any_field_is_a_config_or_names_the_field(path, value):
    try:
        config = from_json(RunConfig, replaced(CONFIG_JSON, path, value))
    except ValueError as error:
        assert any(str(name) in str(error) for name in path), error
    else:
        require_usable(config)


FIELDS = sorted(".".join(map(str, path)) for path in places(CONFIG_JSON))
ASSIGNMENTS = st.builds("{}={}".format, st.sampled_from([*FIELDS, "k.x", "data.", ".", ""]), st.text(st.characters()))


@fuzz(600)
@given(st.lists(st.text(st.characters()) | ASSIGNMENTS, min_size=1, max_size=3))
@example(["train.peak_lr=inf"])
@example(["train.steps=1e3"])
@example(["train.weight_decay=nan"])
@example(["data.source=~nobody/x"])
@example(["k=" + "9" * 5_000])
@example(["data.components=\ud800"])
def test_any_text_is_an_override_or_a_value_error(overrides):
    try:
        config = apply_overrides(RunConfig(study="ergodic"), overrides)
    except ValueError as error:
        assert str(error)
    else:
        require_usable(config)


# Results


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("simulated"))
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1))
    return storage


@pytest.fixture(scope="module")
def expected(simulated) -> Results:
    results = load_results(simulated)
    assert len(results.runs) == 6 and not results.left_out
    return results


def same_text(result: Result, row: int, path: tuple, value: Any) -> str:
    """A result with one value of one row exchanged and its seal right: what a foreign program could have written."""
    rows = [result.run, *result.rows, *result.summaries]
    rows[row % len(rows)] = replaced(rows[row % len(rows)], path, value)
    return result_text(Result(run=rows[0], rows=rows[1 : 1 + len(result.rows)], summaries=rows[1 + len(result.rows) :]))


@st.composite
def spoiled(draw: st.DrawFn, text: bytes) -> bytes:
    """`text` cut, with a bit flipped, with a line exchanged or repeated, or something else altogether."""
    lines = text.split(b"\n")
    position = draw(st.integers(0, len(text) - 2))
    match draw(st.sampled_from(["cut", "flip", "line", "repeat", "other"])):
        case "cut":
            return text[:position]
        case "flip":
            flipped = text[position] ^ (1 << draw(st.integers(0, 7)))
            return text[:position] + bytes([flipped]) + text[position + 1 :]
        case "line":
            lines[draw(st.integers(0, len(lines) - 2))] = json.dumps(draw(JSON)).encode()
            return b"\n".join(lines)
        case "repeat":
            return b"\n".join([*lines[: draw(st.integers(1, 5))], text])
        case _:
            return draw(st.binary(max_size=60) | st.sampled_from([DEEP, LONG_NUMBER, b"", b"\n", b"\xef\xbb\xbf{}"]))


@fuzz(80)
@given(data=st.data())
def test_analysis_reads_what_is_valid_and_names_the_rest(simulated, expected, data):
    """Every spoiled file is left out with a reason, and the numbers of the others stay what they were."""
    files = sorted(simulated.results().glob("*.jsonl"))
    bad = data.draw(st.sets(st.sampled_from(range(len(files))), min_size=1, max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        storage.results().mkdir()
        for number, file in enumerate(files):
            content = file.read_bytes()
            target = storage.results() / file.name
            target.write_bytes(data.draw(spoiled(content)) if number in bad else content)
        names = st.from_regex(r"[ -.0-~]{1,9}", fullmatch=True).filter(lambda name: name not in (".", ".."))
        foreign = data.draw(st.dictionaries(names, st.binary(max_size=40)))
        for name, content in foreign.items():
            (storage.results() / name).write_bytes(content)
        found = load_results(storage)
        left_out = {line.split(".jsonl: ")[0] for line in found.left_out}
    assert {files[number].stem for number in bad} <= left_out
    good = {file.stem for number, file in enumerate(files) if number not in bad}
    assert not good & left_out and all(line.split(".jsonl: ")[1] for line in found.left_out)
    for name in ("runs", "xe"):
        table = getattr(expected, name)
        table = table[table["run_id"].isin(good)].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(found, name), table, check_dtype=bool(good))


@pytest.mark.slow
@fuzz(30)
@given(data=st.data())
def test_a_sealed_result_of_any_content_is_counted_whole_or_left_out(simulated, expected, data):
    file = sorted(simulated.results().glob("*.jsonl"))[0]
    result = read_result(file)
    rows = [result.run, *result.rows, *result.summaries]
    row = data.draw(st.integers(0, len(rows) - 1))
    path = data.draw(st.sampled_from(sorted(places(rows[row]), key=str)))
    try:
        text = same_text(result, row, path, data.draw(JSON | st.just(...)))
        content = text.encode()
    except (ValueError, KeyError, TypeError):
        return  # what JSON cannot hold, or a row without a step to sort by: no such file can be written
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        shutil.copytree(simulated.results(), storage.results())
        (storage.results() / file.name).write_bytes(content)
        found = load_results(storage)
        assert len(found.runs) + len(found.left_out) == 6
        others = expected.xe["run_id"] != file.stem
        kept = found.xe[found.xe["run_id"].isin(expected.xe["run_id"][others])].drop(columns="condition")
        unchanged = expected.xe[others].drop(columns="condition")
        pd.testing.assert_frame_equal(kept.reset_index(drop=True), unchanged.reset_index(drop=True), check_dtype=False)
        if not found.left_out:
            save_tables(storage, found)


@fuzz(150)
@given(st.binary(max_size=200) | st.lists(JSON.map(lambda value: json.dumps(value).encode())).map(b"\n".join))
@example(DEEP)
@example(LONG_NUMBER)
@example(b'{"sha256": "0"}')
def test_any_bytes_are_no_result(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.jsonl"):
            read_result(path)


@fuzz(200)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["loss", "lr"]), st.floats(allow_nan=False)), max_size=4),
    tail=st.binary(max_size=40) | st.sampled_from([DEEP, LONG_NUMBER, b'{"step": "1"}', b"[1]", b"null"]),
)
def test_metrics_are_the_whole_lines_before_anything_else(rows, tail):
    rows = [row | {"step": step} for step, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode() + tail)
        read = read_metrics(path)
    assert read[: len(rows)] == rows
    assert all(isinstance(row["step"], int) for row in read)


# Caches


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> tuple[Storage, TokenCache]:
    config = RunConfig(study="ergodic")
    synthetic = dataclasses.replace(config.data.synthetic, num_components=2, papers_per_component=4, paper_tokens=120)
    storage = Storage.at(tmp_path_factory.mktemp("cached"))
    return storage, ensure_cache(dataclasses.replace(config.data, synthetic=synthetic), storage, lambda line: None)


@fuzz(200)
@given(data=st.data())
def test_any_sealed_manifest_is_a_usable_cache_none_or_an_error_that_names_it(cached, data):
    storage, cache = cached
    manifest = cache.manifest
    path = data.draw(st.sampled_from(sorted(places(manifest), key=str)))
    value = data.draw(JSON | st.just(...))
    try:
        changed = replaced(manifest, path, value)
        publish_sealed(cache.folder / MANIFEST, changed)
    except ValueError:
        return  # NaN, or text that no file can hold
    try:
        found, opened = read_manifest(storage, cache.cache_id), open_cache(storage, cache.cache_id)
    except ValueError as error:
        assert "outside of its folder" in str(error) and str(cache.folder) in str(error)
    else:
        assert opened is None or opened == found
        if opened is not None:
            with contextlib.suppress(ValueError):  # of ours: a hash that is not the file's, a split that is not there
                assert len(opened.index("train").num_tokens) <= 8
    finally:
        publish_sealed(cache.folder / MANIFEST, manifest)


@fuzz(100)
@given(content=st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
@example(DEEP)
@example(LONG_NUMBER)
def test_any_bytes_are_no_manifest(cached, content):
    storage, cache = cached
    whole = (cache.folder / MANIFEST).read_bytes()
    (cache.folder / MANIFEST).write_bytes(content)
    try:
        assert read_manifest(storage, cache.cache_id) is open_cache(storage, cache.cache_id) is None
        with pytest.raises(ValueError, match="damaged"):
            read_sealed(cache.folder / MANIFEST)
    finally:
        (cache.folder / MANIFEST).write_bytes(whole)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["<|endoftext|>", "a b", "\u2028x", "ﬁ", "\0"]
)
LABELS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["a", "b", "../x", "|", "\n"])
ROWS = st.lists(st.tuples(TEXTS | st.none(), LABELS | st.none()), min_size=1, max_size=5)
WHOLE_ROWS = st.lists(st.tuples(TEXTS.filter(str.strip), LABELS.filter(str.strip)), min_size=1, max_size=5)


@fuzz(12)
@given(splits=st.tuples(WHOLE_ROWS | ROWS, WHOLE_ROWS), kind=st.sampled_from(["jsonl", "parquet"]))
def test_any_rows_are_a_cache_of_their_texts_or_one_error_and_no_manifest(splits, kind):
    with tempfile.TemporaryDirectory() as folder:
        papers = Path(folder) / "papers"
        papers.mkdir()
        for name, rows in zip(("train", "test"), splits, strict=True):
            write_rows(papers / f"{name}.{kind}", rows)
        data = DataConfig(source=str(papers), tokenizer="train:300")
        storage = Storage.at(Path(folder) / "storage")
        try:
            cache = ensure_cache(data, storage, report=lambda line: None)
        except (ValueError, RuntimeError) as error:
            assert re.match(r"/.*(jsonl line|parquet row) \d+: |split '(train|test)' ", str(error)), error
            assert not (storage.cache(cache_id(data)) / MANIFEST).exists()
            assert any(not holds_text(pair) for rows in splits for pair in rows) or "no paper left" in str(error), error
        else:
            for name, rows in zip(("train", "test"), splits, strict=True):
                assert set(papers_of(cache, name, storage)) <= {(text, label.strip()) for text, label in rows}
            assert not (set(papers_of(cache, "train", storage)) & set(papers_of(cache, "test", storage)))


def write_rows(path: Path, rows: list[tuple[str | None, str | None]]) -> None:
    if path.suffix == ".jsonl":
        path.write_bytes(b"".join(json.dumps({"text": t, "label": c}).encode() + b"\n" for t, c in rows))
    else:
        columns = {
            "text": pa.array([t for t, _ in rows], pa.string()),
            "label": pa.array([c for _, c in rows], pa.string()),
        }
        pq.write_table(pa.table(columns), path)


def holds_text(pair: tuple[str | None, str | None]) -> bool:
    return all(value is not None and value.strip() for value in pair)


def papers_of(cache: TokenCache, split: str, storage: Storage) -> list[tuple[str, str]]:
    """Text and label of each paper, decoded by the `tokenizers` library from the cache's own tokenizer.json."""
    backend = PaperTokenizer.read("cache", (cache.folder / "tokenizer.json").read_bytes()).backend
    flat, index = flat_tokens(cache, split, storage), cache.index(split)
    tokens = [flat.tokens[start:stop].tolist() for start, stop in zip(flat.offsets, flat.offsets[1:], strict=False)]
    labels = [cache.components[number] for number in index.component]
    texts = [backend.decode(ids, skip_special_tokens=False) for ids in tokens]
    return list(zip(texts, labels, strict=True))
