"""The dataset analysis against counts by hand, scipy, and processes whose unigrams are known exactly."""

import json
import math
import re
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tokenizers
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from helpers.config import ARXIV_COMPONENTS, DataConfig, SyntheticConfig
from helpers.data import hidden_markov
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import FlatTokens
from helpers.data.token_cache import TokenCache
from helpers.runs.result_file import read_result
from helpers.storage import Storage
from helpers.studies.ergodic.dataset import figures as dataset_figures
from helpers.studies.ergodic.dataset import unigrams
from helpers.studies.ergodic.dataset.dataset import analyse_dataset, describe_papers
from helpers.studies.ergodic.dataset.frames import describe_dataset, repetition_by_run
from helpers.studies.ergodic.results import load_results
from tests.ergodic.test_analysis import rewrite_run_line
from tests.simulated_results import run_config, simulate_baselines, simulate_grid

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ABSTRACTS, PYTHIA = SHARED / "arxiv_abstracts", SHARED / "tokenizers" / "pythia" / "tokenizer.json"
TRAIN = [
    ("a a b", "x"),
    ("a c", "x"),
    ("A  a B", "x"),  # repeats the first
    ("d", "x"),  # in test too
    ("b d", "x"),  # under two labels
    ("b d", "y"),
    ("b b b b", "y"),
]
TEST = [("d", "x"), ("c c", "y"), ("C C", "y")]


def quiet(line: str) -> None:
    pass


def text_cache(folder: Path, storage: Storage, train: list, test: list, tokenizer: str | None = None) -> TokenCache:
    """A cache of papers (text, label) in JSONL files; without a tokenizer, every word of one letter is a token."""
    folder.mkdir()
    for split, papers in {"train": train, "test": test}.items():
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in papers]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    if tokenizer is None:
        tokenizer = str(folder / "tokenizer.json")
        letters = tokenizers.models.WordLevel({"<s>": 0, "a": 1, "b": 2, "c": 3, "d": 4})
        words = tokenizers.Tokenizer(letters)
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        words.save(tokenizer)
    return ensure_cache(DataConfig(source=str(folder), tokenizer=tokenizer), storage, quiet)


@pytest.fixture
def by_hand(tmp_path, storage):
    """Two categories; train keeps `a a b` and `a c` of x, `b b b b` of y."""
    return text_cache(tmp_path / "papers", storage, TRAIN, TEST)


@pytest.fixture
def synthetic(storage) -> tuple[TokenCache, SyntheticConfig]:
    config = SyntheticConfig(num_components=7, papers_per_component=100, paper_tokens=500)
    return ensure_cache(DataConfig(synthetic=config), storage, quiet), config


# Unigrams


def random_papers(rng: np.random.Generator) -> tuple[FlatTokens, np.ndarray]:
    """50 papers of 0 to 40 tokens out of 13, with labels out of 4."""
    offsets = np.cumsum([0, *rng.integers(0, 41, size=50)])
    tokens = rng.integers(0, 13, size=offsets[-1]).astype(np.uint16)
    return FlatTokens(tokens=tokens, offsets=offsets), rng.integers(0, 4, size=50).astype(np.int32)


@pytest.mark.parametrize("part_tokens", [1, 7, 64, 10_000])
def test_tokens_are_counted_alike_in_parts_of_any_size(monkeypatch, part_tokens):
    monkeypatch.setattr(unigrams, "_PART_TOKENS", part_tokens)
    flat, labels = random_papers(np.random.default_rng(0))
    expected = np.zeros((4, 13), int)
    for paper, label in enumerate(labels):
        for token in flat.tokens[flat.offsets[paper] : flat.offsets[paper + 1]]:
            expected[label, token] += 1
    assert np.array_equal(unigrams.count_tokens(flat, labels, 4, 13), expected)


def test_counting_needs_the_memory_of_a_part(monkeypatch):
    monkeypatch.setattr(unigrams, "_PART_TOKENS", 2**14)
    tokens = np.zeros(2**22, np.uint16)
    flat = FlatTokens(tokens=tokens, offsets=np.arange(0, 2**22 + 1, 2**12))
    tracemalloc.start()
    try:
        counts = unigrams.count_tokens(flat, np.zeros(2**10, np.int32), 1, 10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts[0, 0] == 2**22
    assert peak_bytes < tokens.nbytes / 8


def test_entropy_and_divergences_are_those_of_scipy():
    p_KV = np.random.default_rng(0).dirichlet(np.full(200, 0.05), size=5)
    p_KV[0, :100], p_KV[1, 100:] = 0, 0  # tokens that occur in one only
    p_KV /= p_KV.sum(axis=1, keepdims=True)
    matrix = unigrams.pairwise_jensen_shannon(p_KV)
    for i in range(5):
        assert unigrams.entropy(p_KV)[i] == pytest.approx(scipy_entropy(p_KV[i]), rel=1e-12)
        for j in range(5):
            assert matrix[i, j] == pytest.approx(jensenshannon(p_KV[i], p_KV[j]) ** 2, rel=1e-9, abs=1e-12)
    from_the_mean = np.mean([scipy_entropy(p_V, p_KV.mean(axis=0)) for p_V in p_KV])
    assert unigrams.jensen_shannon(p_KV) == pytest.approx(from_the_mean, rel=1e-12)


def test_divergence_is_0_for_equal_and_ln_k_for_disjoint_distributions():
    assert unigrams.jensen_shannon(np.full((11, 3), 1 / 3)) == pytest.approx(0, abs=1e-15)
    assert unigrams.jensen_shannon(np.eye(11)) == pytest.approx(math.log(11))


def test_a_component_without_tokens_has_no_distribution():
    with pytest.raises(ValueError, match="component 1 has no token"):
        unigrams.distributions(np.array([[1, 2], [0, 0]]))


# Frames


def test_papers_and_tokens_by_hand(storage, by_hand):
    counts = describe_dataset(storage, by_hand).counts
    expected = {
        "component": ["x", "y"],
        "rank": [1, 2],
        "five_largest": ["yes", "yes"],
        "train_papers": [2, 1],
        "train_tokens": [5, 4],
        "test_papers": [1, 1],
        "test_tokens": [1, 2],
        "papers": [3, 2],
        "tokens": [6, 6],
    }
    assert counts.to_dict("list") == expected


def test_lengths_by_hand(storage, by_hand):
    lengths = describe_dataset(storage, by_hand, window_tokens=3).lengths.set_index("component")
    x = {"papers": 2, "min": 2, "q1": 2.25, "median": 2.5, "q3": 2.75, "mean": 2.5, "max": 3, "share_short": 0.5}
    y = {"papers": 1, "min": 4, "q1": 4, "median": 4, "q3": 4, "mean": 4, "max": 4, "share_short": 0}
    assert lengths.to_dict("index") == {"x": x, "y": y}


def test_drops_by_hand(storage, by_hand):
    train = {"split": "train", "kept": 3, "ambiguous_label": 2, "held_out": 1, "duplicate": 1}
    test = {"split": "test", "kept": 2, "ambiguous_label": 0, "held_out": 0, "duplicate": 1}
    assert describe_dataset(storage, by_hand).drops.to_dict("records") == [train, test]


def test_unigrams_and_overlap_by_hand(storage, by_hand):
    dataset = describe_dataset(storage, by_hand)
    x, y, mixture = [0.6, 0.2, 0.2], [0, 1, 0], [0.3, 0.6, 0.1]  # of a, b, c
    unigram = dataset.unigrams.set_index("component")
    assert unigram["tokens"].to_dict() == {"x": 5, "y": 4}
    assert unigram["distinct_tokens"].to_dict() == {"x": 3, "y": 1}
    assert unigram["entropy"].to_dict() == pytest.approx({"x": -0.6 * math.log(0.6) - 0.4 * math.log(0.2), "y": 0})
    to_mixture = {"x": jensenshannon(x, mixture) ** 2, "y": jensenshannon(y, mixture) ** 2}
    assert unigram["jsd_mixture"].to_dict() == pytest.approx(to_mixture)
    between = jensenshannon(x, y) ** 2
    assert np.allclose(dataset.overlap, [[0, between], [between, 0]])
    as_they_are = dataset.separation.iloc[0].to_dict()
    assert as_they_are["first_token_gain"] == pytest.approx(between)
    assert as_they_are["bound"] == pytest.approx(math.log(2))
    assert as_they_are["min_jsd"] == as_they_are["mean_jsd"] == as_they_are["max_jsd"] == pytest.approx(between)


def test_what_one_token_tells_is_what_the_processes_say(storage, synthetic):
    cache, config = synthetic
    dataset = describe_dataset(storage, cache)
    laws = [
        np.einsum("i,xij->x", hidden_markov.stationary(tensor_XSS), tensor_XSS)
        for tensor_XSS in hidden_markov.processes(config)
    ]
    gain = np.mean([scipy_entropy(law, np.mean(laws, axis=0)) for law in laws])
    as_they_are, shuffled = dataset.separation["first_token_gain"]
    assert as_they_are == pytest.approx(gain, abs=0.005)
    assert gain > 0.2
    assert 0 < shuffled < 0.005
    assert dataset.unigrams["entropy"].to_numpy() == pytest.approx([scipy_entropy(law) for law in laws], abs=0.01)
    exact = [[jensenshannon(p, q) ** 2 for q in laws] for p in laws]
    assert np.abs(dataset.overlap.to_numpy() - exact).max() < 0.01


def test_five_of_seven_equal_categories_are_marked_in_their_order(storage, synthetic):
    counts = describe_dataset(storage, synthetic[0]).counts
    assert counts["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert counts["five_largest"].tolist() == ["yes"] * 5 + [""] * 2
    assert counts["train_tokens"].tolist() == [50_000] * 7


def test_a_category_without_train_papers_is_counted_and_not_compared(tmp_path, storage):
    cache = text_cache(tmp_path / "papers", storage, [("a b", "x"), ("b c c", "y")], [*TEST, ("a a a", "z")])
    dataset = describe_dataset(storage, cache)
    assert dataset.counts.set_index("component").loc["z", ["train_papers", "test_tokens"]].tolist() == [0, 3]
    assert (
        list(dataset.lengths["component"]) == list(dataset.unigrams["component"]) == list(dataset.overlap) == list("xy")
    )
    assert len(analyse_dataset(storage, cache).paths) == 22
    assert pd.read_csv(storage.figure("dataset.csv"))["component"].tolist() == ["y", "x", "z"]  # by train tokens


def test_repetition_is_of_each_run_with_k_ascending(storage):
    simulate_grid(storage, ks=(4, 1), seeds=(0,))
    simulate_baselines(storage)
    results = load_results(storage)
    table = repetition_by_run(results, results.conditions[0])
    assert table["k"].tolist() == [1] * 12 + [4]
    assert table["run_id"].iloc[-1] == run_config(4, 0).run_id
    # 500 steps of 64 windows of 100 tokens over 50,000 tokens a component.
    assert table["repetition"].tolist() == pytest.approx([64.0] * 12 + [16.0])


# Figures


def test_bars_and_lengths_are_the_numbers_of_the_frame(storage, by_hand):
    dataset = describe_dataset(storage, by_hand)
    sizes = dataset.counts.merge(dataset.lengths.drop(columns="papers"), on="component")
    tokens, papers, lengths = dataset_figures.dataset(sizes, 100, "made up").axes
    assert [(bar.get_x(), bar.get_width()) for bar in tokens.patches] == [(0, 5), (0, 4), (5, 1), (4, 2)]
    assert [(bar.get_x(), bar.get_width()) for bar in papers.patches] == [(0, 2), (0, 1), (2, 1), (1, 1)]
    assert [label.get_text() for label in tokens.get_yticklabels()] == ["x", "y"]
    assert [label.get_text() for label in tokens.get_legend().get_texts()] == ["train", "test"]
    marks = {line.get_label(): list(line.get_xdata()) for line in lengths.lines}
    assert marks == {"median": [2.5, 4], "mean": [2.5, 4], "window (100)": [100, 100]}
    assert lengths.get_xscale() == "log"


def test_the_heat_map_writes_each_divergence_but_not_the_diagonal():
    names = ["a", "b", "c", "d"]
    overlap = pd.DataFrame(
        [[0, 0.5, 0.1, 0.4], [0.5, 0, 0.4, 0.2], [0.1, 0.4, 0, 0.5], [0.4, 0.2, 0.5, 0]], index=names, columns=names
    )
    ordered = dataset_figures.similar_together(overlap)
    assert {frozenset(ordered.columns[:2]), frozenset(ordered.columns[2:])} == {frozenset("ac"), frozenset("bd")}
    assert list(ordered.index) == list(ordered.columns)
    separation = pd.DataFrame({"labels": ["as they are", "shuffled"], "mean_jsd": [0.35, 0.03]})
    axes, _ = dataset_figures.dataset_overlap(ordered, separation).axes
    written = {
        (ordered.index[round(text.get_position()[1])], ordered.columns[round(text.get_position()[0])]): text.get_text()
        for text in axes.texts
    }
    assert written == {(i, j): f"{overlap.loc[i, j]:.3f}" for i in names for j in names if i != j}
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ordered.index)


# Everything


def contents_by_name(paths: Iterable[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def test_everything_of_a_text_cache_is_written_and_again_the_same(tmp_path):
    train = [(f"{topic} {word} in words {i}", label) for i in range(6) for topic, word, label in TOPICS]
    test = [(f"held out {topic} {word}", label) for topic, word, label in TOPICS]
    contents = []
    for name in ("one", "two"):
        storage = Storage.at(tmp_path / name)
        cache = text_cache(tmp_path / f"{name}-papers", storage, train, test, tokenizer="train:300")
        simulate_grid(storage, ks=(1, 2), seeds=(0, 1))
        results = load_results(storage)
        contents.append(contents_by_name(analyse_dataset(storage, cache, results, results.conditions).paths))
    tables = ("papers", "lengths", "drops", "unigrams", "separation", "overlap", "repetition")
    expected = {f"dataset_{table}.{kind}" for table in tables for kind in ("csv", "md", "tex")}
    expected |= {f"{figure}.{kind}" for figure in ("dataset", "dataset_overlap") for kind in ("csv", "png")}
    assert contents[0].keys() == expected
    assert contents[0] == contents[1]
    assert contents[0]["dataset.png"].startswith(b"\x89PNG")
    index = cache.index("train")
    table = pd.read_csv(storage.table("dataset_papers.csv"), keep_default_na=False)
    assert table["train_tokens"].sum() == index.num_tokens.sum()
    assert table["train_papers"].tolist() == [6, 6, 6]


TOPICS = [("rings", "ideal", "math.AC"), ("groups", "simple", "math.GR"), ("images", "pixel", "cs.CV")]


def test_everything_of_a_synthetic_cache_is_written(storage, synthetic):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    results = load_results(storage)
    paths = analyse_dataset(storage, synthetic[0], results, results.conditions).paths
    assert len(paths) == len(set(paths)) == 25
    assert "| hmm6 | 7 |" in storage.table("dataset_papers.md").read_text(encoding="utf-8")
    exact = pd.read_csv(storage.table("dataset_overlap.csv"), index_col="component")
    drawn = pd.read_csv(storage.figure("dataset_overlap.csv"), index_col="component")
    assert np.array_equal(drawn.loc[exact.index, exact.columns], exact)


def test_without_a_run_there_is_no_table_of_repetition(storage, by_hand):
    none, empty = (analyse_dataset(storage, by_hand, results) for results in (None, load_results(storage)))
    assert none.paths == empty.paths
    assert len(none.paths) == 22
    assert not storage.table("dataset_repetition.csv").exists()


def test_each_cache_is_described_with_the_conditions_that_it_is_of(storage, synthetic, by_hand):
    """The first condition's papers have the plain names, others append theirs: none overwrites another."""
    simulate_grid(storage, ks=(1, 2), seeds=(0, 1))
    simulate_grid(storage, ks=(1,), seeds=(0,), order="listed")
    simulate_grid(storage, ks=(1,), seeds=(0,), allocation="constant_unique")
    for path in storage.results().glob("*.jsonl"):
        config = read_result(path).run["config"]
        cache = by_hand if config["data"]["allocation"] == "constant_unique" else synthetic[0]
        provenance = read_result(path).run["provenance"] | {"cache_id": cache.cache_id}
        rewrite_run_line(path, provenance=provenance)
    first, second = describe_papers(storage, load_results(storage))
    assert len(first.conditions) == 2 and len(second.conditions) == 1
    assert first.tables["dataset_papers"]["component"].tolist() == list(synthetic[0].components)
    assert second.tables["dataset_papers"]["component"].tolist() == list(by_hand.components)
    assert not set(first.paths) & set(second.paths)
    assert all(path.exists() for path in (*first.paths, *second.paths))


def test_one_category_has_nothing_to_be_compared_with(tmp_path, storage):
    cache = text_cache(tmp_path / "papers", storage, [("a b", "x"), ("b c", "x")], [("d", "x")])
    assert len(analyse_dataset(storage, cache).paths) == 22
    separation = pd.read_csv(storage.table("dataset_separation.csv"))
    assert separation["first_token_gain"].tolist() == separation["bound"].tolist() == [0, 0]
    assert separation["mean_jsd"].isna().all()


def test_names_from_the_data_are_shown_as_they_are(tmp_path, storage):
    names = ["$x_{", "a|b <i>", "two\nlines and then very many more words", "bound"]
    train = [(text, name) for text, name in zip(["a b", "b c", "c d", "d a"], names, strict=True)]
    test = [(text, name) for text, name in zip(["a", "b", "c", "d"], names, strict=True)]
    analyse_dataset(storage, text_cache(tmp_path / "papers", storage, train, test), None)
    rows = storage.table("dataset_overlap.md").read_text(encoding="utf-8").splitlines()[-4:]
    shown = [re.split(r"(?<!\\)\|", row)[2].strip() for row in rows]
    assert shown == ["\\$x_{", "a\\|b &lt;i&gt;", "bound", "two lines and then very many more words"]
    assert r"a\textbar{}b \textless{}i\textgreater{}" in storage.table("dataset_papers.tex").read_text(encoding="utf-8")
    assert set(pd.read_csv(storage.table("dataset_overlap.csv")).columns) == {"component", *names}


@pytest.mark.slow
@pytest.mark.skipif(
    not (ABSTRACTS.exists() and PYTHIA.exists()), reason="needs the arXiv abstracts and tokenizer in ../shared/data"
)
def test_the_abstracts(storage):
    cache = ensure_cache(DataConfig(source=str(ABSTRACTS), tokenizer=str(PYTHIA)), storage, quiet)
    dataset = describe_dataset(storage, cache)
    counts = dataset.counts.set_index("component")
    assert tuple(counts.index) == ARXIV_COMPONENTS
    papers = counts[["train_papers", "validation_papers", "test_papers"]]
    assert papers.drop_duplicates().values.tolist() == [[525, 70, 105]]
    assert papers.sum().tolist() == [5_775, 770, 1_155]
    assert dataset.drops[["ambiguous_label", "held_out", "duplicate"]].to_numpy().sum() == 0
    # The README of the data: 126 to 235 tokens a paper in the median, over all splits.
    lengths = dataset.lengths.set_index("component")
    assert lengths["median"].between(120, 260).all()
    # Algebra and group theory share more words with each other than with any part of computer science.
    algebra = dataset.overlap.loc["math.AC"]
    assert algebra.drop("math.AC").idxmin() == "math.GR"
    assert dataset.overlap.loc["math.GR"].drop("math.GR").idxmin() == "math.AC"
    as_they_are, shuffled = dataset.separation["first_token_gain"]
    assert 0 < shuffled < as_they_are / 2 < math.log(11)
    assert len(analyse_dataset(storage, cache).paths) == 22
