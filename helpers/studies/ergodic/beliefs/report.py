"""What the models know of the component, in words and a table."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis.report_blocks import Block, Heading, Picture, Points, Table, Text
from helpers.studies.ergodic.beliefs.table import last_layers

HEADINGS = {
    "k": "K", "layer": "layer", "num_runs": "runs", "r2": "trained R²", "r2_low": "95 % from", "r2_high": "to",
    "r2_untrained": "untrained R²", "r2_untrained_low": "95 % from", "r2_untrained_high": "to",
    "r2_shuffled": "shuffled R²", "r2_shuffled_low": "95 % from", "r2_shuffled_high": "to",
    "gain": "trained - untrained", "gain_low": "95 % from", "gain_high": "to", "verdict": "trained above untrained",
}  # fmt: skip


def beliefs_blocks(table: pd.DataFrame, figure: Path) -> list[Block]:
    """The section of one condition. `figure` is drawn where there is a row."""
    heading = Heading("What the models know of the component")
    if table.empty:
        text = (
            "Not measured: it needs a source whose exact posterior is known, K above 1, and runs that were evaluated "
            "by this version (`python -m helpers eval --run RUN` measures one again)."
        )
        return [heading, Text(text)]
    text = (
        "The exact probability of each component, given the tokens so far, is read by ridge regression from the "
        "residual stream after each layer: fitted on windows of validation papers, scored on windows of test papers, "
        "all positions but the first together. A network at its initialisation holds part of it already, so what "
        "training adds is the difference."
    )
    picture = Picture(figure.read_bytes(), figure.name, "Held-out R² of the exact posterior.")
    caption = "Held-out R² of the exact posterior, by K and layer; means over runs with t intervals"
    return [heading, Text(text), Points(sentences(table)), picture, Table(table, caption, HEADINGS)]


def sentences(table: pd.DataFrame) -> list[str]:
    """One for each K, of the last layer."""
    return [_sentence(row) for row in last_layers(table).to_dict("records")]


def _sentence(row: dict[str, float]) -> str:
    start = (
        f"K = {row['k']}: after the last layer R² is {row['r2']:.3f} trained, {row['r2_untrained']:.3f} untrained, "
        f"{row['r2_shuffled']:.3f} shuffled"
    )
    if not np.isfinite(row["gain_low"]):
        return f"{start} (1 run, so there is no interval)."
    gain = (
        f"{row['gain']:+.3f} (95 % interval {row['gain_low']:+.3f} to {row['gain_high']:+.3f}, {row['num_runs']} runs)"
    )
    return f"{start}; training adds {gain}: {row['verdict']}."
