"""Opening a storage that is in an object store: its mirror on this machine, below the user's cache folder.

A mirror belongs to one URL and one storage_id. It may be deleted at any time between runs, but for its outbox, in
scratch, which may hold what the store has not taken yet.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec

from helpers.object_store import ObjectStore
from helpers.storage import MARKER, Storage, publish_text

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


def open_mirror(url: str, scratch: Path | None, *, make: bool) -> Storage:
    """The storage at `url`, its root a mirror on this machine. ValueError if it cannot be used.

    With `make` the store is marked if it is new, and one that was used from here before and is away now is opened all
    the same: whoever writes to it waits. Without, nothing is written, and its storage_id is empty where there is none.
    """
    url = url.rstrip("/")
    files, folder = _file_system(url)
    place = (scratch / "stores" if scratch else _user_cache()) / hashlib.sha256(url.encode()).hexdigest()[:16]
    store = ObjectStore(url=url, files=files, folder=folder.rstrip("/"), mirror=place)
    try:
        storage_id = _claim(store) if make else store.read_marker()
    except OSError as error:
        storage_id = _last_marker(place)
        if not (make and storage_id):
            raise ValueError(
                f"storage = {url!r} cannot be used ({error.strerror or error}); nothing was written. Look at the "
                "bucket's name, its rights and the network, or use a folder, for example --storage outputs"
            ) from error
    root = place / (storage_id or "none")
    scratch = scratch or place / "scratch"
    for local in (root, scratch):
        local.mkdir(parents=True, exist_ok=True)
    if storage_id:
        publish_text(root / MARKER, storage_id + "\n")
        publish_text(place / "last", storage_id + "\n")
    return Storage(root, scratch, storage_id, dataclasses.replace(store, mirror=root))


@contextlib.contextmanager
def copied(url: str) -> Iterator[Path]:
    """Everything that a store holds now, as files in a local folder that ends with the block."""
    storage = open_mirror(url, None, make=False)
    if storage.store is None or not storage.storage_id:
        raise ValueError(f"storage = {url!r} is not one that a run has written to")
    folder = storage.scratch / f"copy-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True)
        storage.store.copy_to(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    protocol = url.partition("://")[0]
    try:
        # A listing that is remembered hides what other processes write; an instance that is, an older environment's.
        return fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        if protocol not in _PACKAGES:
            raise ValueError(f"storage = {url!r} is not possible: {error}") from error
        package = _PACKAGES[protocol]
        raise ValueError(
            f"storage = {url!r} needs the package {package}, which is not installed: "
            f"python -m pip install {package} --constraint constraints.txt"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"storage = {url!r} is not possible ({error}); use a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        ) from error


def _claim(store: ObjectStore) -> str:
    """The storage_id in the store's marker, written first if there is none; of several processes, one writes it."""
    if not store.read_marker():
        store.mark(uuid.uuid4().hex)
    if storage_id := store.read_marker():
        return storage_id
    raise OSError(errno.EIO, "what was written does not read back", f"{store.url}/{MARKER}")


def _last_marker(place: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (place / "last").read_text(encoding="utf-8").strip()
    return ""


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergodic-scaling"
