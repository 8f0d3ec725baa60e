"""Stories as a source: how they are split, packed without padding, written, and what is said of bad ones."""

import hashlib
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import tokenizers

from helpers.__main__ import main
from helpers.config import DataConfig, RunConfig
from helpers.data import cache_writer, packing
from helpers.data.cache_id import cache_id, cache_request
from helpers.data.cleaning import normalised
from helpers.data.components import select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.papers import PaperSplit
from helpers.data.sources import story_file
from helpers.data.sources.story_file import FileStories, is_held_out
from helpers.data.token_cache import TokenCache, open_cache, verify_cache
from helpers.runs.length import order_of
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.studies import find_preset, known_components

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SAMPLE, GPT2 = SHARED / "tinystories" / "sample.txt", SHARED / "tokenizers" / "gpt2" / "tokenizer.json"
needs_shared = pytest.mark.skipif(
    not (SAMPLE.exists() and GPT2.exists()), reason="needs the TinyStories sample and tokenizer in ../shared/data"
)
END = "<|endoftext|>"
WORDS = ["the", "cat", "saw", "a", "big", "dog", "and", "Lily's", "caf\u00e9", "\u4e2d", "ran.\n", '"Oh!"', "far"]


def quiet(line: str) -> None:
    pass


def made_up(num_stories: int, num_words: int = 40) -> list[str]:
    """Different stories of up to twice `num_words` words."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 2 * num_words, num_stories)
    return [" ".join(["Story", str(i), *rng.choice(WORDS, n)]).strip() for i, n in enumerate(lengths)]


def write(path: Path, texts: list[str], between: str = f"\n{END}\n") -> DataConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(between.join(texts), encoding="utf-8")
    return DataConfig(source=str(path), tokenizer="train:300")


def build(data: DataConfig, storage: Storage, report: Callable[[str], None] = quiet, load: Any = None) -> TokenCache:
    return ensure_cache(data, storage, report, load)


def told(cache: TokenCache, storage: Storage) -> dict[str, list[str]]:
    """The stories that a cache holds, by the `tokenizers` library itself: its tokens decoded, cut at the separator."""
    tokenizer = tokenizers.Tokenizer.from_file(str(cache.folder / "tokenizer.json"))
    texts = {}
    for split in cache.manifest["splits"]:
        text = tokenizer.decode(flat_tokens(cache, split, storage).tokens.tolist(), skip_special_tokens=False)
        assert text.endswith(END)
        texts[split] = text.split(END)[:-1]
    return texts


def by_hash(texts: list[str]) -> dict[str, list[str]]:
    """The rule in other words: the first 16 hexadecimal digits of a story's SHA-256, as a number, modulo 20."""
    test = [text for text in texts if int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) % 20 == 0]
    return {"train": [text for text in texts if text not in test], "test": test}


# What a file holds


@pytest.mark.parametrize("chunk_chars", [7, 2**20])
def test_the_tokens_are_the_stories_with_the_separator_after_each(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_chars: int
) -> None:
    monkeypatch.setattr(story_file, "_CHUNK_CHARS", chunk_chars)
    texts = made_up(400)
    cache = build(write(tmp_path / "tales.txt", texts), storage)
    assert told(cache, storage) == by_hash(texts)
    assert cache.components == ("tales",)
    assert verify_cache(cache) == []
    for split, held in by_hash(texts).items():
        tokens = flat_tokens(cache, split, storage).tokens
        assert (tokens == cache.bos_id).sum() == len(held), "a separator for every story, and no other: no padding"


def test_every_story_is_in_one_split_once(tmp_path: Path, storage: Storage) -> None:
    texts = made_up(300)
    held_out = by_hash(texts)["test"][0]
    variant = next(
        text for text in (held_out.upper() + " " * n + "!" for n in range(99)) if text in by_hash([text])["train"]
    )
    repeated = [*texts, texts[0], f"  {texts[1]}\n", held_out, variant, held_out.replace(" ", "\n")]
    cache = build(write(tmp_path / "tales.txt", repeated), storage)
    splits = told(cache, storage)
    seen = [normalised(text) for texts in splits.values() for text in texts]
    assert len(seen) == len(set(seen)) == 301, "all made-up stories, and the variant with an exclamation mark"
    drops = [facts["drops"] for facts in cache.manifest["splits"].values()]
    assert sum(drop["duplicate"] + drop["held_out"] for drop in drops) == 4


def test_blank_stories_are_left_out_and_counted(tmp_path: Path, storage: Storage) -> None:
    texts = made_up(100)
    cache = build(write(tmp_path / "tales.txt", [*texts[:50], "", " \n", *texts[50:], "\n"]), storage)
    assert told(cache, storage) == by_hash(texts)
    drops = [facts["drops"]["blank"] for facts in cache.manifest["splits"].values()]
    assert sum(drops) == 2, "what follows the last separator is no story when it is blank"


def test_a_cut_last_story_and_windows_line_ends(tmp_path: Path, storage: Storage) -> None:
    texts = [*made_up(100), "Once upon a time there w"]
    data = write(tmp_path / "tales.txt", [text.replace("\n", "\r\n") for text in texts], between=f"\r\n{END}\r\n")
    assert told(build(data, storage), storage) == by_hash(texts)


def test_letters_of_the_separator_in_a_hub_story_are_letters(tmp_path: Path, storage: Storage) -> None:
    texts = ["It wrote <|endoftext|> on the wall.", *made_up(20)]
    data = DataConfig(source="tinystories", tokenizer="train:300")
    cache = build(data, storage, load=hub_of(tmp_path, {"train": texts, "validation": ["The end."]}))
    assert (flat_tokens(cache, "train", storage).tokens == cache.bos_id).sum() == 21


def test_the_split_is_a_hash_of_the_story_alone(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1: SHA-256 of "abc" begins with ba7816bf 8f01cfea, which is 14 modulo 20."""
    assert 0xBA7816BF8F01CFEA % 20 == 14
    assert not is_held_out("abc")
    texts = made_up(2_000, num_words=2)
    test = set(by_hash(texts)["test"])
    assert [is_held_out(f" {text}\n") for text in texts] == [text in test for text in texts]
    assert 0.035 < np.mean([is_held_out(text) for text in texts]) < 0.065, "3 standard deviations around 1 in 20"
    write(tmp_path / "tales.txt", ["before", *reversed(texts)])
    kept = [row["text"].strip() for row in FileStories(path=tmp_path / "tales.txt", split="test")]
    assert set(kept) - {"before"} == test


# Packing


def test_papers_are_long_and_windows_cover_every_token_once(tmp_path: Path, storage: Storage) -> None:
    cache = build(write(tmp_path / "tales.txt", made_up(600)), storage)
    lengths = cache.index("train").num_tokens
    assert len(lengths) > 10 and set(lengths[:-1]) == {2_048} and 2_048 <= lengths[-1] < 2 * 2_048
    epoch = ["data.sampling=epoch", "train.steps=none", "train.epochs=1", "train.warmup_steps=0", "train.batch_size=4"]
    config = apply_overrides(
        RunConfig(study="ergodic"), [*epoch, "data.window_tokens=512", "model.max_context_tokens=512"]
    )
    order = order_of(config, select(config, cache))
    flat = flat_tokens(cache, "train", storage)
    seen, short = np.zeros(len(flat.tokens), int), 0
    for step in range(order.num_steps):
        windows = order.of_step(step)
        for first, length in zip(flat.offsets[windows.paper] + windows.start, windows.length, strict=True):
            seen[first : first + length] += 1
            short += length < 512
    assert seen.tolist() == [1] * lengths.sum()
    assert short <= 1, "the last window of the only part"


def test_each_part_packs_on_its_own(tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PAPER_TOKENS", 64)
    monkeypatch.setattr(packing, "PART_STORIES", 100)
    texts = made_up(400)
    cache = build(write(tmp_path / "tales.txt", texts), storage)
    assert told(cache, storage) == by_hash(texts)
    train, index = cache.manifest["splits"]["train"], cache.index("train")
    assert len(train["parts"]) == -(-len(by_hash(texts)["train"]) // 100)
    assert len(set(index.paper_ids)) == len(index.paper_ids) == train["papers"]
    ends = np.cumsum([0, *(part["rows"] for part in train["parts"])])
    tokens, offsets = (flat := flat_tokens(cache, "train", storage)).tokens, flat.offsets
    for part, (first, end) in zip(train["parts"], pairwise(ends), strict=True):
        lengths = index.num_tokens[first:end]
        assert set(lengths[:-1]) == {64} and 64 <= lengths[-1] < 128
        assert tokens[offsets[end] - 1] == cache.bos_id and part["tokens"] == lengths.sum()


@pytest.mark.parametrize(("num_tokens", "lengths"), [(3, [3]), (8, [8]), (15, [15]), (16, [8, 8]), (31, [8, 8, 15])])
def test_cut(monkeypatch: pytest.MonkeyPatch, num_tokens: int, lengths: list[int]) -> None:
    monkeypatch.setattr(packing, "PAPER_TOKENS", 8)
    papers = packing.cut(np.arange(num_tokens))
    assert [len(paper) for paper in papers] == lengths
    assert np.concatenate(papers).tolist() == list(range(num_tokens))


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_a_killed_build_goes_on_to_the_same_bytes(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(packing, "PAPER_TOKENS", 64)
    monkeypatch.setattr(packing, "PART_STORIES", 50)
    data = write(tmp_path / "tales.txt", made_up(200))
    undisturbed = bytes_of(build(data, Storage.at(tmp_path / "undisturbed")))
    assert len(undisturbed) == 8, "tokenizer, four train parts and one of test, index, manifest"
    publish, written = cache_writer.publish, []

    def count(path: Path, content: Callable) -> Path:
        if len(written) == killed_at:
            raise KeyboardInterrupt
        written.append(path)
        return publish(path, content)

    monkeypatch.setattr(cache_writer, "publish", count)
    with pytest.raises(KeyboardInterrupt):
        build(data, storage)
    assert open_cache(storage, cache_id(data)) is None
    kept = [path for path in written if path.parent.name in ("train", "test")]
    killed_at = -1
    written.clear()
    assert bytes_of(build(data, storage)) == undisturbed
    assert not set(kept) & set(written), "a finished part is not written again"


def bytes_of(cache: TokenCache) -> dict[str, bytes]:
    files = (path for path in cache.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(cache.folder)): path.read_bytes() for path in files}


def test_few_texts_are_in_memory_at_once(tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_file, "_CHUNK_CHARS", 2**16)
    data = write(tmp_path / "tales.txt", made_up(20_000))
    tracemalloc.start()
    num_stories = sum(1 for split in ("train", "test") for _ in FileStories(path=Path(data.source), split=split))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_stories == 20_000
    assert peak_bytes < 2**20 < Path(data.source).stat().st_size / 3

    at_once, read = [], PaperSplit.read
    monkeypatch.setattr(PaperSplit, "read", lambda split, rows: at_once.append(len(rows)) or read(split, rows))
    build(write(tmp_path / "fewer.txt", made_up(1_000)), storage)
    assert sum(at_once) > 2_000 and max(at_once) <= 64


# The Hub


def hub_of(folder: Path, splits: dict[str, list[str]]) -> Callable[..., Any]:
    """The real `load_dataset` on files that are named and shaped as those of the Hub."""
    for split, texts in splits.items():
        (folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
        rows = datasets.Dataset.from_dict({"text": texts})
        rows.to_parquet(folder / "hub" / "data" / f"{split}-00000-of-00001-2d5a1467fff1081b.parquet")

    def load(path: str, revision: str, **arguments: Any) -> Any:
        assert (path, revision[:7]) == ("roneneldan/TinyStories", "f54c09f")
        return datasets.load_dataset(str(folder / "hub"), **arguments)

    return load


@pytest.mark.parametrize("limit", [None, 30])
def test_the_hub_gives_train_and_its_validation_as_test(tmp_path: Path, storage: Storage, limit: int | None) -> None:
    texts = made_up(100)
    splits = {"train": ["", *texts[:80], texts[90] + " "], "validation": texts[80:]}
    data = DataConfig(source="tinystories", tokenizer="train:300", max_papers_per_component=limit)
    lines: list[str] = []
    cache = build(data, storage, lines.append, hub_of(tmp_path, splits))
    last = limit - 1 if limit else 80
    assert told(cache, storage) == {"train": texts[:last], "test": texts[80 : 80 + (limit or 20)]}
    assert cache.components == ("tinystories",)
    assert cache.manifest["origin"] == "roneneldan/TinyStories@f54c09f"
    drops = {"blank": 1, "ambiguous_label": 0, "held_out": 0 if limit else 1, "near_held_out": 0, "duplicate": 0}
    assert cache.manifest["splits"]["train"]["drops"] == drops
    assert any("packed into papers of 2,048 tokens" in line for line in lines)
    assert any("has no validation split" in line for line in lines)


def test_a_hub_that_cannot_be_read_names_the_ways_on(storage: Storage) -> None:
    def load(**arguments: Any) -> Any:
        raise ConnectionError("no network\nand more")

    data = DataConfig(source="tinystories", tokenizer="train:300")
    with pytest.raises(
        RuntimeError,
        match=r"from the Hub \(ConnectionError: no network\).*source = synthetic needs no download.*SOURCE in a",
    ):
        build(data, storage, load=load)
    assert not (storage.root / "cache").exists()


@pytest.mark.parametrize("splits", [{"train": ["a tale"]}, {"train": ["a tale"], "validation": [None]}])
def test_a_hub_of_another_shape_is_an_error(tmp_path: Path, storage: Storage, splits: dict) -> None:
    data = DataConfig(source="tinystories", tokenizer="train:300")
    with pytest.raises(RuntimeError, match="roneneldan/TinyStories could not be read from the Hub"):
        build(data, storage, load=hub_of(tmp_path, splits))
    assert not (storage.root / "cache").exists()


# Names and errors


def test_cache_id_names_stories_component_and_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = write(tmp_path / "here" / "tales.txt", made_up(3))
    there = write(tmp_path / "there" / "tales.txt", made_up(3))
    assert cache_id(here) == cache_id(there)
    assert cache_id(here) != cache_id(write(tmp_path / "here" / "other.txt", made_up(3))), "the component is its name"
    assert cache_id(here) != cache_id(write(tmp_path / "more" / "tales.txt", made_up(4)))
    hub = DataConfig(source="tinystories", tokenizer="train:300")
    assert cache_id(hub).startswith("tinystories-train_300-")
    assert cache_request(hub)["packing"] == {"paper_tokens": 2_048, "part_stories": 32_768}
    before = cache_id(hub)
    monkeypatch.setattr(packing, "PAPER_TOKENS", 4_096)
    assert cache_id(hub) != before


def test_the_component_is_known_without_the_cache(tmp_path: Path) -> None:
    assert known_components(DataConfig(source="tinystories")) == {"tinystories": None}
    assert known_components(DataConfig(source=str(tmp_path / "tales.txt"))) == {"tales": None}


def test_a_folder_called_tinystories_is_not_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tinystories").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_preset("ergodic", "demo", source="tinystories").config.data.source == "tinystories"


BAD_FILES = {
    "nothing": (b"", r"tales\.txt is empty; put <\|endoftext\|> between the stories"),
    "no separator": (b"Once upon a time.\nThe end.\n", r"tales\.txt has no <\|endoftext\|>; put"),
    "no UTF-8": (b"A tale.\n<|endoftext|>\nA caf\xe9.\n", r"tales\.txt line 3 is not UTF-8"),
    "UTF-16": (f"A tale.{END}Another.".encode("utf-16"), "is not UTF-8"),
    "one story": (
        b"A story.\n<|endoftext|>\n",
        r"tales\.txt has no story for test: one story in 20 is held out for test, by its hash; use",
    ),
    "nothing but blanks": (b" \n<|endoftext|>\n\n<|endoftext|>", "has no story for train"),
    "no test story": (b"A story.\n<|endoftext|>\nAnother.\n", "has no story for test"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_and_nothing_is_written(tmp_path: Path, storage: Storage, case: str) -> None:
    content, message = BAD_FILES[case]
    (tmp_path / "tales.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build(DataConfig(source=str(tmp_path / "tales.txt"), tokenizer="train:300"), storage)
    assert not (storage.root / "cache").exists()


def test_a_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for source in (tmp_path / "none.txt", tmp_path / "folder.txt"):
        with pytest.raises(ValueError, match=r"is no file; use tinystories, or a text file with <\|endoftext\|> in it"):
            cache_id(DataConfig(source=str(source), tokenizer="train:300"))


def test_the_command_line_takes_a_text_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "tales.txt", made_up(200)).source
    command = [
        "fetch",
        "--source",
        source,
        "--tokenizer",
        "train:300",
        "--storage",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    assert "1 components, 300 token ids" in capsys.readouterr().out


# The real stories


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["train:2000", str(GPT2)], ids=["train", "gpt2"])
def test_the_sample_holds_the_tokens_that_the_tokenizer_gives(storage: Storage, tokenizer: str) -> None:
    """GPT-2 gives TinyStories some 220 tokens a story; a vocabulary of 2,000 gives some 10 % more."""
    cache = build(DataConfig(source=str(SAMPLE), tokenizer=tokenizer), storage)
    texts = [text.strip() for text in SAMPLE.read_text(encoding="utf-8").split(END)]
    assert told(cache, storage) == by_hash(texts)
    direct = tokenizers.Tokenizer.from_file(str(cache.folder / "tokenizer.json"))
    for split, held in by_hash(texts).items():
        num_tokens = sum(len(encoding.ids) + 1 for encoding in direct.encode_batch(held, add_special_tokens=False))
        facts = cache.manifest["splits"][split]
        assert (facts["tokens"], facts["papers"]) == (num_tokens, num_tokens // 2_048)
        assert 200 < num_tokens / len(held) < 275
    assert [len(held) for held in by_hash(texts).values()] == [2_210, 107]
