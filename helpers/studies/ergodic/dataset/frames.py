"""What a token cache holds, as frames: papers and tokens, lengths, what was dropped, how much categories overlap.

Category is the data's word for a component. Everything is counted in the cache itself, not taken from its manifest,
except what was dropped before there was a cache. Lengths and unigrams are those of the train split.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.config import DataConfig
from helpers.counter_rng import Stream, permutation
from helpers.data.flat_tokens import flat_tokens
from helpers.data.paper_index import PaperIndex
from helpers.data.token_cache import TokenCache
from helpers.storage import Storage
from helpers.studies.ergodic.dataset.unigrams import (
    count_tokens,
    distributions,
    entropy,
    jensen_shannon,
    pairwise_jensen_shannon,
)
from helpers.studies.ergodic.results import Results

NUM_LARGEST = 5
DROP_REASONS = ("ambiguous_label", "held_out", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The frames of one cache; a row a category, in the cache's order, where nothing else is said."""

    origin: str
    """Where the papers came from, in words."""
    window_tokens: int
    counts: pd.DataFrame
    """Papers and tokens by split and in all; `rank` by train tokens, 1 for the most; `five_largest` is yes or empty."""
    lengths: pd.DataFrame
    """Tokens of a train paper: min, quartiles, mean, max, and the share of papers shorter than a window. No row for a
    category without train papers, here and in what follows."""
    drops: pd.DataFrame
    """One row a split: papers kept, and those dropped by reason."""
    unigrams: pd.DataFrame
    """Tokens, distinct tokens, entropy (nats), and the divergence from the mixture of all with equal weights (nats)."""
    overlap: pd.DataFrame
    """Jensen-Shannon divergence (nats) of the unigrams of each pair; index and columns are categories."""
    separation: pd.DataFrame
    """Two rows, the labels as they are and shuffled over papers: what one token tells about its category, at most
    ln K, and the divergence of pairs (nats). What shuffled labels give is not the categories' but finite text's."""


def describe_dataset(storage: Storage, cache: TokenCache, window_tokens: int = DataConfig.window_tokens) -> Dataset:
    """Count and compare what `cache` holds; its train tokens are unpacked to the local disk if they are not yet.

    Raises what `flat_tokens` does: ValueError for a damaged cache, RuntimeError where a disk does not answer.
    """
    index, flat = cache.index("train"), flat_tokens(cache, "train", storage)
    shuffled = index.component[permutation(0, Stream.SHUFFLE, len(index.component))]
    has_papers = papers_of_each(cache, index) > 0
    names = [name for name, has in zip(cache.components, has_papers, strict=True) if has]
    counts, shuffled_counts = (
        count_tokens(flat, labels, len(cache.components), cache.vocab_size)[has_papers]
        for labels in (index.component, shuffled)
    )
    overlap = pairwise_jensen_shannon(distributions(counts))
    return Dataset(
        origin=cache.manifest["origin"],
        window_tokens=window_tokens,
        counts=papers_and_tokens(cache),
        lengths=length_distribution(cache, index, window_tokens),
        drops=dropped_papers(cache),
        unigrams=unigram_statistics(names, counts),
        overlap=pd.DataFrame(overlap, index=names, columns=names),
        separation=pd.DataFrame([separation("as they are", counts), separation("shuffled", shuffled_counts)]),
    )


def papers_and_tokens(cache: TokenCache) -> pd.DataFrame:
    """`Dataset.counts`. Of categories with equally many tokens, the one listed first has the better rank."""
    table = pd.DataFrame({"component": cache.components})
    for split in cache.manifest["splits"]:
        index = cache.index(split)
        table[f"{split}_papers"] = papers_of_each(cache, index)
        table[f"{split}_tokens"] = [
            int(index.num_tokens[index.component == number].sum()) for number in range(len(cache.components))
        ]
    for unit in ("papers", "tokens"):
        table[unit] = table.filter(regex=f"_{unit}$").sum(axis=1)
    rank = table["train_tokens"].rank(method="first", ascending=False).astype(int)
    table.insert(1, "rank", rank)
    table.insert(2, "five_largest", np.where(rank <= NUM_LARGEST, "yes", ""))
    return table


def length_distribution(cache: TokenCache, index: PaperIndex, window_tokens: int) -> pd.DataFrame:
    """`Dataset.lengths` of the papers of one split; quartiles interpolate linearly."""
    rows = []
    for number, name in enumerate(cache.components):
        length = index.num_tokens[index.component == number]
        if len(length):
            q1, median, q3 = np.quantile(length, [0.25, 0.5, 0.75]).tolist()
            row = {"component": name, "papers": len(length), "min": int(length.min()), "q1": q1, "median": median}
            row |= {"q3": q3, "mean": float(length.mean()), "max": int(length.max())}
            rows.append(row | {"share_short": float((length < window_tokens).mean())})
    return pd.DataFrame(rows)


def dropped_papers(cache: TokenCache) -> pd.DataFrame:
    """`Dataset.drops`, as the manifest has them; a source that is sampled and not read drops nothing."""
    rows = []
    for split, facts in cache.manifest["splits"].items():
        drops = {reason: facts["drops"].get(reason, 0) for reason in DROP_REASONS}
        rows.append({"split": split, "kept": len(cache.index(split).paper_ids), **drops})
    return pd.DataFrame(rows)


def unigram_statistics(names: list[str], counts_KV: np.ndarray) -> pd.DataFrame:
    """`Dataset.unigrams` of named components with token counts [K, V]."""
    probabilities = distributions(counts_KV)
    mixture = probabilities.mean(axis=0)
    return pd.DataFrame(
        {
            "component": names,
            "tokens": counts_KV.sum(axis=1),
            "distinct_tokens": (counts_KV > 0).sum(axis=1),
            "entropy": entropy(probabilities),
            "jsd_mixture": [jensen_shannon(np.stack([own, mixture])) for own in probabilities],
        }
    )


def separation(labels: str, counts_KV: np.ndarray) -> dict[str, object]:
    """One row of `Dataset.separation`; a single component has no pairs, and NaN in their place."""
    probabilities = distributions(counts_KV)
    pairs = pairwise_jensen_shannon(probabilities)[np.triu_indices(len(probabilities), k=1)]
    pairs = pairs if len(pairs) else np.array([np.nan])
    return {
        "labels": labels,
        "categories": len(probabilities),
        "first_token_gain": jensen_shannon(probabilities),
        "bound": float(np.log(len(probabilities))),
        "min_jsd": float(pairs.min()),
        "mean_jsd": float(pairs.mean()),
        "max_jsd": float(pairs.max()),
    }


def repetition_by_run(results: Results, condition: str) -> pd.DataFrame:
    """One row a run of a condition, K ascending: how often it saw each of its unique tokens (`repetition`)."""
    columns = ["k", "seed", "role", "run_id", "tokens_seen", "unique_tokens", "repetition"]
    return results.runs_of(condition)[columns].sort_values(columns[:4]).reset_index(drop=True)


def papers_of_each(cache: TokenCache, index: PaperIndex) -> np.ndarray:
    """The number of papers of each component, int64 [K]."""
    return np.bincount(index.component, minlength=len(cache.components))
