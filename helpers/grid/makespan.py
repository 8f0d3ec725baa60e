"""How long runs take on several workers, each of which takes the next run when it is free."""

import heapq
from collections.abc import Iterable


def makespan_s(durations_s: Iterable[float], workers: int) -> float:
    """Seconds until the last of the runs ends, begun in this order. At most 2 - 1/workers times the best possible
    (Graham, Bounds on multiprocessing timing anomalies, 1969)."""
    free_at = [0.0] * workers
    for duration in durations_s:
        heapq.heappush(free_at, heapq.heappop(free_at) + duration)
    return max(free_at)
