"""Choosing a run with widgets: K, seed and preset, beside the plan of what they mean.

A widget's callback runs only when no cell is queued, so the picker begins with the values of the parameters cell, and
the training cell reads it when that cell runs. Only what ipywidgets 7.7 and 8 both have is used.
"""

from collections.abc import Callable, Iterable

from helpers.config import RunConfig
from helpers.studies import find_study

Resolve = Callable[[str, int, int], RunConfig]
"""The config of (preset, K, seed)."""


class Picker:
    """The run to train: `config` follows the widgets if there are any."""

    def __init__(self, resolve: Resolve, preset: str, k: int, seed: int) -> None:
        self._resolve = resolve
        self._choice = (preset, k, seed)

    @property
    def config(self) -> RunConfig:
        return self._resolve(*self._choice)

    def show(self, study: str, ks: Iterable[int], describe: Callable[[RunConfig], str]) -> None:
        """Display the widgets. `describe` is the text beside them."""
        import ipywidgets
        from IPython.display import display

        presets = find_study(study).PRESETS
        preset, k, seed = self._choice
        widgets = (
            ipywidgets.Dropdown(description="preset", options=list(presets), value=preset),
            ipywidgets.Dropdown(description="K", options=sorted({*ks, k}), value=k),
            ipywidgets.Dropdown(description="seed", options=sorted({0, 1, 2, seed}), value=seed),
        )
        text = ipywidgets.HTML()

        def update(_change: object = None) -> None:
            self._choice = tuple(widget.value for widget in widgets)
            text.value = (
                f"<pre>{_escape(presets[self._choice[0]].description)}\n\n{_escape(_or_error(describe, self))}</pre>"
            )

        for widget in widgets:
            widget.observe(update, names="value")
        update()
        display(ipywidgets.HBox([ipywidgets.VBox(list(widgets)), text]))


def _or_error(describe: Callable[[RunConfig], str], picker: Picker) -> str:
    """The description of the picked run, or why it cannot be: an error in a callback would be lost."""
    try:
        return describe(picker.config)
    except ValueError as error:
        return f"not possible: {error}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
