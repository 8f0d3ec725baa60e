"""A finished run at a glance: XE of each component beside the Bayes value, and over the position in the window."""

import io
from typing import TYPE_CHECKING

from helpers.evaluation.result_file import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def component_table(result: Result) -> "pd.DataFrame":
    """A row for each component at the run's end and their mean last; nats per token."""
    import pandas as pd

    summary = result.summaries[-1]
    rows = [row for row in result.xe if row["step"] == summary["step"]]
    columns = ("component", "xe", "se", "ppl", "bayes_xe")
    frame = pd.DataFrame([*rows, {"component": "mean", **summary}]).reindex(columns=list(columns))
    frame["gap"] = frame["xe"] - frame["bayes_xe"].astype(float)
    frame = frame.dropna(axis="columns", how="all").set_index("component").round(4).astype(object)
    return frame.where(frame.notna(), "")


def position_figure(result: Result) -> "Figure":
    """XE over the position in the window, mean of the components; dashed: the Bayes value where it is known."""
    import numpy as np
    from matplotlib.figure import Figure

    step = result.summaries[-1]["step"]
    rows = [row for row in result.xe if row["step"] == step]
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    xe_T = np.mean([row["xe_by_position"] for row in rows], axis=0)
    axes.plot(xe_T, label="model")
    if all(row["bayes_xe_by_position"] is not None for row in rows):
        axes.plot(np.mean([row["bayes_xe_by_position"] for row in rows], axis=0), "k--", lw=1, label="Bayes")
    axes.set(xlabel="token of the window", ylabel="XE (nats per token)", title=result.run["run_id"])
    axes.legend(frameon=False)
    return figure


def png(figure: "Figure") -> bytes:
    """A figure as an image: a notebook shows no figure that pyplot did not make."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
