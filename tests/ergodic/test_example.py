"""The example of an idea of one's own, as the study's page prints it."""

import ast

from helpers.grid.plan import plan_grid
from helpers.repository import ROOT
from helpers.studies import known_components
from helpers.studies.ergodic import presets
from helpers.studies.ergodic.roles import role_of


def test_the_preset_on_the_page_can_be_planned(storage):
    page = (ROOT / "studies/ergodic.md").read_text(encoding="utf-8")
    block = page.split("```python\n")[1].split("```")[0]
    assert len(block.splitlines()) <= 10
    ast.parse(f"{{{block}}}")
    (preset,) = eval(f"{{{block}}}", vars(presets)).values()
    runs = preset.runs(known_components(preset.config.data))
    plan = plan_grid(runs, storage, axes=tuple(preset.axes), role_of=role_of)
    # Three windows and seeds, each with K = 4 and every coin alone.
    assert len(plan.runs) == 3 * 3 * (1 + 11)
    assert {run.config.data.window_tokens for run in plan.runs} == {25, 50, 100}
    assert "window_tokens" in str(plan).splitlines()[0]
