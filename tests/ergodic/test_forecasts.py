"""What theory says of a run: written before its first step, carried by its result, and refused where it came later."""

import dataclasses
import math
from pathlib import Path

import pytest

from helpers.runs.result_file import read_result
from helpers.runs.verify import verify_storage
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage
from helpers.studies import find_study
from helpers.studies.ergodic.forecasts.figure import forecasts_figure
from helpers.studies.ergodic.forecasts.outcome import below, forecast_by_k, forecast_by_run, forecast_files
from helpers.studies.ergodic.forecasts.place import forecast_path
from helpers.studies.ergodic.forecasts.report import forecasts_blocks
from helpers.studies.ergodic.results import load_results
from helpers.training.train_single_k import train_single_k
from tests.small_run import CONFIG

RUN = CONFIG


def train(storage: Storage, **changes: object):
    config = dataclasses.replace(RUN, **changes)
    return read_result(train_single_k(config, storage, (), find_study("ergodic").recipe()))


def by_run_of(storage: Storage):
    results = load_results(storage)
    return forecast_by_run(results, results.conditions[0], forecast_files(results, storage))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Storage:
    storage = Storage.at(tmp_path_factory.mktemp("forecasts"))
    for seed in (0, 1):
        train(storage, seed=seed)
    return storage


def test_the_forecast_is_the_exact_value_and_the_result_carries_the_same_numbers(trained) -> None:
    result = read_result(trained.result(RUN.run_id))
    (row,) = result.rows_of("forecast")
    path = forecast_path(trained, RUN.run_id)
    assert row["xe"] == result.summaries[-1]["bayes_xe"]
    assert row["dxe"] == pytest.approx(row["xe"] - result.summaries[-1]["bayes_known_xe"], abs=1e-12)
    assert 0 < row["dxe"] < row["bound"] == math.log(2) / 99
    file = read_sealed(path)
    assert file["run_id"] == RUN.run_id and file["written"] < result.run["provenance"]["started"]
    assert {name: file[name] for name in ("xe", "dxe", "bound")} == {name: row[name] for name in ("xe", "dxe", "bound")}


def test_the_rows_of_a_result_are_the_same_whenever_the_run_is_trained(trained, storage) -> None:
    first, again = read_result(trained.result(RUN.run_id)), train(storage)
    assert again.run["provenance"]["started"] != first.run["provenance"]["started"]
    assert (again.rows, again.summaries) == (first.rows, first.summaries)


def test_forecasts_stand_beside_outcomes_with_an_interval_over_runs(trained) -> None:
    by_run = by_run_of(trained)
    assert by_run["refused"].tolist() == ["", ""] and (by_run["excess"] > 0).all()
    by_k = forecast_by_k(by_run)
    (row,) = by_k.to_dict("records")
    half = 12.7062 * by_run["excess"].std(ddof=1) / math.sqrt(2)  # Student's t with one degree of freedom
    assert row["excess"] == pytest.approx(by_run["excess"].mean()) and row["num_runs"] == 2
    assert row["high"] - row["excess"] == pytest.approx(half, rel=1e-4)
    assert len(forecasts_figure(by_run, by_k, "a condition").axes) == 2
    assert below(by_k.assign(excess=-0.02, low=-0.03, high=-0.01)) == [2]


def test_a_forecast_is_written_once(storage) -> None:
    train(storage)
    path = forecast_path(storage, RUN.run_id)
    before = path.read_bytes()
    storage.result(RUN.run_id).unlink()
    train(storage)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "its file is gone or damaged"),
        (lambda path: publish_sealed(path, read_sealed(path) | {"xe": 1.0}), "says other numbers than the result"),
    ],
)
def test_a_forecast_that_was_touched_does_not_count(trained, tmp_path, harm, reason) -> None:
    path = forecast_path(trained, RUN.run_id)
    kept = path.read_bytes()
    harm(path)
    try:
        table = by_run_of(trained).set_index("run_id")
        assert reason in table.loc[RUN.run_id, "refused"]
        assert forecast_by_k(by_run_of(trained))["num_runs"].tolist() == [1]
    finally:
        path.write_bytes(kept)


def test_a_forecast_that_came_after_the_start_does_not_count(trained) -> None:
    results = load_results(trained)
    late = {"written": "2100-01-01T00:00:00.000+00:00"}
    files = {run_id: file | late for run_id, file in forecast_files(results, trained).items()}
    table = forecast_by_run(results, results.conditions[0], files)
    assert set(table["refused"]) == {"it was not written before the training started"}
    assert forecast_by_k(table).empty


def test_a_run_that_was_begun_without_one_gets_none(storage) -> None:
    train_single_k(RUN, storage, ())
    provenance = storage.run(RUN.run_id) / "provenance.json"
    assert provenance.exists() and not forecast_path(storage, RUN.run_id).exists()
    storage.result(RUN.run_id).unlink()
    for snapshot in (storage.run(RUN.run_id) / "snapshots").glob("*"):
        snapshot.unlink()
    assert train(storage).rows_of("forecast") == []
    assert not forecast_path(storage, RUN.run_id).exists()
    table = by_run_of(storage)
    assert "No run has a forecast" in forecasts_blocks(table, forecast_by_k(table), Path("none.png"))[1].text


def test_a_damaged_forecast_is_found(trained) -> None:
    path = forecast_path(trained, RUN.run_id)
    kept = path.read_bytes()
    path.write_bytes(kept[:-9])
    try:
        assert path in {finding.path for finding in verify_storage(trained.root).damaged}
    finally:
        path.write_bytes(kept)
