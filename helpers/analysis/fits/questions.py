"""What is asked of a fitted law besides its parameters, as JSON: iso-FLOP curves, other forms, the next run, and other
countings of N. Each is refused in words where it does not apply."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.allocation import compute_exponent
from helpers.analysis.fits.answer import answer
from helpers.analysis.fits.intervals import NUM_DRAWS, Draws, infer
from helpers.analysis.fits.isoflop import AGREEMENT, DEGREES, IsoFlop, iso_flop
from helpers.analysis.fits.judge_forms import JudgedForm, judge_forms
from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.objective import LEAST_SQUARES
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression
from helpers.analysis.fits.suggest import Suggestion, suggest


def curves(answered: Regression | Draws, num_draws: int = NUM_DRAWS, seed: int = 0) -> dict[str, Any]:
    """Iso-FLOP curves of each degree beside the law's own a; words for a degree that the runs do not allow."""
    draws = _of_n_and_d(answered, "isoflop")
    found: dict[str, Any] = {"a_of_the_law": _ends(compute_exponent(draws)), "margin": AGREEMENT}
    for name, degree in DEGREES.items():
        try:
            found[name] = _curve(iso_flop(draws.fit, degree, num_draws, seed))
        except ValueError as error:
            found[name] = {"not_fitted": str(error)}
    return {"isoflop": found}


def forms(answered: Regression | Draws, unique: np.ndarray | None, held: Points | None) -> dict[str, Any]:
    """Other forms of the law of N and D."""
    draws = _of_n_and_d(answered, "forms")
    return {"forms": [_form(own) for own in judge_forms(draws.fit.points, unique, held)]}


def next_run(
    answered: Regression | Draws, law: Law, budget: float, num_draws: int = NUM_DRAWS, seed: int = 0
) -> dict[str, Any]:
    """The run of a budget that would shorten each interval most."""
    if not 0 < budget < np.inf:
        raise ValueError(f"suggest = {budget:g} is not a budget; use a number above 0")
    if isinstance(answered, Regression):
        answered = infer(answered.points, law, num_draws, seed, LEAST_SQUARES)
    return {"suggest": {"budget": budget, "runs": [_run(own, law) for own in suggest(answered, budget)]}}


def countings(
    read: Callable[[str], Points], names: Sequence[str], law: Law, num_draws: int = NUM_DRAWS, seed: int = 0,
    delta: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A row for each counting of N that the table has: the exponents by it, and a where the law has one."""
    rows = []
    for name in names:
        draws = answer(read(name), law, num_draws, seed, delta)
        if isinstance(draws, Regression):
            raise ValueError(f"counting = {name!r} is a counting of N, of which law = {law.name!r} knows none")
        parameters = draws.parameters()
        row: dict[str, Any] = {"n": name, "objective": draws.fit.objective, "noise_deviation": draws.fit.scale}
        row |= {"exponents": {exponent: _ends(parameters[exponent]) for exponent in law.exponents}}
        rows.append(row | ({"a": _ends(compute_exponent(draws))} if len(law.terms) == 2 else {}))
    return {"countings": rows}


def _of_n_and_d(answered: Regression | Draws, asked: str) -> Draws:
    law = None if isinstance(answered, Regression) else answered.fit.law
    if law is None or [term.scale for term in law.terms] != ["N", "D"] or law.arms != ("",):
        raise ValueError(f"{asked} is asked of one arm and a law of N and D; use law = chinchilla without an arm")
    return answered


def _curve(found: IsoFlop) -> dict[str, Any]:
    return {
        "a": _ends(found.exponent), "a_that_the_law_would_give": found.expected,
        "difference": _ends(found.difference), "the_law": found.verdict,
        "budgets": [{"flops": flops, "N": n} for flops, n in zip(found.budgets, found.num_params, strict=True)],
        "num_left_out": found.left_out, "num_draws_without_minimum": found.num_failed,
    }  # fmt: skip


def _form(own: JudgedForm) -> dict[str, Any]:
    row = dataclasses.asdict(own) | {"parameters": own.params}
    del row["params"]
    row["interval"] = {name: {"low": low, "high": high} for name, (low, high) in own.interval.items()}
    return row


def _run(own: Suggestion, law: Law) -> dict[str, Any]:
    names = [term.scale for term in law.terms]
    return {
        "parameter": own.parameter, "run": dict(zip(names, own.scales, strict=True)),
        "share_of_standard_error_left": own.share_left, "share_left_by_the_least_useful": own.share_left_at_worst,
    }  # fmt: skip


def _ends(estimate: Estimate) -> dict[str, float]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high")}
