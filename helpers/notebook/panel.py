"""A run while it trains: one small panel that replaces itself, so that an executed notebook stays small."""

import contextlib
import html
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.config import RunConfig
from helpers.data.cache_id import cache_id
from helpers.data.token_cache import read_manifest
from helpers.grid.text import count, duration, size
from helpers.models.families import flops_per_token
from helpers.peak import peak_flops
from helpers.runs.events import Evaluated, Event, Finished, Logged, Notice, Saved, Started
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import Result, read_result
from helpers.storage import Storage
from helpers.studies import find_study

Show = Callable[[str, str], None]
"""Show a panel, given as HTML and as text, in the place of what it showed before."""

HTML_S, TEXT_S = 2.0, 30.0
"""Seconds between two refreshes, with a front end and without one."""
_CURVE_POINTS = 120


@dataclass(kw_only=True)
class LivePanel:
    """A subscriber of the training loop; `show` is called at its beginning and end, and now and then between."""

    config: RunConfig
    storage: Storage
    show: Show
    refresh_s: float = HTML_S
    _started: Started | None = None
    _logged: Logged | None = None
    _losses: list[tuple[int, float]] = field(default_factory=list)
    _checkpoint: tuple[int, Path, float] | None = None
    """Step, path and time (of the epoch) of the newest one."""
    _notes: dict[str, None] = field(default_factory=dict)
    _evaluated: dict[str, Evaluated] = field(default_factory=dict)
    _result: Result | None = None
    _peak_tokens_per_s: float | None = None
    """What the device would train at its arithmetic peak; None where that is not known."""
    _end: str = ""
    _begun_s: float = 0.0
    _shown_s: float = float("-inf")

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._begin(event)
            case Logged():
                self._logged = event
                self._losses.append((event.step, event.loss))
            case Saved():
                self._checkpoint = (event.step, event.path, time.time())
            case Notice():
                self._notes[event.text] = None
            case Evaluated():
                self._evaluated[event.part] = event
            case Finished():
                self._finish(event)
        if isinstance(event, Started | Finished) or time.monotonic() - self._shown_s >= self.refresh_s:
            self.refresh()

    def stop(self, error: BaseException) -> None:
        self._end = f"stopped ({type(error).__name__})"

    def refresh(self) -> None:
        self._shown_s = time.monotonic()
        self.show(self.html, self.text)

    @property
    def step(self) -> int:
        """Steps done, in this session and before."""
        if self._result:
            return self._result.run["steps"]
        if self._logged:
            return self._logged.step
        return self._started.step if self._started else 0

    @property
    def num_steps(self) -> int:
        """0 as long as it is not known."""
        return self._started.num_steps if self._started else self.step

    @property
    def status(self) -> str:
        if self._result:
            return f"done, XE {self._result.summaries[-1]['xe']:.4f} nats per token"
        if self._end or self._started is None:
            return self._end or "preparing"
        return "evaluating" if self.step == self._started.num_steps else "training"

    @property
    def lines(self) -> list[str]:
        """Where the run lies, and what it survived."""
        lines = [f"note: {note}" for note in self._notes]
        if self._end == "done":
            return [f"result: {self.storage.result(self.config.run_id)}", *lines]
        if self._checkpoint:
            step, path, written_s = self._checkpoint
            age = duration(max(0.0, time.time() - written_s))
            return [f"checkpoint: step {step:,}, {age} ago, {path}", *lines]
        return lines

    @property
    def text(self) -> str:
        facts = [f"{name:14}{value}" for name, value in self._facts().items()]
        measured = [f"XE on {name}: {_xe_words(event)}" for name, event in self._evaluated.items()]
        return "\n  ".join([f"{self.config.run_id}: {self.status}", *facts, *measured, *self.lines])

    @property
    def html(self) -> str:
        measured = {f"XE on {name}": _xe_words(event) for name, event in self._evaluated.items()}
        parts = [_table(self._facts()), _curve(self._losses), _table(measured)]
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        return (
            f'<div class="live-panel" data-step="{self.step}" data-steps="{self.num_steps}" style="{_PANEL}">'
            f"<b>{html.escape(self.config.run_id)}</b> &nbsp;{self.status}{_bar(self.step, self.num_steps)}"
            f'<div style="display:flex;gap:32px;flex-wrap:wrap;align-items:flex-start">{"".join(parts)}</div>'
            f'<div style="font-size:12px;opacity:.75;overflow-wrap:anywhere;margin-top:6px">{lines}</div></div>'
        )

    def _begin(self, event: Started) -> None:
        """A run that goes on brings its curve and its checkpoint with it, if the storage is there to tell."""
        self._started, self._begun_s = event, time.monotonic()
        with contextlib.suppress(OSError):
            self._peak_tokens_per_s = self._find_peak(event)
            rows = read_metrics(metrics_path(self.storage, event.run_id)) if event.step else []
            self._losses = [(row["step"], row["loss"]) for row in rows if row["step"] <= event.step]
            path = self.storage.checkpoint(event.run_id, event.step)
            if event.step and path.exists():
                self._checkpoint = (event.step, path, path.stat().st_mtime)

    def _finish(self, event: Finished) -> None:
        self._end = "done"
        with contextlib.suppress(OSError):  # the storage went away after it had taken the result
            self._result = read_result(event.path)

    def _facts(self) -> dict[str, str]:
        """What there is to know, in words; nothing that is not known."""
        started, logged = self._started, self._logged
        if started is None:
            return {}
        share = f"{self.step:,} of {started.num_steps:,} ({100 * self.step / started.num_steps:.0f} %)"
        facts = {"step": share, "device": f"{started.device}, {started.precision}"}
        if logged is None:
            return facts
        facts["tokens"] = f"{count(logged.tokens)} of {count(started.num_tokens)}"
        facts["loss"] = f"{logged.loss:.4f} nats per token"
        facts["learning rate"] = f"{logged.lr:.2e}"
        facts["speed"] = f"{count(logged.tokens_per_s)} tokens/s"
        if self._peak_tokens_per_s:
            facts["utilisation"] = f"{100 * logged.tokens_per_s / self._peak_tokens_per_s:.0f} % of the peak FLOPs"
        if logged.step < started.num_steps:
            steps_s = (time.monotonic() - self._begun_s) / (logged.step - started.step)
            facts["time left"] = duration(steps_s * (started.num_steps - logged.step))
        facts["memory"] = size(logged.memory_bytes)
        return facts

    def _find_peak(self, event: Started) -> float | None:
        """The denominator of model FLOPs utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix B)."""
        peak = peak_flops(event.device, event.precision)
        cache = read_manifest(self.storage, cache_id(self.config.data)) if peak else None
        if cache is None:
            return None
        return peak / flops_per_token(self.config.model, cache.vocab_size, self.config.data.window_tokens)


def train(config: RunConfig, storage: Storage, *, interactive: bool) -> Path:
    """Train and evaluate a run under a live panel, from where it was left; the path of its result file.

    Raises what `train_single_k` raises.
    """
    return train_under(config, storage, in_cell(interactive), HTML_S if interactive else TEXT_S)


def train_under(config: RunConfig, storage: Storage, show: Show, refresh_s: float = HTML_S) -> Path:
    """The same with the panel in another place; its last state stays there, however the training ends."""
    from helpers.training.train_single_k import train_single_k  # imports torch

    recipe = find_study(config.study).recipe()
    panel = LivePanel(config=config, storage=storage, show=show, refresh_s=refresh_s)
    panel.refresh()
    try:
        return train_single_k(config, storage, [panel], recipe)
    except BaseException as error:
        panel.stop(error)
        raise
    finally:
        panel.refresh()


def in_cell(interactive: bool) -> Show:
    """One output of the cell that is running, replaced in place: HTML and text, or text alone."""
    from IPython.display import display

    handles = []

    def show(html_text: str, text: str) -> None:
        content = {"text/plain": text} | ({"text/html": html_text} if interactive else {})
        if handles:
            handles[0].update(content, raw=True)
        else:
            handles.append(display(content, raw=True, display_id=True))

    return show


_PANEL = "border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:10px 14px;max-width:960px;line-height:1.5"
_CELL = "text-align:left;padding:1px 12px 1px 0;border:none"
_BLUE, _GREEN = "#0072B2", "#009E73"


def _xe_words(event: Evaluated) -> str:
    return f"{event.xe:.4f}" + (f" (Bayes {event.bayes_xe:.4f})" if event.bayes_xe is not None else "")


def _table(rows: dict[str, str]) -> str:
    cells = "".join(
        f'<tr style="background:none"><td style="{_CELL};opacity:.65">{html.escape(name)}</td>'
        f'<td style="{_CELL}">{html.escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table style="border-collapse:collapse;font-size:13px;margin:0">{cells}</table>' if rows else ""


def _bar(step: int, num_steps: int) -> str:
    done = 100 * step / num_steps if num_steps else 0.0
    return (
        '<div style="height:6px;border-radius:3px;background:rgba(128,128,128,.25);margin:8px 0">'
        f'<div style="height:6px;border-radius:3px;width:{done:.1f}%;background:{_GREEN}"></div></div>'
    )


def _curve(losses: list[tuple[int, float]], width: int = 260, height: int = 90) -> str:
    """The logged losses against their steps as a drawing of a few hundred bytes; its two ends are labelled."""
    points = losses[:: -(-len(losses) // _CURVE_POINTS) or 1]
    if len(points) < 2:
        return ""
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    path = " ".join(
        f"{width * (step - steps[0]) / (steps[-1] - steps[0]):.0f},{height * (high - value) / (high - low or 1):.0f}"
        for step, value in points
    )
    return (
        f'<div style="font-size:12px"><div style="opacity:.65">loss, {high:.2f} to {low:.2f}</div>'
        f'<svg width="{width}" height="{height + 4}" viewBox="-2 -2 {width + 4} {height + 4}">'
        f'<polyline points="{path}" fill="none" stroke="{_BLUE}" stroke-width="1.6"/></svg></div>'
    )
