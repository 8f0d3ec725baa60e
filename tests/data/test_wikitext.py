"""WikiText as articles, from a stand-in of the Hub's rows and from a local file."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from datasets import Dataset

from helpers.config import DataConfig
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.sources import find_source, wikitext
from helpers.data.sources.wikitext import articles, split_of
from helpers.studies import known_components

LINES = [
    "", " = Robert Boulter = \n", "", " Robert is an actor . \n", " = = Career = = \n", " In 2000 = 1 + 1999 he = x \n",
    " = = = 2006 = = = \n", " = K = \n", " A letter . \n", "", " = Du Fu = \r\n", " A poet . \n",
]  # fmt: skip


def many(num_articles: int) -> list[str]:
    lines = []
    for i in range(num_articles):
        lines += ["", f" = Article {i} = ", "", f" It is the {i} of all , and long enough to be read . "]
    return lines


def test_an_article_goes_from_one_title_to_the_next():
    assert list(articles(LINES)) == [
        "= Robert Boulter =\nRobert is an actor .\n= = Career = =\nIn 2000 = 1 + 1999 he = x\n= = = 2006 = = =",
        "= K =\nA letter .",
        "= Du Fu =\nA poet .",
    ]
    assert list(articles(["words without a title", " "])) == ["words without a title"]
    assert list(articles([])) == list(articles(["", " \n"])) == []


def test_the_hub_is_read_as_articles_of_its_own_splits(storage):
    rows = {"train": many(6), "validation": LINES, "test": many(2)[:4]}
    asked = []

    def load(**arguments):
        asked.append(arguments)
        return {split: Dataset.from_dict({"text": lines}) for split, lines in rows.items()}

    data = DataConfig(source="wikitext", tokenizer="train:300")
    cache = ensure_cache(data, storage, lambda line: None, load)
    assert (asked[0]["path"], asked[0]["name"]) == ("Salesforce/wikitext", "wikitext-103-raw-v1")
    # Article 0 is in test too: what is held out is not trained on.
    assert {split: facts["papers"] for split, facts in cache.manifest["splits"].items()} == {
        "train": 5, "validation": 3, "test": 1,
    }  # fmt: skip
    flat = flat_tokens(cache, "validation", storage)
    tokenizer = tokenizers.Tokenizer.from_file(str(cache.folder / "tokenizer.json"))
    assert tokenizer.decode(flat.tokens[: flat.offsets[1]].tolist()).startswith("= Robert Boulter =\nRobert is")
    assert cache.components == ("wikitext",) and known_components(data) == {"wikitext": None}


def test_a_hub_that_fails_says_what_to_do(storage):
    def load(**arguments):
        raise ConnectionError("no route to host")

    with pytest.raises(RuntimeError, match=r"could not be read from the Hub .ConnectionError: no route to host.*urns"):
        ensure_cache(DataConfig(source="wikitext", tokenizer="train:300"), storage, print, load)


@pytest.mark.parametrize("name", ["wiki.train.raw", "wiki.test.raw.txt"])
def test_a_local_file_is_split_by_the_hash_of_its_articles(tmp_path: Path, storage, name):
    path = tmp_path / name
    path.write_text("\n".join(many(80)), encoding="utf-8")
    data = DataConfig(source=str(path), tokenizer="train:300")
    cache = ensure_cache(data, storage, lambda line: None)
    expected = [split_of(text) for text in articles(many(80))]
    counts = {split: facts["papers"] for split, facts in cache.manifest["splits"].items()}
    assert counts == {split: expected.count(split) for split in counts}
    assert min(counts.values()) > 2 and cache.components == ("wiki",)
    assert cache_id(data).startswith("local-train_300-")


def test_a_file_without_articles_for_a_split_is_refused_before_anything_is_written(tmp_path: Path, storage):
    path = tmp_path / "wiki.raw"
    path.write_text("\n".join(many(2)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no article for \w+: one in 10 is held out"):
        ensure_cache(DataConfig(source=str(path), tokenizer="train:300"), storage, lambda line: None)
    assert not (storage.root / "cache").exists()
    with pytest.raises(ValueError, match="is no file; use wikitext"):
        cache_id(DataConfig(source="nowhere.raw", tokenizer="train:300"))


def test_a_file_of_stories_is_none_of_articles():
    assert find_source(DataConfig(source="stories.txt")).word == "local"
    assert find_source(DataConfig(source="stories.txt")) is not wikitext.FILE_SOURCE
    assert len(np.unique([split_of(text) for text in articles(many(60))])) == 3
