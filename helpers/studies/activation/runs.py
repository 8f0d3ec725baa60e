"""The runs of the activation study as one table, and as the points of a scaling law.

Runs are comparable that differ in size, activation and seed alone: they share a condition. The losses of one condition
are measured on the same windows, and runs of equal size and seed share their data order: they are resampled together.
"""

from datetime import datetime

import pandas as pd

from helpers.analysis.conditions import condition_names, shared_settings, without
from helpers.analysis.fits.points import Points
from helpers.analysis.results import Found, ResultFiles, number, read_results
from helpers.config import RunConfig
from helpers.runs.result_file import Result
from helpers.runs.sessions import changes, sessions
from helpers.storage import Storage
from helpers.studies.activation.presets import AXES, NAME
from helpers.training.schedule import peak_learning_rate

CONVENTIONS = {
    "non_embedding": "non-embedding parameters",
    "matmul": "matmul parameters, with the head",
    "without_positions": "all but the position embedding",
    "total": "all parameters",
    "exact": "exact FLOPs",
}
"""How N is counted in C = 6 N D, and the FLOPs that are counted without N."""
_LEARNING_RATE = "train.peak_lr"


def load_files(storage: Storage) -> ResultFiles:
    """The result files of the study."""
    return read_results(storage, NAME, _check)


def run_table(files: ResultFiles) -> pd.DataFrame:
    """One row a run: condition, size, activation, seed, N under each convention, tokens, compute in FLOPs under each
    (`flops_*`), xe in nats per token, and when its training started; sorted by size.

    `but_for_lr` names what runs share that may also differ in their learning rate.
    """
    settings = [shared_settings(found.config, ("study", *AXES)) for found in files.found.values()]
    names = condition_names(settings)
    but_for_lr = condition_names([without(own, _LEARNING_RATE) for own in settings])
    rows = [
        {"condition": name, "but_for_lr": shared, **_row(found)}
        for name, shared, found in zip(names, but_for_lr, files.found.values(), strict=True)
    ]
    return pd.DataFrame(rows).sort_values(["condition", "non_embedding", "activation", "seed"]).reset_index(drop=True)


def conditions_of(runs: pd.DataFrame) -> list[str]:
    """The conditions, that with most runs first."""
    counts = runs["condition"].value_counts()
    return sorted(counts.index, key=lambda name: (-counts[name], name))


def points_of(runs: pd.DataFrame, convention: str = "non_embedding") -> Points:
    """XE against compute, an arm for each activation, GeLU first; matched runs are one cluster."""
    runs = runs.sort_values(["activation", f"flops_{convention}", "seed"])
    return Points.of(
        runs[f"flops_{convention}"].to_numpy(float),
        runs["xe"].to_numpy(float),
        arms=runs["activation"].tolist(),
        clusters=list(zip(runs["size"], runs["seed"], strict=True)),
    )


def _check(result: Result, config: RunConfig) -> None:
    """ValueError, LookupError or TypeError for a result whose numbers cannot be counted."""
    row = _row(Found(result, config))
    for name, value in row.items():
        if name.startswith("flops_") or name in ("xe", "tokens", "repetition"):
            number(value)


def _row(found: Found) -> dict[str, object]:
    line, config = found.result.run, found.config
    tokens, params = line["tokens_seen"], line["params"]
    counted = {name: params[name] for name in CONVENTIONS if name != "exact"}
    return {
        "run_id": line["run_id"],
        "size": config.model.size,
        "activation": config.model.activation,
        "seed": config.seed,
        "d_model": config.model.shape.d_model,
        "n_layer": config.model.shape.n_layer,
        **counted,
        "tokens": tokens,
        "steps": line["steps"],
        "repetition": line["tokens_seen_per_unique_token"],
        "lr": peak_learning_rate(config),
        **{f"flops_{name}": 6 * count * tokens for name, count in counted.items()},
        "flops_exact": line["flops"]["exact"],
        "xe": found.result.summaries[-1]["xe"],
        "started": datetime.fromisoformat(line["provenance"]["started"]),
        "device": sessions(line["provenance"])[-1]["device"],
        "num_sessions": len(sessions(line["provenance"])),
        "changes": "; ".join(changes(line["provenance"])),
    }
