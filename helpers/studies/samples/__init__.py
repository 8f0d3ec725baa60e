"""What does a perplexity that falls with the number of samples owe to samples, steps, contexts? (Seed document 003.)"""

from pathlib import Path
from typing import TYPE_CHECKING

from helpers.storage import Storage
from helpers.studies.samples.presets import AXES, NAME, PRESETS, role_of
from helpers.studies.study import Study

if TYPE_CHECKING:
    from helpers.training.recipe import Recipe


def _analyse(storage: Storage) -> list[Path]:
    """Write the study's tables, figures, verdicts and numbers, and return their paths."""
    from helpers.studies.samples.analyse import analyse

    return analyse(storage)


def _recipe() -> "Recipe":
    from helpers.studies.samples.recipe import RECIPE  # imports torch

    return RECIPE


STUDY = Study(
    name=NAME,
    question="Does perplexity fall with samples, or with the optimiser steps that more samples bring?",
    presets=PRESETS,
    axes=AXES,
    notebook="studies/sample_scaling.ipynb",
    analyse=_analyse,
    answer="samples_verdict.md",
    headline="sample_scaling.png",
    recipe=_recipe,
    role_of=role_of,
)
