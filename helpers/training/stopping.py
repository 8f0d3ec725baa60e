"""A stop that waits for the end of a step: Ctrl-C, the stop button of a notebook, a scheduler's SIGTERM.

An interrupt that came in the middle of an update would leave weights and optimizer of two steps, of which no checkpoint
may be taken. The first one is therefore noted, and asked for between steps; a second one stops at once.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.is_asked = False


@contextmanager
def noted_stops(report: Callable[[str], None], *, is_alone: bool = True) -> Iterator[Stop]:
    """While it lasts, the signals that raise KeyboardInterrupt are noted instead; elsewhere than in the main thread,
    where no signal arrives, nothing changes, nor where several processes train one run and each would have to stop at
    the same step."""
    stop, before = Stop(), {}

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_asked:
            raise KeyboardInterrupt
        stop.is_asked = True
        report("stopping after this step, with a checkpoint; once more stops at once")

    if is_alone and threading.current_thread() is threading.main_thread():
        before = {one: signal.getsignal(one) for one in _SIGNALS}
        before = {one: handler for one, handler in before.items() if handler is signal.default_int_handler}
        for one in before:
            signal.signal(one, note)
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
