"""From result files to tables, figures, verdict and JSON: a storage of written results, in English and in Japanese."""

import dataclasses
import json

import numpy as np
import pytest

from helpers.config import RunConfig, to_json
from helpers.runs.result_file import SCHEMA, Result, write_result
from helpers.storage import Storage
from helpers.studies import find_preset, find_study
from helpers.studies.samples import words
from helpers.studies.samples.analyse import analyse
from helpers.studies.samples.presets import role_of
from helpers.studies.samples.runs import load_files, run_table
from helpers.studies.samples.tables import TABLES
from helpers.studies.samples.words import headings, title


def written(storage: Storage, config: RunConfig, xe: list[float], tokens: int, per_epoch: int) -> None:
    """The result of a run whose epochs had these losses."""
    lead = 10 if config.model.context == "learned" else 0
    rows = [
        {"kind": "iteration", "step": n + 1, "iteration": n + 1, "residual": 0.5**n if n else None, "converged": 0.96}
        for n in range(4 if lead else 0)
    ]
    for epoch, value in enumerate(xe, start=1):
        step = lead + per_epoch * epoch
        rows.append({"kind": "epoch", "step": step - per_epoch, "epoch": epoch, "steps": step, "train_xe": value - 0.5})
        rows.append(
            {"kind": "validation", "step": step, "epoch": epoch, "xe": value, "ppl": float(np.exp(value)), "se": 0.04,
             "accuracy": 0.1, "accuracy_se": 0.01, "predictions": 689}
        )  # fmt: skip
    if config.model.context != "none":
        for of in ("train", "validation"):
            for centred in (False, True):
                rows.append({"kind": "rank", "step": step, "of": of, "centred": centred, "percent": 80.0,
                             "low": 79.0, "high": 81.0})  # fmt: skip
        rows.append({"kind": "passes", "step": step, "contraction": 1e-6, "status": "CONVERGED"})
    run = {
        "kind": "run", "schema": SCHEMA, "run_id": config.run_id, "study": "samples", "config": to_json(config),
        "provenance": {"sessions": [{"from_step": 0, "to_step": step, "device": "a card"}]},
        "unique_tokens": tokens, "schedule_complete": True, "steps": step,
    }  # fmt: skip
    summary = {"kind": "summary", "step": step, "xe": xe[-1]}
    write_result(storage.result(config.run_id), Result(run=run, rows=rows, summaries=[summary]))


@pytest.fixture
def full(storage) -> Storage:
    """The demo's runs in a world where steps lower the perplexity and samples do a little."""
    preset, rng = find_preset("samples", "demo"), np.random.default_rng(0)
    for config in preset.runs(None):
        tokens = 80 * config.data.samples
        per_epoch = {"epochs": -(-tokens // 512), "steps": 80}[config.passes.match]
        reached = 2 * per_epoch  # the best epoch is the second
        level = 12 - 0.2 * np.log(tokens) - 0.5 * np.log(reached) + 0.003 * rng.normal()
        level += {"learned": 0, "random": 0.0, "none": 0.4}[config.model.context]
        written(storage, config, [level + 0.1, level, level + 0.2], tokens, per_epoch)
    return storage


def test_every_file_is_there_and_says_what_the_world_is(full) -> None:
    made = find_study("samples").analyse(full)
    assert {path.name for path in made} >= {f"{name}.{kind}" for name in TABLES for kind in ("md", "csv", "tex")}
    numbers = json.loads(full.table("sample_scaling.json").read_text(encoding="utf-8"))
    (condition,) = numbers["conditions"]
    partial, exponents = condition["partial"], condition["exponents"]
    assert partial["samples"]["low"] < -0.2 < partial["samples"]["high"]
    assert partial["steps"]["value"] == pytest.approx(-0.5, abs=0.05)
    assert exponents["steps, learned, frozen"]["value"] == pytest.approx(0.2, abs=0.05)
    assert exponents["epochs, learned, frozen"]["value"] == pytest.approx(0.7, abs=0.05)
    said = full.table("samples_verdict.md").read_text(encoding="utf-8")
    assert "48 runs." in said and "More steps on equal samples lower the perplexity: supported" in said
    assert "against contexts of a block that is not trained: contradicted" in said
    assert "against no contexts: supported" in said and "Missing" not in said
    assert full.figure("sample_scaling.png").stat().st_size > 20_000


def test_equal_results_give_equal_files(full) -> None:
    first = {path: path.read_bytes() for path in analyse(full)}
    assert {path: path.read_bytes() for path in analyse(full)} == first


def test_a_run_is_that_of_its_best_epoch(full) -> None:
    runs = run_table(load_files(full), full)
    assert set(runs["best_epoch"]) == {2} and set(runs["epochs"]) == {3} and runs["is_stopped"].all()
    one = runs[(runs["match"] == "steps") & (runs["samples"] == 20) & (runs["seed"] == 0)].iloc[0]
    assert one["steps"] == 160 and one["steps_all"] == 240
    assert one["contraction"] == pytest.approx(0.5)


def test_runs_of_another_condition_are_named_and_not_counted(full) -> None:
    config = find_preset("samples", "demo").grid[0]
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, peak_lr=1e-3))
    written(full, other, [9.0, 8.0], 800, 2)
    analyse(full)
    said = full.table("samples_verdict.md").read_text(encoding="utf-8")
    assert "48 runs; 1 runs of other conditions are not in it." in said
    assert "Missing: law of epochs, learned, frozen" in said


def test_japanese_tables_and_a_figure_in_english_where_no_font_has_the_letters(full, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(words, "JAPANESE_FONTS", ("No Such Font",))
    analyse(full, "ja", said.append)
    assert any("no font here has Japanese letters" in line for line in said)
    table = full.table("samples_results.md").read_text(encoding="utf-8")
    assert table.startswith("# 実験結果") and "訓練トークン" in table
    with pytest.raises(ValueError, match="LANG = 'fr' is unknown; use en or ja"):
        analyse(full, "fr")


def test_every_word_is_in_both_languages() -> None:
    english, japanese = headings("en"), headings("ja")
    assert english.keys() == japanese.keys() and all(english.values()) and all(japanese.values())
    assert all(title(name, "ja") != title(name, "en") for name in TABLES)


def test_controls_are_no_part_of_the_grid() -> None:
    preset = find_preset("samples", "demo")
    roles = [role_of(config) for config in preset.runs(None)]
    assert roles.count("grid") == 36 and roles.count("control") == 12
