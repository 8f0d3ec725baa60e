"""How does XE change with the number K of ergodic components, at constant training tokens? (Seed document 000.)"""

from pathlib import Path
from typing import TYPE_CHECKING

from helpers.storage import Storage
from helpers.studies.ergodic.plan_power import plan_note
from helpers.studies.ergodic.presets import ANSWER, NAME, PRESETS
from helpers.studies.ergodic.roles import AXES, COMPARED, noise_cell, role_of
from helpers.studies.study import Study

if TYPE_CHECKING:
    from helpers.training.recipe import Recipe


def _recipe() -> "Recipe":
    from helpers.studies.ergodic.recipe import RECIPE  # torch: only once there is a run

    return RECIPE


def _analyse(storage: Storage) -> list[Path]:
    """Write the study's tables, figures and report, and return their paths."""
    from helpers.studies.ergodic.analyse import analyse  # pandas and scipy: only once there are results

    return analyse(storage)


STUDY = Study(
    name=NAME,
    question="How does cross entropy change with the number K of independent components in the training data?",
    presets=PRESETS,
    axes=AXES,
    compared=COMPARED,
    notebook="ergodic_scaling.ipynb",
    analyse=_analyse,
    recipe=_recipe,
    answer=ANSWER,
    headline="matched.png",
    role_of=role_of,
    noise_cell=noise_cell,
    plan_note=plan_note,
)
