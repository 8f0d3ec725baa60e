"""The sessions that trained a run, as its provenance tells them, and what changed between them."""

import itertools
from typing import Any

_COMPARED = (
    "device",
    "precision",
    "micro_batch",
    "processes",
    "threads",
    "packages",
    "python",
    "git_revision",
    "environment",
)
_BEFORE = {"processes": 1}
"""What sessions were that do not tell."""


def sessions(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The sessions of a run, first to last; a record from before they were told apart is of the last one alone."""
    return record["sessions"] if "sessions" in record else [{"from_step": 0} | record]


def ended_at(step: int, done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of which steps are left when the run stands at `step`, each with the step up to which they are its own."""
    left = [session for session in done if session["from_step"] < step]
    ends = [session["from_step"] for session in left[1:]] + [step] * bool(left)
    return [session | {"to_step": end} for session, end in zip(left, ends, strict=True)]


def changes(record: dict[str, Any]) -> list[str]:
    """What differed between the sessions of a run, such as `micro_batch: 2, from step 50: 16`; empty if nothing did."""
    told, found = sessions(record), []
    for name in _COMPARED:
        values = [(session["from_step"], session.get(name, _BEFORE.get(name))) for session in told]
        turns = [pair for before, pair in itertools.pairwise(values) if pair[1] != before[1]]
        if turns:
            later = "".join(f", from step {step:,}: {_differing(name, values[0][1], value)}" for step, value in turns)
            found.append(f"{name}: {_differing(name, turns[0][1], values[0][1])}{later}")
    return found


def _differing(name: str, other: Any, value: Any) -> str:
    """The value; of versions and variables only those that differ from the other's."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return str(value)
    names = [key for key in value if value[key] != other.get(key)]
    return ", ".join(f"{key} {value[key]}" for key in names) or "without the others"
