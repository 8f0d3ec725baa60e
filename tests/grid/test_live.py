"""The table of running runs, against sums by hand, on a terminal and elsewhere."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.config import RunConfig
from helpers.grid.live import LiveTable, live_table, time_left_s
from helpers.grid.makespan import makespan_s
from helpers.locks import exclusive
from helpers.models.families import count_non_embedding
from helpers.runs.metrics import metrics_path
from helpers.runs.status import RunStatus, run_status
from helpers.seals import sealed_lines
from helpers.settings import apply_overrides
from helpers.storage import Storage, publish_text
from helpers.studies import find_preset

TOKENS = 200 * 16 * 100


def smoke(k: int, size: str = "tiny") -> RunConfig:
    return apply_overrides(find_preset("ergodic", "smoke").at(k=k, seed=0), [f"model.size={size}"])


def at(config: RunConfig, status: str, tokens: int | None = None, speed: float = 1000.0) -> RunStatus:
    logged = {"step": 60, "tokens": tokens, "loss": 3.25, "tokens_per_s": speed} if tokens is not None else None
    share = tokens / TOKENS if tokens is not None else None
    return RunStatus(config=config, status=status, logged=logged, share=share)


def test_the_time_left_by_hand():
    config = smoke(1)
    assert config.train.steps * config.train.batch_size * config.data.window_tokens == TOKENS
    running, begun = at(smoke(1), "running", 220_000), at(smoke(2), "begun", 300_000)
    missing = at(smoke(4), "missing")
    # 100 s, 20 s and 320 s at 1,000 tokens a second.
    assert time_left_s([running, begun, missing], 1) == 440.0
    assert time_left_s([running, begun, missing], 2) == 340.0  # 20 and 320 beside 100
    assert time_left_s([missing], 1) is None
    # Another shape, of more parameters: as slow as they say.
    large = at(smoke(4, "14m"), "missing")
    ratio = count_non_embedding(large.config.model) / count_non_embedding(running.config.model)
    assert time_left_s([running, large], 2) == pytest.approx(320 * ratio)


def test_a_line_says_step_loss_speed_and_time_left(storage: Storage):
    config = smoke(1)
    rows = [{"run_id": config.run_id, "step": 60, "tokens": 96_000, "loss": 3.25, "tokens_per_s": 2000.0}]
    publish_text(metrics_path(storage, config.run_id), sealed_lines(rows))
    with exclusive(storage.lock(config.run_id), "run"):
        table = live_table([run_status(config, storage), run_status(smoke(2), storage)])
    header, line, total = table.splitlines()
    assert header.split() == ["running", "step", "loss", "tokens/s", "time", "left"]
    assert line.split() == [config.run_id, "60", "(30", "%)", "3.2500", "2,000", "1", "min", "52", "s"]
    assert total == "time left for all, 1 at a time: about 4 min 32 s"  # 112 s, and 160 s for the other
    assert live_table([run_status(config, storage)]) == ""


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=12), st.integers(1, 5))
def test_a_makespan_is_within_grahams_bound(durations, workers):
    least = max([sum(durations) / workers, *durations], default=0)
    assert least <= makespan_s(durations, workers) + 1e-9
    assert makespan_s(durations, workers) <= (2 - 1 / workers) * least + 1e-9


def test_a_terminal_is_redrawn_below_what_is_reported(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    live, runs = LiveTable(report=print, is_terminal=True), [at(smoke(1), "running", 220_000)]
    live.show(lambda: runs)
    first = capsys.readouterr().out.splitlines()
    assert len(first) == 3 and max(map(len, first)) <= 59
    live.say("one line")
    assert capsys.readouterr().out == "\x1b[3F\x1b[Jone line\n"
    live.show(lambda: runs)
    live.show(lambda: runs)
    assert capsys.readouterr().out.count("\x1b[3F\x1b[J") == 1
    live.erase()


def test_elsewhere_it_is_reported_once_in_a_while(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines: list[str] = []
    live = LiveTable(report=lines.append, is_terminal=False)
    for _ in range(1000):
        now[0] += 1.0
        live.show(lambda: [at(smoke(1), "running", 220_000)])
    assert len(lines) == 4  # after 30 s, and each 5 minutes

    def away() -> list[RunStatus]:
        raise OSError("Transport endpoint is not connected")

    now[0] += 1000
    live.show(away)
    assert len(lines) == 4
