"""XE against K, and its differences from K = 1: paired by seed, and paired by seed and component.

Two differences carry the name dXE, and they answer different questions.

    dxe       XE(K) - XE(1) at the same seed, each a mean over its own active components. It is the plain definition,
              but the components differ: where K = 1 drew an easy component, dxe is large without any effect of K.
    dxe_same  XE_c(K) - XE_c(1), the mean over the components c of the run that a K = 1 run of the same seed was
              trained on. Components are nested in K, so the grid's own K = 1 component is always one; each baseline
              adds one. Only this difference is subject to the bound below.

For an ideal learner of K equally likely ergodic components, the losses at the positions of a window exceed those of
a learner that knows the component by ln K in total at most (the redundancy of a Bayes mixture: the mixture assigns
at least 1/K of what its best component does). Over T averaged positions that is `bound` = ln K / T nats per token.
"""

import numpy as np
import pandas as pd

from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, CONTROL, GRID

MEASURES = (
    "xe", "ppl", "bayes_xe", "dxe", "bayes_dxe", "dxe_same", "bayes_dxe_same", "tokens_seen", "unique_tokens",
    "repetition",
)  # fmt: skip


def with_k1(results: Results, condition: str, role: str) -> pd.DataFrame:
    """The rows of `results.xe` of a role, with the same component's XE at K = 1 and the same seed beside.

    Adds `xe_k1` (and `xe_by_position_k1`, `paper_xe_k1` and `paper_first_xe_k1`), `dxe_same` = xe - xe_k1, and
    `bayes_dxe_same`, the exact difference between knowing only the mixture and knowing the component, on the same
    windows. All are NaN where no run was trained on that component alone.
    """
    _, rows = results.of(condition, role)
    alone = pd.concat([results.of(condition, other)[1] for other in _references(role)])
    alone = alone[alone["k"] == 1].drop_duplicates(["seed", "component"]).set_index(["seed", "component"])
    of_k1 = {name: f"{name}_k1" for name in ("xe", "xe_by_position", "paper_xe", "paper_first_xe")}
    rows = rows.join(alone[list(of_k1)].rename(columns=of_k1), on=["seed", "component"])
    known = rows["xe_k1"].notna()
    return rows.assign(
        dxe_same=rows["xe"] - rows["xe_k1"],
        bayes_dxe_same=(rows["bayes_xe"] - rows["bayes_known_xe"]).where(known),
    )


def by_seed(results: Results, condition: str) -> pd.DataFrame:
    """One row a role (grid, control), K and seed: the mean over its runs, `num_runs` of them, and both differences.

    The grid has a row for every expected K and seed, with `num_runs` 0 and NaN where no run exists: every K that
    occurs anywhere in the study, for every seed of this condition. `num_same` counts the rows that dxe_same rests on.
    """
    cells = {role: _cells(results, condition, role) for role in (GRID, CONTROL)}
    seeds = sorted(set(results.runs_of(condition)["seed"]))
    expected = pd.MultiIndex.from_product([sorted(set(results.runs["k"])), seeds], names=["k", "seed"])
    cells[GRID] = cells[GRID].reindex(expected).fillna({"num_runs": 0, "num_same": 0})
    frame = pd.concat(cells, names=["role"]).reset_index()
    frame["bound"] = np.log(frame["k"]) / averaged_positions(results, condition)
    return frame.astype({"num_runs": int, "num_same": int})


def averaged_positions(results: Results, condition: str) -> int:
    """The positions that an XE averages: every token of the window but the first."""
    (window_tokens,) = set(results.runs_of(condition)["window_tokens"])
    return int(window_tokens) - 1


def over_seeds(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of `by_seed` of one role -> one row a K: means over seeds and, for XE, ppl and dXE, the sample standard
    deviation over seeds (`*_sigma`; NaN for one seed)."""
    groups = cells.groupby("k")
    counts = pd.DataFrame(
        {
            "num_runs": groups["num_runs"].sum(),
            "num_seeds": groups["xe"].count(),
            "num_pairs": groups["dxe"].count(),
            "num_same": groups["num_same"].sum(),
            "bound": groups["bound"].first(),
        }
    )
    means = groups[list(MEASURES)].mean()
    sigmas = groups[["xe", "ppl", "dxe", "dxe_same"]].std(ddof=1).add_suffix("_sigma")
    return counts.join(means).join(sigmas).reset_index()


def by_position(results: Results, condition: str) -> pd.DataFrame:
    """One row a K and window position (0-based) of the grid: XE and exact Bayes XE, each the mean over components,
    then runs of a seed, then seeds; `xe_sigma` over seeds."""
    _, rows = results.of(condition, GRID)
    frames = [_positions(rows[rows["k"] == k]).assign(k=k) for k in sorted(set(rows["k"]))]
    columns = ["k", "position", "num_seeds", "xe", "xe_sigma", "bayes_xe", "bayes_known_xe"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _references(role: str) -> tuple[str, ...]:
    """Where the XE of a component alone comes from: the grid's own K = 1 runs first, then the baselines. Shuffled
    labels name other papers, so the control is compared with itself."""
    return (CONTROL,) if role == CONTROL else (GRID, BASELINE)


def _cells(results: Results, condition: str, role: str) -> pd.DataFrame:
    """One row a (K, seed) of a role, with its differences from K = 1."""
    runs, _ = results.of(condition, role)
    same = with_k1(results, condition, role).groupby(["k", "seed"])
    groups = runs.groupby(["k", "seed"])
    measured = ["xe", "ppl", "bayes_xe", "tokens_seen", "unique_tokens", "repetition"]
    cells = groups[measured].mean().assign(num_runs=groups.size())
    for name in ("xe", "bayes_xe"):
        at_k1 = cells[name].xs(1, level="k") if 1 in cells.index.get_level_values("k") else pd.Series(dtype=float)
        own = cells[name] - cells.index.get_level_values("seed").map(at_k1).astype(float)
        cells["dxe" if name == "xe" else "bayes_dxe"] = own
    cells[["dxe_same", "bayes_dxe_same"]] = same[["dxe_same", "bayes_dxe_same"]].mean()
    return cells.assign(num_same=same["dxe_same"].count())


def _positions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a position for the rows of one K."""
    curves = {name: _curves(rows, f"{name}_by_position") for name in ("xe", "bayes_xe", "bayes_known_xe")}
    num_seeds, num_positions = curves["xe"].shape
    means = {name: curve.mean(axis=0) for name, curve in curves.items()}
    sigma = curves["xe"].std(axis=0, ddof=1) if num_seeds > 1 else np.full(num_positions, np.nan)
    return pd.DataFrame({"position": range(num_positions), "num_seeds": num_seeds, **means, "xe_sigma": sigma})


def _curves(rows: pd.DataFrame, name: str) -> np.ndarray:
    """(seeds, T): the mean over the runs and components of each seed; NaN where it is not known."""
    num_positions = len(rows["xe_by_position"].iloc[0])
    unknown = np.full(num_positions, np.nan)
    per_seed = rows.groupby("seed")[name]
    return np.stack([np.mean([unknown if row is None else row for row in group], axis=0) for _, group in per_seed])
