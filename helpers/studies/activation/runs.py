"""The runs of the activation study as one table, and as the points of a scaling law.

Runs are comparable that differ in size, activation and seed alone: they form a recipe. The losses of one recipe are
measured on the same windows, and runs of equal size and seed share their data order: they are resampled together.
"""

from datetime import datetime

import pandas as pd

from helpers.analysis.conditions import condition_of, without
from helpers.analysis.fits.points import Points
from helpers.analysis.results import Results
from helpers.config import RunConfig, canonical_json
from helpers.models.shapes import SHAPES
from helpers.settings import from_json
from helpers.training.schedule import peak_learning_rate

ARMS = ("gelu", "swiglu")
CONVENTIONS = {
    "non_embedding": "non-embedding parameters",
    "matmul": "matmul parameters, with the head",
    "without_positions": "all but the position embedding",
    "total": "all parameters",
    "exact": "exact FLOPs",
}
"""How N is counted in C = 6 N D, and the FLOPs that are counted without N."""


def run_table(results: Results) -> pd.DataFrame:
    """One row a run: recipe, size, activation, seed, N under each convention, tokens, compute in FLOPs under each
    (`flops_*`), xe in nats per token, and when its training started; sorted by size."""
    rows = [_row(line, results) for line in results.run_lines.values()]
    return pd.DataFrame(rows).sort_values(["recipe", "non_embedding", "activation", "seed"]).reset_index(drop=True)


def main_recipe(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the recipe with most runs."""
    return runs[runs["recipe"] == runs["recipe"].value_counts(sort=True).index[0]].reset_index(drop=True)


def points_of(runs: pd.DataFrame, convention: str = "non_embedding") -> Points:
    """XE against compute, an arm for each activation, GeLU first; matched runs are one cluster."""
    runs = runs.sort_values(["activation", f"flops_{convention}", "seed"])
    return Points.of(
        runs[f"flops_{convention}"].to_numpy(float),
        runs["xe"].to_numpy(float),
        arms=runs["activation"].tolist(),
        clusters=list(zip(runs["size"], runs["seed"], strict=True)),
    )


def _row(line: dict, results: Results) -> dict[str, object]:
    config = from_json(RunConfig, line["config"])
    summary = results.runs.set_index("run_id").loc[line["run_id"]]
    tokens, params = line["tokens_seen"], line["params"]
    counted = {name: params[name] for name in CONVENTIONS if name != "exact"}
    return {
        "run_id": line["run_id"],
        "recipe": canonical_json(without(condition_of(config), "model.size", "model.activation")),
        "size": config.model.size,
        "activation": config.model.activation,
        "seed": config.seed,
        "d_model": SHAPES[config.model.size].d_model,
        "n_layer": SHAPES[config.model.size].n_layer,
        **counted,
        "tokens": tokens,
        "steps": line["steps"],
        "repetition": line["tokens_seen_per_unique_token"],
        "lr": peak_learning_rate(config),
        **{f"flops_{name}": 6 * count * tokens for name, count in counted.items()},
        "flops_exact": line["flops"]["exact"],
        "xe": float(summary["xe"]),
        "started": datetime.fromisoformat(line["provenance"]["started"]),
        "device": line["provenance"]["device"],
    }
