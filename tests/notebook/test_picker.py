"""The picker, driven through its widgets as a browser would, without one."""

import re

import ipywidgets
import pytest

from helpers.config import to_json
from helpers.data.fetch_arxiv import ensure_cache
from helpers.notebook import picker as picker_module
from helpers.notebook.picker import Picker
from helpers.runs.config_file import config_path
from helpers.seals import publish_sealed
from helpers.studies import find_preset
from helpers.training.train_single_k import TrainingFailed

SPEED = 1000.0


class Shown:
    """What a picker displayed, by the classes of its widgets."""

    def __init__(self, root: ipywidgets.Widget) -> None:
        self._root = root

    def __getitem__(self, name: str) -> ipywidgets.Widget:
        (found,) = [
            widget for widget in self._all(self._root) if f"picker-{name}" in getattr(widget, "_dom_classes", ())
        ]
        return found

    @property
    def plan(self) -> str:
        return self["plan"].value

    def _all(self, widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
        return [widget, *(inner for child in getattr(widget, "children", ()) for inner in self._all(child))]


@pytest.fixture(autouse=True)
def measured(monkeypatch) -> list[str]:
    """The sizes whose speed was measured, in place of seconds of training."""
    sizes = []

    def measure(config, vocab_size):
        sizes.append(config.model.size)
        return SPEED

    monkeypatch.setattr(picker_module, "measured_speed", measure)
    return sizes


@pytest.fixture
def show(monkeypatch):
    def show(picker: Picker) -> Shown:
        shown = []
        monkeypatch.setattr("helpers.notebook.picker.show_widget", lambda widget, otherwise: shown.append(widget))
        picker.show()
        return Shown(shown[0])

    return show


@pytest.fixture
def cached(storage):
    """A storage with the papers of the smallest preset."""
    ensure_cache(find_preset("ergodic", "smoke").config.data, storage, report=lambda text: None)
    return storage


def test_without_widgets_the_parameters_decide(storage):
    picker = Picker("ergodic", storage, "smoke", overrides=["train.steps=50"], K=4, SEED=7)
    assert picker.config == find_preset("ergodic", "smoke", overrides=["train.steps=50"]).at(k=4, seed=7)
    assert "steps         50" in picker.plan().splitlines()


def test_another_study_has_its_own_parameters(storage):
    config = Picker("activation", storage, "smoke", SIZE="gpt-30k", ACTIVATION="swiglu", SEED=1).config
    assert (config.model.size, config.model.activation, config.seed) == ("gpt-30k", "swiglu", 1)
    with pytest.raises(ValueError, match="K, SEED do not pick a run of activation; give SIZE, ACTIVATION, SEED"):
        Picker("activation", storage, "smoke", K=1, SEED=0)


def test_a_planned_run_is_picked_by_its_name(storage):
    config = find_preset("ergodic", "smoke", overrides=["train.steps=50"]).at(k=2, seed=9)
    with pytest.raises(ValueError, match="is not planned in"):
        Picker("ergodic", storage, "demo", run=config.run_id, K=1, SEED=0)
    publish_sealed(config_path(storage, config.run_id), {"config": to_json(config)})
    assert Picker("ergodic", storage, "demo", run=config.run_id, K=1, SEED=0).config == config


def test_an_override_of_what_a_parameter_chooses_is_refused(storage):
    with pytest.raises(ValueError, match="OVERRIDES sets k, which the parameter K chooses here"):
        Picker("ergodic", storage, "smoke", overrides=["k=8"], K=4, SEED=0)


def test_the_widgets_begin_with_the_parameters_and_decide_from_then_on(storage, show):
    picker = Picker("ergodic", storage, "smoke", K=3, SEED=7)
    shown = show(picker)
    assert [shown[name].value for name in ("preset", "k", "seed", "source", "size")] == ["smoke", 3, 7, "", ""]
    shown["k"].value = 2
    shown["preset"].value = "demo"
    assert picker.config == find_preset("ergodic", "demo").at(k=2, seed=7)
    shown["size"].value = "31m"
    shown["source"].value = "arxiv"
    config = picker.config
    assert (config.model.size, config.data.source, config.k) == ("31m", "arxiv", 2)


def test_only_widgets_that_ipywidgets_7_has_too(storage, show):
    shown = show(Picker("ergodic", storage, "smoke", K=1, SEED=0))
    both = (ipywidgets.Dropdown, ipywidgets.HTML, ipywidgets.Button, ipywidgets.Box)
    assert all(isinstance(widget, both) for widget in shown._all(shown._root))


def test_a_settings_size_is_offered_where_the_study_varies_it(storage, show):
    shown = show(Picker("activation", storage, "smoke", SIZE="gpt-10k", ACTIVATION="gelu", SEED=0))
    values = [value for _, value in shown["size"].options]
    assert values[:4] == ["gpt-10k", "gpt-30k", "gpt-100k", "gpt-300k"] and "" not in values
    assert [value for _, value in shown["activation"].options] == ["gelu", "swiglu"]


def test_the_plan_follows_with_components_tokens_repetition_time_and_status(cached, show):
    shown = show(Picker("ergodic", cached, "smoke", K=1, SEED=0))
    assert "seconds on a CPU" in shown.plan  # the preset's own words
    shown["k"].value = 4
    lines = shown.plan.splitlines()
    # 200 steps x 16 windows x 100 tokens; 4 components x 20 papers x 400 tokens.
    for line in ("tokens        320 k", "unique        32.0 k", "repetition    10.0x", "steps         200",
                 "time          5 min 20 s", "status        missing"):  # fmt: skip
        assert line in lines
    (components,) = [line for line in lines if line.startswith("components")]
    assert len(components.split()) == 1 + 4


def test_the_plan_tells_a_run_that_was_begun(cached, show):
    config = find_preset("ergodic", "smoke").at(k=2, seed=0)
    cached.checkpoint(config.run_id, 50).mkdir(parents=True)
    shown = show(Picker("ergodic", cached, "smoke", K=1, SEED=0))
    shown["k"].value = 2
    assert "status        begun step 50" in shown.plan
    assert "time          4 min 0 s" in shown.plan  # of the 150 steps that are left


def test_a_shape_of_model_is_measured_once_and_that_is_said_before(cached, show, measured, monkeypatch):
    picker = Picker("ergodic", cached, "smoke", K=1, SEED=0)
    shown = show(picker)
    for k in (2, 4, 8):
        shown["k"].value = k
    assert measured == ["tiny"]
    said = []
    shown["plan"].observe(lambda change: said.append(change["new"]), names="value")
    shown["size"].value = "14m"
    assert measured == ["tiny", "14m"]
    assert "measuring" in said[0] and "unknown" in said[0]
    assert "measuring" not in said[-1] and "time          5 min 20 s" in said[-1]


def test_a_source_is_not_fetched_by_picking_it(storage, show, measured):
    shown = show(Picker("ergodic", storage, "smoke", K=2, SEED=0))
    shown["source"].value = "arxiv"
    assert "unique        after fetch" in shown.plan and "fetched before it is trained" in shown.plan
    assert measured == ["tiny", "tiny"]  # of two vocabularies, that of the tokenizer known by its name
    assert not (storage.root / "cache").exists()


def test_what_is_not_possible_is_said_in_place_of_the_plan(cached, show):
    shown = show(Picker("ergodic", cached, "smoke", K=12, SEED=0))
    assert "not possible: " in shown.plan and "12" in shown.plan
    shown["k"].value = 11
    assert "not possible" not in shown.plan


def test_a_fault_in_a_measurement_is_shown_and_not_lost(cached, show, monkeypatch):
    def fail(config, vocab_size):
        raise RuntimeError("CUDA out of <memory>")

    monkeypatch.setattr(picker_module, "measured_speed", fail)
    assert "CUDA out of &lt;memory&gt;" in show(Picker("ergodic", cached, "smoke", K=2, SEED=0)).plan


def test_the_button_trains_what_is_picked(cached, show, monkeypatch):
    trained = []

    def train_under(config, storage, show_panel):
        trained.append((config.k, shown["train"].disabled))
        show_panel("<div class='live-panel'></div>", "text")
        return storage.result(config.run_id)

    monkeypatch.setattr(picker_module, "train_under", train_under)
    shown = show(Picker("ergodic", cached, "smoke", K=1, SEED=0))
    shown["k"].value = 4
    shown["train"].click()
    assert trained == [(4, True)]
    assert not shown["train"].disabled


def test_an_error_of_the_button_is_three_lines(cached, show, monkeypatch):
    def train_under(config, storage, show_panel):
        raise TrainingFailed("it diverged")

    monkeypatch.setattr(picker_module, "train_under", train_under)
    monkeypatch.setattr(picker_module, "is_foreseen", lambda error: isinstance(error, TrainingFailed))
    shown = show(Picker("ergodic", cached, "smoke", K=1, SEED=0))
    shown["train"].click()
    lines = re.sub("<[^>]+>", "", shown["panel"].value).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["it", "Kept:", "Next:"]
    assert not shown["train"].disabled


def test_the_button_trains_a_real_run_to_its_end(cached, show):
    overrides = ["train.steps=5", "train.warmup_steps=1", "eval.windows_per_component=4", "execution.trackers="]
    picker = Picker("ergodic", cached, "smoke", overrides=overrides, K=2, SEED=0)
    shown = show(picker)
    shown["train"].click()
    assert cached.result(picker.config.run_id).exists()
    assert "status        done" in shown.plan
