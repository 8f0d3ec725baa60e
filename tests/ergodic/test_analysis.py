"""Results -> tables and figures, against numbers worked out by hand from simulated result files."""

import dataclasses
import math
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.analysis.conditions import condition_file_name
from helpers.analysis.figures import save_figure
from helpers.analysis.tables import markdown
from helpers.model_config import PythiaConfig
from helpers.runs.result_file import read_result, write_result
from helpers.storage import Storage
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.analyse import analyse
from helpers.studies.ergodic.contrasts import by_position, by_seed, with_k1
from helpers.studies.ergodic.figures import dxe_vs_k, xe_by_position, xe_vs_k
from helpers.studies.ergodic.results import load_results
from helpers.studies.ergodic.roles import GRID
from tests.simulated_results import (
    COMPONENTS,
    NUM_POSITIONS,
    flat_curves,
    run_config,
    simulate_baselines,
    simulate_grid,
    write_run,
)

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analysis.ipynb"
NUM_TABLES = 14


@pytest.fixture
def storage(tmp_path):
    return Storage.at(tmp_path / "storage")


@pytest.fixture
def two_seeds(storage):
    """K = 1 and 2 at two seeds that begin with different components, A and B."""
    write_run(storage, run_config(1, 0), flat_curves({"A": 2.0}))
    write_run(storage, run_config(1, 1), flat_curves({"B": 2.4}))
    write_run(storage, run_config(2, 0), flat_curves({"A": 2.1, "B": 2.5}))
    write_run(storage, run_config(2, 1), flat_curves({"B": 2.45, "A": 2.15}))
    return storage


def table_of(storage, make=tables.table_1):
    results = load_results(storage)
    return make(results, results.conditions[0])


def figures_made(storage):
    """The names of the figures that the analysis of one condition makes, with every table and the report."""
    made = [path.name for path in analyse(storage)]
    assert len([name for name in made if name.endswith((".md", ".tex"))]) == 2 * NUM_TABLES + 2
    assert {"report.html", "report.md"} <= set(made)
    return {name.removesuffix(".png") for name in made if name.endswith(".png")}


def row_of(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def rewrite_run_line(path, **changes):
    """The same result with another run line, hashed anew."""
    result = read_result(path)
    result.run.update(changes)
    return write_result(path, result)


# Table 1


def test_table_1_is_the_mean_and_sample_deviation_over_seeds(two_seeds):
    row = row_of(table_of(two_seeds), k=1)
    assert (row["num_runs"], row["num_seeds"]) == (2, 2)
    assert row["xe"] == pytest.approx(2.2)
    assert row["xe_sigma"] == pytest.approx(0.4 / math.sqrt(2))
    assert row["ppl"] == pytest.approx((math.exp(2.0) + math.exp(2.4)) / 2)
    assert row["tokens_seen"] == 500 * 64 * 100
    assert row["unique_tokens"] == 40_000
    assert row["repetition"] == pytest.approx(80.0)


def test_dxe_is_paired_by_seed(two_seeds):
    row = row_of(table_of(two_seeds), k=2)
    # Seed 0: 2.3 - 2.0; seed 1: 2.3 - 2.4.
    assert row["num_pairs"] == 2
    assert row["dxe"] == pytest.approx((0.3 - 0.1) / 2)
    assert row["dxe_sigma"] == pytest.approx(0.4 / math.sqrt(2))


def test_dxe_over_the_same_components_leaves_out_how_hard_they_are(two_seeds):
    row = row_of(table_of(two_seeds), k=2)
    # Seed 0 on A: 2.1 - 2.0; seed 1 on B: 2.45 - 2.4.
    assert row["num_same"] == 2
    assert row["dxe_same"] == pytest.approx((0.1 + 0.05) / 2)
    assert row["dxe_same_sigma"] == pytest.approx(0.05 / math.sqrt(2))


def test_a_baseline_of_the_same_seed_adds_its_component_and_no_row_of_the_grid(two_seeds):
    write_run(two_seeds, run_config(1, 0, components=("B",)), flat_curves({"B": 2.42}))
    table = table_of(two_seeds)
    assert row_of(table, k=1)["num_runs"] == 2
    row = row_of(table, k=2)
    assert row["num_same"] == 3
    # Seed 0: the mean of 2.1 - 2.0 and 2.5 - 2.42; seed 1 as before, for the baseline has another seed.
    assert row["dxe_same"] == pytest.approx(((0.1 + 0.08) / 2 + 0.05) / 2)
    baseline = row_of(table_of(two_seeds, tables.baselines), component="B")
    assert (baseline["num_runs"], baseline["xe"]) == (1, pytest.approx(2.42))
    assert math.isnan(baseline["xe_sigma"])


def test_the_bound_is_ln_k_over_99(storage):
    simulate_grid(storage, seeds=(0,))
    bounds = table_of(storage).set_index("k")["bound"].round(4).to_dict()
    assert bounds == {1: 0.0, 2: 0.0070, 4: 0.0140, 8: 0.0210, 11: 0.0242}


def test_bayes_values_and_the_gap_to_them(storage):
    known = {"A": 1.9, "B": 2.3}
    write_run(storage, run_config(1, 0), flat_curves({"A": 2.0}), flat_curves(known), flat_curves(known))
    mixture = flat_curves({"A": 1.95, "B": 2.32})
    write_run(storage, run_config(2, 0), flat_curves({"A": 2.1, "B": 2.5}), mixture, flat_curves(known))
    row = row_of(table_of(storage), k=2)
    assert row["bayes_xe"] == pytest.approx((1.95 + 2.32) / 2)
    assert row["gap"] == pytest.approx(2.3 - 2.135)
    assert row["bayes_dxe"] == pytest.approx(2.135 - 1.9)
    assert row["bayes_dxe_same"] == pytest.approx(0.05)  # component A alone has a run at K = 1


def test_one_seed_has_no_sigma(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    table = table_of(storage)
    assert table[["xe_sigma", "ppl_sigma", "dxe_sigma"]].isna().all(axis=None)
    assert " ± - |" in markdown(table, tables.HEADINGS)


def test_without_a_run_at_k_1_there_is_no_difference(storage):
    simulate_grid(storage, ks=(2, 4), seeds=(0, 1))
    table = table_of(storage)
    assert table[["dxe", "dxe_same", "bayes_dxe_same"]].isna().all(axis=None)
    assert list(table["num_pairs"]) == list(table["num_same"]) == [0, 0]
    assert figures_made(storage) == {"xe_vs_K", "xe_by_position", "in_context"}


# The other tables


def test_each_component_has_its_own_difference(two_seeds):
    table = table_of(two_seeds, tables.per_component)
    at_k2 = row_of(table, component="A", k=2)
    assert (at_k2["num_runs"], at_k2["num_same"]) == (2, 1)
    assert at_k2["xe"] == pytest.approx((2.1 + 2.15) / 2)
    assert at_k2["xe_sigma"] == pytest.approx(0.05 / math.sqrt(2))
    assert at_k2["dxe_same"] == pytest.approx(0.1)


def test_the_control_is_compared_with_itself_and_kept_out_of_the_grid(two_seeds):
    write_run(two_seeds, run_config(1, 0, shuffle_labels=True), flat_curves({"A": 2.30}))
    write_run(two_seeds, run_config(2, 0, shuffle_labels=True), flat_curves({"A": 2.31, "B": 2.33}))
    assert row_of(table_of(two_seeds), k=2)["num_runs"] == 2
    row = row_of(table_of(two_seeds, tables.control), k=2)
    assert row["xe"] == pytest.approx(2.32)
    assert row["xe_grid"] == pytest.approx(2.3)
    assert row["dxe"] == pytest.approx(0.02)
    assert row["dxe_same"] == pytest.approx(0.01)


def test_missing_cells_are_those_of_every_k_and_seed_that_occur(storage):
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1))
    storage.result(run_config(2, 1).run_id).unlink()
    assert table_of(storage, tables.missing).to_dict("records") == [{"k": 2, "seed": 1}]
    row = row_of(table_of(storage), k=2)
    assert (row["num_runs"], row["num_pairs"]) == (1, 1)


def test_a_k_that_only_the_control_has_is_missing_from_the_grid(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0,))
    simulate_grid(storage, ks=(8,), seeds=(0,), shuffle_labels=True)
    assert table_of(storage, tables.missing).to_dict("records") == [{"k": 8, "seed": 0}]
    row = row_of(table_of(storage), k=8)
    assert row["num_runs"] == 0
    assert math.isnan(row["xe"])


def test_markdown_is_readable():
    table = pd.DataFrame(
        {"component": ["a|b"], "k": [2], "xe": [2.34567], "xe_sigma": [float("nan")], "unique_tokens": [1234567.0]}
    )
    assert markdown(table, tables.HEADINGS) == (
        "| component | K | XE (nats/token) | unique tokens |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a\\|b | 2 | 2.3457 ± - | 1,234,567 |"
    )
    assert markdown(table[:0], tables.HEADINGS) == "None."


# By position


def test_by_position_averages_components_then_seeds(storage):
    ramp = np.arange(NUM_POSITIONS) / 100
    write_run(storage, run_config(2, 0), {"A": 3 - ramp, "B": 5 - ramp})
    write_run(storage, run_config(2, 1), {"A": 4.2 - ramp, "B": 4.2 - ramp})
    results = load_results(storage)
    curve = by_position(results, results.conditions[0])
    assert len(curve) == NUM_POSITIONS
    assert np.allclose(curve["xe"], 4.1 - ramp)
    assert np.allclose(curve["xe_sigma"], 0.2 / math.sqrt(2))
    assert curve["bayes_xe"].isna().all()
    # XE leaves position 0 out: the mean of n / 100 over n = 1 .. 99 is 0.5.
    assert row_of(table_of(storage), k=2)["xe"] == pytest.approx(3.6)


# What is counted, and what is left out


def test_every_file_that_cannot_be_counted_is_named_with_its_reason(two_seeds):
    folder = two_seeds.result("x").parent
    good = two_seeds.result(run_config(1, 0).run_id)
    shutil.copy(good, folder / f"{good.stem} (1).jsonl")
    cut = write_run(two_seeds, run_config(1, 5), flat_curves({"A": 9.0}))
    cut.write_bytes(cut.read_bytes()[:-40])
    altered = write_run(two_seeds, run_config(1, 6), flat_curves({"A": 9.0}))
    altered.write_text(altered.read_text().replace("9.0", "1.0"))
    rewrite_run_line(write_run(two_seeds, run_config(1, 7), flat_curves({"A": 9.0})), schema=2)
    rewrite_run_line(write_run(two_seeds, run_config(1, 8), flat_curves({"A": 9.0})), schedule_complete=False)
    rewrite_run_line(write_run(two_seeds, run_config(1, 9), flat_curves({"A": 9.0})), components=["A", "B"])
    rewrite_run_line(write_run(two_seeds, run_config(1, 10), flat_curves({"A": 9.0})), params={})
    rewrite_run_line(write_run(two_seeds, run_config(1, 11), flat_curves({"A": 9.0})), config={"speed": 1})
    write_run(two_seeds, dataclasses.replace(run_config(1, 12), study="activation"), flat_curves({"A": 9.0}))
    (folder / "empty.jsonl").touch()
    (folder / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (folder / "list.jsonl").write_text("[1]\n")
    (folder / ".partial-1-x.jsonl").write_text("being written")
    (folder / "folder.jsonl").mkdir()

    results = load_results(two_seeds)
    assert len(results.runs) == 4
    reasons = dict(line.split(": ", 1) for line in results.left_out)
    expected = {
        f"{good.stem} (1).jsonl": "second file of run",
        cut.name: "not a whole result file",
        altered.name: "cut or altered",
        two_seeds.result(run_config(1, 7).run_id).name: "schema 2",
        two_seeds.result(run_config(1, 8).run_id).name: "schedule had not ended",
        two_seeds.result(run_config(1, 9).run_id).name: "evaluates ['A']",
        two_seeds.result(run_config(1, 10).run_id).name: "no field 'total'",
        two_seeds.result(run_config(1, 11).run_id).name: "config.speed",
        two_seeds.result(dataclasses.replace(run_config(1, 12), study="activation").run_id).name: "study 'activation'",
        "empty.jsonl": "not a whole result file",
        "binary.jsonl": "not a whole result file",
        "list.jsonl": "not a whole result file",
        "folder.jsonl": "directory",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name], reasons[name]
    assert row_of(table_of(two_seeds), k=1)["xe"] == pytest.approx(2.2)


def test_the_file_with_the_runs_own_name_is_counted_whatever_the_copy_is_called(two_seeds):
    good = two_seeds.result(run_config(1, 0).run_id)
    shutil.copy(good, good.with_name(f"A copy of {good.name}"))
    assert [line.split(":")[0] for line in load_results(two_seeds).left_out] == [f"A copy of {good.name}"]


def test_runs_of_different_conditions_are_never_averaged(two_seeds):
    config = run_config(1, 0)
    others = [
        dataclasses.replace(config, model=PythiaConfig(size="14m", dropout=0.0)),
        dataclasses.replace(config, train=dataclasses.replace(config.train, steps=5000)),
        dataclasses.replace(config, train=dataclasses.replace(config.train, peak_lr=1e-3)),
        run_config(1, 0, allocation="constant_unique"),
        run_config(1, 0, source="somewhere/papers"),
    ]
    for other in others:
        write_run(two_seeds, other, flat_curves({"A": 7.0}))
    results = load_results(two_seeds)
    assert results.left_out == []
    assert len(results.conditions) == 6
    main, *further = results.conditions
    assert main == "synthetic, tiny, full allocation, uniform sampling, 3.2M tokens, train.peak_lr 0.0002"
    assert tables.table_1(results, main).set_index("k")["xe"].to_dict() == pytest.approx({1: 2.2, 2: 2.3})
    assert "synthetic, tiny, full allocation, uniform sampling, 3.2M tokens, train.peak_lr 0.001" in further
    assert "synthetic, 14m, full allocation, uniform sampling, 3.2M tokens" in further
    assert "synthetic, tiny, full allocation, uniform sampling, 32M tokens" in further
    assert len({condition_file_name(condition) for condition in results.conditions}) == 6


def test_execution_is_not_part_of_a_condition(two_seeds):
    config = run_config(1, 3)
    execution = dataclasses.replace(config.execution, device="cpu", threads=3)
    write_run(two_seeds, dataclasses.replace(config, execution=execution), flat_curves({"A": 2.0}))
    assert len(load_results(two_seeds).conditions) == 1


# Figures


def test_the_figure_draws_the_numbers_of_the_table(two_seeds):
    results = load_results(two_seeds)
    figure = xe_vs_k(by_seed(results, results.conditions[0]), "a condition")
    (axes,) = figure.axes
    assert isinstance(figure, Figure)
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert any(np.allclose(xy, [[1, 2.2], [2, 2.3]]) for xy in drawn if len(xy) == 2)
    assert any(np.allclose(xy, [[1, 2.4], [2, 2.3]]) for xy in drawn if len(xy) == 2)  # seed 1
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "XE (nats per token)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\nn = 2", "2\nn = 2"]


def test_a_missing_k_is_marked_and_interrupts_the_line(storage):
    simulate_grid(storage, ks=(1, 2, 4), seeds=(0, 1))
    simulate_grid(storage, ks=(2,), seeds=(0,), shuffle_labels=True)
    for seed in (0, 1):
        storage.result(run_config(2, seed).run_id).unlink()
    storage.result(run_config(4, 0).run_id).unlink()
    results = load_results(storage)
    (axes,) = xe_vs_k(by_seed(results, results.conditions[0]), "a condition").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\nn = 2", "2\nmissing", "4\nn = 1 of 2"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"] == [2]


def test_dxe_figure_shows_the_bound_and_the_exact_difference(storage):
    simulate_grid(storage)
    results = load_results(storage)
    _, same = dxe_vs_k(by_seed(results, results.conditions[0]), "a condition").axes
    lines = {line.get_label(): line for line in same.lines}
    bound = lines["bound ln K / 99"].get_xydata()
    assert np.allclose(bound[:, 1], np.log(bound[:, 0]) / 99)
    rows = with_k1(results, results.conditions[0], GRID).dropna(subset="xe_k1")
    exact = (rows["bayes_xe"] - rows["bayes_known_xe"]).groupby(rows["k"]).mean()
    assert np.allclose(lines["exact Bayes"].get_ydata(), exact)


def test_equal_numbers_give_equal_files(two_seeds):
    results = load_results(two_seeds)
    positions = by_position(results, results.conditions[0])
    contents = []
    for name in ("one", "two"):
        paths = save_figure(two_seeds, name, xe_by_position(positions, "a condition"), positions)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(two_seeds.figure("one.csv")), positions, check_dtype=False)


# Everything


def test_analyse_writes_everything_of_every_condition(storage):
    simulate_grid(storage, ks=(1, 2), seeds=(0, 1))
    simulate_baselines(storage)
    simulate_grid(storage, ks=(1, 2), seeds=(0,), allocation="constant_unique")
    paths = analyse(storage)
    # Twelve figures with their numbers, both forms of the report, and the answer beside the tables.
    assert len(paths) == len(set(paths)) == NUM_TABLES * 3 + 12 * 2 + 2 + 1
    assert all(path.stat().st_size > 0 for path in paths)
    assert storage.figure("xe_vs_K.png") in paths
    suffix = "-synthetic-tiny-constant_unique_allocation-uniform_sampling-3.2M_tokens"
    assert storage.figure(f"xe_vs_K{suffix}.png") in paths
    table = pd.read_csv(storage.table("table_1.csv"))
    assert table.groupby("condition")["num_runs"].sum().tolist() == [2, 4]
    assert len(pd.read_csv(storage.table("baselines.csv"))) == len(COMPONENTS)
    assert "No file was left out." in storage.table("runs.md").read_text()


def test_one_run_is_enough(storage):
    write_run(storage, run_config(4, 0), flat_curves(dict.fromkeys("ABCD", 2.0)))
    assert figures_made(storage) == {"xe_vs_K", "xe_by_position", "in_context"}


def test_baselines_alone_are_enough(storage):
    simulate_baselines(storage)
    assert figures_made(storage) == set()


def test_no_results_says_how_to_make_some(storage):
    with pytest.raises(ValueError, match="python -m helpers grid --study ergodic"):
        analyse(storage)
    write_run(storage, run_config(1, 0), flat_curves({"A": 2.0})).write_text("{")
    with pytest.raises(ValueError, match=r"left out: .* not a whole result file"):
        analyse(storage)
    assert not (storage.root / "fig").exists()


# The notebook


def test_the_notebook_is_committed_clean_and_small():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len(cells) <= 15
    assert all(len([line for line in cell.source.splitlines() if line.strip()]) <= 15 for cell in cells)
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert [cell.id for cell in cells if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]
    assert "](https://colab.research.google.com/github/" in notebook.cells[0].source


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(storage, tmp_path):
    import papermill

    simulate_grid(storage, ks=(1, 2), seeds=(0, 1))
    parameters = {"STORAGE": str(storage.root), "INTERACTIVE": False}
    papermill.execute_notebook(
        NOTEBOOK, tmp_path / "out.ipynb", parameters, cwd=ROOT, progress_bar=False, kernel_name="python3"
    )
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    shown = [kind for output in outputs for kind in output.get("data", {}) if kind != "text/plain"]
    assert (shown.count("image/png"), shown.count("text/markdown")) == (4, 11)
    answer = executed.cells[[cell.id for cell in executed.cells].index("analyse-code")].outputs
    said = " ".join(output.get("data", {}).get("text/markdown", "") for output in answer)
    assert "These runs cannot tell what K costs" in said and "python -m helpers" in said
    assert storage.figure("xe_vs_K.png").exists()
