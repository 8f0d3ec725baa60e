"""config.json: what a run is, written when it is planned or begun. A run travels as this file."""

from pathlib import Path
from typing import Any

from helpers.config import RunConfig, to_json
from helpers.outbox import Outbox, pending_or_delivered
from helpers.seals import read_sealed, sealed
from helpers.settings import config_difference, from_json
from helpers.storage import Storage


def config_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "config.json"


def record_config(config: RunConfig, cache_id: str, outbox: Outbox) -> None:
    """Write config.json unless it says the same; the caller holds the run's lock.

    ValueError if the run was begun with other settings or data. How it is executed may change.
    """
    path = config_path(outbox.storage, config.run_id)
    science = {**config.science(), "cache_id": cache_id}
    content = {"science": science, "config": to_json(config)}
    try:
        recorded = read_own(outbox, path)
    except FileNotFoundError:
        recorded = None
        if outbox.storage.checkpoint_steps(config.run_id):
            outbox.report(f"{path} is missing from a run that was begun; it is written again")
    except ValueError as error:
        recorded = None
        outbox.report(f"{error}; it is written again")
    if recorded is not None and (difference := config_difference(recorded["science"], science)):
        raise ValueError(
            f"run {config.run_id} was begun with other settings or data ({'; '.join(difference)}); "
            f"nothing was changed. Use another --storage, or delete {path.parent}"
        )
    if recorded is None or recorded["config"] != content["config"]:
        put_sealed(outbox, path, content)


def read_config(storage: Storage, run_id: str) -> RunConfig:
    """The settings of a run that was planned or begun in a storage. ValueError if there is none, or it is damaged."""
    path = config_path(storage, run_id)
    storage.look(path)
    try:
        recorded = read_sealed(path)
        config = from_json(RunConfig, recorded["config"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"run = {run_id!r} is not planned in {storage.address}; `plan` lists the runs of a grid"
        ) from error
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it has no {error}") from error
    if config.run_id != run_id:
        raise ValueError(f"{path} is the config of run {config.run_id}")
    return config


def put_sealed(outbox: Outbox, path: Path, value: dict[str, Any]) -> None:
    """Send JSON to the storage that names its run and carries its own SHA-256."""
    owned = value | {"run_id": outbox.run_id}
    outbox.put(path, lambda temporary: temporary.write_text(sealed(owned), encoding="utf-8"))


def read_own(outbox: Outbox, path: Path) -> dict[str, Any]:
    """What `put_sealed` wrote for this run, delivered or not. ValueError if it is damaged or another run's."""
    value = read_sealed(pending_or_delivered(outbox.storage, outbox.run_id, path))
    if value.get("run_id") != outbox.run_id:
        raise ValueError(f"{path} belongs to run {value.get('run_id')}")
    return value
