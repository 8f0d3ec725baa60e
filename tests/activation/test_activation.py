"""The activation study: its grid, predictions that must come first, and verdicts on laws that are known."""

import datetime
import json
import threading

import numpy as np
import pandas as pd
import pytest

from helpers.config import RunConfig
from helpers.grid.runner import GridReport, Outcome
from helpers.runs.result_file import Measured, read_result, write_result
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage, file_sha256, publish_text
from helpers.studies import find_preset, find_study
from helpers.studies import run_preset as study_grid
from helpers.studies.activation import predictions
from helpers.studies.activation.analyse import analyse, learning_rates
from helpers.studies.activation.findings import ActivationFindings, find, verdict
from helpers.studies.activation.predictions import read_predictions
from helpers.studies.activation.runs import conditions_of, load_files, points_of, run_table
from helpers.studies.preset import Preset
from tests.simulated_scaling import write_one, write_runs

LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
EQUAL = {"gelu": 0.2, "swiglu": 0.2}
APART = {"gelu": 0.2, "swiglu": 0.3}


@pytest.fixture
def preset() -> Preset:
    return find_preset("activation", "paper")


def split(preset: Preset) -> tuple[list[RunConfig], list[RunConfig]]:
    runs = list(preset.runs(None))
    return [c for c in runs if not preset.is_held_out(c)], [c for c in runs if preset.is_held_out(c)]


def findings_of(storage: Storage) -> list[ActivationFindings]:
    """Of each condition, that with most runs first."""
    runs = run_table(load_files(storage))
    return [find(runs, condition, storage) for condition in conditions_of(runs)]


def found(storage: Storage) -> ActivationFindings:
    return findings_of(storage)[0]


def predict(preset: Preset, storage: Storage, report=lambda line: None) -> str | None:
    return find_study("activation").before_held_out(*split(preset), storage, report)


def test_the_grid_is_every_size_activation_and_seed_once(preset):
    anchors, held_out = split(preset)
    assert len(anchors) == 4 * 2 * 3 and {c.model.size for c in held_out} == {"gpt-85m"}
    assert len({c.run_id for c in [*anchors, *held_out]}) == 30
    rates = {c.train.peak_lr for c in find_preset("activation", "lr_sweep").runs(None)}
    base = find_preset("activation", "lr_sweep").config.train.peak_lr
    assert rates == {0.5 * base, base, 2 * base}


def test_both_activations_of_a_seed_share_data_and_windows(tmp_path, preset):
    """Equal but for the activation: then the order of windows, a function of seed and data, is the same."""
    runs = [c for c in preset.runs(None) if c.model.size == "gpt-3m" and c.seed == 1]
    sciences = [c.science() for c in runs]
    assert [s["model"].pop("activation") for s in sciences] == ["gelu", "swiglu"]
    assert sciences[0] == sciences[1]


def test_equal_exponents_are_called_equal_and_different_ones_different(tmp_path, preset):
    for name, exponents in (("equal", EQUAL), ("apart", APART)):
        storage = Storage.at(tmp_path / name)
        write_runs(storage, split(preset)[0], exponents, deviation=1e-4)
        findings = found(storage)
        assert next(iter(findings.laws)) == "offset"
        difference = findings.laws["offset"].comparisons[0].difference
        truth = exponents["swiglu"] - exponents["gelu"]
        assert difference.low < truth < difference.high and difference.value == pytest.approx(truth, abs=0.02)
        words = {"equal": "The exponents are equal within 5 % of GeLU's", "apart": "The exponent differs"}[name]
        assert verdict(findings).startswith(words)


@pytest.mark.slow
def test_noise_that_hides_the_answer_is_said(storage, preset):
    write_runs(storage, split(preset)[0], EQUAL, deviation=0.02)
    text = verdict(found(storage))
    assert text.startswith("These runs cannot tell") and "would have been found with 80 %" in text


def test_compute_is_six_n_d_under_each_convention(storage, preset):
    write_runs(storage, split(preset)[0], EQUAL)
    runs = run_table(load_files(storage))
    for name in ("total", "without_positions", "non_embedding", "matmul"):
        assert (runs[f"flops_{name}"] == 6 * runs[name] * runs["tokens"]).all()
    points = points_of(runs)
    assert points.arm_names == ("gelu", "swiglu") and points.num_clusters == 4 * 3
    assert np.allclose(runs["tokens"], 20 * runs["non_embedding"])


def test_a_prediction_is_written_once_and_before_the_held_out_runs(storage, preset):
    lines = []
    anchors, held_out = split(preset)
    assert predict(preset, storage, lines.append) == "24 of 24 anchors are not done"
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    assert predict(preset, storage, lines.append) is None
    (path,) = storage.predictions().glob("*.json")
    before = path.read_bytes()
    assert predict(preset, storage, lines.append) is None
    assert path.read_bytes() == before and "stands" in lines[-1]
    write_runs(storage, held_out, EQUAL, deviation=1e-3, started=LATER)
    predictions = found(storage).predictions
    assert (predictions["refused"] == "").all() and len(predictions) == 2 * 6
    primary = predictions[predictions["is_primary"]]
    assert set(primary["law"]) == {"offset"}
    assert (primary["relative_error"].abs() < 0.01).all()


def test_anchors_that_are_too_few_are_named(storage, preset):
    few = preset.only(["seed=0"])
    write_runs(storage, split(few)[0], EQUAL)
    assert predict(few, storage).startswith("the anchors cannot tell a law; ")
    assert not storage.predictions().exists()


def test_a_held_out_run_is_never_fitted(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    predict(preset, storage)
    fitted = found(storage).laws["offset"].draws.fit.params
    for config in held_out:
        write_one(storage, config, 9.0, LATER)
    findings = found(storage)
    assert findings.laws["offset"].draws.fit.params == fitted
    assert not findings.predictions["is_covered"].any()


def test_a_prediction_that_is_younger_than_its_run_is_refused(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    predict(preset, storage)
    write_runs(storage, held_out, EQUAL, deviation=1e-3)  # which started before
    refused = found(storage).predictions["refused"]
    assert refused.str.contains("before the prediction was written").all()


def test_nothing_is_predicted_once_a_held_out_run_was_begun(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    publish_text(storage.run(held_out[0].run_id) / "config.json", "planned")
    publish_text(storage.run(held_out[0].run_id) / "provenance.json", "begun")
    lines = []
    assert predict(preset, storage, lines.append) is None
    assert "no prediction is written" in lines[-1] and not storage.predictions().exists()


@pytest.mark.slow
def test_a_changed_anchor_or_prediction_counts_for_nothing(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    predict(preset, storage)
    write_runs(storage, held_out, EQUAL, deviation=1e-3, started=LATER)
    write_one(storage, anchors[0], 3.0)
    assert found(storage).predictions["refused"].str.contains(anchors[0].run_id).all()
    (path,) = storage.predictions().glob("*.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"offset"', '"power"', 1), encoding="utf-8")
    assert read_predictions(storage)[0] == [] and "damaged" in read_predictions(storage)[1][0]
    assert "damaged" in found(storage).reasons["predictions"]


def test_the_grid_trains_held_out_runs_after_the_prediction_and_not_before(storage, preset, monkeypatch):
    calls = []

    def run_grid(configs, *_, **__):
        configs = list(configs)
        calls.append({c.model.size for c in configs})
        if preset.is_held_out(configs[0]):
            assert list(storage.predictions().glob("*.json"))
        write_runs(storage, configs, EQUAL, deviation=1e-3, started=LATER)
        return GridReport(outcomes=tuple(Outcome(config=c, status="done", xe=1.0) for c in configs))

    monkeypatch.setattr(study_grid, "run_grid", run_grid)
    monkeypatch.setattr(study_grid, "_prepare", lambda preset, *_: list(preset.runs(None)))
    report = study_grid.run_preset(preset, storage, report=lambda line: None)
    assert report.complete and len(report.outcomes) == 30
    assert calls == [set(preset.axes["model.size"]) - {"gpt-85m"}, {"gpt-85m"}]


def test_held_out_runs_wait_for_anchors_that_failed(storage, preset, monkeypatch):
    monkeypatch.setattr(study_grid, "run_grid", lambda configs, *_, **__: GridReport(outcomes=()))
    monkeypatch.setattr(study_grid, "_prepare", lambda preset, *_: list(preset.runs(None)))
    lines = []
    report = study_grid.run_preset(preset, storage, report=lines.append)
    assert len(report.of("left")) == 6 and "24 of 24 anchors are not done" in str(report)


@pytest.mark.parametrize("with_held_out", [pytest.param(False, marks=pytest.mark.slow), True])
def test_tables_figure_and_numbers(storage, preset, with_held_out):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, APART, deviation=2e-3, shared_deviation=3e-3)
    if with_held_out:
        predict(preset, storage)
        write_runs(storage, held_out, APART, deviation=2e-3, shared_deviation=3e-3, started=LATER)
    made = {path.name: path for path in analyse(storage)}
    assert {"activation_scaling.png", "activation_scaling.pdf", "activation_verdict.md"} <= made.keys()
    text = made["activation_scaling.json"].read_text(encoding="utf-8")
    numbers = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    (numbers,) = numbers["conditions"]
    difference = numbers["laws"]["offset"]["exponent_difference"]
    assert difference["low"] < 0.1 < difference["high"]
    assert len(numbers["held_out"]) == (12 if with_held_out else 0)
    held = pd.read_csv(made["activation_held_out.csv"])
    assert len(held) == len(numbers["held_out"])


def test_one_run_alone_says_what_is_missing(storage, preset):
    write_runs(storage, split(preset)[0][:1], EQUAL)
    made = {path.name: path for path in analyse(storage)}
    assert "both activations are needed" in made["activation_verdict.md"].read_text(encoding="utf-8")


def test_no_result_is_an_error_with_the_command_that_makes_one(storage):
    with pytest.raises(ValueError, match="python -m helpers grid --study activation"):
        analyse(storage)


def other_condition() -> list[RunConfig]:
    return split(find_preset("activation", "paper", overrides=["train.batch_size=64"], only=["seed=0,1"]))[0]


def test_conditions_are_not_mixed(storage, preset):
    anchors, _ = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    write_runs(storage, other_condition(), {"gelu": 0.9, "swiglu": 0.1})
    first, second = findings_of(storage)
    assert (len(first.anchors), len(second.anchors)) == (24, 16)
    assert first.laws["offset"].draws.fit.params["b[gelu]"] == pytest.approx(0.2, abs=0.05)


@pytest.mark.slow
def test_each_condition_has_its_own_verdict_which_says_what_it_leaves_out(storage, preset):
    """Equal exponents in a condition of more runs do not hide that they differ in another one."""
    write_runs(storage, split(preset)[0], EQUAL, deviation=1e-4)
    write_runs(storage, other_condition(), APART, deviation=1e-4)
    made = {path.name: path for path in analyse(storage)}
    text = made["activation_verdict.md"].read_text(encoding="utf-8")
    first, second = text.split("Condition: ")[1:]
    assert "24 runs; 16 runs of other conditions are not in it." in first and "are equal within 5 %" in first
    assert "16 runs; 24 runs of other conditions are not in it." in second and "The exponent differs" in second
    assert "train.batch\\_size 64" in second or "train.batch_size 64" in second
    figures = [name for name in made if name.startswith("activation_scaling") and name.endswith(".png")]
    assert len(figures) == 2
    runs = pd.read_csv(made["activation_runs.csv"])
    assert sorted(runs.groupby("condition").size()) == [16, 24]


def test_learning_rates_are_not_averaged_over_conditions(storage):
    rates = find_preset("activation", "lr_sweep", overrides=["data.source=tinystories"])
    write_runs(storage, rates.runs(None), EQUAL)
    other = find_preset("activation", "lr_sweep", overrides=["train.batch_size=8"])
    write_runs(storage, other.runs(None), {"gelu": 0.9, "swiglu": 0.9})
    table = learning_rates(run_table(load_files(storage)))
    assert len(table) == 2 * 4 * 2 * 3 and set(table["num_runs"]) == {1}
    assert table["condition"].nunique() == 2


def test_an_axis_that_is_set_has_this_value_alone():
    one = find_preset("activation", "cpu", overrides=["model.size=gpt-30k"])
    assert {c.model.size for c in one.runs(None)} == {"gpt-30k"} and len(one.runs(None)) == 4
    both = find_preset("activation", "cpu", overrides=["model.size=gpt-30k", "model.activation=swiglu", "seed=5"])
    assert [(c.model.size, c.model.activation, c.seed) for c in both.runs(None)] == [("gpt-30k", "swiglu", 5)]
    rate = find_preset("activation", "lr_sweep", overrides=["train.peak_lr=0.01"])
    assert {c.train.peak_lr for c in rate.runs(None)} == {0.01}


def test_the_runs_that_are_held_out_can_be_left_out(preset):
    assert {c.model.size for c in preset.without_held_out().runs(None)} == set(preset.axes["model.size"]) - {"gpt-85m"}
    with pytest.raises(ValueError, match="--anchors-only is not possible: this preset holds no runs out"):
        find_preset("ergodic", "demo").without_held_out()


def test_an_evaluation_of_another_step_leaves_a_prediction_valid(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    predict(preset, storage)
    write_runs(storage, held_out, EQUAL, deviation=1e-3, started=LATER)
    path = storage.result(anchors[0].run_id)
    early = Measured(
        rows=[{"kind": "xe", "step": 3, "component": "stories", "xe": 5.0}],
        summary={"kind": "summary", "step": 3, "xe": 5},
    )
    write_result(path, read_result(path).replaced(3, early))
    assert (found(storage).predictions["refused"] == "").all()


@pytest.mark.slow
def test_a_prediction_of_an_earlier_version_is_judged_by_the_file_that_it_names(storage, preset):
    anchors, held_out = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    predict(preset, storage)
    (path,) = storage.predictions().glob("*.json")
    files = {config.run_id: file_sha256(storage.result(config.run_id)) for config in anchors}
    publish_sealed(path, read_sealed(path) | {"schema": 1, "anchors": files})
    write_runs(storage, held_out, EQUAL, deviation=1e-3, started=LATER)
    assert (found(storage).predictions["refused"] == "").all()
    write_one(storage, anchors[0], 3.0)
    assert found(storage).predictions["refused"].str.contains(anchors[0].run_id).all()


def test_a_prediction_takes_its_time_last_and_never_replaces_another(storage, preset, monkeypatch):
    anchors, _ = split(preset)
    write_runs(storage, anchors, EQUAL, deviation=1e-3)
    compute = predictions.identified_laws
    ended = []

    def slow(points):
        found = compute(points)
        ended.append(datetime.datetime.now(datetime.UTC))
        return found

    monkeypatch.setattr(predictions, "identified_laws", slow)
    results = []
    threads = [threading.Thread(target=lambda: results.append(predict(preset, storage))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [None, None] and len(ended) == 1  # the second found that the first had written
    (prediction,) = read_predictions(storage)[0]
    assert prediction.written >= ended[0].replace(microsecond=ended[0].microsecond // 1000 * 1000)
