"""The options of `python -m helpers fit`, and what it prints. Light to import: libraries are loaded to fit."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]
Lists = tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Which columns of a table, which law, and what is asked of it."""

    csv: Path
    """A table with a row a run: CSV with a header line, .jsonl (an object a line), or .parquet."""
    law: Literal["power", "offset", "chinchilla"]
    """L = a x^-b, L = E + a x^-b, or L = E + A N^-alpha + B D^-beta."""
    y: str
    """Column of losses."""
    x: str = ""
    """Column of the scale, for power and offset."""
    n: str = ""
    """Column of parameters, for chinchilla."""
    d: str = ""
    """Column of tokens, for chinchilla."""
    flop: str = ""
    """Column of training FLOPs, instead of tokens: D = FLOP / (6 N)."""
    arm: str = ""
    """Column of arms: fitted with one E and own exponents, each compared with the first."""
    cluster: tuple[str, ...] = ()
    """Columns; runs that agree in all of them are resampled together. None: runs at the same scales are. The estimate
    is the same."""
    weights: str = ""
    """Column of inverse variances of log loss: how much each row counts."""
    delta: float | None = None
    """Huber's delta, of log loss; `inf` is least squares, 0.001 that of Hoffmann et al. None: 1.345 standard deviations
    of the noise."""
    fix: Annotated[Repeatable, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """An exponent, or E, that is known, such as alpha=0.35; may be given several times."""
    tie: Annotated[Repeatable, tyro.conf.arg(metavar="NAME=NAME")] = ()
    """Two exponents that are one, such as alpha=beta."""
    predict: Annotated[Lists, tyro.conf.arg(metavar="SCALES")] = ()
    """Scales at which to predict the loss of one run: X, or N,D for chinchilla; may be given several times."""
    holdout: str = ""
    """Rows to be predicted from the others, such as "N > 1e9": a name of the law's scales or a column, < <= > >= and a
    number."""
    compute: Lists = ()
    """Budgets in FLOPs at which chinchilla's best N and D are said. None: the table's largest, and ten times it."""
    bootstrap: int = 1000
    """Fits behind the intervals."""
    drop_top: int = 0
    """Leave out so many of the highest losses."""
    margin: float = 0.02
    """Exponents of arms that differ by less count as equal."""
    seed: int = 0
    """Seed of the draws."""


def fit_table(options: FitOptions) -> str:
    """The report as JSON. ValueError for what cannot be fitted, with the reason."""
    from helpers.analysis.fits.laws import LAWS, changed
    from helpers.analysis.fits.points import read_points
    from helpers.analysis.fits.read_table import read_table
    from helpers.analysis.fits.report import parse_scales, report_fit
    from helpers.analysis.fits.splitting import parse_holdout, select

    law = changed(LAWS[options.law], options.fix, options.tie)
    columns = {name: getattr(options, name) for name in ("y", "x", "n", "d", "flop", "arm", "cluster", "weights")}
    frame = read_table(options.csv)
    points, notes = read_points(frame, **columns, drop_top=options.drop_top)
    held = None
    if options.holdout:
        points, held = select(points, parse_holdout(options.holdout, law, frame))
    report = report_fit(
        points,
        law,
        ahead=parse_scales([text for texts in options.predict for text in texts], law),
        budgets=[_budget(text) for texts in options.compute for text in texts],
        held=held,
        delta=options.delta,
        margin=options.margin,
        num_draws=options.bootstrap,
        seed=options.seed,
        notes=notes,
    )
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)


def _budget(text: str) -> float:
    try:
        budget = float(text)
    except ValueError:
        budget = -1.0
    if not 0 < budget < float("inf"):
        raise ValueError(f"compute = {text!r} is not a number of FLOPs above 0; use 1e21")
    return budget
