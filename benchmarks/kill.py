"""Kills runs at every bad moment and asks for the same bits: exact resume, proven.

    python -m benchmarks.kill --rounds 100 --seed 0 --storage folder

A round is one run in a fresh storage. Its process dies by SIGKILL one to four times and is started again, until it
ends; then weights, XE and metrics must be those of a run that was never disturbed, bit for bit. The process kills
itself at a named moment (`benchmarks/moments.py`), or is killed from outside at a random time. Half of the
rounds train with a gradient scaler that overflows, skips updates and backs off, as fp16 does on a GPU.

With `--storage s3` the storage is in an object store, on an S3 server on loopback, and half of the lives are on a
machine that has not seen it before; the lives die between its objects too.

Torch is imported once: each life is a fork of this process, which trains nothing and owns no pool of threads.
"""

import os

# Before NumPy and torch are imported: a fork would take the locks of their threads along, and not the threads.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

import argparse
import contextlib
import dataclasses
import json
import math
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas  # noqa: F401  pyarrow imports it when it is first used, which every life would pay for
import torch
from accelerate import Accelerator

from benchmarks.moments import MOMENTS, STORE_MOMENTS, Moment
from helpers.data.cache_id import cache_id
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.token_cache import open_cache, verify_cache
from helpers.models import pythia  # noqa: F401  imported when a model is built, in every life
from helpers.runs.checkpoints import load_snapshot, snapshots
from helpers.runs.events import Event, Notice
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import read_result
from helpers.seals import read_sealed
from helpers.storage import Storage
from helpers.training.recipe import WINDOWS
from helpers.training.run import Run
from helpers.training.state import TrainState
from helpers.training.train_single_k import train_single_k
from tests.s3 import BUCKET, s3_server
from tests.small_run import CONFIG

EXACT_METRICS = ("step", "tokens", "loss", "lr", "grad_norm")
RANDOM_TIME = "at a random time, from outside"
MOST_KILLS = 4
FP16_MAX = torch.finfo(torch.float16).max
# What a life may say after a kill: the cache was made, and no checkpoint was there yet. A damaged file is a fault.
EXPECTED_NOTICES = ("token cache ", "the run was begun, but no checkpoint of it can be used")

STORE = ""
"""The URL below which each round has its storage; empty: a folder."""

_FORK = multiprocessing.get_context("fork")
_JEMALLOC = "jemalloc_bg_thd"  # pyarrow's allocator, which starts its thread anew in a fork
_LONG_AGO_S = 7_200.0


class Fault(Exception):
    """A round that did not end as it should."""


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """How a run ends that nobody kills."""

    has_scaler: bool
    ending: str
    occurrences: Counter[str]
    """How often each moment came."""
    seconds: float


def moments() -> dict[str, Moment]:
    return MOMENTS | (STORE_MOMENTS if STORE else {})


def undisturbed(folder: Path, has_scaler: bool) -> Undisturbed:
    """Let one run live to its end, and count its moments. Fault if it fails."""
    folder.mkdir()

    def count() -> Counter[str]:
        seen: Counter[str] = Counter()
        for name, moment in moments().items():
            moment.install(lambda _, name=name: seen.update([name]))
        live(folder, has_scaler)
        return seen

    began = time.perf_counter()
    seen = _answer(count)
    seconds = time.perf_counter() - began
    found = _answer(lambda: ending(folder))
    return Undisturbed(has_scaler=has_scaler, ending=found, occurrences=seen, seconds=seconds)


def play(folder: Path, reference: Undisturbed, first: str, rng: random.Random) -> Counter[str]:
    """One round, killed at the moment `first` and up to three drawn ones: those that were hit.

    A run may end before a later moment comes. Fault if it ends otherwise than `reference`, or leaves anything damaged
    or half made. What may stay are `.partial-*` of less than an hour, which could belong to a living process: they are
    made to look older, and the call of a run that is done has to clear them away.
    """
    plan = [first, *rng.choices([*moments(), RANDOM_TIME], k=rng.randrange(MOST_KILLS))]
    hits: Counter[str] = Counter()
    for moment in plan:
        _move(folder, rng)
        exitcode = life_killed_at(moment, folder, reference, 1 / len(plan), rng)
        if exitcode == 0:
            break
        if exitcode != -signal.SIGKILL:
            raise Fault(f"after {dict(hits)} a life that was to die {moment!r} ended with exit code {exitcode}")
        hits[moment] += 1
    for _ in ("to its end", "and again when it is done"):
        if exitcode := _ended(_fork(lambda: live(folder, reference.has_scaler))):
            raise Fault(f"after {dict(hits)} the run does not go on: exit code {exitcode}")
        if _answer(lambda: ending(folder)) != reference.ending:
            raise Fault(f"after {dict(hits)} the run ended with other numbers")
        _make_leftovers_old(folder)
    if left := _answer(lambda: faults(folder)):
        raise Fault(f"after {dict(hits)}: {'; '.join(left)}")
    return hits


def life_killed_at(moment: str, folder: Path, reference: Undisturbed, share: float, rng: random.Random) -> int:
    """One life that is to die at `moment`, drawn from the first `share` of those of a whole run: its exit code."""
    if moment == RANDOM_TIME:
        process = _fork(lambda: live(folder, reference.has_scaler))
        process.join(rng.uniform(0, share * reference.seconds))
        process.kill()
        return _ended(process)
    occurrence = rng.randint(1, max(1, int(share * reference.occurrences[moment])))
    return _ended(_fork(lambda: live_until(moment, occurrence, folder, reference.has_scaler)))


def live_until(moment: str, occurrence: int, folder: Path, has_scaler: bool) -> None:
    """Live, and die by SIGKILL when `moment` comes for the `occurrence`-th time."""
    left = occurrence

    def hit(half: Path | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if half is not None:
                os.truncate(half, half.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    moments()[moment].install(hit)
    live(folder, has_scaler)


def live(folder: Path, has_scaler: bool) -> None:
    """Begin the run of CONFIG or go on with it, as the command line does; its notices are kept beside its storage."""
    storage = _storage(folder)
    with open(folder / "notices.txt", "a", encoding="utf-8", buffering=1) as notices:

        def keep_notice(event: Event) -> None:
            if isinstance(event, Notice):
                notices.write(event.text + "\n")

        recipe = dataclasses.replace(WINDOWS, start=_with_scaler) if has_scaler else WINDOWS
        train_single_k(CONFIG, storage, [keep_notice], recipe)


def _with_scaler(run: Run, accelerator: Accelerator) -> TrainState:
    """A gradient scaler, and gradients that overflow where those in fp16 do.

    Accelerate makes a scaler for fp16 alone, and a CPU trains in fp32: the model is prepared in fp32, and clipping is
    then told to unscale first, as it does in fp16. The scale begins so high that no update before the first checkpoint
    goes through, and grows so soon that it overflows again and again.
    """
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26, growth_interval=3)
    state = WINDOWS.start(run, accelerator)
    for parameter in state.model.parameters():
        parameter.register_hook(lambda grad: grad.masked_fill(grad.abs() > FP16_MAX, math.inf))
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
    return state


def ending(folder: Path) -> str:
    """What a kill must not change, as text in which no bit is lost: weights, XE, metrics."""
    storage = _storage(folder)
    result = read_result(storage.result(CONFIG.run_id))
    metrics = [[row[key] for key in EXACT_METRICS] for row in read_metrics(metrics_path(storage, CONFIG.run_id))]
    return json.dumps([result.run["weights_sha256"], result.rows, result.summaries, metrics])


def faults(folder: Path) -> list[str]:
    """What a run that is done left damaged, called so, or left behind. ValueError for a file that is not whole."""
    storage = _storage(folder)
    if open_cache(storage, cache_id(CONFIG.data)) is None:
        return ["the token cache is not whole"]
    found = verify_cache(ensure_cache(CONFIG.data, storage))  # the next run opens it, and clears its folders
    for name in ("config.json", "provenance.json"):
        read_sealed(storage.run(CONFIG.run_id) / name)
    for step, _ in snapshots(storage, CONFIG.run_id):
        load_snapshot(storage, CONFIG.run_id, step)
    left = [*_machine(folder).rglob(".partial-*"), *storage.outbox(CONFIG.run_id).glob("*")]
    left += storage.checkpoints(CONFIG.run_id).glob("*")
    notices = (folder / "notices.txt").read_text(encoding="utf-8").splitlines()
    found += [f"{path} was left behind" for path in left]
    return found + [f"it said: {notice}" for notice in notices if not notice.startswith(EXPECTED_NOTICES)]


def _make_leftovers_old(folder: Path) -> None:
    then = time.time() - _LONG_AGO_S
    for path in _machine(folder).rglob(".partial-*"):
        os.utime(path, (then, then))


def _storage(folder: Path) -> Storage:
    if not STORE:
        return Storage.at(folder / "storage")
    os.environ["XDG_CACHE_HOME"] = str(_machine(folder))
    return Storage.at(f"{STORE}/{folder.name}")


def _machine(folder: Path) -> Path:
    """What is local to the machine at which a round lives now: the newest."""
    return max(folder.glob("machine-*"), default=folder, key=lambda path: int(path.name.rpartition("-")[2]))


def _move(folder: Path, rng: random.Random) -> None:
    """Make the next life, now and then, one on a machine that has nothing of the round yet: what the last one had not
    delivered is lost with it."""
    if STORE and rng.random() < 0.5:
        (folder / f"machine-{len([*folder.glob('machine-*')])}").mkdir(parents=True)


def _answer(work: Callable[[], Any]) -> Any:
    """What `work` returns in a child: the libraries of a store start threads, after which this process could not fork.
    Fault if it fails."""
    queue = _FORK.SimpleQueue()
    process = _fork(lambda: queue.put(work()))
    answer = queue.get() if _wait_for(queue, process) else None
    if exitcode := _ended(process):
        raise Fault(f"a look at the storage failed with exit code {exitcode}")
    return answer


def _wait_for(queue: Any, process: multiprocessing.process.BaseProcess) -> bool:
    """Whether there is an answer, before the process ends without."""
    while queue.empty():
        if not process.is_alive() and queue.empty():
            return False
        time.sleep(0.01)
    return True


def _fork(work: Callable[[], None]) -> multiprocessing.process.BaseProcess:
    """`work`, begun in a child."""
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    threads = [name for name in names if name != _JEMALLOC]
    assert len(threads) == 1, f"a process with the threads {threads} cannot be forked soundly"
    process = _FORK.Process(target=work)
    process.start()
    return process


def _ended(process: multiprocessing.process.BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def soak(rounds: int, seed: int, place: Path) -> Counter[str]:
    """So many rounds, each begun with the next moment, in folders of `place`: how often each moment was hit."""
    rng, hits = random.Random(seed), Counter[str]()
    references = [undisturbed(place / f"undisturbed-{has_scaler}", has_scaler) for has_scaler in (False, True)]
    firsts = [*moments(), RANDOM_TIME]
    for number in range(rounds):
        folder = place / f"round-{number}"
        folder.mkdir()
        try:
            hits += play(folder, rng.choice(references), firsts[number % len(firsts)], rng)
        except (Fault, OSError, ValueError) as error:
            raise Fault(f"round {number} of seed {seed}: {error}") from error
        shutil.rmtree(folder)
    return hits


@contextlib.contextmanager
def _server(storage: str) -> Iterator[None]:
    """The storages of the rounds in folders, or in the bucket of a server that ends with the block."""
    global STORE
    if storage == "folder":
        yield
        return
    with s3_server() as server:
        os.environ |= server.environment
        STORE = f"s3://{BUCKET}"
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="draws the moments and which of their occurrences")
    parser.add_argument("--storage", choices=("folder", "s3"), default="folder", help="s3 needs s3fs and moto[server]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    place, began = Path(tempfile.mkdtemp(prefix="kill-")), time.perf_counter()
    try:
        with _server(options.storage):
            hits = soak(options.rounds, options.seed, place)
    except Fault as fault:
        print(f"{fault}\nthe files are in {place}", file=sys.stderr)
        return 1
    shutil.rmtree(place)
    print("\n".join(f"{hits[moment]:5d}  {moment}" for moment in [*moments(), RANDOM_TIME]))
    seconds = time.perf_counter() - began
    print(f"{options.rounds} rounds, {hits.total()} kills, {options.rounds} identical ends, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
