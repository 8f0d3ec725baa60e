"""Numbers of an analysis as JSON: every digit, and null for what is no finite number."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd


def json_text(value: Any) -> str:
    """`value` as an indented file; numpy's scalars are Python's."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON types; moments in ISO 8601."""
    return json.loads(table.to_json(orient="records", date_format="iso", double_precision=15))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
