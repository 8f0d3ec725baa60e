"""The command line: `python -m helpers COMMAND`. The notebooks call the same functions.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import dataclasses
import functools
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helpers import studies
from helpers.notebook.setup import REPOSITORY, ROOT, quiet_libraries, set_repository
from helpers.storage import Storage
from helpers.studies.preset import Preset

Repeatable = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Which runs, and where their files lie."""

    study: str = "ergodic"
    """The experiment."""
    preset: str = "demo"
    """A named grid of the study; they are listed by `python -m helpers --help`."""
    source: str = ""
    """`arxiv` (the Hub), `synthetic`, or a path to Parquet/JSONL files with columns text and label. Empty: the
    preset's."""
    tokenizer: str = ""
    """A Hub name, a path to a tokenizer.json, or `train:N` (BPE of N tokens). Empty: the preset's."""
    storage: Path = Path("outputs")
    """The root folder of all outputs."""
    overrides: Annotated[Repeatable, tyro.conf.arg(name="set", metavar="A.B=VALUE")] = ()
    """Set any field of the config, such as train.steps=500; may be given several times."""

    def find_preset(self) -> Preset:
        return studies.find_preset(self.study, self.preset, self.source, self.tokenizer, self.overrides)

    def open_storage(self) -> Storage:
        return Storage.at(self.storage)


@dataclass(frozen=True, kw_only=True)
class SelectedGrid(Selected):
    """A preset's grid, or a part of it."""

    ks: tuple[int, ...] = ()
    """Only these numbers of components. Empty: the preset's."""
    seeds: tuple[int, ...] = ()
    """Only these seeds. Empty: the preset's."""
    shard: str = ""
    """Only share i of n of the runs, written i/n: a static split, for two tabs or machines. Empty: all."""

    def find_preset(self) -> Preset:
        preset = super().find_preset()
        return dataclasses.replace(preset, ks=self.ks or preset.ks, seeds=self.seeds or preset.seeds)


Options = tyro.conf.OmitArgPrefixes[Selected]
GridOptions = tyro.conf.OmitArgPrefixes[SelectedGrid]


def plan(options: GridOptions, measure: bool = True) -> int:
    """List the runs: tokens, parameters, FLOPs, time, storage, and what is done. Downloads nothing.

    Args:
        options: Which runs.
        measure: Time a few real training steps on this device, to estimate how long the runs take. Takes seconds, and
            the token cache.
    """
    from helpers.grid.plan import plan_grid
    from helpers.grid.shard import Shard
    from helpers.studies.grid import known_runs, measured_speed

    part, preset, storage = Shard.parse(options.shard), options.find_preset(), options.open_storage()
    runs = known_runs(preset, storage, part)
    print(plan_grid(runs, storage, measure=measured_speed if measure else None, note=preset.note))
    return 0


def fetch(options: Options) -> int:
    """Build the token cache of a source, once."""
    from helpers.data.fetch_arxiv import ensure_cache

    cache = ensure_cache(options.find_preset().config.data, options.open_storage())
    print(f"{cache.folder}: {len(cache.components)} components, {cache.vocab_size:,} token ids")
    return 0


def train(options: Options, k: int = 1, seed: int = 0) -> int:
    """Train and evaluate one run; resumed if it was begun, returned at once if it is done.

    Args:
        options: Which preset, and where.
        k: Number of active components.
        seed: Seed of weights, data order, and component order.
    """
    from helpers.training.train_single_k import train_single_k

    path = train_single_k(options.find_preset().run(k, seed), options.open_storage())
    print(path)
    return 0


def evaluate(run: str, step: int | None = None, storage: Path = Path("outputs")) -> int:
    """Evaluate a run again, or one of its snapshots.

    Args:
        run: The run_id, as `plan` and the results name it.
        step: A retained snapshot. None: the end of the run.
        storage: The root folder of all outputs.
    """
    from helpers.evaluation.eval_xe import evaluate_run

    print(evaluate_run(run, Storage.at(storage), step))
    return 0


def grid(options: GridOptions, workers: int = 1) -> int:
    """Plan, run the notebook once for every run that is not done, then draw the figures and tables of what is done.

    Exits with 1 if any run failed or is left.

    Args:
        options: Which runs.
        workers: Runs at once, each in a process of its own with its share of the cores.
    """
    from helpers.studies.grid import run_preset

    preset, storage = options.find_preset(), options.open_storage()
    say = functools.partial(print, flush=True)
    where = {"workers": workers, "shard": options.shard, "report": say}
    report = run_preset(options.study, options.preset, preset, storage, **where)
    print(f"\n{report}")
    if report.of("done"):
        from helpers.analysis.analyse import analyse as draw

        print(f"figures, tables and report: {storage.root} ({len(draw(storage, options.study))} files)")
    return 0 if report.complete else 1


def analyse(study: str = "ergodic", storage: Path = Path("outputs")) -> int:
    """Tables and figures of a study: executes analysis.ipynb and lists the files made.

    Args:
        study: The experiment.
        storage: The root folder of all outputs.
    """
    from helpers.grid.notebook_job import Children, Job, num_cores

    studies.find_study(study)
    opened, begin_s = Storage.at(storage), time.time()
    parameters = {"STORAGE": str(opened.root), "STUDY": study, "INTERACTIVE": False}
    job = Job(name="analysis", notebook=ROOT / "analysis.ipynb", parameters=parameters, storage=opened)
    failure = Children().execute(job, num_cores())
    if failure:
        print(f"error: the analysis failed: {failure}", file=sys.stderr)
        return 1
    made = [*(opened.root / "fig").rglob("*"), *(opened.root / "tables").rglob("*"), *opened.root.glob("report.*")]
    made.append(opened.notebook("analysis"))
    print("\n".join(str(path) for path in sorted(made) if path.is_file() and path.stat().st_mtime >= begin_s - 1))
    return 0


def verify(storage: Path = Path("outputs")) -> int:
    """Hash every cache, checkpoint, snapshot and result again, and say what is damaged and what mends it.

    Changes nothing. Exits with 1 if anything is damaged.

    Args:
        storage: The root folder of all outputs.
    """
    from helpers.verify import verify_storage

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
    "analyse": analyse,
    "verify": verify,
    "repository": repository,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; errors of ours are one line, unforeseen ones keep their traceback."""
    quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's or a shell's kill ends it like Ctrl-C
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m helpers", description=_description(), args=arguments
        )
    except KeyboardInterrupt:
        print("stopped; checkpoints are kept, and the same command goes on", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError) as error:
        if not _is_ours(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _is_ours(error: Exception) -> bool:
    """Whether it was raised in this package: a message for the user, and not a fault of a library or of ours."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").startswith("helpers.")


def _description() -> str:
    lines = ["Scaling experiments on small causal language models.", ""]
    for name, study in studies.STUDIES.items():
        lines.append(f"Presets of {name}:")
        lines += [f"- {preset}: {found.description}" for preset, found in study.PRESETS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
