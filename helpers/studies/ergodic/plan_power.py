"""What stands under a plan over K: whether its runs can be compared, and what slope on log2 K they detect."""

import dataclasses
import math
from collections.abc import Sequence

from helpers.analysis.conditions import condition_names, shared_settings
from helpers.analysis.power import smallest_detectable
from helpers.config import ALIKE_AT_ONE, RunConfig
from helpers.storage import Storage
from helpers.studies.ergodic.roles import VARIED

ASSUMED_DEVIATION = 0.01
"""Nats per token. Final losses of public language models, which are larger, differ by 0.001 to 0.026 between seeds."""
_ASSUMPTION = (
    "The assumed deviation is not measured: public results of larger models have 0.001 to 0.026. --seed-deviation sets "
    "another."
)
_LEAST_FREEDOM = 4
"""Degrees of freedom that a measured deviation needs: with fewer it may be a third of the true one."""


def plan_note(
    runs: Sequence[RunConfig], storage: Storage, *, measure: bool, seed_deviation: float | None = None
) -> str:
    """A line for each condition with more than one K, the runs with shuffled labels aside; empty where there is none.

    `seed_deviation` is the standard deviation of XE between seeds, in nats per token. None: with `measure` as the
    results of the same condition in the storage have it, else ASSUMED_DEVIATION. ValueError unless it is above 0, or if
    the runs of a condition would not train on equally many tokens.
    """
    if seed_deviation is not None and not 0 < seed_deviation < math.inf:
        raise ValueError(
            f"seed deviation = {seed_deviation!r} is not possible; use nats per token above 0, such as 0.01"
        )
    runs = [config for config in runs if not config.data.shuffle_labels]
    conditions = [shared_settings(config, VARIED) for config in runs]
    by_name: dict[str, list[RunConfig]] = {}
    for name, config in zip(condition_names(conditions), runs, strict=True):
        by_name.setdefault(name, []).append(config)
    _lend(by_name)
    over_k = {name: own for name, own in by_name.items() if len({config.k for config in own}) > 1}
    for own in over_k.values():
        _require_equal_tokens(own[0])
    if not over_k:
        return ""
    lines = [f"  {name}: {_least(own, storage, measure, seed_deviation)}" for name, own in over_k.items()]
    bound = math.log(2) / (runs[0].data.window_tokens - 1)
    head = [
        "smallest slope on log2 K that a test at 5 % detects with 80 % power, in nats per token a doubling of K",
        f"(an ideal learner's is at most {bound:.4f}):",
    ]
    return "\n".join([*head, *lines, *([_ASSUMPTION] if any(line.endswith("assumed)") for line in lines) else [])])


def smallest_detectable_slope(ks: Sequence[int], seed_deviation: float) -> float:
    """The smallest detectable slope (nats a doubling of K) of runs at `ks`, those on one component included.

    `seed_deviation` is the standard deviation of XE between seeds. It is taken as common to the components of a run,
    whose levels are then known from runs that share them: what is left is least squares of one number a run. The noise
    of evaluation papers is not known before there are runs, and is left out. Infinite for fewer than three runs, or a
    single K.
    """
    log2_k = [math.log2(k) for k in ks]
    mean = sum(log2_k) / len(log2_k)
    spread = sum((value - mean) ** 2 for value in log2_k)
    return smallest_detectable(seed_deviation / math.sqrt(spread), len(log2_k) - 2) if spread else math.inf


def _lend(by_name: dict[str, list[RunConfig]]) -> None:
    """Give each condition the runs on one component that it shares with the condition under `full` allocation."""
    for own in by_name.values():
        if own[0].data.allocation in ALIKE_AT_ONE:
            full = dataclasses.replace(own[0], data=dataclasses.replace(own[0].data, allocation="full"))
            for others in by_name.values():
                if shared_settings(others[0], VARIED) == shared_settings(full, VARIED):
                    own += [config for config in others if config.k == 1 and config not in own]


def _require_equal_tokens(config: RunConfig) -> None:
    """ValueError if a run's tokens depend on K, so that K could not be told from the length of training."""
    if config.train.epochs is not None and config.data.allocation == "full":
        raise ValueError(
            f"train.epochs = {config.train.epochs:g} counts passes over a train set that grows with K under "
            "data.allocation=full, so that the runs of this grid would consume unequal tokens; use train.steps or "
            "train.tokens, or data.allocation=constant_unique (or constant_exposure, if that is what is asked)"
        )


def _least(runs: list[RunConfig], storage: Storage, measure: bool, deviation: float | None) -> str:
    used, origin = (deviation, "as given") if deviation else _deviation(runs[0], storage, measure)
    least = smallest_detectable_slope([config.k for config in runs], used)
    shown = f"{least:.4f}" if math.isfinite(least) else "none, too few runs"
    return f"{shown} ({len(runs)} runs; standard deviation of XE between seeds {used:.4f}, {origin})"


def _deviation(config: RunConfig, storage: Storage, measure: bool) -> tuple[float, str]:
    """The deviation to reckon with, and where it comes from."""
    if measure and (storage.store or storage.results().exists()):
        from helpers.studies.ergodic.matched import measured_deviation  # imports pandas

        measured, freedom, num_runs = measured_deviation(storage, shared_settings(config, VARIED))
        if freedom >= _LEAST_FREEDOM:
            return measured, f"measured in {num_runs} matched runs"
    return ASSUMED_DEVIATION, "assumed"
