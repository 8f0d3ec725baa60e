"""The sources of short texts: UltraChat from a stand-in of the Hub's shape, local files, and embedded sentences."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer

from helpers.config import DataConfig
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.sources import sentences, ultrachat
from helpers.data.sources.sample_file import Samples, is_held_out
from helpers.studies import find_preset

TOKENIZER = "train:300"


def talk(text: str) -> dict:
    """A row as the Hub has it."""
    messages = [{"content": text, "role": "user"}, {"content": f"answer to {text}", "role": "assistant"}]
    return {"prompt": text, "prompt_id": f"{len(text):064x}", "messages": messages}


def hub(rows: list[dict], seen: dict):
    """`datasets.load_dataset` of one split as a stream."""

    def load(**arguments):
        seen.update(arguments)
        return Dataset.from_list(rows).to_iterable_dataset()

    return load


def data_of(source: str, **settings) -> DataConfig:
    return DataConfig(source=source, tokenizer=TOKENIZER, sampling="stream", window_tokens=512, **settings)


def test_ultrachat_gives_first_turns_and_holds_out_the_documents_rows(storage) -> None:
    rows, seen = [talk(f"what is number {n}, please? " * 3) for n in range(1_520)], {}
    cache = ensure_cache(data_of("ultrachat", max_paper_tokens=20), storage, load=hub(rows, seen))
    assert seen["path"] == "HuggingFaceH4/ultrachat_200k" and seen["split"] == "train_sft" and seen["streaming"]
    assert len(cache.index("train").paper_ids) == 520 and len(cache.index("test").paper_ids) == 1_000
    assert cache.index("train").num_tokens.max() == 20 and cache.components == ("ultrachat",)
    flat = flat_tokens(cache, "test", storage)
    tokenizer = Tokenizer.from_file(str(cache.folder / "tokenizer.json"))
    first = tokenizer.decode(flat.tokens[: flat.offsets[1]].tolist())
    assert "what is number 500, please?".startswith(first[:20])


def test_a_limit_reads_no_more_of_the_stream_than_it_needs(storage) -> None:
    read = []

    class Rows(list):
        def __iter__(self):
            for row in super().__iter__():
                read.append(row["prompt"])
                yield row

    found = ultrachat.FirstTurns(rows=Rows(talk(f"question {n}") for n in range(3_000)), split="test")
    assert [row["text"] for row in found][:2] == ["question 500", "question 501"] and len(read) == 1_501


def test_a_row_that_no_person_begins_is_refused_with_its_number() -> None:
    rows = [talk("fine"), {"messages": [{"role": "assistant", "content": "hello"}]}]
    with pytest.raises(ValueError, match="train_sft row 1: messages does not begin with a user's turn"):
        list(ultrachat.FirstTurns(rows=rows, split="train"))


def test_without_the_hub_it_says_what_else_there_is(storage) -> None:
    def fails(**arguments):
        raise ConnectionError("no route")

    with pytest.raises(RuntimeError, match=r"no route.*--source sentences needs no file"):
        ensure_cache(data_of("ultrachat"), storage, load=fails)


def test_a_text_file_is_cut_at_blank_lines_and_a_json_file_at_lines(tmp_path: Path) -> None:
    texts = [f"first line {n}\nsecond line {n}" for n in range(40)]
    (tmp_path / "a.txt").write_text("\n\n\n".join(texts) + "\n", encoding="utf-8")
    lines = [json.dumps({"text": text}) if n % 2 else json.dumps(talk(text)) for n, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("a.txt", "a.jsonl"):
        found = {
            split: [row["text"].strip() for row in Samples(path=tmp_path / name, split=split)]
            for split in ("train", "test")
        }
        assert found["test"] == [text for text in texts if is_held_out(text)] != []
        assert found["train"] == [text for text in texts if not is_held_out(text)]


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "line 2 is no JSON"), ('{"label": 1}', "neither text nor messages"), ('{"text": 5}', "text = 5 is no text")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        [list(Samples(path=path, split=split)) for split in ("train", "test")]


def test_a_path_that_is_no_file_of_samples_is_refused(storage) -> None:
    with pytest.raises(ValueError, match=r"source = 'nothing\.parquet' is no file of samples"):
        ensure_cache(data_of("nothing.parquet"), storage)


def test_sentences_are_the_same_everywhere_and_have_something_to_learn() -> None:
    made = [row["text"] for row in sentences.Sentences(split="train")]
    assert len(made) == 4_000 == len(set(made))
    assert made == [row["text"] for row in sentences.Sentences(split="train")]
    words = " ".join(made).lower().replace(".", "").split()
    _, counts = np.unique(words, return_counts=True)
    alone = -(counts / len(words) * np.log(counts / len(words))).sum()
    _, paired = np.unique([f"{a} {b}" for a, b in itertools.pairwise(words)], return_counts=True)
    joint = -(paired / len(words) * np.log(paired / len(words))).sum()
    assert joint - alone < alone - 1  # a word says more than a nat of the one behind it
    assert 1_500 < len(counts) <= 2_000


def test_cut_papers_are_another_cache(storage) -> None:
    from helpers.data.cache_id import cache_id

    whole, cut = data_of("sentences"), data_of("sentences", max_paper_tokens=16)
    assert cache_id(whole) != cache_id(cut)
    with pytest.raises(ValueError, match=r"data\.max_paper_tokens has no part in a run with source = 'synthetic'"):
        find_preset("ergodic", "smoke", overrides=["data.max_paper_tokens=16"])
