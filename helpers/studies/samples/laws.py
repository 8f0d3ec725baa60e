"""What the points say: a power of the tokens with its interval, and whether steps or samples explain the fall.

Runs of one sample count are trained on the same samples: seeds say how well one point is known and are no further
points. So a law is fitted to the mean log perplexity of each count, by the document's own regression.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from helpers.analysis.estimates import Estimate, mean_over_runs
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression, regress

Verdict = Literal["supported", "contradicted", "cannot tell"]
FAR = 10.0
"""Times the largest train set, beyond which a prediction is marked."""
AHEAD = (100_000, 500_000, 1_000_000, 10_000_000)
"""The document's prediction table, in tokens."""
MARGIN = 0.1
"""An effect below so much of the exponent of the document's law counts as none."""
NO_GAIN = float(np.log(1.02))
"""A perplexity that differs by less than 2 % counts as equal."""
_COLLINEAR = 0.99


@dataclass(frozen=True, kw_only=True)
class Partial:
    """log PPL = c + samples log(train tokens) + steps log(steps to the best epoch), over runs of every match."""

    samples: Estimate
    steps: Estimate
    plain_exponent: float
    """Of the law that is matched in epochs, which both are judged against."""

    def verdict(self, of: Literal["samples", "steps"]) -> Verdict:
        """Whether more of it lowers the perplexity while the other stays."""
        return verdict(getattr(self, of), MARGIN * self.plain_exponent, sign=-1)


def document_points() -> tuple[np.ndarray, np.ndarray]:
    """Train tokens and validation perplexity of seed document 003."""
    return np.array([3_495, 7_466, 15_832, 39_814]), np.array([7_152.28, 3_360.15, 2_439.31, 1_171.15])


def fit_law(tokens: np.ndarray, ppl: np.ndarray) -> Regression:
    """log PPL on log tokens by least squares; ValueError for points that cannot give it."""
    if len(set(np.asarray(tokens).tolist())) < 3:
        raise ValueError(f"{len(set(np.asarray(tokens).tolist()))} sample counts leave no interval; use 3 or more")
    return regress(Points.of(tokens, ppl))


def count_means(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a sample count of one arm: tokens, the mean of log perplexity over seeds as `ppl`, and of log steps."""
    logs = runs.assign(log_ppl=np.log(runs["ppl"]), log_steps=np.log(runs["steps"]))
    means = logs.groupby("samples", as_index=False).agg(
        tokens=("tokens", "mean"), log_ppl=("log_ppl", "mean"), log_steps=("log_steps", "mean"), seeds=("seed", "count")
    )
    return means.assign(ppl=np.exp(means["log_ppl"]), steps=np.exp(means["log_steps"]))


def regression_table(law: Regression) -> pd.DataFrame:
    """The document's statistics, and the interval of the exponent that it lacks."""
    exponent = law.parameters()["b"]
    values = {
        "slope": law.slope, "α": exponent.value, "α, 95 % from": exponent.low, "α, 95 % to": exponent.high,
        "intercept log(A)": law.intercept, "A": float(np.exp(law.intercept)), "R²": law.r_squared,
        "p-value": law.p_value, "standard error": law.standard_error, "degrees of freedom": law.degrees_of_freedom,
    }  # fmt: skip
    return pd.DataFrame({"statistic": list(values), "value": [float(value) for value in values.values()]})


def fitted_table(law: Regression) -> pd.DataFrame:
    """Measured against fitted, with the document's error: fitted less measured, in per cent of it."""
    tokens, ppl = law.points.scales[:, 0], law.points.losses
    fitted = np.exp(law.intercept + law.slope * np.log(tokens))
    return pd.DataFrame({"tokens": tokens, "ppl": ppl, "fitted": fitted, "error_percent": 100 * (fitted / ppl - 1)})


def prediction_table(law: Regression, tokens: Sequence[float] = AHEAD) -> pd.DataFrame:
    """The perplexity of one further sample count, with its 95 % interval and how far beyond the data it is."""
    largest = float(law.points.scales.max())
    return pd.DataFrame(
        {
            "tokens": ahead, "predicted": found.value, "low": found.low, "high": found.high, "beyond": ahead / largest,
            "warning": f"beyond {FAR:g} times the data" if ahead > FAR * largest else "",
        }
        for ahead, found in zip(tokens, law.predict(np.array(tokens)), strict=True)
    )  # fmt: skip


def partial_regression(cells: pd.DataFrame, plain_exponent: float) -> Partial:
    """Samples and steps side by side, over one row a sample count and match (`tokens`, `steps`, `ppl`, `samples`).

    Cells of one sample count share their samples: the error is the larger of the ordinary one and the jackknife over
    sample counts (Cameron & Miller 2015, J. Human Resources 50:317, section VI.B), with as many degrees of freedom as
    there are counts, less one. ValueError where samples and steps rise together, as when epochs alone are matched.
    """
    logs = np.log(cells[["tokens", "steps"]].to_numpy(float))
    groups = pd.factorize(cells["samples"])[0]
    num_groups = len(set(groups.tolist()))
    if len(cells) < 5 or num_groups < 4:
        raise ValueError(f"{len(cells)} points of {num_groups} sample counts are too few; use 4 counts and two matches")
    shared = float(np.corrcoef(logs.T)[0, 1] ** 2) if np.ptp(logs, axis=0).min() > 0 else 1.0
    if shared > _COLLINEAR:
        raise ValueError(f"samples and steps rise together (R2 = {shared:.3f}); add runs with passes.match=steps")
    x_N3 = np.column_stack([np.ones(len(cells)), logs - logs.mean(axis=0)])
    y_N = np.log(cells["ppl"].to_numpy(float))
    coefficients, squares, *_ = np.linalg.lstsq(x_N3, y_N)
    plain = np.diag(np.linalg.inv(x_N3.T @ x_N3)) * squares.sum() / (len(cells) - 3)
    left_G3 = np.stack([np.linalg.lstsq(x_N3[groups != group], y_N[groups != group])[0] for group in range(num_groups)])
    clustered = (num_groups - 1) / num_groups * ((left_G3 - coefficients) ** 2).sum(axis=0)
    errors = np.sqrt(np.maximum(plain, clustered))
    samples, steps = (Estimate.of(float(coefficients[n]), float(errors[n]), num_groups - 1, len(cells)) for n in (1, 2))
    return Partial(samples=samples, steps=steps, plain_exponent=plain_exponent)


def gain(runs: pd.DataFrame, context: str) -> Estimate:
    """How much lower log perplexity is with learned contexts than with others, over pairs that differ in nothing else.
    ValueError without two pairs."""
    matched = runs[(runs["match"] == "epochs") & (runs["embedding"] == "frozen")]
    sides = [matched[matched["context"] == name].set_index(["samples", "seed"])["xe"] for name in (context, "learned")]
    pairs = (sides[0] - sides[1]).dropna()
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} pairs of runs with contexts learned and {context}; train the controls")
    return mean_over_runs(pairs.groupby("samples").mean().to_numpy())


def verdict(estimate: Estimate, margin: float, sign: int) -> Verdict:
    """Whether an effect of this sign is there. Contradicted: the interval has the other sign, or lies within the margin
    around none."""
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if low > 0:
        return "supported"
    return "contradicted" if high < margin and (high < 0 or low > -margin) else "cannot tell"
