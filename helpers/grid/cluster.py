"""What a plan takes on machines that are not at hand: `plan --cluster 8xA100`. One run a GPU."""

import re

from helpers.grid import costs
from helpers.grid.makespan import makespan_s
from helpers.grid.plan import Plan, PlannedRun
from helpers.grid.text import duration, size
from helpers.peak import CARDS, peak_flops

PEAK_FLOPS = {name: peak_flops(device, "bf16") for name, device in CARDS.items()} | {
    "A10": 125e12, "L40S": 362e12, "B200": 2250e12,
}  # fmt: skip
"""Dense multiply-adds in 16 bits on tensor cores, FLOP/s, from NVIDIA's data sheets."""
UTILISATION = (costs.UTILISATION, 0.6)
"""Of that peak, what well-kept training code reaches from some 50M parameters on; smaller models reach less."""
HERE = "this"


def on_cluster(plan: Plan, cluster: str) -> str:
    """Makespan, GPU-hours and storage of the runs of a plan that are still to do, on `cluster`: NxCARD, or Nxthis for N
    of the device at hand, as measured. ValueError for another form or card."""
    number, card = parse_cluster(cluster)
    if card == HERE:
        durations, basis = [[run.seconds for run in plan.pending]], "as measured on this device"
    else:
        work = [run.flops and run.flops * _share_left(run) for run in plan.pending]
        durations = [
            [flops and flops / (share * PEAK_FLOPS[card]) for flops in work] for share in reversed(UTILISATION)
        ]
        low, high = (f"{100 * share:.0f}" for share in UTILISATION)
        basis = f"by arithmetic at {low} to {high} % of its peak, which models below 50M parameters do not reach"
    kept = "after fetch" if plan.storage_bytes is None else size(plan.storage_bytes)
    if any(None in seconds for seconds in durations):
        why = "run plan without --no-measure" if card == HERE and plan.cache_bytes is not None else "after fetch"
        return f"on {cluster}: time {why}, storage {kept}"
    times = " to ".join(dict.fromkeys(duration(makespan_s(seconds, number)) for seconds in durations))
    hours = " to ".join(dict.fromkeys(f"{sum(seconds) / 3600:,.1f}" for seconds in durations))
    return f"on {cluster}, a run each: {times}, {hours} GPU-hours, storage {kept} ({basis})"


def parse_cluster(text: str) -> tuple[int, str]:
    """How many of which card. ValueError if `text` does not say that."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x(\w+)", text.strip())
    cards = {name.lower(): name for name in (*PEAK_FLOPS, HERE)}
    if not match or match[2].lower() not in cards:
        names = ", ".join(cards.values())
        raise ValueError(f"cluster = {text!r} is not possible; use NxCARD, such as 8xA100, with {names}")
    return int(match[1]), cards[match[2].lower()]


def _share_left(run: PlannedRun) -> float:
    return 1 - (run.status.step or 0) / run.steps
