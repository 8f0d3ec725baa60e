"""Errors for people: which ones need no traceback, and their three lines (what happened, what was kept, what next)."""

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent
_ADVICE = {
    "TimeIsUp": "run this cell again, today or in another session: it goes on from its checkpoint",
    "TrainingFailed": "change the setting that the message names: that is another run, not mixed with this one",
    "StorageAway": "run this cell again when the storage is back: nothing is trained twice",
    "KeyboardInterrupt": "run this cell again, today or in another session: it goes on where its checkpoint is",
    "ValueError": "change the setting that the message names, and run the cells from there on again",
}
OURS = (ValueError, RuntimeError)
"""What this package raises with a message for people."""
FOREIGN = (OSError, KeyboardInterrupt)
"""Errors for people wherever they are raised: a disk, a network, the stop button."""


def require(holds: bool, name: str, value: Any, legal: str) -> None:
    """ValueError with the setting, its value and a legal one, unless `holds`."""
    if not holds:
        raise ValueError(f"{name} = {value!r} is not possible; use {legal}")


def did_you_mean(word: str, legal: Iterable[str]) -> str:
    """The legal word that is nearly `word`, as the end of a message; empty where none is."""
    near = difflib.get_close_matches(word, list(legal), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shortened(value: Any, most: int = 100) -> str:
    """A value as Python writes it, its middle left out where it is long: a bad text may be a whole paper."""
    written = repr(value[: 2 * most]) + "..." * (len(value) > 2 * most) if isinstance(value, str) else repr(value)
    return written if len(written) <= most else f"{written[: most // 2]} ... {written[-most // 3 :]}"


def three_lines(error: BaseException) -> str:
    """What happened, what was kept, what to do next."""
    name = type(error).__name__
    what = str(error) or {"KeyboardInterrupt": "stopped"}.get(name, name)
    return (
        f"{what}\n"
        "Kept: every result, checkpoint and figure that was finished; none is half written.\n"
        f"Next: {_ADVICE.get(name, 'mend what the message names, and run this cell again')}."
    )


def is_ours(error: BaseException) -> bool:
    """Whether this package raised it: a message for people, and not a fault of a library or of ours.

    Told by the file, for a module that is executed with -m is named __main__.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and Path(frames[-1][0].f_code.co_filename).is_relative_to(_PACKAGE)


def is_foreseen(error: BaseException) -> bool:
    """Whether its message says all that a reader needs."""
    return isinstance(error, FOREIGN) or (isinstance(error, OURS) and is_ours(error))
