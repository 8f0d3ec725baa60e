"""`python -m helpers fit`: strict JSON of real tables, and one line for every table that cannot be fitted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.__main__ import main
from helpers.analysis.fits.laws import CHINCHILLA, OFFSET_POWER_LAW, POWER_LAW
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
    assert found["beside"]["estimator"].startswith("Huber")
    assert found["forms"] is None and "use at least 6" in found["forms_not_compared"]


@pytest.mark.slow
@needs_published
def test_the_chinchilla_points(capsys) -> None:
    columns = ("--n", "Model Size", "--flop", "Training FLOP", "--y", "loss")
    options = ("--drop-top", "5", "--bootstrap", "200", "--predict", "7e10,1.4e12")
    found = run_fit(capsys, "--csv", str(PUBLISHED), "--law", "chinchilla", *columns, *options)
    assert found["objective"] <= 0.0010182741
    assert found["num_agreeing"] > found["num_starts"] / 2
    assert found["parameters"]["alpha"]["value"] == pytest.approx(0.347310, rel=1e-3)
    assert found["interval"] == {
        "level": 0.95, "method": "pairs", "num_draws": 200, "num_clusters": 240, "degrees_of_freedom": None,
    }  # fmt: skip
    assert found["warnings"] == ["the 5 highest losses are left out, as asked"]
    (prediction,) = found["predictions"]
    by_hand = 1.817218 + 477.826 * 7e10**-0.347310 + 2143.417 * 1.4e12**-0.367172
    assert prediction["value"] == pytest.approx(by_hand, rel=1e-5)
    assert prediction["low"] < by_hand < prediction["high"]


def test_an_offset_law_with_its_forms_and_draws(tmp_path, capsys) -> None:
    path = table(tmp_path / "t.csv", c=X, xe=noisy_losses())
    found = run_fit(capsys, "--csv", str(path), "--law", "offset", "--x", "c", "--y", "xe", "--predict", "1e4")
    assert found["interval"]["method"] == "wild" and found["interval"]["degrees_of_freedom"] == 5
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
    assert abs(found["beside"]["parameters"]["b"] - 0.3) > 5e-3


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
