"""Choosing a run with widgets, beside the plan of what it would cost.

A widget's callback runs only when no cell is queued, so the picker begins with the values of the parameters cell, and
the training cell reads it when that cell runs. Only what ipywidgets 7.7 and 8 both have is used.
"""

import functools
import html
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from helpers.config import RunConfig
from helpers.errors import is_foreseen, three_lines
from helpers.grid.plan import Measure, plan_grid
from helpers.notebook.panel import train_under
from helpers.notebook.widgets import show_widget
from helpers.runs.config_file import read_config
from helpers.settings import MODEL_SIZE, replace_fields, split_override
from helpers.storage import Storage
from helpers.studies import find_preset, find_study
from helpers.studies.run_preset import measured_speed

if TYPE_CHECKING:
    import ipywidgets

PRESETS_OWN = ""
"""A source or size that is left to the preset."""
_SIZE = "SIZE"
_PRE = "white-space:pre-wrap;line-height:1.35"  # ipywidgets 7 sets the lines of HTML as far apart as its buttons


class Picker:
    """The run to train: `config` follows the widgets, if there are any.

    `values` are the notebook's parameters that choose one value of an axis of the study each. `run`: a planned run by
    its name, instead of all that.
    """

    def __init__(
        self, study: str, storage: Storage, preset: str,
        source: str = "", tokenizer: str = "", overrides: Iterable[str] = (), run: str = "", **values: Any,
    ) -> None:  # fmt: skip
        self._study = find_study(study)
        if values.keys() != self._study.parameters.keys():
            legal = ", ".join(self._study.parameters)
            raise ValueError(f"{', '.join(values)} do not pick a run of {study}; give {legal}")
        overrides = list(overrides)
        for name, axis in self._study.parameters.items():
            if any(split_override(override)[0] == axis for override in overrides):
                raise ValueError(f"OVERRIDES sets {axis}, which the parameter {name} chooses here; set that one")
        self._planned = read_config(storage, run) if run else None
        self._find = functools.partial(find_preset, study, tokenizer=tokenizer, overrides=overrides)
        self._storage = storage
        self._fields = {_SIZE: MODEL_SIZE} | self._study.parameters  # a study that varies the size names it itself
        self._picked = {"PRESET": preset} | values | {"SOURCE": source}
        self._picked.setdefault(_SIZE, PRESETS_OWN)
        self._speeds: dict[tuple[Any, ...], float] = {}
        self._plan: ipywidgets.HTML | None = None
        self._followers: list[Callable[[], None]] = []

    @property
    def config(self) -> RunConfig:
        """The run that is picked, or the planned one that was named. ValueError if there can be none such."""
        if self._planned:
            return self._planned
        config = self._find(name=self._picked["PRESET"], source=self._picked["SOURCE"]).config
        values = {field: self._picked[name] for name, field in self._fields.items()}
        return replace_fields(config, {field: value for field, value in values.items() if value != PRESETS_OWN})

    def plan(self, measure: Measure | None = None) -> str:
        """What the picked run is and would cost, in lines. Nothing is downloaded."""
        axes, role_of = tuple(self._study.axes), self._study.role_of
        run = plan_grid([self.config], self._storage, axes=axes, role_of=role_of, measure=measure).runs[0]
        fetch = "\n\nIts papers are not in the storage yet: they are fetched before it is trained."
        return f"{run}{fetch if run.components is None else ''}"

    def follow(self, show: Callable[[], None]) -> None:
        """Call `show` now, whenever another run is picked, and when a run has been trained."""
        self._followers.append(show)
        show()

    def refresh(self) -> None:
        """Read again how far the picked run is; without widgets on the screen it does nothing."""
        if self._plan is not None:
            self._explain(self._plan)

    def show(self) -> None:
        """Display the widgets, the plan beside them, and a button that trains what is picked."""
        import ipywidgets

        widgets = {name: self._dropdown(name) for name in self._picked}
        self._plan = plan = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 0 0 24px")).add_class("picker-plan")
        button = ipywidgets.Button(description="Train", button_style="primary").add_class("picker-train")
        panel = ipywidgets.HTML().add_class("picker-panel")

        def update(_change: object = None) -> None:
            self._picked = {name: widget.value for name, widget in widgets.items()}
            self._explain(plan)

        def train(_button: object) -> None:
            button.disabled = True
            try:
                self._train(panel)
            finally:
                button.disabled = False
                self._explain(plan)

        for widget in widgets.values():
            widget.observe(update, names="value")
        button.on_click(train)
        left = ipywidgets.VBox([*widgets.values(), button])
        show_widget(ipywidgets.VBox([ipywidgets.HBox([left, plan]), panel]), self._words())
        self._explain(plan)

    def _dropdown(self, name: str) -> "ipywidgets.Dropdown":
        import ipywidgets

        words = {"K": "K", _SIZE: "model size"}.get(name, name.lower())
        options = [("the preset's" if value == PRESETS_OWN else str(value), value) for value in self._options(name)]
        dropdown = ipywidgets.Dropdown(description=words, options=options, value=self._picked[name])
        return dropdown.add_class(f"picker-{name.lower()}")

    def _options(self, name: str) -> list[Any]:
        """What the study's presets have, and what is picked already."""
        picked = self._picked[name]
        if name == "PRESET":
            return list(self._study.presets)
        if name == "SOURCE":
            known = [preset.config.data.source for preset in self._study.presets.values()]
            return list(dict.fromkeys([PRESETS_OWN, picked, *known]))
        if picked == PRESETS_OWN:
            return [PRESETS_OWN, *self.config.model.SIZES]
        axis = self._fields[name]
        presets = self._study.presets.values()
        values = dict.fromkeys([*(value for preset in presets for value in preset.axes[axis]), picked])
        return sorted(values) if isinstance(picked, int) else list(values)

    def _words(self, measure: Measure | None = None) -> str:
        """The plan, or why there is none."""
        try:
            return self.plan(measure)
        except Exception as error:  # an error in a callback would be lost
            return f"not possible: {error}"

    def _explain(self, plan: "ipywidgets.HTML") -> None:
        """The plan, at once where the speed of such a model is known; a measurement of seconds is announced."""
        head = self._study.presets[self._picked["PRESET"]].description

        def say(text: str) -> None:
            plan.value = f"<i>{html.escape(head)}</i><pre style='{_PRE}'>{html.escape(text)}</pre>"

        say(self._words(self._speed(lambda: say(f"{self.plan()}\n\nmeasuring how fast this device trains it ..."))))
        for show in self._followers:
            show()

    def _speed(self, announce: Callable[[], None]) -> Measure:
        """A measure that remembers every shape of model that it has timed."""

        def measure(config: RunConfig, vocab_size: int) -> float:
            train, execution = config.train, config.execution
            shape = (config.model, vocab_size, config.data.window_tokens, train.batch_size, train.precision, execution)
            if shape not in self._speeds:
                announce()
                self._speeds[shape] = measured_speed(config, vocab_size)
            return self._speeds[shape]

        return measure

    def _train(self, panel: "ipywidgets.HTML") -> None:
        """Train the picked run under `panel`, a widget: in an Output neither a display nor a widget can be trusted."""
        try:
            train_under(self.config, self._storage, lambda shown, text: setattr(panel, "value", shown))
        except (Exception, KeyboardInterrupt) as error:  # an error in a callback would be lost
            words = three_lines(error) if is_foreseen(error) else "".join(traceback.format_exception(error))
            panel.value += f"<pre style='{_PRE}'>{html.escape(words)}</pre>"
