"""Kills the processes of a grid on every engine and asks for the same bits, and that nothing is left running.

    python -m benchmarks.soak --rounds 300 --seed 0
    python -m benchmarks.soak --rounds 3 --engines ray --runs 10 --victims worker child kernel driver

A round is a grid of a few small runs in a fresh storage. While it trains, one of its processes dies by SIGKILL: the
driver, the worker that an engine starts a run in (with submitit also that one's controller), the child that executes
the notebook, or its kernel. Within ten seconds everything below the killed process has to be gone, and after the
driver's death everything of the grid: its processes are told by a variable that they inherit. Then the grid is started
again until it is done, and weights, XE and metrics have to be, bit for bit, those of a grid on the local engine that
nobody disturbed. `--storage` is a folder or an address below which each round has its own.
"""

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from helpers.grid.engines import EngineOptions
from helpers.repository import ROOT
from helpers.runs.metrics import metrics_path, read_metrics
from helpers.runs.result_file import read_result
from helpers.storage import Storage
from helpers.studies import find_preset
from helpers.studies.preset import Preset, no_companions
from helpers.studies.run_preset import known_runs, run_preset

ENGINES = {
    "local": EngineOptions(workers=2, threads=1),
    "ray": EngineOptions(engine="ray", workers=2, threads=1),
    "slurm": EngineOptions(engine="slurm", workers=2, threads=1, slurm=("cluster=local",)),
}
VICTIMS = {
    "local": ("child", "kernel", "driver"),  # where the driver is the worker
    "ray": ("worker", "child", "kernel", "driver"),
    "slurm": ("worker", "controller", "child", "kernel", "driver"),
}
EXACT_METRICS = ("step", "tokens", "loss", "lr", "grad_norm")
GONE_WITHIN_S = 10.0
MARK = "ERGODIC_SOAK"

_OVERRIDES = (
    "train.steps=200", "train.warmup_steps=4", "train.batch_size=4", "eval.windows_per_component=4",
    "data.synthetic.papers_per_component=6", "data.synthetic.paper_tokens=300", "execution.log_every_steps=10",
    "execution.checkpoint_every_minutes=0", "execution.device=cpu", "execution.trackers=",
)  # fmt: skip
_MOST_LIVES = 10
_LIFE_S = 1800.0
_DELAY_S = 8.0
_RAY_ITSELF = ("/ray/", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Its services stay for up to a minute, hold no GPU, and do nothing of ours."""


class Fault(Exception):
    """A round that did not end as it should."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The runs of a round: `runs` of the demo's, made small, without their baselines."""

    runs: int

    @property
    def preset(self) -> Preset:
        ks = find_preset("ergodic", "demo").axes["k"]
        only = ["k=" + ",".join(map(str, ks[: (self.runs + 1) // 2])), "seed=" + ("0" if self.runs == 1 else "0,1")]
        preset = find_preset("ergodic", "demo", overrides=_OVERRIDES, only=only)
        return dataclasses.replace(preset, companions=no_companions)

    def ending(self, storage: Storage) -> str:
        """What a kill must not change, as text in which no bit is lost. OSError if a run has no result."""
        told = {}
        for config in known_runs(self.preset, storage):
            result = read_result(storage.result(config.run_id))
            rows = [[row[key] for key in EXACT_METRICS] for row in read_metrics(metrics_path(storage, config.run_id))]
            told[config.run_id] = [result.run["weights_sha256"], result.rows, result.summaries, rows]
        return json.dumps(told, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Life:
    """A driver at work, and the grid's processes."""

    driver: psutil.Popen
    mark: str

    @classmethod
    def begin(cls, grid: Grid, engine: str, place: str, log: Path) -> "Life":
        mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "benchmarks.soak", "--drive", engine, place, str(grid.runs)]
        with open(log, "ab") as file:
            driver = psutil.Popen(
                command, cwd=ROOT, env=os.environ | {MARK: mark, "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file,
            )  # fmt: skip
        return cls(driver=driver, mark=mark)

    def victim(self, kind: str) -> psutil.Process | None:
        """A process of the grid of that kind, if there is one now."""
        if kind == "driver":
            return self.driver
        word = "helpers.grid.kernel" if kind == "kernel" else "helpers.grid.child"
        found = next((process for process in self.processes() if word in _command(process)), None)
        for _ in range({"worker": 1, "controller": 2}.get(kind, 0)):
            found = found and found.parent()
        return None if found is None or found.pid == self.driver.pid else found

    def processes(self) -> Iterator[psutil.Process]:
        """Those that inherited the mark, but for what is Ray's own."""
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get(MARK) == self.mark
            except psutil.Error:
                continue
            if is_ours and not any(word in _command(process) for word in _RAY_ITSELF):
                yield process


def play(grid: Grid, engine: str, victims: Sequence[str], place: str, log: Path, reference: str,
         rng: random.Random) -> Counter[str]:  # fmt: skip
    """One round: which victims died. Fault if anything is left running, or the grid ends otherwise."""
    killed, left = Counter[str](), list(victims)
    for _ in range(_MOST_LIVES):
        life = Life.begin(grid, engine, place, log)
        deadline = time.monotonic() + _LIFE_S
        while life.driver.poll() is None:
            if time.monotonic() > deadline:
                life.driver.kill()
                raise Fault(f"the {engine} driver did not end within {_LIFE_S:.0f} s; its words are in {log}")
            if left and life.victim("kernel") is not None and _kill(life, left[0], grid, place, rng):
                killed[f"{engine}: {left.pop(0)}"] += 1
            time.sleep(0.2)
        _require_gone(list(life.processes()), f"the {engine} driver")
        if life.driver.poll() == 0 and not left:
            break
    else:
        raise Fault(f"the {engine} grid is not done after {_MOST_LIVES} lives, with {dict(killed)}; see {log}")
    if grid.ending(Storage.at(place)) != reference:
        raise Fault(f"after {dict(killed)} the {engine} grid in {place} ended with other numbers")
    return killed


def _kill(life: Life, kind: str, grid: Grid, place: str, rng: random.Random) -> bool:
    """Kill one of a kind after a random time, or once a run has a checkpoint; whether there was one."""
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, _DELAY_S))
    else:
        _wait_for_checkpoint(life, grid, place)
    victim = life.victim(kind)
    if victim is None or life.driver.poll() is not None:
        return False
    below = [process for process in victim.children(recursive=True) if not _is_rays(process)]
    victim.kill()
    if kind == "driver":
        life.driver.wait()
        below += life.processes()
    _require_gone([*below, victim], f"a {kind} was killed")
    return True


def _wait_for_checkpoint(life: Life, grid: Grid, place: str) -> None:
    storage, deadline = Storage.at(place), time.monotonic() + 60
    runs = [config.run_id for config in known_runs(grid.preset, storage)]
    while life.driver.poll() is None and time.monotonic() < deadline:
        if any(storage.checkpoint_steps(run) for run in runs):
            return
        time.sleep(0.05)


def _require_gone(processes: Sequence[psutil.Process], what: str) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    alive = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    if alive:
        words = "; ".join(f"{process.pid} {_command(process)[:120]}" for process in alive)
        raise Fault(f"{GONE_WITHIN_S:.0f} s after {what} there were still: {words}")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_rays(process: psutil.Process) -> bool:
    return any(word in _command(process) for word in _RAY_ITSELF)


def drive(engine: str, place: str, runs: int) -> int:
    """What a driver does: the grid, as the command line begins it, without the analysis."""
    say: Callable[[str], None] = lambda text: print(text, flush=True)  # noqa: E731
    report = run_preset(Grid(runs=runs).preset, Storage.at(place), engine=ENGINES[engine], report=say)
    say(str(report))
    return 0 if report.complete else 1


def soak(options: argparse.Namespace, place: Path) -> Counter[str]:
    rng, killed, grid = random.Random(options.seed), Counter[str](), Grid(runs=options.runs)
    whole = options.undisturbed or str(place / "undisturbed")
    if not options.undisturbed and Life.begin(grid, "local", whole, place / "undisturbed.log").driver.wait():
        raise Fault(f"the undisturbed grid failed; its words are in {place / 'undisturbed.log'}")
    reference = grid.ending(Storage.at(whole))
    turns = [(engine, [victim]) for engine in options.engines for victim in VICTIMS[engine]]
    if options.victims:
        turns = [(engine, [v for v in options.victims if v in VICTIMS[engine]]) for engine in options.engines]
    for number in range(options.rounds):
        engine, victims = turns[number % len(turns)]
        began, where = time.monotonic(), f"{options.storage or place}/round-{number}"
        killed += play(grid, engine, victims, where, place / f"round-{number}.log", reference, rng)
        print(
            f"round {number}: {engine}, {', '.join(victims)}: identical, {time.monotonic() - began:.0f} s", flush=True
        )
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--victims", nargs="+", help="killed one after another in each round; default: one, in turn")
    parser.add_argument("--runs", type=int, default=2, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--storage", default="", help="where the rounds' storages lie; default: a temporary folder")
    parser.add_argument("--undisturbed", default="", help="the undisturbed grid of an earlier soak, to go on with")
    parser.add_argument("--drive", nargs=3, metavar=("ENGINE", "PLACE", "RUNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        return drive(options.drive[0], options.drive[1], int(options.drive[2]))
    place, began = Path(tempfile.mkdtemp(prefix="soak-")), time.monotonic()
    try:
        killed = soak(options, place)
    except Fault as fault:
        print(f"{fault}\nthe files are in {place}", file=sys.stderr)
        return 1
    print("\n".join(f"{count:5d}  {victim}" for victim, count in sorted(killed.items())))
    print(f"{options.rounds} rounds, {killed.total()} kills, {options.rounds} identical ends, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
