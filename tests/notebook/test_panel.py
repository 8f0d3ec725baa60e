"""The live panel: what it shows, how often, and how small it stays; utilisation against arithmetic by hand."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers.notebook import panel as panel_module
from helpers.notebook.panel import HTML_S, LivePanel, train_under
from helpers.peak import peak_flops
from helpers.runs.events import Evaluated, Finished, Logged, Notice, Saved, Started
from helpers.runs.metrics import metrics_path
from helpers.runs.result_file import SCHEMA, Result, write_result
from helpers.storage import publish_text
from helpers.training import train_single_k as training


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [1000.0]
    monkeypatch.setattr(panel_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def shown() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def live(tiny_config, storage, shown, clock) -> LivePanel:
    return LivePanel(config=tiny_config, storage=storage, show=lambda html, text: shown.append((html, text)))


def started(step: int = 0, device: str = "CPU (x86_64)", precision: str = "fp32") -> Started:
    return Started(run_id="r", step=step, num_steps=100, num_tokens=80_000, device=device, precision=precision)


def logged(step: int, loss: float = 2.0, tokens_per_s: float = 500.0) -> Logged:
    return Logged(
        step=step, num_steps=100, tokens=800 * step, loss=loss, lr=1e-3, grad_norm=1.0, tokens_per_s=tokens_per_s,
        memory_bytes=3 * 2**30,
    )  # fmt: skip


def finished(storage, config) -> Finished:
    run = {"kind": "run", "schema": SCHEMA, "run_id": config.run_id, "study": "ergodic", "config": {}, "provenance": {}}
    summary = {"kind": "summary", "step": 100, "xe": 1.5}
    path = write_result(storage.result(config.run_id), Result(run=run | {"steps": 100}, rows=[], summaries=[summary]))
    return Finished(run_id=config.run_id, path=path)


def test_the_beginning_and_the_end_are_shown_and_between_them_one_refresh_in_two_seconds(
    live, shown, clock, storage, tiny_config
):
    live(started())
    for step in range(1, 101):
        clock[0] += 0.1
        live(logged(step))
    assert len(shown) == 1 + int(10 / HTML_S)
    live(finished(storage, tiny_config))
    assert len(shown) == 2 + int(10 / HTML_S)
    assert "done, XE 1.5000 nats per token" in shown[-1][1]
    assert 'data-step="100" data-steps="100"' in shown[-1][0]


def test_it_tells_step_tokens_loss_rate_speed_time_and_memory(live, shown, clock):
    live(started())
    clock[0] += 30.0
    live(logged(25))
    html, text = shown[-1]
    lines = text.splitlines()
    for line in (
        "step          25 of 100 (25 %)", "tokens        20.0 k of 80.0 k", "loss          2.0000 nats per token",
        "learning rate 1.00e-03", "speed         500 tokens/s", "memory        3.00 GiB", "time left     1 min 30 s",
    ):  # fmt: skip
        assert f"  {line}" in lines
    assert 'class="live-panel" data-step="25" data-steps="100"' in html
    assert "utilisation" not in text


def test_the_checkpoint_has_an_age_and_a_place(live, shown, clock, monkeypatch):
    times = iter([5000.0, 5125.0])
    monkeypatch.setattr(panel_module.time, "time", lambda: next(times))
    live(started())
    live(Saved(step=50, path=Path("/drive/step_50"), seconds=0.1))
    assert "checkpoint: step 50, 2 min 5 s ago, /drive/step_50" in live.text


def test_notes_and_components_stay_and_repeat_nothing(live):
    live(started())
    for _ in range(2):
        live(Notice(text="a <fallback>"))
        live(Evaluated(step=100, part="c1", xe=3.25, bayes_xe=3.2))
    assert live.text.count("note: a <fallback>") == 1
    assert live.text.count("XE on c1: 3.2500 (Bayes 3.2000)") == 1
    assert "a &lt;fallback&gt;" in live.html and "<fallback>" not in live.html


def test_its_html_is_well_formed_and_small_however_long_the_run(live):
    live(Started(run_id="r", step=0, num_steps=10**6, num_tokens=10**9, device="CPU", precision="fp32"))
    for step in range(1, 10_001):
        live(logged(step, loss=10 / step))
    for number in range(11):
        live(Evaluated(step=1, part=f"component{number}", xe=1.0, bayes_xe=0.9))
    assert len(live.html) < 8_000
    assert _unclosed(live.html) == []


def test_the_curve_spans_its_box_from_the_first_loss_to_the_last(live):
    live(started())
    for step, loss in ((10, 4.0), (20, 3.0), (40, 2.0)):
        live(logged(step, loss))
    points = re.search(r'points="([^"]+)"', live.html)[1]
    assert points == "0,0 87,45 260,90"
    assert "loss, 4.00 to 2.00" in live.html


def test_a_run_that_goes_on_brings_its_curve_and_its_checkpoint(live, storage, tiny_config):
    rows = "".join(f'{{"step": {step}, "loss": {loss}}}\n' for step, loss in ((10, 4.0), (20, 3.0), (30, 9.0)))
    publish_text(metrics_path(storage, "r"), rows)
    storage.checkpoint("r", 20).mkdir(parents=True)
    live(started(step=20))
    assert live._losses == [(10, 4.0), (20, 3.0)]
    assert "checkpoint: step 20, 0 s ago" in live.text
    assert 'data-step="20"' in live.html


@pytest.mark.parametrize("name, precision, expected", [
    ("Tesla T4", "fp16", 65e12),
    ("NVIDIA L4", "bf16", 121e12),
    ("NVIDIA A100-SXM4-40GB", "fp16", 312e12),
    ("NVIDIA A100-SXM4-40GB", "fp32", 19.5e12),
    ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
    ("NVIDIA H100 PCIe", "bf16", 756e12),
    ("NVIDIA L40S", "fp16", None),
    ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "fp16", None),
    ("CPU (x86_64)", "fp32", None),
])  # fmt: skip
def test_the_peak_is_that_of_the_data_sheet_or_unknown(name, precision, expected):
    assert peak_flops(name, precision) == expected


def test_utilisation_is_flops_over_peak(live, tiny_config, storage):
    from helpers.data.fetch_arxiv import ensure_cache

    ensure_cache(tiny_config.data, storage, report=lambda text: None)
    live(started(device="Tesla T4", precision="fp16"))
    live(logged(50, tokens_per_s=50e6))
    # tiny: d = 32, 2 layers, a head of 128 rows; 6 (2 x 12 d^2 + 128 d) + 12 x 2 x d x 100 FLOPs a token.
    cost = 6 * (2 * 12 * 32**2 + 128 * 32) + 12 * 2 * 32 * 100
    assert f"utilisation   {100 * 50e6 * cost / 65e12:.0f} % of the peak FLOPs" in live.text


@pytest.mark.parametrize("error, words", [(KeyboardInterrupt(), "KeyboardInterrupt"), (ValueError("x"), "ValueError")])
def test_the_last_state_is_shown_however_the_training_ends(monkeypatch, tiny_config, storage, shown, error, words):
    def fail(config, storage, subscribers, recipe):
        for step in range(1, 4):
            subscribers[0](logged(step))
        raise error

    monkeypatch.setattr(training, "train_single_k", fail)
    with pytest.raises(type(error)):
        train_under(tiny_config, storage, lambda html, text: shown.append((html, text)))
    assert f"stopped ({words})" in shown[-1][1]
    assert 'data-step="3"' in shown[-1][0]


def test_a_run_that_is_done_is_shown_as_done(monkeypatch, tiny_config, storage, shown):
    monkeypatch.setattr(
        training,
        "train_single_k",
        lambda config, storage, subscribers, recipe: subscribers[0](finished(storage, config)),
    )
    train_under(tiny_config, storage, lambda html, text: shown.append((html, text)))
    assert "preparing" in shown[0][1] and "done, XE 1.5000" in shown[-1][1]
    assert str(storage.result(tiny_config.run_id)) in shown[-1][1]


def _unclosed(html: str) -> list[str]:
    open_tags = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag != "br":
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(html)
    return open_tags
