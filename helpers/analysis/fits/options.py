"""The options of `python -m helpers fit`, and what it prints. Light to import: libraries are loaded to fit."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]
_OF_POINTS = ("y", "x", "n", "d", "flop", "arm", "cluster", "weights")
Lists = tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of the table."""

    y: str
    """Losses."""
    x: str = ""
    """The scale of power and offset, and the third of three."""
    n: str = ""
    """Parameters, for chinchilla and three."""
    d: str = ""
    """Tokens, for chinchilla and three."""
    flop: str = ""
    """Training FLOPs, instead of tokens: D = FLOP / (6 N)."""
    arm: str = ""
    """Arms: fitted with one E and own exponents, each compared with the first."""
    cluster: tuple[str, ...] = ()
    """Runs that agree in all of these are resampled together. None: runs at the same scales are. The estimate is the
    same."""
    weights: str = ""
    """Inverse variances of log loss: how much each row counts."""
    unique: str = ""
    """Unique tokens, of which D were seen: --forms then judges laws with repetition too."""
    counting: tuple[str, ...] = ()
    """Other countings of N, as without embeddings: what the law would be by each."""


@dataclass(frozen=True, kw_only=True)
class Estimation:
    """How the law is fitted."""

    delta: float | None = None
    """Huber's delta, of log loss; `inf` is least squares, 0.001 that of Hoffmann et al. None: 1.345 standard deviations
    of the noise."""
    plain: bool = False
    """Least squares of the loss itself, not of its log: for noise that is the same in nats at every run."""
    fix: Annotated[Repeatable, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """An exponent, or E, that is known, such as alpha=0.35; may be given several times."""
    tie: Annotated[Repeatable, tyro.conf.arg(metavar="NAME=NAME")] = ()
    """Two exponents that are one, such as alpha=beta."""
    drop_top: int = 0
    """Leave out so many of the highest losses."""
    bootstrap: int = 1000
    """Fits behind the intervals."""
    seed: int = 0
    """Seed of the draws."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of the law."""

    predict: Annotated[Lists, tyro.conf.arg(metavar="SCALES")] = ()
    """Scales at which to predict the loss of one run: X, or N,D for chinchilla; may be given several times."""
    holdout: str = ""
    """Rows to be predicted from the others, such as "N > 1e9": a name of the law's scales or a column, < <= > >= and a
    number."""
    compute: Lists = ()
    """Budgets in FLOPs at which chinchilla's best N and D are said. None: the table's largest, and ten times it."""
    isoflop: bool = False
    """The best N of each budget by a parabola and a cubic, and whether the law agrees."""
    forms: bool = False
    """Other forms of chinchilla's law, by AICc and by their error at held-out runs."""
    suggest: float | None = None
    """A budget, in FLOPs or in units of x: the run of it that would shorten each interval most."""
    margin: float = 0.02
    """Exponents of arms that differ by less count as equal."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """A table, a law, and what is asked of it."""

    csv: Path
    """A table with a row a run: CSV with a header line, .jsonl (an object a line), or .parquet."""
    law: Literal["power", "offset", "chinchilla", "three"]
    """L = a x^-b, L = E + a x^-b, L = E + A N^-alpha + B D^-beta, or that + F x^-gamma."""
    columns: Columns
    estimation: Estimation = field(default_factory=Estimation)
    questions: Questions = field(default_factory=Questions)


def fit_table(options: FitOptions) -> str:
    """The report as JSON. ValueError for what cannot be fitted, with the reason."""
    from helpers.analysis.fits.laws import LAWS, changed
    from helpers.analysis.fits.objective import LEAST_SQUARES
    from helpers.analysis.fits.plain_loss import NOTE, weighted_for_plain_loss
    from helpers.analysis.fits.points import read_points
    from helpers.analysis.fits.read_table import read_table
    from helpers.analysis.fits.report import parse_scales, plain, report_and_answer
    from helpers.analysis.fits.splitting import parse_holdout, select

    how, asked = options.estimation, options.questions
    _require_applicable(options)
    law = changed(LAWS[options.law], how.fix, how.tie)
    frame = read_table(options.csv)
    names = {name: getattr(options.columns, name) for name in _OF_POINTS}
    delta = LEAST_SQUARES if how.plain else how.delta

    def read(**other: str):
        """Points to fit, those that are held out, and words on both; `other` are columns in the place of the named."""
        points, notes = read_points(frame, **names | other, drop_top=how.drop_top)
        points, held = select(points, parse_holdout(asked.holdout, law, frame)) if asked.holdout else (points, None)
        return (weighted_for_plain_loss(points, law), held, [NOTE, *notes]) if how.plain else (points, held, notes)

    points, held, notes = read()
    report, answered = report_and_answer(
        points,
        law,
        ahead=parse_scales([text for texts in asked.predict for text in texts], law),
        budgets=[_budget(text) for texts in asked.compute for text in texts],
        held=held,
        delta=delta,
        margin=asked.margin,
        num_draws=how.bootstrap,
        seed=how.seed,
        notes=notes,
    )

    report |= plain(_more(options, law, frame, answered, held, delta, lambda name: read(n=name)[0]))
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)


def _more(options: FitOptions, law, frame, answered, held, delta, counted) -> dict[str, Any]:
    """The answers to what else is asked."""
    from helpers.analysis.fits import questions
    from helpers.analysis.fits.read_table import positive_numbers

    asked, how, columns = options.questions, options.estimation, options.columns
    draws, found = {"num_draws": how.bootstrap, "seed": how.seed}, {}
    if asked.isoflop:
        found |= questions.curves(answered, **draws)
    if asked.forms:
        unique = positive_numbers(frame, columns.unique) if columns.unique else None
        found |= questions.forms(answered, unique, held)
    if asked.suggest is not None:
        found |= questions.next_run(answered, law, asked.suggest, **draws)
    if columns.counting:
        found |= questions.countings(counted, columns.counting, law, **draws, delta=delta)
    return found


def _require_applicable(options: FitOptions) -> None:
    """ValueError for a column that nothing would read."""
    columns, asked, how = options.columns, options.questions, options.estimation
    if how.plain and how.delta is not None:
        raise ValueError(f"delta = {how.delta:g} is Huber's, of log loss, and plain is least squares; use one of them")
    if columns.unique and not asked.forms:
        raise ValueError(f"unique = {columns.unique!r} is read by forms alone; add --forms, or leave it out")
    if columns.counting and not columns.n:
        raise ValueError(f"counting = {columns.counting[0]!r} is another counting of N; name the first as --n")
    if columns.counting and columns.arm:
        raise ValueError(f"counting = {columns.counting[0]!r} is for one arm; leave --arm out, or the countings")


def _budget(text: str) -> float:
    try:
        budget = float(text)
    except ValueError:
        budget = -1.0
    if not 0 < budget < float("inf"):
        raise ValueError(f"compute = {text!r} is not a number of FLOPs above 0; use 1e21")
    return budget
