"""A run while it trains: a few lines of text that replace themselves, so that an executed notebook stays small."""

import time

from IPython.display import display

from helpers.training.events import Evaluated, Event, Finished, Logged, Notice, Saved, Started, describe

REFRESH_S = 2.0


class LivePanel:
    """A subscriber of the training loop with one display handle, refreshed at most every `REFRESH_S` seconds."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._handle = None
        self._shown_s = float("-inf")

    def __call__(self, event: Event) -> None:
        self._lines[self._place(event)] = describe(event)
        now = time.monotonic()
        if now - self._shown_s >= REFRESH_S or isinstance(event, Started | Finished):
            self._shown_s = now
            self._show()

    @property
    def text(self) -> str:
        return "\n".join(self._lines.values())

    def _place(self, event: Event) -> str:
        """The line of an event: a newer one of its kind replaces it, but notices and components keep theirs."""
        match event:
            case Notice():
                return event.text
            case Evaluated():
                return event.component
            case Started() | Logged() | Saved() | Finished():
                return type(event).__name__

    def _show(self) -> None:
        content = {"text/plain": self.text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
