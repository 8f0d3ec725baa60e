"""What the runs of one condition say: a law for each arm, samples against steps, and what contexts are good for."""

from dataclasses import dataclass

import pandas as pd

from helpers.analysis.estimates import Estimate
from helpers.analysis.fits.regression import Regression
from helpers.studies.samples.laws import (
    NO_GAIN,
    Partial,
    Verdict,
    count_means,
    fit_law,
    gain,
    partial_regression,
    verdict,
)  # fmt: skip
from helpers.studies.samples.runs import ARM

Arm = tuple[str, str, str]
DOCUMENT_ARM: Arm = ("epochs", "learned", "frozen")
CONTROLS = ("random", "none")


@dataclass(frozen=True, kw_only=True)
class SampleFindings:
    condition: str
    runs: pd.DataFrame
    means: dict[Arm, pd.DataFrame]
    """One row a sample count (`laws.count_means`)."""
    laws: dict[Arm, Regression]
    partial: Partial | None
    gains: dict[str, Estimate]
    """How much learned contexts lower log perplexity, against each control."""
    missing: dict[str, str]
    """Why a law or a comparison is not there."""

    @property
    def law(self) -> Regression | None:
        """Of the document's arm."""
        return self.laws.get(DOCUMENT_ARM)

    def gain_verdict(self, control: str) -> Verdict:
        """Whether learned contexts lower the perplexity by more than nothing; within 2 % counts as nothing."""
        return verdict(self.gains[control], NO_GAIN, sign=1)


def find(runs: pd.DataFrame, condition: str) -> SampleFindings:
    """All findings of one condition."""
    own = runs[runs["condition"] == condition]
    means = {arm: count_means(part) for arm, part in own.groupby(ARM, sort=True)}
    laws, gains, missing = {}, {}, {}
    for arm, table in means.items():
        try:
            laws[arm] = fit_law(table["tokens"].to_numpy(), table["ppl"].to_numpy())
        except ValueError as error:
            missing[f"law of {', '.join(arm)}"] = str(error)
    for control in CONTROLS:
        try:
            gains[control] = gain(own, control)
        except ValueError as error:
            missing[f"gain over {control} contexts"] = str(error)
    try:
        partial = _partial(means, laws)
    except ValueError as error:
        partial, missing["samples against steps"] = None, str(error)
    return SampleFindings(
        condition=condition, runs=own, means=means, laws=laws, partial=partial, gains=gains, missing=missing
    )


def _partial(means: dict[Arm, pd.DataFrame], laws: dict[Arm, Regression]) -> Partial:
    """Over every match of the document's contexts and embedding."""
    if DOCUMENT_ARM not in laws:
        raise ValueError("there is no law of runs matched in epochs to judge against")
    cells = [table for arm, table in means.items() if arm[1:] == DOCUMENT_ARM[1:]]
    return partial_regression(pd.concat(cells), -laws[DOCUMENT_ARM].slope)


def sentences(findings: SampleFindings) -> list[str]:
    """What was found, in words that say what they rest on."""
    said = []
    if findings.law is not None:
        exponent = findings.law.parameters()["b"]
        said.append(
            f"PPL falls as N^-{exponent.value:.3f} (95 % from {exponent.low:.3f} to {exponent.high:.3f}; "
            f"{exponent.num_runs} sample counts, runs matched in epochs)."
        )
    if findings.partial is not None:
        for name, words in (("samples", "More samples at equal steps"), ("steps", "More steps on equal samples")):
            estimate = getattr(findings.partial, name)
            said.append(
                f"{words} lower the perplexity: {findings.partial.verdict(name)} (d log PPL / d log {name} "
                f"{estimate.value:+.3f}, 95 % from {estimate.low:+.3f} to {estimate.high:+.3f})."
            )
    for control, estimate in findings.gains.items():
        said.append(
            f"Learned contexts lower the perplexity against {_WORDS[control]}: {findings.gain_verdict(control)} "
            f"(log PPL lower by {estimate.value:+.3f}, 95 % from {estimate.low:+.3f} to {estimate.high:+.3f}; "
            f"{estimate.num_runs} sample counts, first seed)."
        )
    return [*said, *(f"Missing: {name}, because {reason}." for name, reason in findings.missing.items())]


_WORDS = {"random": "contexts of a block that is not trained", "none": "no contexts"}
