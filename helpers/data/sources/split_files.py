"""Which local file holds which split: the layouts that people have, and what is wrong with the others in words.

    train.parquet  test-00000-of-00002.parquet  Dev.jsonl.gz      beside each other, or in a folder data/
    train/part-0.parquet  test/part-0.parquet                     a folder a split, or that in a folder data/

The words of a split are those of the Hub: train; validation, valid, val, dev; test; in any case.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_SPLIT_WORDS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_COMPRESSED = (".gz", ".zst", ".bz2")
_EXAMPLE = "train.parquet, validation.parquet, test.parquet (or .jsonl)"
_OF = re.compile(r"(\d+)-of-(\d+)")
_PART = re.compile(r"^[-_. ]*(?:part|shard|chunk|file|data)?[-_. ]*(\d+)(?!\d)")


def split_files(source: str) -> dict[str, list[Path]]:
    """The files of each split of `source`, sorted by name.

    A folder gives its Parquet or JSONL files; a file gives itself and the files of its kind beside it. Raises
    ValueError when train or test has none, when a split is there twice or in two kinds, and when a part is missing.
    """
    place = Path(os.path.expanduser(source))
    if not place.exists():
        raise ValueError(
            f"source = {source!r} does not exist; use arxiv, synthetic, tinystories, a .txt file of stories, "
            f"or a folder of papers: {_EXAMPLE}"
        )
    folder = place.parent if place.is_file() else place
    found = list(_in_folder(folder) if place.is_file() else _in_layouts(folder))
    if place.is_file():
        if place not in [path for _, path in found]:
            raise ValueError(f"source = {source!r} is no file of a split; use names such as {_EXAMPLE}")
        found = [(split, path) for split, path in found if kind_of(path) == kind_of(place)]
    splits = {split: sorted(path for of, path in found if of == split) for split in _SPLIT_WORDS}
    for split in ("train", "test"):
        if not splits[split]:
            raise ValueError(
                f"source = {source!r} has no {split} split; it needs {_EXAMPLE}, beside each other or in folders "
                f"train/ and test/. There {_listed(folder)}"
            )
    splits = {split: paths for split, paths in splits.items() if paths}
    for split, paths in splits.items():
        _require_one_set(source, split, paths, folder)
    return splits


def kind_of(path: Path) -> str | None:
    """parquet or jsonl (also compressed: .jsonl.gz, .zst, .bz2); None for a file that is not read."""
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    if name.endswith(".jsonl"):
        return "jsonl"
    return "parquet" if path.suffix.lower() == ".parquet" else None


def unread_files(source: str, taken: Mapping[str, Sequence[Path]]) -> list[str]:
    """The names of Parquet and JSONL files in and below the folder of `source` that no split has taken."""
    place = Path(os.path.expanduser(source))
    if place.is_file():
        return []
    read = set(itertools.chain(*taken.values()))
    files = sorted(path for path in place.rglob("*") if path.is_file() and kind_of(path))
    return [path.relative_to(place).as_posix() for path in files if path not in read]


def _in_layouts(folder: Path) -> Iterator[tuple[str, Path]]:
    for place in (folder, folder / "data"):
        if place.is_dir():
            yield from _in_folder(place)
            for child in sorted(place.iterdir()):
                if child.is_dir() and (split := _SPLIT_OF_WORD.get(_stem(child).lower())):
                    yield from ((split, path) for path in sorted(child.iterdir()) if _is_read(path))


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if _is_read(path) and (split := _split_of(path)):
            yield split, path


def _is_read(path: Path) -> bool:
    return path.is_file() and path.name[0] not in "._" and kind_of(path) is not None


def _stem(path: Path) -> str:
    """The name without the endings of a file that is read: `train.jsonl.gz` -> `train`."""
    return re.sub(r"(\.parquet|\.jsonl(\.gz|\.zst|\.bz2)?)$", "", path.name, flags=re.IGNORECASE)


def _split_of(path: Path) -> str | None:
    """`train-00000-of-00002.parquet` -> `train`; the word must end there, so `training_notes.jsonl` is no split."""
    word = re.match(r"[a-z]*", _stem(path).lower())[0]
    return _SPLIT_OF_WORD.get(word)


def _require_one_set(source: str, split: str, paths: Sequence[Path], folder: Path) -> None:
    """ValueError unless the files of a split are one complete set."""
    if len({kind_of(path) for path in paths}) > 1:
        raise ValueError(
            f"source = {source!r} holds both Parquet and JSONL files of {split}; name one file, or keep one kind there"
        )
    places = sorted({path.parent for path in paths})
    if len(places) > 1:
        names = " and in ".join(f"{place.relative_to(folder).as_posix()}/" for place in places)
        raise ValueError(
            f"source = {source!r} holds {split} in {names}; keep one of them, or name one folder as source"
        )
    _require_whole(source, split, paths)


def _require_whole(source: str, split: str, paths: Sequence[Path]) -> None:
    """ValueError when the names of a split's files say that one of them is not there, or that one is there twice."""
    stems = [_stem(path) for path in paths]
    if any(_OF.search(stem) for stem in stems):
        for stem, path in zip(stems, paths, strict=True):
            if not _OF.search(stem):
                raise ValueError(
                    f"source = {source!r}: {path.name} stands beside files that are numbered -of-N; "
                    f"keep the one or the others as {split}"
                )
        numbers = [tuple(map(int, _OF.search(stem).groups())) for stem in stems]
        totals = sorted({total for _, total in numbers})
        if len(totals) > 1:
            names = ", ".join(f"of {total}" for total in totals)
            raise ValueError(f"source = {source!r}: the files of {split} are of several sets ({names}); keep one set")
        first = min(number for number, _ in numbers)
        wanted = range(min(first, 1), min(first, 1) + totals[0])
        _require_numbers(source, split, [number for number, _ in numbers], wanted)
        return
    parts = [_PART.match(_rest(stem)) for stem in stems]
    if all(parts):
        numbers = [int(part[1]) for part in parts]
        if len(set(numbers)) == len(numbers):
            _require_numbers(source, split, numbers, range(min(*numbers, 1), max(numbers) + 1))


def _require_numbers(source: str, split: str, numbers: Sequence[int], wanted: range) -> None:
    if sorted(numbers) != list(wanted):
        missing = [number for number in wanted if number not in numbers]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        what = f"part {missing[0]} is missing" if missing else f"part {(twice or numbers)[0]} is there more than once"
        raise ValueError(
            f"source = {source!r}: {what} among the {len(numbers)} files of {split}, which are numbered "
            f"{min(numbers)} to {max(numbers)} and should be {wanted[0]} to {wanted[-1]}; copy all of them again, or "
            "rename them if they are all"
        )


def _rest(stem: str) -> str:
    """What follows the word of the split, if the name begins with one."""
    word = re.match(r"[a-z]*", stem.lower())[0]
    return stem[len(word) :] if word in _SPLIT_OF_WORD else stem


def _listed(folder: Path) -> str:
    """The first files in and below the folder, in words."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    names = [path.relative_to(folder).as_posix() for path in itertools.islice(paths, 200)]
    if not names:
        return "is no file"
    return f"are {', '.join(sorted(names)[:8])}" + (" and more" if len(names) > 8 else "")
