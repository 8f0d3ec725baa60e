"""`python -m helpers fit`: strict JSON of real tables, and one line for every table that cannot be fitted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from helpers.__main__ import main
from helpers.analysis.fits.laws import CHINCHILLA, LAWS, OFFSET_POWER_LAW, POWER_LAW
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.report import parse_scales, report_fit
from tests.analysis.test_fits import PERPLEXITY, PUBLISHED, TOKENS, needs_published

X = np.repeat(np.logspace(0, 3, 6), 3)


def table(path: Path, **columns) -> Path:
    lines = [",".join(columns)] + [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def run_fit(capsys, *arguments: str) -> dict:
    assert main(["fit", *arguments]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def noisy_losses(exponent: float = 0.3, offset: float = 1.5, seed: int = 0, noise: float = 0.01) -> np.ndarray:
    return (offset + 2 * X**-exponent) * np.exp(noise * np.random.default_rng(seed).normal(size=len(X)))


def test_the_regression_of_four_points(tmp_path, capsys) -> None:
    path = table(tmp_path / "t.csv", tokens=TOKENS, ppl=PERPLEXITY)
    found = run_fit(
        capsys, "--csv", str(path), "--law", "power", "--x", "tokens", "--y", "ppl", "--predict", "1e5", "1e7"
    )
    line = found["regression"]
    numbers = [line[name] for name in ("slope", "intercept", "r_squared", "p_value", "standard_error")]
    assert [f"{number:.6f}" for number in numbers] == ["-0.714323", "14.633057", "0.981750", "0.009167", "0.068866"]
    assert found["parameters"]["b"]["low"] == pytest.approx(0.418, abs=5e-4)
    assert found["parameters"]["b"]["high"] == pytest.approx(1.011, abs=5e-4)
    first, last = found["predictions"]
    assert first["x"] == 1e5 and f"{first['value']:.0f}" == "607"
    assert (f"{last['value']:.0f}", f"{last['low']:.1f}", f"{last['high']:.0f}") == ("23", "2.8", "184")
    assert found["estimator"].startswith("least squares") and "Student's t" in found["why"]
    assert found["beside"]["hoffmann"]["estimator"] == "Huber of log loss, delta 0.001"
    assert found["forms"] is None and "use at least 6" in found["forms_not_compared"]


@pytest.mark.slow
@needs_published
def test_the_chinchilla_points(capsys) -> None:
    columns = ("--n", "Model Size", "--flop", "Training FLOP", "--y", "loss")
    options = ("--drop-top", "5", "--bootstrap", "200", "--predict", "7e10,1.4e12", "--delta", "0.001")
    found = run_fit(capsys, "--csv", str(PUBLISHED), "--law", "chinchilla", *columns, *options)
    assert found["objective"] <= 0.0010182741
    assert found["num_agreeing"] > found["num_starts"] / 2
    assert found["parameters"]["alpha"]["value"] == pytest.approx(0.347310, rel=1e-3)
    assert found["interval"] == {
        "level": 0.95, "method": "pairs", "num_draws": 200, "num_clusters": 240, "degrees_of_freedom": None,
    }  # fmt: skip
    assert found["warnings"][0] == "the 5 highest losses are left out, as asked"
    assert found["allocation"]["a"]["value"] == pytest.approx(0.367172 / (0.347310 + 0.367172), abs=2e-4)
    assert found["allocation"]["a"]["standard_error"] == pytest.approx(0.020, abs=0.004)
    (prediction,) = found["predictions"]
    by_hand = 1.817218 + 477.826 * 7e10**-0.347310 + 2143.417 * 1.4e12**-0.367172
    assert prediction["value"] == pytest.approx(by_hand, rel=1e-5)
    assert prediction["low"] < by_hand < prediction["high"]


def test_an_offset_law_with_its_forms_and_draws(tmp_path, capsys) -> None:
    path = table(tmp_path / "t.csv", c=X, xe=noisy_losses())
    found = run_fit(capsys, "--csv", str(path), "--law", "offset", "--x", "c", "--y", "xe", "--predict", "1e4")
    # Six means that lie a little further from the law than seeds let them: their own noise, told by six less three.
    assert found["interval"]["method"] == "noise" and found["interval"]["degrees_of_freedom"] == 3
    assert found["num_configurations"] == 6
    for name, truth in {"E": 1.5, "a": 2.0, "b": 0.3}.items():
        assert found["parameters"][name]["low"] < truth < found["parameters"][name]["high"]
    assert found["correlations_of_logs"]["E"]["b"] > 0.9
    assert [form["law"] for form in found["forms"]] == ["offset", "power"]
    assert found["seed_deviation"] == pytest.approx(0.01, rel=0.4)


def test_arms_are_compared(tmp_path, capsys) -> None:
    arms, seeds = ["gelu"] * len(X) + ["swiglu"] * len(X), list(np.tile([0, 1, 2], 12))
    losses = np.concatenate([noisy_losses(0.3, noise=0.003), noisy_losses(0.4, noise=0.003, seed=1)])
    path = table(tmp_path / "t.csv", c=np.tile(X, 2), xe=losses, activation=arms, seed=seeds)
    columns = ("--x", "c", "--y", "xe", "--arm", "activation", "--cluster", "c", "seed")
    found = run_fit(capsys, "--csv", str(path), "--law", "offset", *columns, "--predict", "1e4")
    assert list(found["parameters"]) == ["E", "a[gelu]", "a[swiglu]", "b[gelu]", "b[swiglu]"]
    (comparison,) = found["arms"]["comparisons"]
    assert comparison["exponent_difference"]["low"] < 0.1 < comparison["exponent_difference"]["high"]
    assert not comparison["equivalence"]["is_equivalent"] and comparison["equivalence"]["margin"] == 0.02
    assert found["arms"]["exponent_test"]["bootstrap_p_value"] < 0.01
    assert [row["arm"] for row in found["predictions"]] == ["gelu", "swiglu"]
    assert comparison["compute_multipliers"][1]["value"] > 1


def test_many_points_are_fitted_robustly() -> None:
    x = np.logspace(0, 3, 40)
    losses = 2 * x**-0.3 * np.exp(0.001 * np.random.default_rng(0).normal(size=40))
    losses[-1] *= 2
    found = report_fit(Points.of(x, losses), POWER_LAW, num_draws=100)
    assert found["estimator"].startswith("Huber") and found["interval"]["method"] == "pairs"
    assert found["parameters"]["b"]["value"] == pytest.approx(0.3, abs=2e-3)
    assert abs(found["beside"]["least_squares"]["parameters"]["b"] - 0.3) > 5e-3
    assert [row["row"] for row in found["far_out"]] == [40]


def test_a_line_that_does_not_fit_its_replicates_is_warned_of() -> None:
    found = report_fit(Points.of(X, noisy_losses(noise=0.002)), POWER_LAW)
    assert "lack of fit" in " ".join(found["warnings"])
    straight = report_fit(Points.of(X, noisy_losses(offset=0.0)), POWER_LAW)
    assert straight["warnings"] == [] and straight["regression"]["lack_of_fit_p_value"] > 0.05


def test_scales_ahead_are_read() -> None:
    assert parse_scales(["1e7", "3"], POWER_LAW) == [[1e7], [3.0]]
    assert parse_scales(["7e10,1.4e12"], CHINCHILLA) == [[7e10, 1.4e12]]
    for texts, law, form in (
        (["1,2"], OFFSET_POWER_LAW, "x"),
        (["7e10"], CHINCHILLA, "N,D"),
        (["0"], POWER_LAW, "x"),
        (["a"], POWER_LAW, "x"),
    ):
        with pytest.raises(ValueError, match=f"is not of the form {form}, positive"):
            parse_scales(texts, law)


@pytest.mark.parametrize(
    "text, arguments, message",
    [
        ("x,y\n1,3\n10,2\n", (), "num_points = 2 is too few for the 2 parameters of law = 'power'; use at least 3"),
        ("x,y\n1,3\n", (), "num_points = 1 is too few"),
        ("x,y\n5,3\n5,2\n5,1\n", (), "needs 2 distinct values of x, not 1"),
        ("x,y\n1,3\n2,0\n3,1\n", (), "column 'y' = 0 in row 2 is not a positive number"),
        ("x,y\n1,3\n2,-1\n3,1\n", (), "column 'y' = -1 in row 2"),
        ("x,y\n1,3\n2,\n3,1\n", (), "column 'y' = nan in row 2"),
        ("x,y\n1,3\n2,abc\n3,1\n", (), "column 'y' = 'abc' in row 2"),
        ("x,y\n1e300,3\n2e300,2\n3e300,1\n", (), "column 'x' = 1e+300 in row 1"),
        ("x,y\n1,2\n2,2\n3,2\n", (), "all 3 losses equal 2"),
        ("x,z\n1,2\n2,2\n3,2\n", (), "column 'y' is not in the table; it has 'x', 'z'"),
        ("x,y\n", (), "has no rows to fit"),
        ("", (), "cannot be read as a table"),
        ("x,y\n1,2,3\n2,3,4\n", (), "cannot be read as a table"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--n", "x"), "name x, or n and d, or n and flop"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--drop-top", "3"), "drop_top = 3 is not possible for 3 rows; use 0 to 2"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--predict", "0"), "predict = '0' is not of the form x"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--law", "offset"), "num_points = 3 is too few for the 3 parameters of law"),
        ("x,y,arm\n1,3,g\n2,2,g\n3,1,g\n4,1,g\n1,2,s\n", ("--arm", "arm"), "in arm 's', not 1"),
        ("x,y,arm\n1,3,g\n2,2,g\n3,1,g\n", ("--arm", "arm"), "use 2 arms or more"),
        ("x,y,y\n1,3,3\n2,2,2\n3,1,1\n", (), "has 2 columns named 'y'; rename one"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--fix", "E=1"), "fix = 'E' is not a parameter to be fixed of L = a x^-b; use b"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--fix", "b"), "fix = 'b' is not of the form NAME=VALUE; use b=0.35"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--fix", "b=-1"), "fix = b=-1 is not possible"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--tie", "a=b"), "tie = a=b does not name two exponents"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--holdout", "x"), "holdout = 'x' is not a comparison with a number; use x > 1e9"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--holdout", "z > 1"), "names 'z'; use x, C or a column of the table"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--holdout", "x > 9"), "holdout takes 0 of 3 rows"),
        ("x,y\n1,3\n2,2\n3,1\n", ("--delta", "0"), "delta = 0 is not possible; use a number above 0, or inf"),
        ("x,y,w\n1,3,1\n2,2,0\n3,1,1\n", ("--weights", "w"), "column 'w' = 0 in row 2 is not a positive number"),
        ("x,y\n1,3\n2,2\n4,1\n8,.9\n", ("--compute", "1e9"), "asks for the best N and D"),
        ("x,y,arm\n1,3,g\n2,2,g\n3,1,\n", ("--arm", "arm"), "column 'arm' has no label in row 3"),
        ("x,y,s\n1,3,0\n2,2,0\n3,1,1\n", ("--cluster", "s"), "2 clusters cannot give intervals for 2 parameters"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_one_line_and_exit_code_2(text, arguments, message, tmp_path, capsys) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    law = () if "--law" in arguments else ("--law", "power")
    assert main(["fit", "--csv", str(path), *law, "--x", "x", "--y", "y", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]


def test_a_missing_file_is_one_line(tmp_path, capsys) -> None:
    assert main(["fit", "--csv", str(tmp_path / "none.csv"), "--law", "power", "--x", "x", "--y", "y"]) == 1
    assert "none.csv" in capsys.readouterr().err


def test_the_command_needs_no_torch() -> None:
    code = "import sys, helpers.analysis.fits.report; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


# What tables of people have, and what they ask

GRID_N, GRID_D = np.repeat(10 ** np.arange(7, 9.1, 0.5), 5), np.tile(10 ** np.arange(9, 11.1, 0.5), 5)
GRID_LOSSES = np.round(1.8 + 480 * GRID_N**-0.35 + 2000 * GRID_D**-0.37, 3)
ND = ("--law", "chinchilla", "--n", "N", "--d", "D", "--y", "loss", "--bootstrap", "200")


def grid_table(path: Path, losses: np.ndarray = GRID_LOSSES, **columns) -> str:
    return str(table(path / "t.csv", N=GRID_N, D=GRID_D, loss=losses, **columns))


def spoilt(factor: float) -> np.ndarray:
    losses = GRID_LOSSES.copy()
    losses[7] *= factor
    return losses


def test_one_bad_run_is_named_and_does_not_decide(tmp_path, capsys) -> None:
    found = run_fit(capsys, "--csv", grid_table(tmp_path, spoilt(1.6)), *ND)
    values = {name: own["value"] for name, own in found["parameters"].items()}
    assert values == pytest.approx({"E": 1.8, "A": 480, "alpha": 0.35, "B": 2000, "beta": 0.37}, rel=0.03)
    assert [row["row"] for row in found["far_out"]] == [8]
    assert found["far_out"][0]["residual"] == pytest.approx(np.log(1.6), abs=1e-3)
    assert any("row 8 (+0.47)" in words for words in found["warnings"])


def test_naming_clusters_changes_no_estimate(tmp_path, capsys) -> None:
    noisy = GRID_LOSSES * np.exp(0.01 * np.random.default_rng(0).normal(size=25))
    path = grid_table(tmp_path, noisy, size=[f"s{n:.0f}" for n in GRID_N], run=range(25))
    plain = run_fit(capsys, "--csv", path, *ND)
    named = run_fit(capsys, "--csv", path, *ND, "--cluster", "N", "run")
    by_size = run_fit(capsys, "--csv", path, *ND, "--cluster", "D", "size")
    for other in (named, by_size):
        for name, own in plain["parameters"].items():
            assert other["parameters"][name]["value"] == own["value"]


def test_copies_of_rows_are_not_runs(tmp_path, capsys) -> None:
    x, y = [1, 10, 100, 1000], [3, 2.1, 1.4, 0.9]
    columns = ("--law", "power", "--x", "x", "--y", "y")
    once = run_fit(capsys, "--csv", str(table(tmp_path / "a.csv", x=x, y=y)), *columns)
    five = run_fit(capsys, "--csv", str(table(tmp_path / "b.csv", x=x * 5, y=y * 5)), *columns)
    assert five["parameters"] == once["parameters"] and five["num_points"] == 4
    assert (
        five["warnings"][0]
        == "16 of 20 rows are copies of others (the first is row 5) and are left out: a copy is not a run"
    )
    alike = run_fit(capsys, "--csv", str(table(tmp_path / "c.csv", x=[*x, 10], y=[*y, 2.1])), *columns)
    assert alike["num_points"] == 5 and "1 rows equal an earlier one" in alike["warnings"][0]


def test_thousands_separators_are_numbers(tmp_path, capsys) -> None:
    path = tmp_path / "t.csv"
    rows = [f'"{int(n):,}",{int(d)},{loss}' for n, d, loss in zip(GRID_N, GRID_D, GRID_LOSSES, strict=True)]
    path.write_text("\n".join(["N,D,loss", *rows]))
    found = run_fit(capsys, "--csv", str(path), *ND)
    assert found["parameters"]["alpha"]["value"] == pytest.approx(0.35, abs=0.002)
    assert found["warnings"][0] == "column 'N' has thousands separators: its first number is read as 10000000"


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_files_are_the_same_table(kind, tmp_path, capsys) -> None:
    frame = pd.DataFrame({"c": X, "xe": noisy_losses()})
    path = tmp_path / f"t.{kind}"
    frame.to_json(path, orient="records", lines=True, double_precision=15) if kind == "jsonl" else frame.to_parquet(
        path
    )
    columns = ("--law", "offset", "--x", "c", "--y", "xe")
    found = run_fit(capsys, "--csv", str(path), *columns)
    same = run_fit(capsys, "--csv", str(table(tmp_path / "t.csv", c=X, xe=frame["xe"])), *columns)
    assert found["parameters"]["b"]["value"] == pytest.approx(same["parameters"]["b"]["value"], rel=1e-9)
    path.write_text("nonsense")
    assert main(["fit", "--csv", str(path), *columns]) == 2


def test_both_ways_of_asking_for_predictions_are_heard(tmp_path, capsys) -> None:
    path = str(table(tmp_path / "t.csv", c=X, xe=noisy_losses()))
    asked = ("--predict", "1e4", "--predict", "1e5", "1e6")
    found = run_fit(capsys, "--csv", path, "--law", "offset", "--x", "c", "--y", "xe", *asked)
    assert [row["x"] for row in found["predictions"]] == [1e4, 1e5, 1e6]


def test_known_and_tied_exponents(tmp_path, capsys) -> None:
    """alpha known at its truth leaves the rest at theirs; two exponents of one name are one parameter."""
    path = grid_table(tmp_path)
    fixed = run_fit(capsys, "--csv", path, *ND, "--fix", "alpha=0.35")
    assert fixed["parameters"]["alpha"] == {
        "value": 0.35,
        "low": 0.35,
        "high": 0.35,
        "standard_error": 0.0,
        "degrees_of_freedom": fixed["interval"]["degrees_of_freedom"],
        "note": "fixed",
    }
    assert fixed["parameters"]["beta"]["value"] == pytest.approx(0.37, abs=1e-3)
    tied = run_fit(capsys, "--csv", path, *ND, "--tie", "alpha=beta")
    assert list(tied["parameters"]) == ["E", "A", "alpha", "B"]
    assert tied["allocation"]["a"]["value"] == 0.5 and 0.35 < tied["parameters"]["alpha"]["value"] < 0.37


def test_weights_are_those_of_least_squares(tmp_path, capsys) -> None:
    weights = np.tile([1.0, 4.0, 0.5], 6)
    path = str(table(tmp_path / "t.csv", c=X, xe=noisy_losses(noise=0.05), w=weights))
    columns = ("--law", "power", "--x", "c", "--y", "xe", "--weights", "w", "--delta", "inf")
    found = run_fit(capsys, "--csv", path, *columns)
    slope, intercept = np.polyfit(np.log(X), np.log(noisy_losses(noise=0.05)), 1, w=np.sqrt(weights))
    assert found["parameters"]["b"]["value"] == pytest.approx(-slope, rel=1e-6)
    assert found["parameters"]["a"]["value"] == pytest.approx(np.exp(intercept), rel=1e-6)


def test_plain_least_squares_are_scipys(tmp_path, capsys) -> None:
    """Noise that is the same in nats at every run: Levenberg and Marquardt on the losses themselves (MINPACK)."""
    losses = 1.5 + 2 * X**-0.3 + np.random.default_rng(4).normal(0, 0.02, len(X))
    path = str(table(tmp_path / "t.csv", c=X, xe=losses))
    found = run_fit(capsys, "--csv", path, "--law", "offset", "--x", "c", "--y", "xe", "--plain", "--bootstrap", "100")
    theta, _ = curve_fit(lambda x, e, a, b: e + a * x**-b, X, losses, p0=[1.5, 2, 0.3], xtol=1e-14, ftol=1e-14)
    values = [found["parameters"][name]["value"] for name in ("E", "a", "b")]
    assert values == pytest.approx(theta, rel=1e-6)
    assert "least squares of the loss itself" in " ".join(found["warnings"])
    assert main(["fit", "--csv", path, "--law", "offset", "--x", "c", "--y", "xe", "--plain", "--delta", "0.001"]) == 2
    assert "plain is least squares; use one of them" in capsys.readouterr().err


def test_the_best_split_is_that_of_the_equations(tmp_path, capsys) -> None:
    """At the fitted N_opt the loss at 6 N D = C is the lowest, by a search along the budget."""
    found = run_fit(capsys, "--csv", grid_table(tmp_path), *ND, "--compute", "1e20")
    own = {name: part["value"] for name, part in found["parameters"].items()}
    (split,) = found["allocation"]["budgets"]
    n = split["N"]["value"] * np.exp(np.linspace(-0.5, 0.5, 100_001))
    losses = own["E"] + own["A"] * n ** -own["alpha"] + own["B"] * (1e20 / 6 / n) ** -own["beta"]
    assert n[losses.argmin()] == pytest.approx(split["N"]["value"], rel=1e-4)
    assert split["loss"]["value"] == pytest.approx(losses.min(), rel=1e-9)
    assert split["N"]["value"] * split["D"]["value"] == pytest.approx(1e20 / 6)
    assert split["tokens_per_param"]["value"] == pytest.approx(split["D"]["value"] / split["N"]["value"])
    assert found["allocation"]["a"]["value"] == pytest.approx(own["beta"] / (own["alpha"] + own["beta"]))
    for name in ("N", "D", "tokens_per_param", "loss"):
        assert split[name]["low"] <= split[name]["value"] <= split[name]["high"]


def test_held_out_rows_are_judged(tmp_path, capsys) -> None:
    losses = GRID_LOSSES * np.exp(0.005 * np.random.default_rng(1).normal(size=25))
    found = run_fit(capsys, "--csv", grid_table(tmp_path, losses), *ND, "--holdout", "N > 3.2e8")
    assert found["num_points"] == 20 and found["holdout"]["num_held_out"] == 5
    errors = found["holdout"]["mean_size_of_error"]
    assert errors["law"] < min(errors[name] for name in ("last value", "two-point slope"))
    last = found["holdout"]["runs"][-1]
    assert last["scales"] == [1e9, 1e11] and last["distance"] == pytest.approx(np.log(10**0.5))
    assert last["perplexity_error"] == pytest.approx(np.expm1(last["error"]))
    by_compute = run_fit(capsys, "--csv", grid_table(tmp_path, losses), *ND, "--holdout", "C >= 5e20")
    assert by_compute["holdout"]["num_held_out"] == 1


def test_arms_of_two_scales_are_compared(tmp_path, capsys) -> None:
    """alpha moves by 0.06 and beta stays: each exponent has its difference, and the test is of both."""
    rng, arms = np.random.default_rng(0), ["g"] * 25 + ["s"] * 25
    other = 1.8 + 1200 * GRID_N**-0.41 + 2000 * GRID_D**-0.37
    losses = np.concatenate([GRID_LOSSES, other]) * np.exp(0.002 * rng.normal(size=50))
    path = table(tmp_path / "t.csv", N=np.tile(GRID_N, 2), D=np.tile(GRID_D, 2), loss=losses, arm=arms)
    found = run_fit(capsys, "--csv", str(path), *ND, "--arm", "arm")
    (comparison,) = found["arms"]["comparisons"]
    alpha, beta = (comparison["exponents"][name]["exponent_difference"] for name in ("alpha", "beta"))
    assert alpha["low"] < 0.06 < alpha["high"] and alpha["low"] > 0
    assert beta["low"] < 0 < beta["high"]
    assert found["arms"]["exponent_test"]["num_extra"] == 2 and found["arms"]["exponent_test"]["p_value"] < 1e-3
    assert [row["arm"] for row in found["allocation"]] == ["g", "s"]


def test_bounds_are_said_in_words(tmp_path, capsys) -> None:
    """A pure power law has no E: it is 0, without a standard error, and no number of the search is printed."""
    x = np.logspace(0, 3, 8)
    path = str(table(tmp_path / "t.csv", c=x, xe=2 * x**-0.3 * np.linspace(1, 0.97, 8)))
    found = run_fit(capsys, "--csv", path, "--law", "offset", "--x", "c", "--y", "xe")
    assert found["parameters"]["E"]["value"] == 0 and found["parameters"]["E"]["standard_error"] is None
    assert "the best fit has none" in found["parameters"]["E"]["note"]


def test_checkpoints_of_runs_are_noticed(tmp_path, capsys) -> None:
    """Ten checkpoints of each of six runs, which share a slow drift of their own."""
    rng = np.random.default_rng(0)
    n, d = np.repeat(np.logspace(7, 9, 6), 10), np.tile(np.logspace(9, 11, 10), 6)
    drift = np.concatenate([0.02 * rng.normal() * np.linspace(-1, 1, 10) for _ in range(6)])
    losses = (1.8 + 480 * n**-0.35 + 2000 * d**-0.37) * np.exp(drift + 0.001 * rng.normal(size=60))
    path = str(table(tmp_path / "t.csv", N=n, D=d, loss=losses))
    assert any("checkpoints of one run" in words for words in run_fit(capsys, "--csv", path, *ND)["warnings"])
    named = run_fit(capsys, "--csv", path, *ND, "--cluster", "N")
    assert not any("checkpoints" in words for words in named["warnings"])


def intervals_of(value: object) -> list[dict]:
    """Every dict with a value and two ends, wherever it lies."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    own = [value] if isinstance(value, dict) and {"value", "low", "high"} <= set(value) else []
    return own + [found for part in parts for found in intervals_of(part)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.1, 20), min_size=9, max_size=9),
    st.sampled_from(["power", "offset", "chinchilla"]),
    st.integers(0, 2),
)
def test_no_table_gives_an_interval_without_its_estimate(losses, name, digits) -> None:
    """Nor a traceback, nor a number that JSON has no word for: losses without any law, some of them alike."""
    law, rounded = LAWS[name], np.maximum(np.round(losses, digits), 0.1)
    n, d = np.repeat([1e6, 1e7, 1e8], 3), np.tile([1e8, 1e9, 1e10], 3)
    scales = np.stack([n, d], axis=1) if name == "chinchilla" else np.repeat(np.logspace(0, 3, 9), 1)
    try:
        found = report_fit(Points.of(scales, rounded), law, num_draws=100)
    except ValueError as error:
        assert str(error)
        return
    text = json.dumps(found, allow_nan=False)
    for own in intervals_of(json.loads(text)):
        low, value, high = (own[end] for end in ("low", "value", "high"))
        assert value is None or ((low is None or low <= value) and (high is None or value <= high)), own
