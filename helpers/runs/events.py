"""What the training loop tells whoever listens: the loop knows of no notebook, widget or progress bar."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args


@dataclass(frozen=True, kw_only=True)
class Started:
    run_id: str
    step: int
    """Steps that earlier sessions have done already."""
    num_steps: int
    num_tokens: int
    """Training tokens of the whole run."""
    device: str
    precision: str
    num_processes: int = 1


@dataclass(frozen=True, kw_only=True)
class Logged:
    step: int
    num_steps: int
    tokens: int
    """Training tokens consumed so far."""
    loss: float
    """Mean over the steps since the last log, nats per token."""
    lr: float
    grad_norm: float
    tokens_per_s: float
    memory_bytes: int
    """Peak GPU memory, or the resident memory of a CPU process."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    step: int
    path: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A fallback or a fault that the run survives: what was chosen, and why."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    step: int
    part: str
    """What was measured, such as one component."""
    xe: float
    bayes_xe: float | None


@dataclass(frozen=True, kw_only=True)
class Finished:
    run_id: str
    path: Path
    """The result file."""


Event = Started | Logged | Saved | Notice | Evaluated | Finished
Subscriber = Callable[[Event], None]


def print_events(event: Event) -> None:
    """The plain subscriber: one line an event, for a terminal or a notebook without a front end."""
    print(describe(event), flush=True)


def to_line(event: Event) -> str:
    """One line of JSON, from which another process has the same event."""
    return json.dumps({"event": type(event).__name__} | dataclasses.asdict(event), default=str)


def from_line(line: str) -> Event | None:
    """The event of a line; None if it holds none."""
    try:
        fields = json.loads(line)
        kind = {kind.__name__: kind for kind in get_args(Event)}[fields.pop("event")]
        return kind(**{name: Path(value) if name == "path" else value for name, value in fields.items()})
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _together(num_processes: int) -> str:
    return f", {num_processes} processes together" if num_processes > 1 else ""


def describe(event: Event) -> str:
    """One line of words for `event`."""
    match event:
        case Started():
            begun = f"resumed at step {event.step:,}" if event.step else "new"
            return (
                f"{event.run_id}: {begun}, {event.num_steps:,} steps, {event.num_tokens:,} tokens, "
                f"{event.precision} on {event.device}{_together(event.num_processes)}"
            )
        case Logged():
            return (
                f"step {event.step:,}/{event.num_steps:,}  loss {event.loss:.4f}  lr {event.lr:.2e}  "
                f"grad {event.grad_norm:.3f}  {event.tokens_per_s:,.0f} tokens/s  {event.memory_bytes / 2**30:.2f} GiB"
            )
        case Saved():
            return f"step {event.step:,} saved to {event.path} in {event.seconds:.1f} s"
        case Notice():
            return f"note: {event.text}"
        case Evaluated():
            bayes = f" (Bayes {event.bayes_xe:.4f})" if event.bayes_xe is not None else ""
            return f"XE at step {event.step:,} on {event.part}: {event.xe:.4f} nats per token{bayes}"
        case Finished():
            return f"{event.run_id}: done, {event.path}"
