"""Papers to token cache: the Hub's fallback chain on stand-ins, what names a cache, tokenizers, and real abstracts."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import tokenizers

from helpers.config import ARXIV_COMPONENTS, DataConfig, SyntheticConfig
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.sources import arxiv
from helpers.data.sources.arxiv import ATTEMPTS, HUB_LABELS
from helpers.data.tokenizer_spec import tokenizer_identity
from helpers.data.tokenizers import PaperTokenizer, load_tokenizer, train_tokenizer
from helpers.storage import Storage

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ABSTRACTS, PYTHIA = SHARED / "arxiv_abstracts", SHARED / "tokenizers" / "pythia" / "tokenizer.json"
needs_shared = pytest.mark.skipif(
    not (ABSTRACTS.exists() and PYTHIA.exists()), reason="needs the arXiv abstracts and tokenizer in ../shared/data"
)
SPLITS = ("train", "validation", "test")


def quiet(line: str) -> None:
    pass


def hub_papers(split: str, strip: bool) -> list[dict[str, str]]:
    """Two papers of each label in the Hub's order, each naming its own label and another tag."""
    labels = HUB_LABELS * 2
    papers = [{"text": f"{split} paper {i} [{label}] [cs.LG]", "label": label} for i, label in enumerate(labels)]
    if strip:
        papers = [paper | {"text": paper["text"].replace(paper["label"], "")} for paper in papers]
    return papers


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Stand-ins of the four places, in the files that the real ones have."""
    root = tmp_path / "hub"
    labels = {"main": datasets.ClassLabel(names=list(HUB_LABELS)), "mirror": datasets.Value("int64")}
    labels["convert"] = labels["main"]
    for split in SPLITS:
        for place, label in labels.items():
            folder = root / place / "no_ref" / split if place != "mirror" else root / place / "data"
            folder.mkdir(parents=True, exist_ok=True)
            papers = hub_papers(split, strip=place != "mirror")
            rows = {"text": [p["text"] for p in papers], "label": [HUB_LABELS.index(p["label"]) for p in papers]}
            features = datasets.Features({"text": datasets.Value("string"), "label": label})
            name = "0000.parquet" if place != "mirror" else f"{split}-00000-of-00001.parquet"
            datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / name)
        stem = {"validation": "val"}.get(split, split)
        (root / "script").mkdir(exist_ok=True)
        lines = "".join(json.dumps(paper) + "\n" for paper in hub_papers(split, strip=False))
        (root / "script" / f"{stem}_data.txt").write_text(lines)
    files = [{"split": split, "path": f"no_ref/{split}/*.parquet"} for split in SPLITS]
    card = f"---\nconfigs:\n- config_name: no_ref\n  data_files: {json.dumps(files)}\n---\n"
    (root / "main" / "README.md").write_text(card)
    return root


def load_from(hub: Path, tried: list[str]):
    """The real `load_dataset`, with each Hub address turned into its stand-in; a place that was removed fails."""

    def load(path: str, **arguments: Any) -> Any:
        revision = arguments.pop("revision", None)
        if path == "json":
            place = "script"
            files = {split: Path(url).name for split, url in arguments["data_files"].items()}
            arguments["data_files"] = {split: str(hub / place / name) for split, name in files.items()}
        else:
            place = "mirror" if path.startswith("mteb/") else "convert" if revision else "main"
            path = str(hub / place)
        tried.append(place)
        if not (hub / place).exists():
            raise ConnectionError(f"no {place}\nand more lines")
        return datasets.load_dataset(path, **arguments)

    return load


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("missing", [[], ["main"], ["main", "convert"], ["main", "convert", "script"]])
def test_each_attempt_gives_the_same_papers(hub: Path, tmp_path: Path, missing: list[str], limit: int | None) -> None:
    for place in missing:
        shutil.rmtree(hub / place)
    tried, lines = [], []
    data = DataConfig(source="arxiv", max_papers_per_component=limit)
    source = arxiv.read(data, tmp_path / "arrow", lines.append, load_from(hub, tried))
    assert tried == [*missing, ["main", "convert", "script", "mirror"][len(missing)]]
    assert source.origin == ATTEMPTS[len(missing)].name
    assert [line.split(":")[1] for line in lines[:-1]] == [" ConnectionError"] * len(missing)
    for split, papers in source.splits.items():
        expected = hub_papers(split, strip=True)[: 11 * limit if limit else None]
        assert [dict(p._asdict()) for p in papers.read(range(len(papers)))] == expected
    assert list(source.splits) == list(SPLITS)


def test_when_every_attempt_fails_the_error_lists_them_and_the_ways_on(tmp_path: Path) -> None:
    def load(path: str, **arguments: Any) -> Any:
        raise ConnectionError(f"cannot reach {path}")

    storage, lines = Storage.at(tmp_path / "out"), []
    with pytest.raises(RuntimeError) as raised:
        ensure_cache(DataConfig(source="arxiv", tokenizer="train:300"), storage, lines.append, load)
    message = str(raised.value)
    for attempt in ATTEMPTS:
        assert attempt.name in message
    assert "source = synthetic needs no download" in message and "SOURCE in a notebook" in message
    assert len(lines) == 4
    assert not (storage.root / "cache").exists()


def test_a_label_that_is_not_among_the_eleven_is_no_arxiv_paper(hub: Path, tmp_path: Path) -> None:
    shutil.rmtree(hub / "main")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["cs.LG"])})
    for split in SPLITS:
        rows = datasets.Dataset.from_dict({"text": ["x"], "label": [0]}, features=features)
        rows.to_parquet(hub / "convert/no_ref" / split / "0000.parquet")
    with open(hub / "script" / "val_data.txt", "a") as file:
        file.write(json.dumps({"text": "on learning", "label": "cs.LG"}) + "\n")
    tried, lines = [], []
    data, storage = DataConfig(source="arxiv", tokenizer="train:300"), Storage.at(tmp_path / "out")
    with pytest.raises(ValueError, match=r"validation row 22: label = 'cs\.LG' is unknown; the labels here are cs\.CV"):
        ensure_cache(data, storage, lines.append, load_from(hub, tried))
    assert tried == ["main", "convert", "script"]
    assert "label 'cs.LG' is unknown" in lines[1]
    assert not (storage.root / "cache").exists()


def test_a_source_without_validation_is_used_and_reported(hub: Path, tmp_path: Path) -> None:
    for place in ("main", "convert", "script"):
        shutil.rmtree(hub / place)
    (hub / "mirror/data/validation-00000-of-00001.parquet").unlink()
    lines: list[str] = []
    data = DataConfig(source="arxiv", tokenizer="train:300")
    cache = ensure_cache(data, Storage.at(tmp_path / "out"), lines.append, load_from(hub, []))
    assert any("has no validation split" in line for line in lines)
    with pytest.raises(ValueError, match=r"split = 'validation' is not in .*; use one of train, test"):
        cache.index("validation")


def test_the_arxiv_cache_has_the_listed_components(hub: Path, tmp_path: Path) -> None:
    data = DataConfig(source="arxiv", tokenizer="train:300")
    cache = ensure_cache(data, Storage.at(tmp_path / "out"), quiet, load_from(hub, []))
    assert cache.components == ARXIV_COMPONENTS
    assert cache.manifest["origin"] == ATTEMPTS[0].name
    assert np.bincount(cache.index("train").component).tolist() == [2] * 11


# What names a cache


def write_papers(folder: Path, word: str = "ring") -> Path:
    folder.mkdir(parents=True)
    for split in SPLITS:
        lines = [json.dumps({"text": f"{split} {word} {i}", "label": "ab"[i % 2]}) + "\n" for i in range(4)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def test_cache_id_names_the_content_and_not_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = DataConfig(source=str(write_papers(tmp_path / "here")), tokenizer="train:300")
    there = DataConfig(source=str(write_papers(tmp_path / "far" / "there")), tokenizer="train:300")
    other = DataConfig(source=str(write_papers(tmp_path / "other", "field")), tokenizer="train:300")
    assert cache_id(here) == cache_id(there) != cache_id(other)
    monkeypatch.chdir(tmp_path)
    assert cache_id(dataclasses.replace(here, source="./here")) == cache_id(here)
    with open(tmp_path / "here" / "test.jsonl", "a") as file:
        file.write(json.dumps({"text": "new", "label": "a"}) + "\n")
    assert cache_id(here) != cache_id(there)


def test_cache_id_follows_what_decides_the_tokens_alone() -> None:
    arxiv = DataConfig(source="arxiv")
    for changed in ({"tokenizer": "train:300"}, {"max_papers_per_component": 5}, {"source": "synthetic"}):
        assert cache_id(dataclasses.replace(arxiv, **changed)) != cache_id(arxiv)
    for unchanged in ({"shuffle_labels": True}, {"window_tokens": 50}, {"synthetic": SyntheticConfig(seed=1)}):
        assert cache_id(dataclasses.replace(arxiv, **unchanged)) == cache_id(arxiv)
    assert cache_id(arxiv).startswith("arxiv-pythia_70m-")
    synthetic = DataConfig(synthetic=SyntheticConfig(seed=1))
    assert cache_id(synthetic) != cache_id(DataConfig())
    assert cache_id(dataclasses.replace(synthetic, tokenizer="gpt2")) == cache_id(synthetic)


def test_caches_that_are_there_keep_their_names(tmp_path: Path) -> None:
    """Names from before the pipeline knew stories: another name would build the same cache again."""
    local = DataConfig(source=str(write_papers(tmp_path / "papers")), tokenizer="train:300")
    assert cache_id(local) == "local-train_300-d6a64fc45e"
    assert cache_id(DataConfig(source="arxiv")) == "arxiv-pythia_70m-f9e655573f"
    assert cache_id(DataConfig()) == "synthetic-c3c2b1c890"


# Tokenizers


def word_tokenizer(path: Path, words: list[str]) -> Path:
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))
    return path


def test_a_vocabulary_without_bos_is_an_error(tmp_path: Path) -> None:
    path = word_tokenizer(tmp_path / "tokenizer.json", ["?", "ring"])
    with pytest.raises(ValueError, match=r"has no BOS token.*choose one by data.bos_token. It has no special tokens"):
        load_tokenizer(str(path))
    assert load_tokenizer(str(word_tokenizer(path, ["?", "ring", "<s>"]))).bos_id == 2


TEMPLATES = {
    "a name of its own": lambda: template("<|start|> $A", "<|start|>"),
    "Llama 3's": lambda: tokenizers.processors.Sequence(
        [tokenizers.processors.ByteLevel(), template("<|start|> $A", "<|start|>")]
    ),
    "BERT's": lambda: tokenizers.processors.BertProcessing(("</s>", 1), ("<|start|>", 2)),
}


def template(single: str, *tokens: str) -> tokenizers.processors.TemplateProcessing:
    return tokenizers.processors.TemplateProcessing(single=single, special_tokens=[(token, 2) for token in tokens])


@pytest.mark.parametrize("case", TEMPLATES)
def test_the_bos_that_the_file_names_goes_before_a_known_name(tmp_path: Path, case: str) -> None:
    backend = tokenizers.Tokenizer.from_file(
        str(word_tokenizer(tmp_path / "t.json", ["<s>", "</s>", "<|start|>", "ring"]))
    )
    backend.post_processor = TEMPLATES[case]()
    assert PaperTokenizer.read("t", backend.to_str().encode()).bos == "<|start|>"


def test_a_bos_can_be_given_and_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(word_tokenizer(tmp_path / "t.json", ["?", "ring"])))
    backend.add_special_tokens(["[BEGIN]", "[END]"])
    backend.post_processor = template("$A [END]", "[END]")  # an end is no beginning
    backend.save(str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match=r"choose one by data.bos_token. Its special tokens are \[BEGIN\], \[END\]"):
        load_tokenizer(str(tmp_path / "t.json"))
    assert load_tokenizer(str(tmp_path / "t.json"), "[BEGIN]").bos_id == 2
    with pytest.raises(ValueError, match=r"bos_token = 'BEGIN' is no token .* special tokens are \[BEGIN\], \[END\]"):
        load_tokenizer(str(tmp_path / "t.json"), "BEGIN")
    with pytest.raises(ValueError, match="a tokenizer that is trained here has its own BOS"):
        DataConfig(tokenizer="train:300", bos_token="[BEGIN]")
    given = DataConfig(source=str(tmp_path / "t.txt"), tokenizer=str(tmp_path / "t.json"), bos_token="[BEGIN]")
    (tmp_path / "t.txt").write_text("once")
    assert cache_id(given) != cache_id(dataclasses.replace(given, bos_token=""))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    source = write_papers(tmp_path / "papers")
    storage = Storage.at(tmp_path / "out")
    with pytest.raises(ValueError, match=r"tokenizer = .* is not a tokenizer\.json"):
        ensure_cache(DataConfig(source=str(source), tokenizer=str(path)), storage, quiet)
    assert not (storage.root / "cache").exists()


def test_a_tokenizer_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read .*; use a tokenizer\.json, a Hub name, or train:4096"):
        tokenizer_identity(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="train:N needs N above 257"):
        tokenizer_identity("train:257")
    with pytest.raises(ValueError, match="train:N needs N above 257"):
        tokenizer_identity("train:many")


def test_a_hub_tokenizer(tmp_path: Path) -> None:
    path = word_tokenizer(tmp_path / "downloaded.json", ["<bos>", "ring"])
    loaded = load_tokenizer("someone/words", download=lambda repo, file: str(path))
    assert (loaded.name, loaded.bos_id, loaded.file) == ("someone/words", 0, path.read_bytes())

    def fails(repo: str, file: str) -> str:
        raise ConnectionError("no network")

    with pytest.raises(
        RuntimeError, match=r"'someone/words' could not be read from the Hub \(ConnectionError: no network\)"
    ):
        load_tokenizer("someone/words", download=fails)


def test_a_trained_tokenizer_is_the_same_each_time_and_reads_back_any_text() -> None:
    texts = ["the ring of integers", "the group of units \u00e9\u4e2d", "rings and groups"] * 3
    trained = train_tokenizer(280, iter(texts))
    assert trained.file == train_tokenizer(280, iter(texts)).file
    assert trained.vocab_size == 280
    assert trained.backend.token_to_id("<|endoftext|>") == trained.bos_id
    unseen = "\u03b1 <|endoftext|> \U0001f642"
    ids = trained.encode([unseen])[0]
    assert trained.bos_id not in ids, "a paper that spells out BOS does not get it"
    assert trained.backend.decode(ids.tolist()) == unseen


def test_padding_truncation_and_special_tokens_of_the_file_are_not_applied(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(word_tokenizer(tmp_path / "t.json", ["<s>", "a", "b"])))
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PaperTokenizer.read("t", backend.to_str().encode())
    assert tokenizer.encode(["a b a b", "b"])[0].tolist() == [1, 2, 1, 2]
    assert tokenizer.encode(["a b a b", "b"])[1].tolist() == [2]


@needs_shared
def test_the_pythia_tokenizer_gives_the_published_ids() -> None:
    pythia = load_tokenizer(str(PYTHIA))
    assert pythia.encode(["Hello world, we study rings."])[0].tolist() == [12092, 1533, 13, 359, 1263, 14445, 15]
    assert pythia.encode(["a  b"])[0].max() == 50276, "added whitespace tokens lie above the base vocabulary"
    assert (pythia.vocab_size, pythia.bos_id) == (50277, 0)


@needs_shared
@pytest.mark.slow
def test_real_abstracts_hold_the_tokens_that_the_tokenizer_gives(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "out")
    cache = ensure_cache(DataConfig(source=str(ABSTRACTS), tokenizer=str(PYTHIA)), storage, quiet)
    assert cache.components == ARXIV_COMPONENTS
    assert cache.vocab_size == 50277
    direct = tokenizers.Tokenizer.from_file(str(PYTHIA))
    for split, papers in {"train": 5775, "validation": 770, "test": 1155}.items():
        rows = datasets.Dataset.from_parquet(str(ABSTRACTS / f"{split}.parquet"), cache_dir=str(tmp_path / "arrow"))
        index, flat = cache.index(split), flat_tokens(cache, split, storage)
        assert len(index.paper_ids) == len(set(index.paper_ids)) == papers
        assert np.bincount(index.component).tolist() == [papers // 11] * 11
        assert np.array_equal(np.diff(flat.offsets), index.num_tokens)
        for n in range(0, papers, 97):
            ids = direct.encode(rows[n]["text"], add_special_tokens=False).ids
            assert flat.tokens[flat.offsets[n] : flat.offsets[n + 1]].tolist() == ids
            names = rows.features["label"].names
            assert cache.components[index.component[n]] == names[rows[n]["label"]]
