"""Widgets on the screen of any front end: with words where it cannot show them or a picture, and with its keys left to
them."""

import base64
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ipywidgets

WITHOUT = "This page cannot show widgets. Install them where Jupyter runs, and load the page again:"
INSTALL = "python -m pip install ipywidgets"


def show_widget(widget: "ipywidgets.Widget", otherwise: str) -> None:
    """Display a widget; a page without ipywidgets' extension shows `otherwise`, and how to install it.

    JupyterLab takes the arrow keys for itself wherever the focus is in no text, so that they left a list as it was and
    moved the active cell: lists are told to keep theirs.
    """
    from IPython.display import Javascript, display

    if not hasattr(widget, "_repr_mimebundle_"):  # ipywidgets 7: Colab and the classic notebook, which bring their own
        display(widget)
        return
    words = f"<p>{WITHOUT} <code>{INSTALL}</code></p><pre>{html.escape(otherwise)}</pre>"
    bundle, metadata = widget._repr_mimebundle_(include=None, exclude=None), {}
    if isinstance(bundle, tuple):
        bundle, metadata = bundle
    display({**(bundle or {}), "text/html": words}, metadata=metadata, raw=True)
    display(Javascript(_KEEP_KEYS))


def picture_widget(png: bytes, alt: str) -> "ipywidgets.HTML":
    """A picture as a widget that has words in its place, which ipywidgets' own Image has not."""
    import ipywidgets

    return ipywidgets.HTML(picture_html(png, alt))


def picture_html(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(alt)}" style="max-width:100%" src="data:image/png;base64,{data}"/>'


_KEEP_KEYS = """
setTimeout(() => document.querySelectorAll(".jupyter-widgets select").forEach(
    list => list.setAttribute("data-lm-suppress-shortcuts", "true")), 1000);
"""
