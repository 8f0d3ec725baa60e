"""The methods in words, and how often the simulation found them to be right."""

import json
from pathlib import Path

import pandas as pd

from helpers.analysis.report_blocks import Block, Code, Heading, Points, Section, Text
from helpers.studies.ergodic import tables

COVERAGE = Path(__file__).with_name("coverage.json")
"""What `python -m benchmarks.coverage` measured."""
_COVERAGE_COMMAND = "python -m benchmarks.coverage --grids 400"
_METHODS = (
    "Unit. The run is the experimental unit: windows, tokens and checkpoints are never counted as runs. Evaluation "
    "windows are the same for every run, so that differences are paired.",
    "Matched difference. For each run and active component c, XE_c(K) - XE_c(1 on c) at the same seed; the run's "
    "matched ΔXE is the mean over its components, and needs a run on every one of them.",
    "Interval of matched ΔXE. It holds what a repetition of the experiment would vary: the training seed, by the "
    "spread of the runs of a K, and the papers of the evaluation, by the covariance of runs that were measured on the "
    "same papers (clustering by run and by paper). The two parts keep their own Student quantiles (Cochran & Cox). The "
    "exact value on the same windows stands beside it: it shares the windows' noise, so that the excess over it is "
    "free of most of that noise and has a t interval over runs. Curves, areas and parts have t intervals over runs on "
    "the windows as they are.",
    "Slope. XE ~ log2 K with component and run as random effects, by REML (statsmodels MixedLM), over the grid and the "
    "single-component baselines; Student's t with as many degrees of freedom as runs less two. The smallest slope that "
    "its test detects is (t_.975 + t_.8) of its standard errors.",
    "Checks that assume less. A permutation of K over runs after the component means are taken out (Freedman & Lane); "
    "Page's test of a trend with seeds as blocks; a hierarchical bootstrap that draws runs and then papers again, "
    "which is too narrow for a handful of runs.",
    "Equivalence. The shuffle control is judged by two one-sided tests (Schuirmann) against the stated margin, one "
    "number a seed.",
    "Multiplicity. The slope is the one primary test, at 5 %. The contrasts of components carry Holm's and Benjamini & "
    "Hochberg's adjustment. Intervals at each K, and at each position of a curve, are not adjusted: of twenty such "
    "intervals one misses its truth on average.",
    "Outliers. Runs whose residual has a modified z above 3.5 are named and kept.",
    "Identification length. The context at which 90 % of the area under the exact curve (the measured one, where no "
    "exact one is known) has been spent; none where the area cannot be told from zero, or where more than a tenth of "
    "it lies in the second half of the window.",
)


def methods() -> Section:
    return Section("Methods", [Points(_METHODS), Heading("Measured coverage"), *_coverage()])


def _coverage() -> list[Block]:
    """What the simulation measured of these statistics, and the command that measures it again."""
    if not COVERAGE.is_file():
        return [Text("Not measured: there is no result of the simulation. This makes one:"), Code(_COVERAGE_COMMAND)]
    measured = json.loads(COVERAGE.read_text(encoding="utf-8"))
    text = f"On {measured['grids']} simulated grids with a known truth, through the result files and all of the above:"
    rates = pd.DataFrame(_flat(measured), columns=["measured", "rate"])
    return [Text(text), tables.report_table(rates, "Rates over simulated grids"), Code(measured["command"])]


def _flat(measured: dict[str, object], prefix: str = "") -> list[tuple[str, float]]:
    """The named numbers of the simulation, in its own order; its truth is in nats and comes last in the name."""
    rows = []
    for name, value in measured.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += _flat(value, f"{label}: ")
        elif isinstance(value, float):
            rows.append((label, value))
    return rows
