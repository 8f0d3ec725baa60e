"""MinHash against Jaccard similarities counted by sets; near repeats across splits are kept out of train."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from helpers.config import DataConfig
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.near_duplicates import NUM_MINIMA, HeldOut, signatures
from helpers.storage import Storage

WORDS = [f"{a}{b}" for a in ("ring", "field", "group", "kernel", "ideal", "prime") for b in range(60)]


def paper(draw: random.Random, num_words: int = 150) -> str:
    return " ".join(draw.choices(WORDS, k=num_words))


def jaccard(a: str, b: str) -> float:
    """Of the sets of all stretches of 16 characters, by Python's sets."""
    sets = [{text[i : i + 16] for i in range(len(text) - 15)} for text in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("changed", [0, 5, 20, 60, 150])
def test_the_share_of_equal_minima_estimates_jaccard(changed: int) -> None:
    draw, found, exact = random.Random(changed), [], []
    for _ in range(60):
        words = paper(draw).split()
        other = words.copy()
        for place in draw.sample(range(len(words)), changed):
            other[place] = draw.choice(WORDS)
        a, b = " ".join(words), " ".join(other)
        one, two = signatures([a, b])
        found.append(np.mean(one == two))
        exact.append(jaccard(a, b))
    errors = np.array(found) - exact
    share = np.mean(exact)
    deviation = np.sqrt(share * (1 - share) / NUM_MINIMA)  # of a binomial share
    assert abs(errors.mean()) <= 4 * deviation / np.sqrt(60) + 1e-12
    assert errors.std() <= 1.5 * deviation + 1e-12


def test_signatures_do_not_depend_on_the_batch() -> None:
    texts = [paper(random.Random(i), 20 + i) for i in range(5)] + ["short"]
    together = signatures(texts)
    assert all((signatures([text])[0] == row).all() for text, row in zip(texts, together, strict=True))
    assert together.shape == (6, NUM_MINIMA) and together.dtype == np.uint32
    assert signatures([]).shape == (0, NUM_MINIMA)


def test_near_papers_are_found_and_short_or_other_ones_are_not() -> None:
    draw = random.Random(0)
    papers = [paper(draw) for _ in range(200)]
    held_out = HeldOut()
    assert held_out.near(signatures(papers)).tolist() == []
    held_out.add([signatures(papers[:100]), signatures([*papers[100:150], "short", ""])])
    others = [text + " One sentence more, at the end." for text in papers[::3]]
    found = held_out.near(signatures([*others, "short", "", *[paper(draw) for _ in range(100)]]))
    assert found.tolist() == list(range(50))


def folder_of(tmp_path: Path, splits: dict[str, list[str]]) -> str:
    for split, texts in splits.items():
        rows = [{"text": text, "label": f" {'ab'[i % 2]}" if i < 3 else "ab"[i % 2]} for i, text in enumerate(texts)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


def test_near_repeats_of_held_out_papers_are_kept_out_of_train_or_only_counted(
    tmp_path: Path, storage: Storage
) -> None:
    draw = random.Random(1)
    own, test = [paper(draw) for _ in range(12)], [paper(draw) for _ in range(6)]
    near = [f"{text} This sentence is new." for text in test[:4]]
    splits = {"train": [*own, *near, test[4]], "validation": [f"Before it. {test[0]}", paper(draw)], "test": test}
    source, lines = folder_of(tmp_path, splits), []
    dropped = ensure_cache(DataConfig(source=source, tokenizer="train:300"), storage, lines.append)
    facts = dropped.manifest["splits"]
    assert facts["train"]["drops"] == {"ambiguous_label": 0, "held_out": 1, "near_held_out": 4, "duplicate": 0}
    assert facts["train"]["notes"] == {"near_held_out": 0, "labels_stripped": 3}
    assert (facts["train"]["papers"], facts["validation"]["papers"], facts["test"]["papers"]) == (12, 1, 6)
    assert dropped.components == ("a", "b")
    assert any("12 kept" in line and "white space around 3 labels was taken off" in line for line in lines), lines

    keep = DataConfig(source=source, tokenizer="train:300", near_duplicates="keep")
    kept = ensure_cache(keep, storage, lines.append)
    assert kept.cache_id != dropped.cache_id
    assert kept.manifest["splits"]["train"]["drops"]["near_held_out"] == 0
    assert kept.manifest["splits"]["train"]["notes"]["near_held_out"] == 4
    assert kept.manifest["splits"]["train"]["papers"] == 16
    assert kept.manifest["content_sha256"] != dropped.manifest["content_sha256"]
    assert any("kept 4 that nearly repeat a held-out paper (data.near_duplicates=keep)" in line for line in lines)
