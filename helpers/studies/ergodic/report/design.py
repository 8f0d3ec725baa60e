"""The parts of a report that are about the runs: which there are and which are missing, what they could not have
seen, and which code and machine made each number."""

from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.power import smallest_detectable
from helpers.analysis.report_blocks import Block, Heading, Points, Section, Text
from helpers.runs.sessions import sessions
from helpers.studies.ergodic import tables
from helpers.studies.ergodic.condition import Condition
from helpers.studies.ergodic.contrasts import averaged_positions, by_seed
from helpers.studies.ergodic.findings import Findings
from helpers.studies.ergodic.matched import seed_deviation
from helpers.studies.ergodic.report import words
from helpers.studies.ergodic.results import Results
from helpers.studies.ergodic.roles import BASELINE, CONTROL, GRID


def design(results: Results) -> Section:
    blocks: list[Block] = [
        Text(
            "A condition is everything that the runs of one grid share. Its grid varies K and the seed; baselines are "
            "trained on one named component each, and the control has the papers' labels shuffled."
        ),
        tables.report_table(
            pd.DataFrame([_design_row(results, name) for name in results.conditions]),
            "Conditions and their runs; of the runs on one component, the grid's own K = 1 counts too",
        ),
    ]
    for condition in results.conditions:
        gone, alone = tables.missing(results, condition), missing_baselines(results, condition)
        blocks += [Heading(condition)] if len(results.conditions) > 1 else []
        blocks += [Points([_cells_sentence(results, condition, gone), _baselines_sentence(alone)])]
        if len(alone):
            blocks.append(tables.report_table(_by_seed_list(alone), "Components without a run on them alone, by seed"))
    return Section("Design", blocks)


def _design_row(results: Results, condition: str) -> dict[str, object]:
    runs = results.runs_of(condition)
    role, cells = runs["role"].value_counts(), by_seed(results, condition)
    num_cells, num_gone = int((cells["role"] == GRID).sum()), len(tables.missing(results, condition))
    needed, gone = _needed_alone(results, condition), len(missing_baselines(results, condition))
    span = runs["repetition"]
    return {
        "condition": condition,
        "ks": ", ".join(map(str, sorted(set(runs["k"])))),
        "num_seeds": runs["seed"].nunique(),
        "grid_cells": f"{num_cells - num_gone} of {num_cells} cells",
        "alone": f"{len(needed) - gone} of {len(needed)} needed",
        "control": words.runs(int(role.get(CONTROL, 0))),
        "tokens_seen": float(runs["tokens_seen"].mean()),
        "times_each_token": f"{span.min():.3g} to {span.max():.3g}",
    }


def missing_baselines(results: Results, condition: str) -> pd.DataFrame:
    """The seed and component of every run on one component that the grid's runs need for their matched differences,
    and that there is none of."""
    _, grid = results.of(condition, GRID)
    alone = pd.concat([grid[grid["k"] == 1], results.of(condition, BASELINE)[1]])
    gone = sorted(_needed_alone(results, condition) - set(zip(alone["seed"], alone["component"], strict=True)))
    return pd.DataFrame(gone, columns=["seed", "component"])


def _needed_alone(results: Results, condition: str) -> set[tuple[int, str]]:
    """The seed and component of every run on one component that matched differences of the grid need."""
    _, grid = results.of(condition, GRID)
    return set(zip(grid["seed"], grid["component"], strict=True))


def _by_seed_list(alone: pd.DataFrame) -> pd.DataFrame:
    return alone.groupby("seed")["component"].agg(", ".join).reset_index()


def _cells_sentence(results: Results, condition: str, gone: pd.DataFrame) -> str:
    cells = by_seed(results, condition)
    total = int((cells["role"] == GRID).sum())
    if gone.empty:
        return f"All {total} cells of the grid (each K of the study at each seed of the condition) have a run."
    names = ", ".join(f"K = {k} seed {seed}" for k, seed in zip(gone["k"], gone["seed"], strict=True))
    return f"{len(gone)} of {total} cells of the grid have no run: {names}."


def _baselines_sentence(alone: pd.DataFrame) -> str:
    if alone.empty:
        return "Every component of every grid run has a run on it alone at the same seed."
    return (
        f"{words.runs(len(alone))} on a single component, which matched differences need, "
        f"{'is' if len(alone) == 1 else 'are'} missing; the grid runs with such components have no matched difference."
    )


def limits(results: Results, conditions: list[Condition]) -> Section:
    blocks: list[Block] = []
    for own in conditions:
        runs, _ = results.of(own.name, GRID)
        singles = [str(k) for k, group in runs.groupby("k") if group["seed"].nunique() == 1]
        positions = averaged_positions(results, own.name)
        sentences = [_power_sentence(own.findings, positions), _seeds_sentence(own.findings)]
        if singles:
            sentences.append(f"One seed only at K = {', '.join(singles)}: no statement about the spread of runs there.")
        gone, alone = tables.missing(results, own.name), missing_baselines(results, own.name)
        sentences.append(f"Missing: {len(gone)} cells of the grid, {words.runs(len(alone))} on one component.")
        if set(runs["order"]) - {"rotate"}:
            sentences.append("Every seed has the same components at a K, so K is confounded with their composition.")
        sentences += [f"Not computed: {name} ({reason})." for name, reason in own.findings.reasons.items()]
        blocks += [Heading(own.name)] if len(conditions) > 1 else []
        blocks.append(Points(sentences))
    text = (
        "Whatever holds here holds for these components, this size and this length of training. Active components are "
        "nested in K; a few seeds sample a few of their orders."
    )
    return Section("What the design could not have seen", [*blocks, Text(text)])


def _power_sentence(findings: Findings, positions: int) -> str:
    if findings.slope is None:
        return "There is no slope, and so no statement about the smallest that could be detected."
    slope = findings.slope
    least = smallest_detectable(slope.standard_error, slope.degrees_of_freedom)
    return (
        f"The slope has a standard error of {slope.standard_error:.4f} nats per token ({words.runs(slope.num_runs)}, "
        f"{slope.degrees_of_freedom:.0f} degrees of freedom), so that its test detects a slope of {least:.4f} a "
        f"doubling of K with 80 % power at 5 %. An ideal learner's slope is at most {np.log(2) / positions:.4f} "
        f"(ln 2 / {positions})."
    )


def _seeds_sentence(findings: Findings) -> str:
    deviation, freedom = seed_deviation(findings.matched)
    if freedom == 0:
        return "No K has two matched runs, so the spread over seeds is not measured."
    return (
        f"XE has a standard deviation of {deviation:.4f} nats per token between seeds, by matched ΔXE ({freedom} "
        "degrees of freedom): `plan` calculates the power of further runs with it."
    )


def provenance(results: Results, conditions: list[Condition]) -> Section:
    left_out = list(results.left_out) or ["No file was left out."]
    runs = results.runs
    changed = [f"{run_id}: {text}" for run_id, text in zip(runs["run_id"], runs["changes"], strict=True) if text]
    reasons = [f"{s.name}: {name}: {why}" for s in conditions for name, why in s.findings.reasons.items()]
    blocks: list[Block] = [
        Text("Every run whose result is counted above, with the code, device and precision that made it."),
        tables.report_table(_run_table(results), "Runs"),
        tables.report_table(_package_table(results), "Versions"),
        *([Heading("Runs that changed between their sessions"), Points(changed)] if changed else []),
        Heading("Files that are not counted"),
        Points(left_out),
        *([Heading("Statistics that were not computed"), Points(reasons)] if reasons else []),
    ]
    return Section("Provenance", blocks)


def _run_table(results: Results) -> pd.DataFrame:
    runs = results.runs[["run_id", "role", "k", "seed", "xe", "device", "precision"]].reset_index(drop=True)
    revisions = [_short_revision(_last_session(results, name).get("git_revision")) for name in runs["run_id"]]
    return runs.assign(git_revision=revisions)


def _last_session(results: Results, run_id: str) -> dict[str, Any]:
    return sessions(results.run_lines[run_id]["provenance"])[-1]


def _short_revision(revision: object) -> str:
    """Twelve digits of a commit, with its `+changes`; results made outside a checkout say so."""
    if not isinstance(revision, str):
        return "not recorded"
    commit, plus, changes = revision.partition("+")
    return commit[:12] + plus + changes


def _package_table(results: Results) -> pd.DataFrame:
    """One row for each set of versions that made results, and how many runs it made."""
    made: dict[str, int] = {}
    for run_id in results.run_lines:
        session = _last_session(results, run_id)
        versions = {"python": session.get("python", "not recorded")} | (session.get("packages") or {})
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        made[text] = made.get(text, 0) + 1
    return pd.DataFrame(made.items(), columns=["versions", "num_runs"])


def none(findings: Findings, name: str, label: str) -> str:
    """That a statistic could not be computed, and why."""
    return f"No {label}: {findings.reasons.get(name, 'the runs do not suffice')}."
