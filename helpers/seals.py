"""JSON that knows whether it is whole: a file carries the SHA-256 of its own content, and reading checks it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.config import canonical_json
from helpers.storage import publish_text

_SEAL = "sha256"


def publish_sealed(path: Path, value: dict[str, Any]) -> Path:
    """Publish `value` as JSON with the SHA-256 of its own content, which `read_sealed` checks."""
    return publish_text(path, sealed(value))


def sealed(value: dict[str, Any]) -> str:
    return json.dumps(value | {_SEAL: _digest(value)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """What `publish_sealed` wrote. ValueError if the file was cut or altered, OSError if it cannot be read."""
    try:
        value = json.loads(path.read_bytes())
        is_whole = value.pop(_SEAL) == _digest(value)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not a whole JSON file of this project") from error
    if not is_whole:
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 that it names")
    return value


def sealed_lines(rows: Sequence[dict[str, Any]]) -> str:
    """`rows` as JSON lines, of which the last carries the SHA-256 of all."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    last = rows[-1] | {_SEAL: _lines_digest("".join(lines[:-1]), rows[-1])}
    return "".join(lines[:-1]) + json.dumps(last, ensure_ascii=False, allow_nan=False) + "\n"


def read_sealed_lines(path: Path, what: str) -> list[dict[str, Any]]:
    """The rows that `sealed_lines` wrote. ValueError if the file, `what` in words, was cut or altered; OSError if it
    cannot be read."""
    try:
        *lines, last = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in [*lines, last]]
        seal = rows[-1].pop(_SEAL, None)
        is_whole = seal == _lines_digest("".join(line + "\n" for line in lines), rows[-1])
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not a whole {what}") from error
    if not is_whole or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} was cut or altered: its last line does not match what the file holds")
    return rows


def _lines_digest(above: str, last: dict[str, Any]) -> str:
    return hashlib.sha256((above + canonical_json(last)).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
