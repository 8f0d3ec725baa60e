"""The parts of matched dXE(K) under `full` allocation: what the mixture costs, what the text gives, what is left.

    total           matched dXE
    identification  what an ideal learner of the mixture loses, exact; unknown for text, where ln K / T bounds it
    amount          dXE of the shuffle control: its pools grow with K as the grid's do, and their law stays the same
    remainder       total - identification - amount, at the seeds that have all three: capacity and optimisation
    repetition      dXE under `full` less dXE under `constant_unique`, at the same seed and over the components that
                    both have a run on alone, where that was run too

Repetition is not a summand: it asks the question of `amount` in a second way. A part that cannot be told is NaN with
the reason, never zero. Intervals are over seeds and the papers of the evaluation; the exact value, and the excess over
it, are taken on the windows as they are.
"""

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Estimate, Measured, estimate_with_papers
from helpers.studies.ergodic.contrasts import averaged_positions, with_k1
from helpers.studies.ergodic.matched import matched_by_run, matched_estimates, paper_differences
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import CONTROL, GRID

PARTS = ("total", "identification", "amount", "remainder", "repetition")
COLUMNS = ["k", "part", "value", "low", "high", "num_seeds", "bound", "reason"]


def decompose(results: Results, condition: str, constant_unique: str | None) -> pd.DataFrame:
    """One row a K above 1 and part, in nats per token; empty for another allocation.

    The interval of the total is that of matched dXE. `constant_unique` is the condition that is equal but for its
    allocation, if there is one.
    """
    if set(results.runs_of(condition)["allocation"]) != {"full"}:
        return pd.DataFrame(columns=COLUMNS)
    pairs = with_k1(results, condition, GRID)
    total, exact = _per_seed(pairs)
    totals = matched_estimates(pairs)
    repetition = None if constant_unique is None else _between(results, condition, constant_unique)
    amount = _control_per_seed(results, condition)
    papers = {"amount": amount, "remainder": amount, "repetition": repetition}
    positions = averaged_positions(results, condition)
    rows = []
    for k in sorted(set(results.runs_of(condition)["k"]) - {1}):
        parts = {"total": _at(total, k), "identification": _at(exact, k), "amount": _numbers(_at(amount, k))}
        # Series subtract by seed, so that a seed without one of the parts has no remainder.
        parts["remainder"] = (parts["total"] - parts["identification"] - parts["amount"]).dropna()
        parts["repetition"] = _numbers(_at(repetition, k))
        reasons = _reasons(parts, has_other=repetition is not None)
        bounds = {"identification": np.log(k) / positions}
        estimates = {
            name: estimate_with_papers(part.to_numpy(), *_papers(papers.get(name), k, part.index))
            for name, part in parts.items() if len(part)
        }  # fmt: skip
        estimates |= {"total": totals[k]} if k in totals else {}
        for name in PARTS:
            row = {"k": k, "part": name, "num_seeds": len(parts[name]), "bound": bounds.get(name)}
            rows.append(row | _interval(estimates.get(name)) | {"reason": reasons.get(name, "")})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"bound": float})


def _per_seed(pairs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Matched dXE and its exact value by (k, seed), of runs whose components are all matched."""
    groups = matched_by_run(pairs).groupby(["k", "seed"])
    return groups["dxe"].mean().dropna(), groups["bayes_dxe"].mean().dropna()


def _between(results: Results, full: str, constant_unique: str) -> pd.Series:
    """dXE under one allocation less that under the other on each paper, by (k, seed), over the components matched in
    both."""
    names, curves = ["k", "seed", "component"], ["paper_xe", "paper_xe_k1"]
    mine, other = (
        with_k1(results, name, GRID).dropna(subset="dxe_same").set_index(names) for name in (full, constant_unique)
    )
    both = mine.join(other[curves].add_suffix("_other"), how="inner")
    less = both["paper_xe"] - both["paper_xe_k1"] - (both["paper_xe_other"] - both["paper_xe_k1_other"])
    found = both.assign(paper_xe=less, paper_xe_k1=0.0).reset_index()
    return _differences_by_seed(found)


def _control_per_seed(results: Results, condition: str) -> pd.Series:
    """dXE of the shuffle control on each paper by (k, seed), on the pool that the seed's shuffled K = 1 run was trained
    on."""
    pairs = with_k1(results, condition, CONTROL)
    return _differences_by_seed(pairs[pairs["dxe_same"].notna()])


def _differences_by_seed(rows: pd.DataFrame) -> pd.Series:
    """What was measured of the rows of each (k, seed)."""
    measured = {key: paper_differences(own) for key, own in rows.groupby(["k", "seed"])}
    index = pd.MultiIndex.from_tuples(list(measured), names=["k", "seed"])
    return pd.Series(list(measured.values()), index=index, dtype=object)


def _numbers(measured: pd.Series) -> pd.Series:
    """The mean over components of each seed."""
    return measured.map(lambda run: float(np.mean([papers.mean for papers in run.values()]))).astype(float)


def _papers(measured: pd.Series | None, k: int, seeds: pd.Index) -> list[list[Measured]]:
    """What a part's numbers at `seeds` were measured on; nothing where they are on the windows as they are."""
    return [] if measured is None else [list(_at(measured, k).reindex(seeds))]


def _at(by_k_and_seed: pd.Series | None, k: int) -> pd.Series:
    """The values of one K by seed; empty where there are none."""
    if by_k_and_seed is None or k not in by_k_and_seed.index.get_level_values("k"):
        return pd.Series(dtype=float, index=pd.Index([], dtype=int, name="seed"))
    return by_k_and_seed.xs(k, level="k")


def _interval(estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return dict.fromkeys(("value", "low", "high"), np.nan)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _reasons(parts: dict[str, pd.Series], has_other: bool) -> dict[str, str]:
    """Why a part is missing."""
    lacking = [name for name in ("total", "identification", "amount") if parts[name].empty]
    whys = {
        "total": "no run has a run on each of its components alone at the same seed",
        "identification": "no exact value: the source's law is not known, or no run is matched",
        "amount": "no shuffle control at this K and at K = 1 of a seed",
        "remainder": f"{' and '.join(lacking)} missing" if lacking else "no seed has all three parts",
        "repetition": "no component is matched under both allocations" if has_other else "no grid with constant_unique",
    }
    return {name: why for name, why in whys.items() if parts[name].empty}
