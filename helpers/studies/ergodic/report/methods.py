"""The methods in words, and how often the simulation found them to be right."""

import json
from pathlib import Path

import pandas as pd

from helpers.analysis.report_blocks import Block, Code, Heading, Points, Section, Table, Text

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
    "free of most of that noise and has a t interval over runs. Areas and parts have intervals over runs and papers "
    "too; bands of curves are over runs alone, on these papers, for the files do not hold what further papers would do "
    "to one position.",
    "Slope. XE ~ log2 K with component, run and seed as random effects, at the maximum of the restricted likelihood, "
    "over the grid and the single-component baselines. Papers react to K by chance, alike in all runs: the variance of "
    "that is taken from how differently the papers of a component react, and is in the model. Student's t with as many "
    "degrees of freedom as runs less two, and less one for each further seed. The smallest slope that its test detects "
    "is (t_.975 + t_.8) of its standard errors.",
    "Checks that assume less. A permutation of K over the runs of a seed after the component means are taken out "
    "(Freedman & Lane), in units of the deviation of a run of so many components, stretched by what taking them out "
    "leaves too little, with the papers' noise added; Page's test of a trend with seeds as blocks, by permutation, and "
    "not where papers make more than a tenth as much of the slope's variance as runs do, which it does not know; a "
    "bootstrap that draws runs again, and papers for all runs alike, which is too narrow for a handful of runs.",
    "Equivalence. The shuffle control is judged at each K by two one-sided tests (Schuirmann), over seeds and papers, "
    "against what theory allows there, ln K / T.",
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
    low, high = measured["band_of_95_percent"]
    text = (
        f"On {measured['grids']} simulated grids a row, each with a known truth whose standard deviations (nats per "
        f"token) name the row. Intervals hold the truth in 95 % of grids if they are right: between {low:.1%} and "
        f"{high:.1%} of these, with 99 % probability; tests reject, and the control at its margin is accepted, in 5 % "
        "({:.1%} to {:.1%}).".format(*measured["band_of_5_percent"])
    )
    ranges = pd.DataFrame(measured["ranges"]).T.astype(float).rename_axis("truth").reset_index()
    ranges.columns = [name.replace("_", " ") for name in ranges]
    others = pd.DataFrame(_flat({n: v for n, v in measured.items() if "power" in n or "nothing" in n}))
    return [
        Text(text),
        _table(ranges, "Rates over simulated grids"),
        _table(others.rename(columns={0: "measured", 1: "rate"}), "Power, in the first row's truth"),
        Code(measured["command"]),
    ]


def _table(frame: pd.DataFrame, caption: str) -> Table:
    return Table(frame, caption, {name: name for name in frame})


def _flat(measured: dict[str, object], prefix: str = "") -> list[tuple[str, float]]:
    """The named numbers of the simulation, in its own order."""
    rows = []
    for name, value in measured.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += _flat(value, f"{label}: ")
        elif isinstance(value, float):
            rows.append((label, value))
    return rows
