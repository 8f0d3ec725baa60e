"""Does TTT's carried state beat a sliding window beyond the training length? (Seed document 002.)"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.runs.status import RunStatus
from helpers.storage import Storage
from helpers.studies.length.presets import AXES, NAME, PRESETS
from helpers.studies.study import Study

if TYPE_CHECKING:
    from helpers.training.recipe import Recipe


def _recipe() -> "Recipe":
    from helpers.studies.length.recipe import RECIPE  # imports torch

    return RECIPE


def _analyse(storage: Storage) -> list[Path]:
    """Write the study's summaries, tables, figures and verdicts, and return their paths."""
    from helpers.studies.length.analyse import analyse

    return analyse(storage)


def _progress(runs: Sequence[RunStatus], storage: Storage) -> str:
    from helpers.studies.length.progress import progress

    return progress(runs, storage)


STUDY = Study(
    name=NAME,
    question="Does TTT's carried state beat a sliding window beyond the length that it was trained on?",
    presets=PRESETS,
    axes=AXES,
    notebook="studies/length_generalization.ipynb",
    analyse=_analyse,
    answer="length_verdicts.md",
    headline="length_windows.png",
    recipe=_recipe,
    progress=_progress,
)
