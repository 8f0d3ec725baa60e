"""The two front ends that a notebook meets: JupyterLab 4, and the classic notebook that is nearest to Colab."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.repository import ROOT

COLAB_PYTHON = ROOT / ".venv-colab/bin/python"


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """How to start one front end and to speak with its page; the scripts are JavaScript expressions."""

    name: str
    python: Path
    command: Sequence[str]
    """Starts the server, after `python -m`."""
    address: str
    """The page of the notebook `{path}`."""
    ready: str
    """Whether the kernel has answered and is idle."""
    cells: str
    """The notebook as it stands now, a list of nbformat cells."""
    run_all: str
    run_cell: str
    """A function of the cell's index."""
    show_cell: str
    """A function of the cell's index; scrolls to it."""
    cell: str
    """CSS selector of a cell by its `{index}`, or by `{nth}`, which counts from 1."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Files for the server's folder of settings, as JSON."""
    own_errors: Sequence[str] = ()
    """Words of console errors that are the front end's own, whatever the notebook."""


LAB = FrontEnd(
    name="lab",
    python=Path(sys.executable),
    command=(
        "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port-retries=0",
        "--IdentityProvider.token=", "--expose-app-in-browser",
    ),
    address="doc/tree/{path}",
    ready="window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
    cells="window.jupyterapp.shell.currentWidget.model.toJSON().cells",
    run_all="() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }",
    run_cell="""index => {
        window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
        window.jupyterapp.commands.execute('notebook:run-cell');
    }""",
    show_cell="index => window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start')",
    cell=".jp-Notebook .jp-Cell[data-windowed-list-index='{index}']",
    settings={
        "jupyter_config_dir/labconfig/page_config.json": {
            "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}  # it asks to fetch news
        }
    },
)  # fmt: skip

CLASSIC = FrontEnd(
    name="classic",
    python=COLAB_PYTHON,
    command=(
        "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port-retries=0",
        "--NotebookApp.token=",
    ),
    address="notebooks/{path}",
    ready="window.Jupyter?.notebook?.kernel?.info_reply?.protocol_version !== undefined",
    cells="window.Jupyter.notebook.toJSON().cells",
    run_all="() => { window.Jupyter.notebook.execute_all_cells() }",
    run_cell="index => { window.Jupyter.notebook.execute_cells([index]) }",
    show_cell="index => { window.Jupyter.notebook.get_cell(index).element[0].scrollIntoView() }",
    cell="#notebook-container > .cell:nth-child({nth})",
    own_errors=("SessionAlreadyStarting",),  # it chooses the kernel while it starts the kernel
)  # fmt: skip

FRONT_ENDS = (LAB, CLASSIC)
