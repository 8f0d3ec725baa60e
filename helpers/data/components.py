"""Which papers a run trains on: the components that are active at K, and how much of each.

Active sets are nested in K. `full` and `constant_exposure` give every paper of each active component;
`constant_unique` gives every K the same number of unique tokens, so that a difference between K is not a difference in
the amount of text; `matched_repeats` gives a K-th of each active component.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.config import ARXIV_COMPONENTS, DataConfig, RunConfig
from helpers.counter_rng import Stream, permutation, salt_of
from helpers.data.token_cache import TokenCache


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Papers of one component: row `paper` of the split's index, of which the first `length` tokens are in use."""

    paper: np.ndarray
    length: np.ndarray

    @property
    def num_tokens(self) -> int:
        return int(self.length.sum())


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The active components of a run, in order, with the pool of each."""

    components: tuple[str, ...]
    pools: tuple[Pool, ...]
    excluded_papers: int
    """Papers of the active components that are shorter than a window."""

    @property
    def unique_tokens_by_component(self) -> dict[str, int]:
        return {name: pool.num_tokens for name, pool in zip(self.components, self.pools, strict=True)}

    @property
    def unique_tokens(self) -> int:
        return sum(self.unique_tokens_by_component.values())

    @functools.cached_property
    def joined(self) -> "JoinedPools":
        return JoinedPools.of(self.pools)


@dataclass(frozen=True, kw_only=True)
class JoinedPools:
    """The P papers of K pools end to end, each field int64."""

    component: np.ndarray
    """[P] position of the pool."""
    paper: np.ndarray
    length: np.ndarray
    first: np.ndarray
    """[K + 1] where each pool begins."""

    @classmethod
    def of(cls, pools: Sequence[Pool]) -> "JoinedPools":
        sizes = [len(pool.paper) for pool in pools]
        return cls(
            component=np.repeat(np.arange(len(pools)), sizes),
            paper=np.concatenate([pool.paper for pool in pools]),
            length=np.concatenate([pool.length for pool in pools]),
            first=np.cumsum([0, *sizes]),
        )


def select(config: RunConfig, cache: TokenCache) -> Selection:
    """The train papers of a run. ValueError for more components than there are, or one with no paper long enough."""
    data, index = config.data, cache.index("train")
    pools = component_pools(data, cache, "train", seed=config.seed)
    active = active_components(config, {name: pool.num_tokens for name, pool in pools.items()})
    chosen = windows_of(data, cache, "train", active, seed=config.seed)
    quotas = _quotas(data, pools, active)
    if quotas is not None:
        chosen = [
            take(pools[name], quota, data.window_tokens, seed=config.seed, component=name)
            for name, quota in zip(active, quotas, strict=True)
        ]
    labels = component_labels(data, cache, "train", seed=config.seed)
    short = index.num_tokens < _shortest(data)
    is_active = np.isin(labels, [cache.components.index(name) for name in active])
    return Selection(components=active, pools=tuple(chosen), excluded_papers=int((short & is_active).sum()))


def _quotas(data: DataConfig, pools: dict[str, Pool], active: tuple[str, ...]) -> list[int] | None:
    """Unique tokens of each active component; None where each gives all that it has."""
    if data.allocation == "constant_unique":
        smallest = min(pool.num_tokens for pool in pools.values() if pool.num_tokens)
        share, rest = divmod(smallest, len(active))
        return [share + (position < rest) for position in range(len(active))]
    if data.allocation == "matched_repeats" and len(active) > 1:
        return [pools[name].num_tokens // len(active) for name in active]
    return None


def component_labels(data: DataConfig, cache: TokenCache, split: str, *, seed: int) -> np.ndarray:
    """The component [N] of each paper of a split; under `shuffle_labels` permuted over papers, pool sizes kept."""
    labels = cache.index(split).component
    return labels[permutation(seed, Stream.SHUFFLE, len(labels))] if data.shuffle_labels else labels


def component_pools(data: DataConfig, cache: TokenCache, split: str, *, seed: int) -> dict[str, Pool]:
    """The papers of every component of a split that are long enough; a component may have none.

    `data.samples` takes the first so many of the train split: ValueError if there are fewer."""
    index = cache.index(split)
    labels = component_labels(data, cache, split, seed=seed)
    pools = {}
    for number, name in enumerate(cache.components):
        rows = np.flatnonzero((labels == number) & (index.num_tokens >= _shortest(data)))
        if split == "train" and data.samples is not None:
            if len(rows) < data.samples:
                raise ValueError(
                    f"data.samples = {data.samples} is not possible: {name!r} has {len(rows)} train papers"
                )
            rows = rows[: data.samples]
        pools[name] = Pool(paper=rows, length=index.num_tokens[rows])
    return pools


def _shortest(data: DataConfig) -> int:
    """Tokens that a paper must have: a window, or in a stream, where windows cross papers, one."""
    return 1 if data.sampling == "stream" else data.window_tokens


def windows_of(data: DataConfig, cache: TokenCache, split: str, components: Iterable[str], *, seed: int) -> list[Pool]:
    """The pools of components that a run needs. ValueError if one of them holds no window in the split."""
    pools = component_pools(data, cache, split, seed=seed)
    for name in components:
        if not len(pools[name].paper):
            labels = component_labels(data, cache, split, seed=seed)
            lengths = cache.index(split).num_tokens[labels == cache.components.index(name)]
            raise ValueError(
                f"component {name!r} has no {split} paper of data.window_tokens = {data.window_tokens} tokens or more "
                f"(its longest has {int(lengths.max(initial=0))}); use a smaller window, longer papers of it, or "
                "data.components without it"
            )
    return [pools[name] for name in components]


def active_components(config: RunConfig, num_tokens: dict[str, int]) -> tuple[str, ...]:
    """The K active components out of those with `num_tokens` tokens each, in the configured order."""
    names = tuple(num_tokens)
    if config.data.components:
        unknown = [name for name in config.data.components if name not in names]
        if unknown:
            raise ValueError(f"data.components names {unknown[0]!r}; the components are {', '.join(names)}")
        if len(config.data.components) != config.k:
            raise ValueError(
                f"data.components names {len(config.data.components)} components, but k = {config.k}; "
                f"use k = {len(config.data.components)}, or as many names as k"
            )
        return config.data.components
    if config.k > len(names):
        raise ValueError(f"k = {config.k}, but the source has {len(names)} components; use 1 to {len(names)}")
    listed = listed_order(names)
    if config.data.order == "rotate":
        listed = rotated_order(listed, config.seed)
    elif config.data.order == "smallest_first":
        listed = tuple(sorted(listed, key=lambda name: num_tokens[name]))
    return listed[: config.k]


def listed_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The seed document's order for arXiv categories, the source's own for others."""
    if set(names) <= set(ARXIV_COMPONENTS):
        return tuple(name for name in ARXIV_COMPONENTS if name in names)
    return names


def rotated_order(names: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """A permutation by seed in which every component is first once in len(names) seeds, and no K < n repeats a set.

    A Latin square: seed s begins at name s and strides through the list. The stride, near the golden section and
    coprime with n, keeps listed neighbours (often of one field) apart.
    """
    n = len(names)
    stride = next(g for g in range(max(1, round(0.618 * n)), 2 * n) if math.gcd(g, n) == 1)
    return tuple(names[(seed + position * stride) % n] for position in range(n))


def take(pool: Pool, quota: int, window_tokens: int, *, seed: int, component: str) -> Pool:
    """Papers of `pool` in an order by seed, the last one cut: exactly `quota` tokens in pieces of a window or more.

    Nested: a smaller quota takes a prefix of the same order. ValueError if no such choice exists.
    """
    if quota < window_tokens:
        raise ValueError(f"component {component!r} would give {quota} tokens, less than a window; use fewer components")
    order = permutation(seed, Stream.ALLOCATION, len(pool.paper), salt=salt_of(component))
    paper, length = pool.paper[order], pool.length[order].copy()
    count = int(np.searchsorted(length.cumsum(), quota)) + 1
    paper, length = paper[:count], length[:count]
    length[-1] -= length.sum() - quota
    missing = max(0, window_tokens - int(length[-1]))  # the last piece holds no window: earlier papers lend it tokens
    spare = length[:-1][::-1] - window_tokens
    lent = np.diff(np.minimum(spare.cumsum(), missing), prepend=0)
    if lent.sum() < missing:
        raise ValueError(
            f"component {component!r} cannot give exactly {quota} tokens in pieces of {window_tokens} or more; "
            "use data.allocation=full or a smaller data.window_tokens"
        )
    length[:-1] -= lent[::-1]
    length[-1] += missing
    return Pool(paper=paper, length=length)
