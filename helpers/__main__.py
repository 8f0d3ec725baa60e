"""The command line: `python -m helpers COMMAND`. The notebooks call the same functions.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import tyro

from helpers.analysis.fits.options import FitOptions, fit_table
from helpers.config import RunConfig
from helpers.environment import quiet_libraries
from helpers.errors import is_ours
from helpers.grid.engines import LOCAL, EngineOptions
from helpers.parents import die_with_parent
from helpers.processes import own_place
from helpers.repository import REPOSITORY, ROOT, set_repository
from helpers.runs.events import Subscriber, print_events, to_line
from helpers.storage import Storage
from helpers.studies import find_preset, find_study
from helpers.studies.answer import answer_of, made_line
from helpers.studies.command_words import description, hint
from helpers.studies.preset import Preset

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Which grid, and where its files lie."""

    study: str = "ergodic"
    """The experiment."""
    preset: str = "demo"
    """A named grid of the study; they are listed by `python -m helpers --help`."""
    source: str = ""
    """`arxiv` or `tinystories` (the Hub), `synthetic`, a path to Parquet/JSONL files with columns text and label, or to
    a .txt file of stories. Empty: the preset's."""
    tokenizer: str = ""
    """A Hub name, a path to a tokenizer.json, or `train:N` (BPE of N tokens). Empty: the preset's."""
    storage: str = "outputs"
    """The root folder of all outputs, or the URL of an object store, such as s3://BUCKET/FOLDER."""
    overrides: Annotated[Repeatable, tyro.conf.arg(name="set", metavar="A.B=VALUE")] = ()
    """Set any field of the config, such as train.steps=500; may be given several times. An axis of the grid that is
    set has this value alone."""

    def find_preset(self) -> Preset:
        return find_preset(self.study, self.preset, self.source, self.tokenizer, self.overrides)

    def open_storage(self, *, to_read: bool = False) -> Storage:
        return Storage.to_read(self.storage) if to_read else Storage.at(self.storage)


@dataclass(frozen=True, kw_only=True)
class SelectedRuns(Selected):
    """Some runs of a preset's grid."""

    only: Annotated[Repeatable, tyro.conf.arg(metavar="AXIS=VALUES")] = ()
    """Only these values of an axis, such as k=1,4 or seed=0; may be given several times."""

    def find_preset(self) -> Preset:
        return super().find_preset().only(self.only)


@dataclass(frozen=True, kw_only=True)
class SelectedGrid(SelectedRuns):
    """A preset's grid, or a part of it."""

    shard: str = ""
    """Only share i of n of the runs, written i/n: a static split, for two tabs or machines. Empty: all."""
    anchors_only: bool = False
    """Without the runs that are held out."""

    def find_preset(self) -> Preset:
        preset = super().find_preset()
        return preset.without_held_out() if self.anchors_only else preset


Options = tyro.conf.OmitArgPrefixes[Selected]
RunOptions = tyro.conf.OmitArgPrefixes[SelectedRuns]
GridOptions = tyro.conf.OmitArgPrefixes[SelectedGrid]


def plan(options: GridOptions, measure: bool = True, seed_deviation: float | None = None, cluster: str = "") -> int:
    """List the runs: tokens, parameters, FLOPs, time, storage, what is done, and what an effect the grid detects.

    Downloads nothing.

    Args:
        options: Which runs.
        measure: Time a few real training steps on this device, to estimate how long the runs take, and read what the
            storage has measured of the spread between seeds. Takes seconds, and the token cache.
        seed_deviation: Standard deviation of XE between seeds, in nats per token, for the smallest slope that the grid
            detects. None: measured where the storage has enough runs of the same condition, else 0.01.
        cluster: Also how long the runs to do take on N cards, such as 8xA100, or 8xthis of the device at hand.
    """
    from helpers.grid.shard import Shard
    from helpers.studies.run_preset import measured_speed, plan_preset

    part, preset, storage = Shard.parse(options.shard), options.find_preset(), options.open_storage(to_read=True)
    speed = measured_speed if measure else None
    print(plan_preset(preset, storage, part, measure=speed, seed_deviation=seed_deviation, cluster=cluster))
    return 0


def fetch(options: Options) -> int:
    """Build the token cache of a source, once."""
    from helpers.data.fetch_arxiv import ensure_cache

    cache = ensure_cache(options.find_preset().config.data, options.open_storage())
    print(f"{cache.folder}: {len(cache.components)} components, {cache.vocab_size:,} token ids")
    return 0


def train(options: RunOptions, run: str = "", events: bool = False, scratch: str = "") -> int:
    """Train and evaluate one run; resumed if it was begun, returned at once if it is done.

    Args:
        options: Which preset, and where; `--only` for each of its axes leaves one run of the grid.
        run: A run_id instead, of a run that was planned in the storage, or of any run of the preset. `--set` then
            changes how it is executed.
        events: Write what happens as lines of JSON.
        scratch: The local folder for what is on its way and what is mapped into memory. Empty: in the storage.
    """
    from helpers.runs.done import tidy_end

    place = own_place()
    if place.count > 1:
        die_with_parent(os.getppid())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun's, when another has died: to unwind takes its time
    config = _chosen_run(options, run)
    subscriber = (lambda event: print(to_line(event), flush=True)) if events else print_events
    try:
        storage = Storage.at(options.storage, scratch or None)
        path = None if events or place.count > 1 else tidy_end(config, storage)
        path = path or _train(config, storage, subscriber)
    except (ValueError, RuntimeError) as error:
        if events and is_ours(error):
            from helpers.training.launch import error_line

            _say(error_line(error), sys.stdout)
        raise
    _say(path, sys.stdout)
    return 0


def _train(config: RunConfig, storage: Storage, subscriber: Subscriber) -> Path:
    from helpers.training.train_single_k import train_single_k  # imports torch

    return train_single_k(config, storage, [subscriber], find_study(config.study).recipe())


def _chosen_run(options: SelectedRuns, run: str) -> RunConfig:
    """The one run that the options name. ValueError if they name none, or several."""
    from helpers.runs.config_file import config_path, read_config
    from helpers.settings import apply_overrides
    from helpers.studies.run_preset import known_runs

    storage = options.open_storage(to_read=True)
    if run and storage.has(config_path(storage, run)):
        config = apply_overrides(read_config(storage, run), options.overrides)
        if config.run_id != run:
            raise ValueError(f"--set changes what run {run} is; leave it out, or choose the run by --preset and --only")
        return config
    preset = options.find_preset()
    if run:
        found = [config for config in known_runs(preset, storage) if config.run_id == run]
        if not found:
            raise ValueError(
                f"run = {run!r} is neither planned in {storage.address} nor a run of preset {options.preset}"
            )
        return found[0]
    grid = preset.grid
    if len(grid) != 1:
        several = [axis for axis, values in preset.axes.items() if len(values) > 1]
        example = " ".join(f"--only {axis}={preset.axes[axis][0]}" for axis in several)
        raise ValueError(f"{len(grid)} runs of the grid are chosen; one is trained: add {example}, or give --run")
    return grid[0]


def evaluate(run: str, step: int | None = None, storage: str = "outputs") -> int:
    """Evaluate a run again, or one of its snapshots.

    Args:
        run: The run_id, as `plan` and the results name it.
        step: A retained snapshot. None: the end of the run.
        storage: The root folder of all outputs, or the URL of an object store.
    """
    from helpers.runs.config_file import read_config
    from helpers.training.evaluate_again import evaluate_again

    config, opened = read_config(Storage.existing(storage), run), Storage.at(storage)
    print(evaluate_again(config, opened, step, recipe=find_study(config.study).recipe()))
    return 0


def grid(options: GridOptions, engine: tyro.conf.OmitArgPrefixes[EngineOptions] = LOCAL) -> int:
    """Plan, run the notebook once for every run that is not done, then draw the figures and tables of what is done.

    Exits with 1 if any run failed or is left.

    Args:
        options: Which runs.
        engine: What executes them.
    """
    from helpers.studies.run_preset import run_preset

    preset, storage = options.find_preset(), options.open_storage()
    say = functools.partial(print, flush=True)
    report = run_preset(preset, storage, engine=engine, shard=options.shard, report=say)
    print(f"\n{report}")
    if report.of("done"):
        _analyse(options.study, storage)
    return 0 if report.complete else 1


def status(options: GridOptions, loop: bool = False, interval: float = 180.0) -> int:
    """Show every run of a grid as the storage knows it now: done, running, failed, begun or missing. Changes nothing.

    Args:
        options: Which runs.
        loop: Show it again and again, until every run is done.
        interval: Seconds between two looks of a loop.
    """
    from helpers.grid.shard import Shard
    from helpers.studies.run_preset import status_of

    if interval <= 0:
        raise ValueError(f"interval = {interval:g} is not possible; use a number of seconds above 0, such as 180")
    preset, storage, part = options.find_preset(), Storage.existing(options.storage), Shard.parse(options.shard)
    while True:
        found = status_of(preset, storage, part)
        told = (str(found), find_study(preset.config.study).progress(found.runs, storage))
        print("\n".join(filter(None, told)))
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {storage.address}\n", flush=True)
        if found.is_complete or not loop:
            return 0
        time.sleep(interval)


def analyse(study: str = "ergodic", storage: str = "outputs") -> int:
    """Tables, figures and report of a study from the results in a storage; ends with what they say.

    Args:
        study: The experiment.
        storage: The root folder of all outputs, or the URL of an object store.
    """
    _analyse(study, Storage.existing(storage))
    return 0


def _analyse(study: str, storage: Storage) -> None:
    """Write what a study makes of its results, and print the answer."""
    print(f"reading the results in {storage.root} ...", flush=True)
    found = find_study(study)
    made = found.analyse(storage)
    print("\n\n".join(filter(None, (made_line(storage, made), answer_of(found, storage)))))


def fit(options: tyro.conf.OmitArgPrefixes[FitOptions]) -> int:
    """Fit a scaling law to the columns of a table, one row a run; prints JSON.

    Rows whose column schedule_complete is false are left out. Which estimator answers, and why, is in the output.
    """
    print(fit_table(options))
    return 0


def verify(storage: str = "outputs") -> int:
    """Hash every cache, checkpoint, snapshot, result and prediction again, and say what is damaged and what mends it.

    Changes nothing. Exits with 1 if anything is damaged.

    Args:
        storage: The root folder of all outputs, or the URL of an object store.
    """
    from helpers.runs.verify import verify_storage

    verified = verify_storage(storage)
    print(verified)
    return 1 if verified.damaged else 0


def repository(name: tyro.conf.Positional[str] = "") -> int:
    """Set the public address in the README, the notebooks and the code.

    Args:
        name: OWNER/NAME on GitHub. Empty: that of the git remote `origin`.
    """
    changed = set_repository(name)
    print("\n".join(f"changed {path.relative_to(ROOT)}" for path in changed) or f"nothing to change: {REPOSITORY}")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "plan": plan,
    "fetch": fetch,
    "train": train,
    "eval": evaluate,
    "grid": grid,
    "status": status,
    "analyse": analyse,
    "fit": fit,
    "verify": verify,
    "repository": repository,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; errors of ours are one line, unforeseen ones keep their traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's or a shell's kill ends it like Ctrl-C
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m helpers", description=description(), args=arguments
        )
    except SystemExit as end:
        if end.code:
            print(hint(arguments), end="", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        _say("stopped; checkpoints are kept, and the same command goes on")
        return 1
    except (ValueError, RuntimeError) as error:
        if not is_ours(error):
            raise
        _say(f"error: {error}")
        return 2 if isinstance(error, ValueError) else 1
    except OSError as error:
        _say(f"error: {error}")
        return 1


def _say(words: object, file: TextIO | None = None) -> None:
    """To stderr, and once where several processes train a run together."""
    if os.environ.get("RANK", "0") == "0":
        print(words, file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
