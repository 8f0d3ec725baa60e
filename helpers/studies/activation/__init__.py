"""Does SwiGLU move the exponent of L(C) against GeLU, or only its constant? (Seed document 004.)"""

from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.config import RunConfig
from helpers.storage import Storage
from helpers.studies.activation.presets import AXES, NAME, PRESETS
from helpers.studies.study import Study


def _predict(
    anchors: Sequence[RunConfig], held_out: Sequence[RunConfig], storage: Storage, report: Callable[[str], None]
) -> str | None:
    """Write what the anchors say of the held-out runs, unless it is written. None, or why it cannot be written yet."""
    from helpers.studies.activation.predictions import write_prediction  # scipy: only once there are results

    return write_prediction(anchors, held_out, storage, report)


def _analyse(storage: Storage) -> list[Path]:
    """Write the study's tables, figures, verdicts and numbers, and return their paths."""
    from helpers.studies.activation.analyse import analyse

    return analyse(storage)


STUDY = Study(
    name=NAME,
    question="Does SwiGLU move the exponent of the scaling law against GeLU, or only its constant?",
    presets=PRESETS,
    axes=AXES,
    notebook="studies/activation_scaling.ipynb",
    analyse=_analyse,
    answer="activation_verdict.md",
    headline="activation_scaling.png",
    before_held_out=_predict,
)
