"""Scaling laws as data: sums of terms whose logarithms are linear in the parameters.

Every law here is L = sum_k exp(z_k), where z_k is linear in theta: the log of an irreducible loss E, or the log of a
coefficient less an exponent times the log of a scale. So a law with its arms is one array, the design (n, terms, p),
and log L = logsumexp_k(design_k @ theta), as Hoffmann et al. 2022 (arXiv 2203.15556, D.3) write theirs. Parameters that
arms share are one column; parameters of which each arm has its own are a column each.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OFFSET = "E"


@dataclass(frozen=True, kw_only=True)
class Term:
    """coefficient * scale^-exponent."""

    coefficient: str
    exponent: str
    scale: str


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law, for one arm or several. Coefficients are always an arm's own."""

    name: str
    equation: str
    terms: tuple[Term, ...]
    has_offset: bool
    min_scales: int
    """Distinct values of each scale below which the law fits exactly or not at all."""
    arms: tuple[str, ...] = ("",)
    own: tuple[str, ...] = ()
    """Exponents, or E, of which each arm has its own."""
    fixed: tuple[tuple[str, float], ...] = ()
    """Exponents, or E, that are known beforehand, with their values."""

    def across(self, arms: Sequence[str], own: Sequence[str] | None = None) -> "Law":
        """The law of several arms: own exponents and shared E, unless `own` says which parameters each arm has."""
        return dataclasses.replace(self, arms=tuple(arms), own=self.exponents if own is None else tuple(own))

    def fixing(self, parameter: str, value: float) -> "Law":
        """The law with an exponent, or E, known. ValueError for a coefficient, or a value that it cannot have."""
        known = (*self.exponents, *((OFFSET,) if self.has_offset else ()))
        if parameter not in known:
            raise ValueError(
                f"fix = {parameter!r} is not a parameter to be fixed of {self.equation}; use {_any(known)}"
            )
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"fix = {parameter}={value:g} is not possible; use a number above 0, such as {parameter}=0.35"
            )
        rest = tuple((name, known) for name, known in self.fixed if name != parameter)
        return dataclasses.replace(self, fixed=(*rest, (parameter, value)))

    def tying(self, first: str, second: str) -> "Law":
        """The law in which the exponent `second` is `first`. ValueError unless both are exponents of it."""
        if first == second or not {first, second} <= set(self.exponents):
            raise ValueError(f"tie = {first}={second} does not name two exponents of {self.equation}: {self.exponents}")
        terms = tuple(dataclasses.replace(t, exponent=first) if t.exponent == second else t for t in self.terms)
        return dataclasses.replace(self, terms=terms, equation=f"{self.equation}, {second} = {first}")

    @property
    def exponents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.exponent for term in self.terms))

    @property
    def num_free(self) -> int:
        """The parameters that points have to tell."""
        return int((~self.is_fixed).sum())

    @property
    def is_fixed(self) -> np.ndarray:
        """(p,)"""
        known = dict(self.fixed)
        return np.array([name.split("[")[0] in known for name in self.names])

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order of theta; those of an arm are `name[arm]`."""
        offset = self._spread(OFFSET) if self.has_offset else ()
        names = (
            name for term in self.terms for part in (term.coefficient, term.exponent) for name in self._spread(part)
        )
        return offset + tuple(dict.fromkeys(names))  # terms may share an exponent

    @property
    def is_exponent(self) -> np.ndarray:
        """(p,) whether a parameter is an exponent; theta holds the logs of the others."""
        return np.array([name.split("[")[0] in self.exponents for name in self.names])

    def index(self, parameter: str, arm: str = "") -> int:
        """Where theta holds a parameter, as the arm has it."""
        return self.names.index(self._name(parameter, arm))

    def design(self, scales: np.ndarray, arms: np.ndarray) -> np.ndarray:
        """(n, terms, p) for scales (n, scales) and arm labels (n,); ValueError for an arm that the law has not."""
        unknown = set(arms) - set(self.arms)
        if unknown:
            raise ValueError(f"arm = {min(unknown)!r} is unknown; the law has {', '.join(map(repr, self.arms))}")
        design = np.zeros((len(scales), len(self.terms) + self.has_offset, len(self.names)))
        for arm in self.arms:
            rows = np.flatnonzero(arms == arm)
            if self.has_offset:
                design[rows, 0, self.index(OFFSET, arm)] = 1
            for place, term in enumerate(self.terms):
                design[rows, self.has_offset + place, self.index(term.coefficient, arm)] = 1
                design[rows, self.has_offset + place, self.index(term.exponent, arm)] -= np.log(scales[rows, place])
        return design

    def natural(self, theta: np.ndarray) -> np.ndarray:
        """theta (..., p) with coefficients and E as they are written, not as logs; infinite where that overflows."""
        with np.errstate(over="ignore"):
            return np.where(self.is_exponent, theta, np.exp(theta))

    def params(self, theta: np.ndarray) -> dict[str, float]:
        """One theta (p,) by name, as `natural`; ValueError where a coefficient is too large for a number."""
        values = self.natural(theta)
        if not np.isfinite(values).all():
            raise ValueError("a coefficient is too large to be written; give the scales in larger units")
        return dict(zip(self.names, values.tolist(), strict=True))

    def _is_own(self, parameter: str) -> bool:
        coefficients = {term.coefficient for term in self.terms}
        return self.arms != ("",) and (parameter in coefficients or parameter in self.own)

    def _name(self, parameter: str, arm: str) -> str:
        return f"{parameter}[{arm}]" if self._is_own(parameter) else parameter

    def _spread(self, parameter: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._name(parameter, arm) for arm in self.arms))


POWER_LAW = Law(
    name="power",
    equation="L = a x^-b",
    terms=(Term(coefficient="a", exponent="b", scale="x"),),
    has_offset=False,
    min_scales=2,
)
OFFSET_POWER_LAW = Law(
    name="offset",
    equation="L = E + a x^-b",
    terms=(Term(coefficient="a", exponent="b", scale="x"),),
    has_offset=True,
    min_scales=4,
)
CHINCHILLA = Law(
    name="chinchilla",
    equation="L = E + A N^-alpha + B D^-beta",
    terms=(
        Term(coefficient="A", exponent="alpha", scale="N"),
        Term(coefficient="B", exponent="beta", scale="D"),
    ),
    has_offset=True,
    min_scales=3,
)
THREE_TERMS = dataclasses.replace(
    CHINCHILLA,
    name="three",
    equation="L = E + A N^-alpha + B D^-beta + F x^-gamma",
    terms=(*CHINCHILLA.terms, Term(coefficient="F", exponent="gamma", scale="x")),
)
LAWS = {law.name: law for law in (POWER_LAW, OFFSET_POWER_LAW, CHINCHILLA, THREE_TERMS)}


def changed(law: Law, fix: Sequence[str] = (), tie: Sequence[str] = ()) -> Law:
    """A law with what `--fix NAME=VALUE` and `--tie NAME=NAME` say; ValueError for another form."""
    for text in tie:
        first, is_form, second = text.partition("=")
        if not is_form:
            raise ValueError(f"tie = {text!r} is not of the form NAME=NAME; use alpha=beta")
        law = law.tying(first.strip(), second.strip())
    for text in fix:
        name, _, value = text.partition("=")
        try:
            law = law.fixing(name.strip(), float(value))
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(f"fix = {text!r} is not of the form NAME=VALUE; use {law.exponents[0]}=0.35") from None
    return law


def _any(names: Sequence[str]) -> str:
    return " or ".join(names)


def log_loss(design: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """log L (B, n) of B parameter vectors (B, p)."""
    return log_loss_and_shares(design, theta)[0]


def log_loss_and_jacobian(design: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log L (B, n) and its derivatives by theta (B, n, p)."""
    value, shares = log_loss_and_shares(design, theta)
    return value, np.swapaxes(derivatives(design, shares), 1, 2)


def log_loss_and_shares(design: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log L (B, n) and each term's share of L (terms, B, n), by log-sum-exp; terms come first, for they are few."""
    logs = np.stack([theta @ design[:, k].T for k in range(design.shape[1])])
    highest = logs.max(axis=0)
    shares = np.exp(np.subtract(logs, highest, out=logs), out=logs)
    total = shares.sum(axis=0)
    shares /= total
    return highest + np.log(total), shares


def derivatives(design: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The derivatives of log L by theta (B, p, n): the design, weighted by each term's share of the loss."""
    _, num, n = shares.shape
    slopes = np.zeros((num, design.shape[2], n))
    for k, column in zip(*np.nonzero(design.any(axis=0)), strict=True):  # most parameters are in one term
        slopes[:, column] += shares[k] * design[:, k, column]
    return slopes
