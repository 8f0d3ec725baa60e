"""What the anchors say of the held-out runs, written before those are trained; and whether a prediction counts.

A prediction names the held-out runs, and the anchors with the SHA-256 of what their results say of the end of the run.
It counts for a run that started after it was written, as long as those results are the ones it was made from. The file
carries its own SHA-256, so that what it says cannot be changed later without notice (it can be deleted, and then
nothing counts).
"""

import datetime
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.analysis.fits.compare import compare_forms
from helpers.analysis.fits.intervals import infer
from helpers.analysis.fits.laws import OFFSET_POWER_LAW, POWER_LAW, Law
from helpers.analysis.fits.points import Points
from helpers.config import RunConfig
from helpers.locks import in_turn
from helpers.models.families import count_non_embedding
from helpers.runs.length import training_tokens
from helpers.runs.result_file import end_digest, finished_result, read_result
from helpers.seals import publish_sealed, read_sealed
from helpers.storage import Storage, file_sha256
from helpers.studies.activation.runs import load_files, points_of, run_table

SCHEMA = 2
"""In schema 1 the SHA-256 of an anchor was that of its whole file, which an evaluation of an earlier step changes."""
_NUM_TRIAL_DRAWS = 100

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A prediction file that reads."""

    name: str
    written: datetime.datetime
    primary: str
    """The law whose prediction is the one that counts; the other stands beside it."""
    schema: int
    anchors: dict[str, str]
    """The SHA-256 of each anchor's result, by run_id."""
    losses: pd.DataFrame
    """One row a held-out run and law: run_id, law, xe, low, high (95 %, nats per token)."""

    def fault(self, run: pd.Series, storage: Storage) -> str | None:
        """Why this does not count as a prediction of a done run, or None."""
        if run["started"] <= self.written:
            return (
                f"the run started at {run['started']:%F %T}, before the prediction was written ({self.written:%F %T})"
            )
        changed = [name for name, sha256 in self.anchors.items() if self._sha256(name, storage) != sha256]
        return f"the result of {changed[0]} is not the one that it was made from" if changed else None

    def _sha256(self, run_id: str, storage: Storage) -> str:
        """Of a result, as the schema takes it; empty if there is no whole one."""
        path = storage.result(run_id)
        try:
            return file_sha256(path) if self.schema == 1 else end_digest(read_result(path))
        except (OSError, ValueError):
            return ""


def write_prediction(
    anchors: Sequence[RunConfig], held_out: Sequence[RunConfig], storage: Storage, report: Report
) -> str | None:
    """Write what `anchors` say of `held_out`, once. None, or why it cannot be written yet."""
    num_done = sum(finished_result(config, storage, report) is not None for config in anchors)
    if num_done < len(anchors):
        return f"{len(anchors) - num_done} of {len(anchors)} anchors are not done"
    name = prediction_name(anchors, held_out)
    with in_turn(storage.lock(name), "the prediction of the held-out runs", report):
        return _write_once(storage.prediction(name), anchors, held_out, storage, report)


def _write_once(
    path: Path, anchors: Sequence[RunConfig], held_out: Sequence[RunConfig], storage: Storage, report: Report
) -> str | None:
    """The same under the prediction's lock: what stands is never replaced, and its time is taken last."""
    if storage.has(path):
        report(f"the prediction of the held-out runs stands: {path} (SHA-256 {file_sha256(path)[:16]})")
        return None
    begun = [config.run_id for config in held_out if _is_begun(config, storage)]
    if begun:
        report(f"no prediction is written: {begun[0]} was begun before it, so that its error cannot count")
        return None
    files = load_files(storage)
    runs = run_table(files)
    points = points_of(runs[runs["run_id"].isin([config.run_id for config in anchors])])
    laws, reasons = identified_laws(points)
    if not laws:
        return f"the anchors cannot tell a law; {'; '.join(reasons.values())}"
    content = {
        "schema": SCHEMA,
        "primary": laws[0].name,
        "left_out": reasons,
        "anchors": {config.run_id: end_digest(files.found[config.run_id].result) for config in anchors},
        "laws": [_predicted_losses(law, points, held_out) for law in laws],
    }
    written = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    storage.delivered([publish_sealed(path, content | {"written": written})])
    report(f"the prediction of the held-out runs is written: {path} (SHA-256 {file_sha256(path)[:16]})")
    return None


def _is_begun(config: RunConfig, storage: Storage) -> bool:
    """Whether a run has trained: that it is planned does not count."""
    return storage.has(storage.run(config.run_id) / "provenance.json") or storage.has(storage.result(config.run_id))


def read_predictions(storage: Storage) -> tuple[list[Prediction], list[str]]:
    """The predictions in a storage, oldest first, and a sentence for each file that cannot be used."""
    found, faults = [], []
    for path in sorted(storage.predictions().glob("*.json")):
        try:
            found.append(_read(path.stem, read_sealed(path)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            faults.append(f"{path.name}: {error}")
    return sorted(found, key=lambda prediction: prediction.written), faults


def prediction_name(anchors: Sequence[RunConfig], held_out: Sequence[RunConfig]) -> str:
    """A name for the prediction of these runs from those."""
    run_ids = [sorted(config.run_id for config in group) for group in (anchors, held_out)]
    return f"{held_out[0].study}-{hashlib.sha256(repr(run_ids).encode()).hexdigest()[:10]}"


def identified_laws(points: Points) -> tuple[list[Law], dict[str, str]]:
    """The laws of several arms that the points can tell, with an interval, best by AICc first; and why the others are
    left out."""
    laws, reasons = [], {}
    for law in (POWER_LAW.across(points.arm_names), OFFSET_POWER_LAW.across(points.arm_names)):
        try:
            compare_forms(points, [law])
            infer(points, law, _NUM_TRIAL_DRAWS)
        except ValueError as error:
            reasons[law.name] = str(error)
        else:
            laws.append(law)
    order = [form.law for form in compare_forms(points, laws)] if laws else []
    return sorted(laws, key=lambda law: order.index(law.name)), reasons


def _predicted_losses(law: Law, points: Points, held_out: Sequence[RunConfig]) -> dict[str, Any]:
    """One law's parameters, and its loss with the 95 % interval of one further run for each held-out run."""
    draws = infer(points, law)
    flops = np.array([6.0 * count_non_embedding(config.model) * training_tokens(config) for config in held_out])
    losses = draws.predict(flops, [config.model.activation for config in held_out])
    return {
        "law": law.name,
        "parameters": draws.fit.params,
        "warnings": list(draws.warnings),
        "losses": [
            {"run_id": config.run_id, "flops": compute, "xe": loss.value, "low": loss.low, "high": loss.high}
            for config, compute, loss in zip(held_out, flops, losses, strict=True)
        ],
    }


def _read(name: str, content: dict[str, Any]) -> Prediction:
    rows = [{"law": law["law"], **loss} for law in content["laws"] for loss in law["losses"]]
    return Prediction(
        name=name,
        schema=content["schema"],
        written=datetime.datetime.fromisoformat(content["written"]),
        primary=content["primary"],
        anchors=dict(content["anchors"]),
        losses=pd.DataFrame(rows),
    )
