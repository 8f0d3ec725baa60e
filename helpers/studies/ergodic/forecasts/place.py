"""Where a run's forecast lies, and what it says; light enough for the analysis, which loads no torch."""

from pathlib import Path

from helpers.storage import Storage

NUMBERS = ("xe", "dxe", "bound")


def forecast_path(storage: Storage, run_id: str) -> Path:
    return storage.run(run_id) / "forecast.json"
