"""What else is asked of a law, each on tables whose truth is known: iso-FLOP curves, forms, the next run, countings."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.__main__ import main
from helpers.analysis.fits.fit import fit
from helpers.analysis.fits.forms import EFFECTIVE_DATA, Sizes, log_effective
from helpers.analysis.fits.intervals import infer
from helpers.analysis.fits.isoflop import _minimum, iso_flop
from helpers.analysis.fits.judge_forms import JudgedForm, judge_forms
from helpers.analysis.fits.laws import CHINCHILLA, OFFSET_POWER_LAW, THREE_TERMS
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.options import Columns, Estimation, FitOptions, Questions, fit_table
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.suggest import suggest
from tests.analysis.test_fit_command import intervals_of, refuse, run_fit, table

N, D = np.repeat(np.logspace(7, 9, 5), 5), np.tile(np.logspace(9, 11, 5), 5)
LOSSES = 1.8 + 480 * N**-0.35 + 2000 * D**-0.37


def points(losses: np.ndarray, noise: float = 0.0, n: np.ndarray = N, d: np.ndarray = D, seed: int = 0) -> Points:
    noise = noise * np.random.default_rng(seed).normal(size=len(losses))
    return Points.of(np.stack([n, d], axis=1), losses * np.exp(noise))


def file_of(folder: Path, **columns) -> str:
    return str(table(folder / "t.csv", **{"N": N, "D": D, "loss": LOSSES.round(6)} | columns))


ND = ("--law", "chinchilla", "--n", "N", "--d", "D", "--y", "loss")

# Iso-FLOP curves


def valleys(noise: float = 0.0, away: float = 0.0) -> Points:
    """Five budgets of seven sizes about N_opt, or to one side; alpha = beta = 0.4, so that a valley is symmetric."""
    budgets = np.repeat(np.logspace(18, 21, 5), 7)
    n = np.sqrt(budgets / 6) * (400 / 900) ** (1 / 0.8) * np.exp(np.tile(np.linspace(-1, 1, 7) + away, 5))
    d = budgets / 6 / n
    return points(1.7 + 400 * n**-0.4 + 900 * d**-0.4, noise, n, d)


@pytest.mark.parametrize("degree", [2, 3])
def test_symmetric_valleys_have_their_minimum_in_the_middle(degree) -> None:
    """N_opt = G (C / 6)^(1/2) of the equations, to rounding, by both curves."""
    fitted = fit(valleys(), CHINCHILLA, LEAST_SQUARES)
    found = iso_flop(fitted, degree, 100)
    assert found.num_params == pytest.approx((found.budgets / 6) ** 0.5 * (400 / 900) ** (1 / 0.8), rel=1e-6)
    assert found.exponent.value == pytest.approx(0.5, abs=1e-6) and found.verdict == "supported"


def test_minima_are_those_of_numpys_polynomials() -> None:
    x, rng = np.linspace(3, 9, 8), np.random.default_rng(0)
    losses = 0.1 * (x - 5.5) ** 2 + 0.01 * rng.normal(size=(20, 8))
    for degree in (2, 3):
        for own, row in zip(_minimum(x, losses, degree), losses, strict=True):
            curve = np.polynomial.Polynomial.fit(x, row, degree)
            roots = curve.deriv().roots()
            (lowest,) = [root.real for root in roots if abs(root.imag) < 1e-12 and curve.deriv(2)(root.real) > 0]
            assert own == pytest.approx(lowest)
    assert np.isnan(_minimum(x, -losses, 2)).all()  # hills have none
    assert np.isnan(_minimum(x, 0.1 * (x - 20)[None] ** 2, 2)).all()  # nor is one said outside the sizes


def test_a_parabola_is_held_against_its_own_bias() -> None:
    """Sizes to one side, and a law of unequal exponents: the parabola's a is off, and so is what the law expects."""
    fitted = fit(valleys(0.0005, away=0.5), CHINCHILLA)
    assert iso_flop(fitted, 2, 400).verdict in ("supported", "cannot tell")
    other = dataclasses.replace(fitted, theta=fitted.theta + np.array([0, 0, 0.06, 0, -0.06]))
    assert iso_flop(other, 2, 400).verdict == "contradicted"


def test_curves_through_the_command(tmp_path, capsys) -> None:
    found = run_fit(capsys, "--csv", file_of(tmp_path), *ND, "--isoflop", "--bootstrap", "200")["isoflop"]
    assert found["parabola"]["num_left_out"] == 6 and len(found["parabola"]["budgets"]) == 3
    assert "use runs of 2 budgets or more" in found["cubic"]["not_fitted"]


# Forms


def repeated(name: str, noise: float = 0.003, seed: int = 0) -> tuple[Points, np.ndarray]:
    """72 runs of 4 x 6 sizes, whose data was seen once, 6 and 36 times, on a law of the name."""
    n, d = np.repeat(np.logspace(7, 9, 4), 18), np.tile(np.repeat(np.logspace(9, 11, 6), 3), 4)
    u = d / np.tile([1.0, 6.0, 36.0], 24)
    first, second = 480 * n**-0.35, 2000 * d**-0.37
    if name == "power mean":
        losses = 1.8 + np.sqrt(first**2 + second**2)
    elif name == "effective data":
        losses = 1.8 + first + 2000 * (u + u * 15 * (1 - np.exp(-(d / u - 1) / 15))) ** -0.37
    elif name == "between E and L0":
        h = (first + second + 0.02 * (n / 1e8) ** 0.5 * (u / 1e9) ** -0.6) / 6
        losses = 1.8 + 6 * h / (1 + h)
    else:
        losses = 1.8 + first + second
    return points(losses, noise, n, d, seed), u


def judged(name: str) -> tuple[JudgedForm, list[JudgedForm]]:
    found = judge_forms(*repeated(name))
    return found[0], found


@pytest.mark.parametrize(
    "name", ["power mean", "effective data", pytest.param("between E and L0", marks=pytest.mark.slow)]
)
def test_the_true_form_is_found(name) -> None:
    """By AICc, with its parameters, and by the held-out error."""
    best, found = judged(name)
    assert best.name == name and best.delta == 0
    truth = {"E": (1.8, 0.05), "alpha": (0.35, 0.03), "beta": (0.37, 0.03), "q": (2.0, 0.15), "R": (15.0, 1.5)}
    for parameter in set(best.params) & set(truth):
        value, most = truth[parameter]
        assert best.params[parameter] == pytest.approx(value, abs=most), parameter
    for parameter, (low, high) in best.interval.items():
        assert low < truth[parameter][0] < high
    assert best.held_out_error < 0.5 * next(own for own in found if own.name == "sum").held_out_error


def test_the_power_of_a_sum_is_1() -> None:
    """The sum of two terms is a power mean with q = 1: the interval holds it in six tables, but for chance of 0.1 %."""
    intervals = [judge_forms(repeated("sum", seed=seed)[0]) for seed in range(6)]
    powers = [next(own for own in found if own.name == "power mean").interval["q"] for found in intervals]
    assert sum(low < 1 < high for low, high in powers) >= stats.binom.ppf(0.001, 6, 0.95)


def test_effective_data_by_hand() -> None:
    """Less than an epoch counts as it is; endless repetition is worth R further epochs (arXiv 2305.16264, eq. 5)."""
    logs = Sizes(n=np.zeros(3), d=np.log([5.0, 20.0, 1e9]), u=np.log([10.0, 10.0, 10.0]))
    assert np.exp(log_effective(logs, np.log(4.0))) == pytest.approx([5, 10 * (1 + 4 * (1 - np.exp(-0.25))), 50])
    theta = np.array([np.log(1.5), np.log(0.3), 0.4, np.log(0.2), 0.5, np.log(4.0)])
    expected = np.log(1.5 + 0.3 + 0.2 * np.array([5, 10 * (1 + 4 * (1 - np.exp(-0.25))), 50]) ** -0.5)
    assert EFFECTIVE_DATA.log_loss(theta, logs) == pytest.approx(expected)


def test_forms_through_the_command(tmp_path, capsys) -> None:
    """Without repetition in the table the forms that need it are left out."""
    path = file_of(tmp_path, U=D, loss=LOSSES * np.exp(0.002 * np.random.default_rng(0).normal(size=25)))
    found = run_fit(capsys, "--csv", path, *ND, "--forms", "--unique", "U", "--bootstrap", "100")["forms"]
    assert {own["name"] for own in found} == {"sum", "power mean"}
    assert found[0]["delta"] == 0 and all(own["held_out_error"] < 0.02 for own in found)


# Laws of three terms


def test_three_terms_are_found() -> None:
    x = np.tile([16.0, 64.0, 256.0, 1024.0], 25)
    n, d = np.repeat(N, 4), np.repeat(D, 4)
    scales = np.stack([n, d, x], axis=1)
    losses = np.repeat(LOSSES, 4) + 0.8 * x**-0.6
    found = fit(Points.of(scales, losses), THREE_TERMS)
    truth = {"E": 1.8, "A": 480, "alpha": 0.35, "B": 2000, "beta": 0.37, "F": 0.8, "gamma": 0.6}
    assert found.params == pytest.approx(truth, rel=1e-4)
    scales[:, 2] = np.sqrt(n * d)
    with pytest.raises(ValueError, match="x follows from N and D, so gamma cannot be told"):
        fit(Points.of(scales, losses), THREE_TERMS)


# The next run


def test_the_suggested_run_shortens_the_interval_as_said() -> None:
    """By a fit of the table with that run at its expected loss; another run of the budget leaves more."""
    table_points = points(LOSSES, noise=0.005, seed=1)
    draws = infer(table_points, CHINCHILLA)
    best = next(own for own in suggest(draws, 1e21) if own.parameter == "alpha")
    error, left = draws.parameters()["alpha"].standard_error, []
    for n in (best.scales[0], 1e8):
        run = np.array([[n, 1e21 / 6 / n]])
        scales = np.concatenate([table_points.scales, run])
        losses = np.concatenate([table_points.losses, draws.fit.predict(run)])
        left.append(infer(Points.of(scales, losses), CHINCHILLA).parameters()["alpha"].standard_error / error)
    assert left[0] == pytest.approx(best.share_left, rel=0.1) and left[0] < left[1] - 0.05
    assert 6 * np.prod(best.scales) == pytest.approx(1e21)
    with pytest.raises(ValueError, match="buys no run within 10 times the sizes"):
        suggest(draws, 1e30)


def test_suggestions_for_a_law_of_one_scale(tmp_path, capsys) -> None:
    x = np.repeat(np.logspace(0, 3, 6), 2)
    losses = (1.5 + 2 * x**-0.3) * np.exp(0.003 * np.random.default_rng(0).normal(size=12))
    path = str(table(tmp_path / "t.csv", x=x, loss=losses))
    for law, names in (("offset", {"E", "b"}), ("power", {"b"})):
        found = run_fit(capsys, "--csv", path, "--law", law, "--x", "x", "--y", "loss", "--suggest", "5e3")["suggest"]
        assert {own["parameter"] for own in found["runs"]} == names
        assert all(0.1 <= own["run"]["x"] <= 5e3 * (1 + 1e-9) for own in found["runs"])
        assert all(0 < own["share_of_standard_error_left"] < 1 for own in found["runs"])


# Countings of N


def test_a_row_for_each_counting(tmp_path, capsys) -> None:
    """A constant factor moves no exponent; N^0.9 makes alpha larger by 1 / 0.9."""
    path = file_of(tmp_path, half=N / 2, bent=N**0.9)
    found = run_fit(capsys, "--csv", path, *ND, "--counting", "half", "bent", "--bootstrap", "100")
    own = found["parameters"]["alpha"]["value"]
    half, bent = found["countings"]
    assert half["exponents"]["alpha"]["value"] == pytest.approx(own, rel=1e-6)
    assert bent["exponents"]["alpha"]["value"] == pytest.approx(own / 0.9, rel=1e-6)
    assert bent["a"]["value"] == pytest.approx(0.37 / (0.37 + 0.35 / 0.9), rel=1e-3)


# What does not apply, and what cannot be told


@pytest.mark.parametrize(
    "options, words",
    [
        ((*ND, "--unique", "D"), "unique = 'D' is read by forms alone; add --forms"),
        (("--law", "offset", "--x", "N", "--y", "loss", "--counting", "D"), "name the first as --n"),
        (
            ("--law", "offset", "--x", "D", "--y", "loss", "--isoflop"),
            "isoflop is asked of one arm and a law of N and D",
        ),
        (("--law", "power", "--x", "D", "--y", "loss", "--forms"), "forms is asked of one arm and a law of N and D"),
        ((*ND, "--suggest", "-1"), "suggest = -1 is not a budget"),
        ((*ND, "--forms", "--unique", "U"), "column 'U' is not in the table"),
        ((*ND, "--counting", "all"), "column 'all' is not in the table"),
        ((*ND, "--x", "N"), "use 2 scales, not 3"),
    ],
)
def test_what_does_not_apply_is_refused_in_words(options, words, tmp_path, capsys) -> None:
    assert main(["fit", "--csv", file_of(tmp_path), *options, "--bootstrap", "100"]) == 2
    assert words in capsys.readouterr().err


def test_one_ratio_is_refused_and_what_it_tells_is_told() -> None:
    """D = 20 N: the exponent of compute lies where the refusal says, by a fit of what it names."""
    n = np.logspace(7, 10, 12)
    along = points(1.8 + 480 * n**-0.35 + 2000 * (20 * n) ** -0.5, 0.0, n, 20 * n)
    with pytest.raises(ValueError, match="one exponent b of compute, between alpha / 2 and beta / 2: law = 'offset'"):
        fit(along, CHINCHILLA)
    compute = Points.of(6 * along.scales.prod(axis=1), along.losses)
    assert 0.35 / 2 < fit(compute, OFFSET_POWER_LAW).params["b"] < 0.5 / 2


# Any table whatever

PLAIN = Estimation(bootstrap=100, plain=True)
CELLS = st.one_of(
    st.floats(0.01, 50).map(lambda value: round(value, 2)),
    st.sampled_from([1.0, 1e-30, 1e30, 1e99, 0.0, -1.0, float("nan"), float("inf"), "", "x", "1,000"]),
)


@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data(), st.sampled_from(["power", "offset", "chinchilla"]), st.integers(0, 12), st.booleans())
def test_any_table_whatever(tmp_path, data, law, num_rows, are_wild) -> None:
    """It is refused in words, or every interval holds its estimate and the JSON has no NaN."""
    cells = CELLS if are_wild else st.floats(0.1, 20).map(lambda value: round(value, 1))
    column = st.lists(cells, min_size=num_rows, max_size=num_rows)
    sizes = st.lists(st.sampled_from([1.0, 10.0, 100.0, 1e3, 1e4]), min_size=num_rows, max_size=num_rows)
    scale = column if are_wild else sizes
    columns = {"n": data.draw(scale), "d": data.draw(scale), "y": data.draw(column), "w": data.draw(column)}
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(
            [",".join(columns), *(f'"{a}","{b}","{c}","{w}"' for a, b, c, w in zip(*columns.values(), strict=True))]
        )
    )
    two = law == "chinchilla"
    options = FitOptions(
        csv=path, law=law,
        columns=Columns(
            y="y", x="" if two else "n", n="n" if two else "", d="d" if two else "",
            weights=data.draw(st.sampled_from(["", "w"])), arm=data.draw(st.sampled_from(["", "", "w"])),
        ),
        estimation=data.draw(
            st.sampled_from([*(Estimation(bootstrap=100, delta=d) for d in (None, 0.001, float("inf"))), PLAIN])
        ),
        questions=Questions(
            suggest=data.draw(st.sampled_from([None, 1e3])), isoflop=two and data.draw(st.booleans()),
            holdout=data.draw(st.sampled_from(["", "C > 100"])),
        ),
    )  # fmt: skip
    try:
        found = json.loads(fit_table(options), parse_constant=refuse)
    except ValueError as error:
        assert len(str(error)) > 10
        return
    for own in intervals_of(found):
        low, value, high = (own[end] for end in ("low", "value", "high"))
        assert value is None or ((low is None or low <= value) and (high is None or value <= high)), own
