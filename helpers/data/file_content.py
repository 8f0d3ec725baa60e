"""What identifies the content of local files, and whether it is text."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from helpers.storage import file_sha256


def content_sha256(files: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """The SHA-256 of every file, by split: it names the content and not its place."""
    return {split: [_file_sha256(path, *_version(path)) for path in paths] for split, paths in files.items()}


def require_utf8(paths: Iterable[Path]) -> None:
    """ValueError with file and line where a text file is not UTF-8."""
    for path in paths:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path} line {number} is not UTF-8 ({error}); save it as UTF-8") from error


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, modified_ns: int) -> str:
    """Hashed once for each version of a file: a plan of many runs asks for the same cache many times."""
    return file_sha256(path)
