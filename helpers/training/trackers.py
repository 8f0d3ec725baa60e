"""Accelerate's trackers beside metrics.jsonl, which is the record: one that fails is reported once and left alone."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from helpers.locks import in_turn
from helpers.storage import Storage

_MLFLOW_STORE = "MLFLOW_TRACKING_URI"


@dataclass(kw_only=True)
class Trackers:
    report: Callable[[str], None] = print
    started: list[GeneralTracker] = field(default_factory=list)
    names_store: bool = False

    @classmethod
    def start(
        cls, accelerator: Accelerator, run_id: str, storage: Storage, report: Callable[[str], None]
    ) -> "Trackers":
        """Start the trackers that the accelerator names, each by itself, in one process of this machine at a time:
        mlflow builds its tables at the first use, which two processes at once leave half built."""
        trackers, names = cls(report=report), list(accelerator.log_with)
        trackers._name_mlflow_s_store(storage)
        with in_turn(storage.lock("trackers"), "the start of a tracker", report):
            for name in names:
                with trackers._softly(getattr(name, "value", str(name))):
                    accelerator.log_with = [name]
                    accelerator.init_trackers(run_id)
                    trackers.started += accelerator.trackers
        accelerator.log_with, accelerator.trackers = names, []
        return trackers

    def log(self, values: dict[str, float], step: int) -> None:
        for tracker in list(self.started):
            with self._softly(tracker.name, tracker):
                tracker.log(values, step=step)

    def end(self) -> None:
        for tracker in list(self.started):
            with self._softly(tracker.name, tracker):
                tracker.finish()
        if self.names_store:
            os.environ.pop(_MLFLOW_STORE, None)

    def _name_mlflow_s_store(self, storage: Storage) -> None:
        """Where the user names none, it lies in the scratch folder, and not where Python was started."""
        if _MLFLOW_STORE not in os.environ:
            folder = storage.scratch / "mlflow"
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[_MLFLOW_STORE], self.names_store = f"sqlite:///{folder}/mlflow.db", True

    @contextlib.contextmanager
    def _softly(self, name: str, tracker: GeneralTracker | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind: a network, a database, a key, a full disk
            if tracker in self.started:
                self.started.remove(tracker)
            reason = " ".join(str(error).split())[:200]
            self.report(
                f"tracker {name} failed ({type(error).__name__}: {reason}) and gets no more of this run, which goes "
                "on: metrics.jsonl has every row"
            )
