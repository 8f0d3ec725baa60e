"""Which cause moves XE when components are mixed: matched dXE as a sum of parts, each the difference of two arms.

Alone, a component has E training tokens and U unique ones. In a mixture of K, the arms of the grid give it

    full              E/K tokens of U unique ones: K times fewer repeats     (the total is constant)
    matched_repeats   E/K tokens of U/K unique ones: as many repeats as alone
    constant_exposure E tokens of U unique ones: as many tokens and repeats as alone

so that, at equal seed, components and windows,

    total           = dXE under full = exposure + repetition + others
    exposure        matched_repeats - constant_exposure: fewer tokens of each component
    repetition      full - matched_repeats: fewer repeats of each token
    others          dXE under constant_exposure = identification + interference + capacity: the others are there
    identification  what an ideal learner of the mixture loses, exact; between 0 and ln K / T where it is not known
    capacity        others, less others in the largest model that was run
    interference    others in that model, less identification

Where there is no grid of matched_repeats, constant_unique stands in its place: its repeats are equal at every K too.
Without a larger model, interference holds capacity, and the capacity is missing. A part is missing with its reason,
never zero.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Estimate, Measured, PaperMeans, estimate_with_papers, mean_over_runs
from helpers.studies.ergodic.contrasts import averaged_positions, with_k1
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import GRID

CAUSES = ("exposure", "repetition", "interference", "capacity", "identification")
PARTS = ("total", *CAUSES)
COLUMNS = ["k", "cause", "value", "low", "high", "num_seeds", "margin", "verdict", "reason"]
SUPPORTED, CONTRADICTED, CANNOT_TELL = "supported", "contradicted", "cannot tell"

Cell = tuple[int, int]
"""K and seed."""
Arm = Mapping[Cell, Measured]
"""What the papers of a cell's components say of matched dXE, for cells whose components are all matched."""


class Part(NamedTuple):
    """One cause at one K: a number a seed, with the papers that it was measured on."""

    by_seed: Mapping[int, float]
    papers: Mapping[int, Measured] | None = None
    """None where the exact value on the same windows is taken off, or is the part itself."""
    slack: float = 0.0
    """By how much the value may be too high beyond its interval, for a term that only its bound is known of."""


def causes(results: Results, condition: str) -> pd.DataFrame:
    """One row a K above 1 and part, in nats per token, with its 95 % interval over seeds and papers, and its verdict;
    empty unless the allocation of `condition` is `full`."""
    arms = results.allocations(condition)
    if arms.get("full") != condition:
        return pd.DataFrame(columns=COLUMNS)
    positions = averaged_positions(results, condition)
    measured = {name: _arm(results, other) for name, other in arms.items()}
    exposed = arms.get("constant_exposure")
    larger = _larger(results, exposed)
    exact = {} if exposed is None else _exact(results, exposed)
    rows = []
    for k in sorted(set(results.runs_of(condition)["k"]) - {1}):
        margin = float(np.log(k)) / positions
        parts = _parts(measured, None if larger is None else _arm(results, larger), exact, k, margin)
        rows += [_row(k, name, parts.get(name), margin, _reason(name, arms, larger)) for name in PARTS]
    return pd.DataFrame(rows, columns=COLUMNS)


def tells_causes(parts: pd.DataFrame) -> bool:
    """Whether the arms suffice for more than the total."""
    return bool(parts.loc[parts["cause"] != "total", "value"].notna().any())


def verdict(low: float, high: float, margin: float) -> str:
    """Whether a cause is at work, by its interval: supported where that leaves zero out, contradicted where it lies
    within the margin around zero, else it cannot be told."""
    if low > 0 or high < 0:
        return SUPPORTED
    return CONTRADICTED if -margin < low and high < margin else CANNOT_TELL


def _parts(
    measured: Mapping[str, Arm], larger: Arm | None, exact: Mapping[Cell, float], k: int, bound: float
) -> dict[str, Part]:
    """The parts at one K that the arms suffice for."""
    full, exposed = measured["full"], measured.get("constant_exposure", {})
    equal = measured.get("matched_repeats") or measured.get("constant_unique", {})
    others = exposed if larger is None else larger
    found = {
        "total": _part(k, full),
        "exposure": _part(k, equal, exposed),
        "repetition": _part(k, full, equal),
        "capacity": Part({}) if larger is None else _part(k, exposed, larger),
        "identification": Part({seed: value for (own, seed), value in exact.items() if own == k}),
        "interference": _interference(_part(k, others), exact, k, bound),
    }
    return {name: part for name, part in found.items() if part.by_seed}


def _interference(others: Part, exact: Mapping[Cell, float], k: int, bound: float) -> Part:
    """`others` less identification: exact at the seeds that have it, else anything from 0 to the bound."""
    if exact:
        return Part({seed: value - exact[k, seed] for seed, value in others.by_seed.items() if (k, seed) in exact})
    return others._replace(slack=bound)


def _part(k: int, arm: Arm, less: Arm | None = None) -> Part:
    """Matched dXE of an arm at one K, or less that of another at the seeds of both."""
    papers = {seed: own for (number, seed), own in arm.items() if number == k}
    if less is not None:
        papers = {seed: _minus(own, less[k, seed]) for seed, own in papers.items() if (k, seed) in less}
    return Part({seed: float(np.mean([p.mean for p in own.values()])) for seed, own in papers.items()}, papers)


def _minus(one: Measured, other: Measured) -> Measured:
    """The difference on each paper: the windows are the same."""
    return {
        name: PaperMeans(windows=papers.windows, values=papers.values - other[name].values)
        for name, papers in one.items()
    }


def _arm(results: Results, condition: str) -> dict[Cell, Measured]:
    """dXE of each component on each paper, at every K and seed whose components all have a run on them alone."""
    arm = {}
    for (k, seed), rows in with_k1(results, condition, GRID).groupby(["k", "seed"]):
        columns = (rows[name] for name in ("component", "paper_windows", "paper_xe", "paper_xe_k1"))
        if rows["dxe_same"].notna().all():
            arm[int(k), int(seed)] = {
                name: PaperMeans(windows=windows, values=xe - alone)
                for name, windows, xe, alone in zip(*columns, strict=True)
            }
    return arm


def _exact(results: Results, condition: str) -> dict[Cell, float]:
    """The exact matched dXE of an ideal learner on the windows of each cell, where the source's law is known."""
    by_cell = with_k1(results, condition, GRID).groupby(["k", "seed"])["bayes_dxe_same"]
    means = by_cell.mean()[by_cell.count() == by_cell.size()]
    return {(int(k), int(seed)): float(value) for (k, seed), value in means.items()}


def _larger(results: Results, condition: str | None) -> str | None:
    """The condition of the largest model that is alike but for its size, if that is not the largest itself."""
    if condition is None:
        return None
    sizes = {name: _num_params(results, name) for name in results.alike_but_for(condition, "model.size")}
    largest = max(sizes, key=lambda name: sizes[name])
    return largest if sizes[largest] > sizes[condition] else None


def _num_params(results: Results, condition: str) -> float:
    return float(results.runs_of(condition)["params_non_embedding"].iloc[0])


def _row(k: int, cause: str, part: Part | None, margin: float, reason: str) -> dict[str, object]:
    row = {"k": k, "cause": cause, "margin": margin}
    if part is None:
        missing = dict.fromkeys(("value", "low", "high"), np.nan)
        return row | missing | {"num_seeds": 0, "verdict": CANNOT_TELL, "reason": reason}
    estimate = _estimate(part)
    value, low = estimate.value - part.slack / 2, estimate.low - part.slack
    ends = {"value": value, "low": low, "high": estimate.high, "num_seeds": len(part.by_seed)}
    return row | ends | {"verdict": verdict(low, estimate.high, margin), "reason": ""}


def _estimate(part: Part) -> Estimate:
    values = np.array(list(part.by_seed.values()))
    if part.papers is None:
        return mean_over_runs(values)
    return estimate_with_papers(values, [part.papers[seed] for seed in part.by_seed])


def _reason(cause: str, arms: Mapping[str, str], larger: str | None) -> str:
    """Why a part is missing."""
    equal = "matched_repeats" if "matched_repeats" in arms else "constant_unique"
    needed = {
        "exposure": (equal, "constant_exposure"), "repetition": ("full", equal), "total": ("full",),
        "interference": ("constant_exposure",), "capacity": ("constant_exposure",), "identification": (),
    }[cause]  # fmt: skip
    lacking = [name for name in needed if name not in arms]
    if lacking:
        names = "matched_repeats" if lacking == ["constant_unique"] else " and ".join(lacking)
        return f"no grid with data.allocation={names.replace('constant_unique', 'matched_repeats')}"
    if cause == "capacity" and larger is None:
        return "no grid of a larger model with data.allocation=constant_exposure"
    if cause == "identification":
        return "the source's law is not known: between 0 and ln K / T"
    return "no seed has a run on each of its components alone in every arm"
