"""What a run writes about itself: config.json before the first step, provenance.json, and the lines of its result.

Each file is sealed and names its run, so that neither a damaged file nor another run's is taken for it.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import torch

from helpers.config import RunConfig, to_json
from helpers.evaluation.eval_xe import evaluate
from helpers.models.shapes import count_parameters, flops_per_token
from helpers.outbox import Outbox, pending_or_delivered
from helpers.runs.checkpoints import load_snapshot, weights_sha256
from helpers.runs.provenance import provenance
from helpers.runs.result_file import SCHEMA, Result
from helpers.seals import read_sealed, sealed
from helpers.settings import config_difference
from helpers.training.device import choose_device
from helpers.training.run import Run


def record_config(run: Run) -> None:
    """Write config.json before the first step. ValueError if the run was begun with other settings or data."""
    path = run.storage.run(run.config.run_id) / "config.json"
    science = {**run.config.science(), "cache_id": run.cache.cache_id}
    try:
        recorded = _read_own(run.outbox, path)["science"]
    except FileNotFoundError:
        if run.storage.checkpoint_steps(run.config.run_id):
            run.outbox.report(f"{path} is missing from a run that was begun; it is written again")
        recorded = None
    except ValueError as error:
        run.outbox.report(f"{error}; it is written again")
        recorded = None
    if recorded is None:
        _put_sealed(run.outbox, path, {"science": science, "config": to_json(run.config)})
    elif difference := config_difference(recorded, science):
        raise ValueError(
            f"run {run.config.run_id} was begun with other settings or data ({'; '.join(difference)}); "
            f"nothing was changed. Use another --storage, or delete {path.parent}"
        )


def mend_records(config: RunConfig, result: Result, outbox: Outbox) -> None:
    """Write config.json and provenance.json of a done run again where they are lost: its result holds both."""
    provenance = result.run["provenance"]
    science = {**config.science(), "cache_id": provenance["cache_id"]}
    records = {"config.json": {"science": science, "config": result.run["config"]}, "provenance.json": provenance}
    for name, value in records.items():
        path = outbox.storage.run(config.run_id) / name
        try:
            _read_own(outbox, path)
        except (FileNotFoundError, ValueError) as error:
            outbox.report(f"{path} is written again from the result ({error})")
            _put_sealed(outbox, path, value)
    outbox.finish(60 * config.execution.storage_patience_minutes)


def run_result(run: Run) -> Result:
    """Evaluate the last step: everything the result file holds."""
    config, step = run.config, run.num_steps
    weights, trained = load_snapshot(run.storage, config.run_id, step), _training_provenance(run)
    xe, summary = evaluate(config, run.storage, run.cache, run.selection, weights, step, run.emit)
    num_tokens = run.dataset.order.num_tokens
    counts = count_parameters(config.model, run.cache.vocab_size)
    row = {
        "kind": "run",
        "schema": SCHEMA,
        "run_id": config.run_id,
        "study": config.study,
        "config": to_json(config),
        "provenance": trained | {"finished": _now()},
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
        "weights_sha256": weights_sha256(weights),
    }
    return Result(row, xe, [summary])


def record_provenance(run: Run, device: torch.device, precision: str, micro_batch: int) -> None:
    """Write provenance.json: where the numbers that this session trains come from, and when the first one started."""
    record = _data_provenance(run) | provenance(device) | {"precision": precision, "micro_batch": micro_batch}
    try:
        started = _read_own(run.outbox, _provenance_path(run))["started"]
    except (FileNotFoundError, ValueError):
        started = _now()
    _put_sealed(run.outbox, _provenance_path(run), record | {"started": started})


def _training_provenance(run: Run) -> dict[str, Any]:
    """What the training recorded; where that file was lost, what evaluates the weights now, and that it was lost."""
    try:
        return _read_own(run.outbox, _provenance_path(run))
    except (FileNotFoundError, ValueError) as error:
        run.outbox.report(f"the provenance of the training is lost ({error}); that of the evaluation is recorded")
        device = choose_device(run.config)
        lost = {"precision": "unknown", "training": "lost: versions and device are those of the evaluation"}
        return _data_provenance(run) | provenance(device) | lost


def _data_provenance(run: Run) -> dict[str, Any]:
    return {"cache_id": run.cache.cache_id, "content_sha256": run.cache.manifest["content_sha256"]}


def _provenance_path(run: Run) -> Path:
    return run.storage.run(run.config.run_id) / "provenance.json"


def _put_sealed(outbox: Outbox, path: Path, value: dict[str, Any]) -> None:
    owned = value | {"run_id": outbox.run_id}
    outbox.put(path, lambda temporary: temporary.write_text(sealed(owned), encoding="utf-8"))


def _read_own(outbox: Outbox, path: Path) -> dict[str, Any]:
    """What `_put_sealed` wrote for this run, delivered or not. ValueError if it is damaged or another run's."""
    value = read_sealed(pending_or_delivered(outbox.storage, outbox.run_id, path))
    if value.get("run_id") != outbox.run_id:
        raise ValueError(f"{path} belongs to run {value.get('run_id')}")
    return value


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
