"""How a notebook begins: who reads it, on what it computes, where its results go, and what is there already."""

from helpers.config import RunConfig
from helpers.grid.text import size
from helpers.notebook.setup import on_kaggle, survives
from helpers.runs.status import run_status
from helpers.storage import Storage
from helpers.studies.preset import ComponentsUnknown, Preset
from helpers.studies.run_preset import known_runs


def has_front_end() -> bool:
    """Whether someone can see and use a widget: a front end can be asked for input, and nbclient, which papermill
    executes with, says that it cannot."""
    from IPython import get_ipython

    return getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False)


def start_report(preset: Preset, storage: Storage) -> str:
    """Four lines: the device, the precision and why, where results go and whether they survive, what is done.

    ValueError for a device or precision that there is not.
    """
    results = f"results: {storage.address} ({survives(storage)})"
    return "\n".join([*_device_lines(preset.config), results, _done_line(preset, storage)])


def _device_lines(config: RunConfig) -> list[str]:
    print("loading torch ...", flush=True)  # seconds in which nothing else would show that the cell runs
    import torch  # slow to import, and not needed for anything else here

    from helpers.device import choose_device, choose_precision

    device = choose_device(config.execution)
    precision, reason = choose_precision(config.train, device)
    if device.type == "cpu":
        gpu = "Kaggle: Settings, Accelerator, GPU T4 x2" if on_kaggle() else "Colab: Runtime, Change runtime type, T4"
        words = f"enough for a preset that says so, such as demo; a GPU on {gpu}"
        return [
            f"device: CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}, {words}",
            f"precision: {precision}, "
            + ("as train.precision says" if reason is None else "because a CPU gains nothing from fp16"),
        ]
    card = torch.cuda.get_device_properties(device)
    bf16 = "computes bf16 too" if (card.major, card.minor) >= (8, 0) else "would only emulate bf16"
    return [
        f"device: {card.name}, {size(card.total_memory)}",
        f"precision: {precision}, as train.precision says (compute capability {card.major}.{card.minor} {bf16})",
    ]


def _done_line(preset: Preset, storage: Storage) -> str:
    try:
        runs = known_runs(preset, storage)
    except ComponentsUnknown:
        return "done: told once the token cache is there, which names the runs"
    found = [run_status(config, storage).status for config in runs]
    others = [f"{found.count(status)} {status}" for status in ("running", "failed") if status in found]
    return ", ".join([f"done: {found.count('done')} of the {len(found)} runs of this preset", *others])
