"""Held-out scales: fit the smaller, predict the larger, and say how far off, beside the plain baselines.

Losses are taken to be nats a token, as everywhere here: exp(error) - 1 is then the error of perplexity.
"""

from dataclasses import dataclass

import numpy as np

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.answer import answer
from helpers.analysis.fits.intervals import NUM_DRAWS, Draws
from helpers.analysis.fits.laws import Law
from helpers.analysis.fits.points import Points
from helpers.analysis.fits.regression import Regression


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """One run that was predicted from smaller ones."""

    arm: str
    scales: tuple[float, ...]
    loss: float
    prediction: Estimate
    """Parameters and seed noise together: the interval of one further run."""
    distance: float
    """ln(C_test / C_max), C the product of the scales."""
    seed_deviation: float
    """Of log loss between runs of one configuration; NaN without replicates."""
    baselines: dict[str, float]
    """The losses that plainer rules predict: last value, pure power law, two-point slope."""

    @property
    def error(self) -> float:
        """Predicted less measured loss."""
        return self.prediction.value - self.loss

    @property
    def relative_error(self) -> float:
        return self.error / self.loss

    @property
    def perplexity_error(self) -> float:
        """exp(error) - 1: the relative error of perplexity, if losses are nats a token."""
        with np.errstate(over="ignore"):
            return float(np.expm1(self.error))

    @property
    def error_in_seeds(self) -> float:
        """The error of log loss in standard deviations between seeds."""
        if not self.seed_deviation > 0:
            return float("nan")
        return float(np.log(self.prediction.value / self.loss) / self.seed_deviation)

    @property
    def is_covered(self) -> bool:
        return self.prediction.low <= self.loss <= self.prediction.high


def split(points: Points, num_held_out: int = 1) -> tuple[Points, Points]:
    """The points without the largest `num_held_out` sizes, and those: sizes ordered by the product of the scales, in
    each arm by itself, so that arms whose sizes differ a little lose the same number."""
    held = np.zeros(len(points), dtype=bool)
    for arm in points.arm_names:
        extent = points.extent
        sizes = np.unique(extent[points.arms == arm])
        if not 0 < num_held_out < len(sizes):
            raise ValueError(
                f"held out = {num_held_out} of {len(sizes)} sizes is not possible; use 1 to {len(sizes) - 1}"
            )
        held |= (points.arms == arm) & (extent >= sizes[-num_held_out])
    return points.take(~held), points.take(held)


def hold_out(train: Points, test: Points, law: Law, num_draws: int = NUM_DRAWS, seed: int = 0) -> list[HeldOut]:
    """Predict every run of `test` from `train`. ValueError where `train` cannot tell the law, or is not the smaller."""
    for arm in test.arm_names:
        fitted = train.extent[train.arms == arm]
        if not len(fitted) or test.extent[test.arms == arm].min() <= fitted.max():
            raise ValueError(f"held-out runs of arm {arm!r} are not larger than fitted ones; split the points by scale")
    return predict_held_out(answer(train, law, num_draws, seed), train, test)


def predict_held_out(answered: Regression | Draws, train: Points, test: Points) -> list[HeldOut]:
    """What a fit to `train` says of each run of `test`, beside the plainer rules."""
    if isinstance(answered, Regression):
        predictions = answered.predict(test.scales[:, 0])
    else:
        predictions = answered.predict(test.scales, test.arms.tolist())
    baselines = {arm: _baselines(train.take(train.arms == arm)) for arm in train.arm_names}
    deviation = train.seed_deviation
    rows = []
    for place, prediction in enumerate(predictions):
        arm, extent = str(test.arms[place]), float(test.extent[place])
        rows.append(
            HeldOut(
                arm=arm,
                scales=tuple(test.scales[place].tolist()),
                loss=float(test.losses[place]),
                prediction=prediction,
                distance=extent - float(train.extent[train.arms == arm].max()),
                seed_deviation=deviation,
                baselines={name: float(np.exp(at + by * extent)) for name, (at, by) in baselines[arm].items()},
            )
        )
    return rows


def _baselines(train: Points) -> dict[str, tuple[float, float]]:
    """Lines in log loss against log scale, (intercept, slope), that need no fit of a law."""
    logs, extent = np.log(train.losses), train.extent
    sizes = np.unique(extent)
    means = np.array([logs[extent == size].mean() for size in sizes])
    slope, intercept = np.polyfit(extent, logs, 1)
    last_slope = (means[-1] - means[-2]) / (sizes[-1] - sizes[-2])
    return {
        "last value": (float(means[-1]), 0.0),
        "pure power law": (float(intercept), float(slope)),
        "two-point slope": (float(means[-1] - last_slope * sizes[-1]), float(last_slope)),
    }
