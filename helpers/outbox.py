"""The way of a run's files to the storage: made on local disk, delivered whole, kept until the storage takes them.

Drive goes away for minutes, fills up, or writes less than it was given, and so does an object store. A run does not
stop for that: a file is finished in the outbox first, copied, read back, and only then forgotten here. What a killed
process left in the outbox is delivered by the next one.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.storage import Storage, copy_verified, flush, publish, publish_folder, require_name

_RETRY_S = 5.0
_SEPARATOR = "@"  # no name in the storage holds it


class StorageAway(RuntimeError):
    """The storage does not take what a run has to deliver; the files wait on local disk."""


@dataclass(kw_only=True)
class Outbox:
    """The pending files of one run."""

    storage: Storage
    run_id: str
    report: Callable[[str], None]
    is_away: bool = False
    """Whether the last delivery failed: that is said once, and so is the return."""

    def put(self, target: Path, write: Callable[[Path], object], supersedes: bool = False) -> None:
        """Make a file or folder with `write`, and deliver it to `target` now or later.

        With `supersedes`, what is still pending for the folder of `target` is dropped once this is whole. If not even
        the local disk takes it, that is reported, and what was pending stays: the caller's next file may fit.
        """
        temporary = self._folder / f".{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write(temporary)
            for path in [*temporary.rglob("*"), temporary]:
                flush(path)
            place = self._place(target)
            if place.is_dir():  # a file is replaced in one step; a folder cannot be
                _remove(place)
            os.replace(temporary, place)
        except OSError as error:
            _remove(temporary)
            self.report(f"{target.name} could not be written to {self._folder} ({_words(error)}); training goes on")
        else:
            if supersedes:
                self._forget_beside(place)
        self.deliver()

    def deliver(self) -> bool:
        """Try to deliver everything that is pending, results last; whether nothing is left."""
        try:
            self.storage.require_present()
            for place in self._pending():
                _deliver(self.storage, place, self._target(place))
                _remove(place)
        except OSError as error:
            if not self.is_away:
                self.report(
                    f"the storage {self.storage.address} does not take files now ({_words(error)}); they are kept in "
                    f"{self._folder} and delivered when it is back"
                )
            self.is_away = True
            return False
        if self.is_away:
            self.report(f"the storage {self.storage.address} is back, and everything was delivered")
        self.is_away = False
        return True

    def finish(self, patience_s: float) -> None:
        """Deliver everything, waiting for a storage that is away; StorageAway after `patience_s` seconds.

        The caller has the run to itself: what a killed process had half made is deleted.
        """
        for unfinished in self._folder.glob(".*"):
            _remove(unfinished)
        deadline = time.monotonic() + patience_s
        while not self.deliver():
            if time.monotonic() >= deadline:
                pending = self._pending()
                kept = f"its {len(pending)} finished files are safe in {self._folder}" if pending else "nothing is lost"
                raise StorageAway(
                    f"the storage {self.storage.address} is away and run {self.run_id} cannot go on without it; "
                    f"{kept}. Run the same again when the storage is back: nothing is trained twice"
                )
            time.sleep(min(_RETRY_S, max(0.0, deadline - time.monotonic())))

    def _forget_beside(self, newest: Path) -> None:
        """Drop what is pending for the folder of `newest`: that takes its place."""
        folder = self._target(newest).parent
        for place in self._pending():
            if place != newest and self._target(place).parent == folder:
                _remove(place)

    @property
    def _folder(self) -> Path:
        return self.storage.outbox(self.run_id)

    def _place(self, target: Path) -> Path:
        return self._folder / _SEPARATOR.join(target.relative_to(self.storage.root).parts)

    def _target(self, place: Path) -> Path:
        return self.storage.root.joinpath(*map(require_name, place.name.split(_SEPARATOR)))

    def _pending(self) -> list[Path]:
        places = [place for place in self._folder.glob("*") if not place.name.startswith(".")]
        return sorted(places, key=lambda place: (place.name.startswith("results"), place.stat().st_mtime))


def pending_or_delivered(storage: Storage, run_id: str, target: Path) -> Path:
    """Where a file of a run can be read: in its outbox while it is pending, else in the storage."""
    place = Outbox(storage=storage, run_id=run_id, report=print)._place(target)
    return place if place.exists() else target


def _deliver(storage: Storage, place: Path, target: Path) -> None:
    if storage.store:  # first, for its mirror is never ahead of it
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        storage.store.put({target / file.name if place.is_dir() else target: file for file in files})
    if place.is_dir():
        with publish_folder(target) as temporary:
            for file in place.iterdir():
                copy_verified(file, temporary / file.name)
    else:
        publish(target, lambda temporary: copy_verified(place, temporary))


def _remove(place: Path) -> None:
    if place.is_dir():
        if not place.name.startswith("."):  # it stops being pending at once: a kill leaves no half of it to deliver
            place = place.rename(place.with_name(f".{uuid.uuid4().hex}"))
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
