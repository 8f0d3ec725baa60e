"""What a run writes about itself beside its config: provenance.json, and the lines of its result.

Each file is sealed and names its run, so that neither a damaged file nor another run's is taken for it.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import torch

from helpers.config import RunConfig, to_json
from helpers.device import choose_device
from helpers.models.families import count_parameters, flops_per_token
from helpers.outbox import Outbox
from helpers.runs.checkpoints import load_snapshot, weights_sha256
from helpers.runs.config_file import config_path, put_sealed, read_own
from helpers.runs.metrics import check_rows, measurements_path
from helpers.runs.provenance import provenance
from helpers.runs.result_file import SCHEMA, Measured, Result, Row
from helpers.runs.sessions import ended_at, sessions
from helpers.training.recipe import Recipe
from helpers.training.run import Run
from helpers.training.together import num_processes


def mend_records(config: RunConfig, result: Result, outbox: Outbox) -> None:
    """Write config.json and provenance.json of a done run again where they are lost: its result holds both."""
    provenance = result.run["provenance"]
    science = {**config.science(), "cache_id": provenance["cache_id"]}
    records = {
        config_path(outbox.storage, config.run_id): {"science": science, "config": result.run["config"]},
        _provenance_path(outbox): provenance,
    }
    for path, value in records.items():
        try:
            read_own(outbox, path)
        except (FileNotFoundError, ValueError) as error:
            outbox.report(f"{path} is written again from the result ({error})")
            put_sealed(outbox, path, value)
    outbox.finish(60 * config.execution.storage_patience_minutes)


def run_result(run: Run, recipe: Recipe, step: int) -> Result:
    """Everything that the result file of a run that ended at `step` holds: its end is evaluated now."""
    weights, trained = load_snapshot(run.storage, run.config.run_id, step), _training_provenance(run)
    result = Result(run=_run_row(run, trained, step, weights_sha256(weights)), rows=[], summaries=[])
    path = measurements_path(run.storage, run.config.run_id)
    for measured in _by_step(check_rows(path, run.config.run_id) if path.exists() else []):
        result = result.replaced(measured.summary["step"], measured)
    return result.replaced(step, recipe.evaluate(run, weights, step))


def begin_session(run: Run, step: int, device: torch.device, precision: str, micro_batch: int) -> None:
    """Write provenance.json: the data, when the run began, and each session whose steps are in the weights.

    A session goes from the step at which it began to that at which the next one did: what it did beyond is lost.
    """
    try:
        earlier = read_own(run.outbox, _provenance_path(run.outbox))
    except (FileNotFoundError, ValueError):
        earlier = {"started": _now(), "sessions": []}
    session = {"from_step": step, "started": _now(), "precision": precision, "micro_batch": micro_batch}
    session["processes"] = num_processes()
    done = ended_at(step, sessions(earlier))
    record = _data_provenance(run) | {"started": earlier["started"]}
    put_sealed(run.outbox, _provenance_path(run.outbox), record | {"sessions": [*done, session | provenance(device)]})


def _run_row(run: Run, trained: Row, step: int, sha256: str) -> Row:
    config, order = run.config, run.dataset.order
    counts = count_parameters(config.model, run.cache.vocab_size)
    num_tokens = order.num_tokens if step == run.num_steps else order.tokens_before(step)
    return {
        "kind": "run",
        "schema": SCHEMA,
        "run_id": config.run_id,
        "study": config.study,
        "config": to_json(config),
        "provenance": trained | {"sessions": ended_at(step, sessions(trained)), "finished": _now()},
        "params": dataclasses.asdict(counts),
        "flops": {
            "exact": num_tokens * flops_per_token(config.model, run.cache.vocab_size, config.data.window_tokens),
            "6ND": 6 * counts.total * num_tokens,
        },
        "steps": step,
        "tokens_seen": num_tokens,
        "unique_tokens": run.selection.unique_tokens,
        "tokens_seen_per_unique_token": num_tokens / run.selection.unique_tokens,
        "unique_tokens_by_component": run.selection.unique_tokens_by_component,
        "excluded_papers": run.selection.excluded_papers,
        "components": list(run.selection.components),
        "schedule_complete": True,
        "weights_sha256": sha256,
    }


def _by_step(rows: list[Row]) -> list[Measured]:
    """Rows of measurements.jsonl, in which the summary stands behind what it sums up."""
    measured, begun = [], []
    for row in rows:
        if row["kind"] == "summary":
            measured.append(Measured(rows=begun, summary=row))
            begun = []
        else:
            begun.append(row)
    return measured


def _training_provenance(run: Run) -> dict[str, Any]:
    """What the training recorded; where that file was lost, what evaluates the weights now, and that it was lost."""
    try:
        return read_own(run.outbox, _provenance_path(run.outbox))
    except (FileNotFoundError, ValueError) as error:
        run.outbox.report(f"the provenance of the training is lost ({error}); that of the evaluation is recorded")
        device = choose_device(run.config.execution)
        lost = {"precision": "unknown", "training": "lost: versions and device are those of the evaluation"}
        return _data_provenance(run) | {"sessions": [{"from_step": 0} | provenance(device) | lost]}


def _data_provenance(run: Run) -> dict[str, Any]:
    return {"cache_id": run.cache.cache_id, "content_sha256": run.cache.manifest["content_sha256"]}


def _provenance_path(outbox: Outbox) -> Path:
    return outbox.storage.run(outbox.run_id) / "provenance.json"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
