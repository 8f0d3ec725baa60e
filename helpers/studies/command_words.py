"""What the command line says of itself: its presets with examples, and what a word was probably meant for."""

from helpers.studies import STUDIES


def description() -> str:
    """The head of `--help`."""
    lines = ["Scaling experiments on small causal language models.", "", *_EXAMPLES]
    for study in STUDIES:
        lines += ["", f"Presets of {study.name} ({study.question}):"]
        lines += [f"- {preset}: {found.description}" for preset, found in study.presets.items()]
    return "\n".join(lines)


_EXAMPLES = (
    "Examples:",
    "- python -m helpers plan --preset demo",
    "- python -m helpers grid --preset demo --workers 2 --storage outputs",
    "- python -m helpers grid --study samples --preset demo --only seed=0",
    "- python -m helpers analyse --storage outputs",
    "",
    "Exit codes: 0 done, 1 failed or not complete, 2 wrong usage.",
)


def hint(arguments: list[str]) -> str:
    """How an axis is chosen, for those who tried an option of its name, such as --ks 1,2."""
    axes = {axis.rpartition(".")[2]: axis for study in STUDIES for axis in study.axes}
    for word in arguments:
        name = word.lstrip("-").partition("=")[0]
        axis = axes.get(name) or axes.get(name.removesuffix("s"))
        if word.startswith("--") and axis:
            return f"values of an axis are chosen by --only {axis}=VALUES, such as --only k=1,4\n"
    return ""
