"""Choosing a run with widgets, beside the plan of what it would cost.

A widget's callback runs only when no cell is queued, so the picker begins with the values of the parameters cell, and
the training cell reads it when that cell runs. Only what ipywidgets 7.7 and 8 both have is used.
"""

import functools
import html
import traceback
import typing
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from helpers.config import GptSize, PythiaSize, RunConfig
from helpers.grid.plan import Measure, plan_grid
from helpers.notebook.errors import is_foreseen, three_lines
from helpers.notebook.panel import train_under
from helpers.settings import replace_field
from helpers.storage import Storage
from helpers.studies import find_preset, find_study, known_components
from helpers.studies.run_preset import measured_speed

if TYPE_CHECKING:
    import ipywidgets

PRESETS_OWN = ""
"""A source or size that is left to the preset."""
_PRE = "white-space:pre-wrap;line-height:1.35"  # ipywidgets 7 sets the lines of HTML as far apart as its buttons
_SIZES = {"pythia": typing.get_args(PythiaSize), "gpt": typing.get_args(GptSize)}


class Picker:
    """The run to train: `config` follows the widgets, if there are any.

    `values` are the notebook's parameters that are a field of the config each, as its study's PARAMETERS name them.
    """

    def __init__(
        self, study: str, storage: Storage, preset: str,
        source: str = "", tokenizer: str = "", overrides: Iterable[str] = (), **values: Any,
    ) -> None:  # fmt: skip
        self._presets, parameters = find_study(study).PRESETS, find_study(study).PARAMETERS
        if values.keys() != parameters.keys():
            raise ValueError(f"{', '.join(values)} do not pick a run of {study}; give {', '.join(parameters)}")
        self._find = functools.partial(find_preset, study, tokenizer=tokenizer, overrides=list(overrides))
        self._storage = storage
        self._fields = {"SIZE": "model.size"} | parameters  # a study that varies the size names it itself
        self._picked = {"PRESET": preset} | values | {"SOURCE": source}
        self._picked.setdefault("SIZE", PRESETS_OWN)
        self._speeds: dict[tuple[Any, ...], float] = {}

    @property
    def config(self) -> RunConfig:
        """The run that is picked. ValueError if there can be none such."""
        config = self._find(name=self._picked["PRESET"], source=self._picked["SOURCE"]).config
        for name, field in self._fields.items():
            if self._picked[name] != PRESETS_OWN:
                config = replace_field(config, field, self._picked[name])
        return config

    def plan(self, measure: Measure | None = None) -> str:
        """What the picked run is and would cost, in lines. Nothing is downloaded."""
        run = plan_grid([self.config], self._storage, measure=measure).runs[0]
        fetch = "\n\nIts papers are not in the storage yet: they are fetched before it is trained."
        return f"{run}{fetch if run.components is None else ''}"

    def show(self) -> None:
        """Display the widgets, the plan beside them, and a button that trains what is picked."""
        import ipywidgets
        from IPython.display import display

        widgets = {name: self._dropdown(name) for name in self._picked}
        plan = ipywidgets.HTML(layout=ipywidgets.Layout(margin="0 0 0 24px")).add_class("picker-plan")
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
        display(ipywidgets.VBox([ipywidgets.HBox([left, plan]), panel]))
        self._explain(plan)

    def _dropdown(self, name: str) -> "ipywidgets.Dropdown":
        import ipywidgets

        words = {"K": "K", "SIZE": "model size"}.get(name, name.lower())
        options = [("the preset's" if value == PRESETS_OWN else str(value), value) for value in self._options(name)]
        dropdown = ipywidgets.Dropdown(description=words, options=options, value=self._picked[name])
        return dropdown.add_class(f"picker-{name.lower()}")

    def _options(self, name: str) -> list[Any]:
        """What the study's presets have, and what is picked already."""
        picked = self._picked[name]
        if name == "PRESET":
            return list(self._presets)
        if name == "SOURCE":
            known = [preset.config.data.source for preset in self._presets.values()]
            return list(dict.fromkeys([PRESETS_OWN, picked, *known]))
        if picked == PRESETS_OWN:
            return [PRESETS_OWN, *_SIZES[self.config.model.family]]
        runs = [run for preset in self._presets.values() for run in preset.runs(known_components(preset.config.data))]
        values = dict.fromkeys([*(_value(run, self._fields[name]) for run in runs), picked])
        return sorted(values) if isinstance(picked, int) else list(values)

    def _explain(self, plan: "ipywidgets.HTML") -> None:
        """The plan, at once where the speed of such a model is known; a measurement of seconds is announced."""
        head = self._presets[self._picked["PRESET"]].description

        def say(text: str) -> None:
            plan.value = f"<i>{html.escape(head)}</i><pre style='{_PRE}'>{html.escape(text)}</pre>"

        try:
            say(self.plan(self._speed(lambda: say(f"{self.plan()}\n\nmeasuring how fast this device trains it ..."))))
        except Exception as error:  # an error in a callback would be lost
            say(f"not possible: {error}")

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


def _value(config: RunConfig, field: str) -> Any:
    return functools.reduce(getattr, field.split("."), config)
