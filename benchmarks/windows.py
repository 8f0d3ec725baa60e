"""Windows of a batch beside a DataLoader over a table, and beside an earlier build, side by side on one core.

    python -m benchmarks.windows --paper-tokens 1000
    python -m benchmarks.windows --paper-tokens 120

The table is what the papers would be in a `datasets` set: a row a paper, a list of tokens each; the DataLoader fetches
rows one by one, cuts a window from each and stacks them. Times are CPU microseconds a window, at 256 windows a batch.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np

try:
    from benchmarks.turns import BASE, ROOT, answer, checkout, median, ratio, take_turns
except ImportError:  # as a side, which sees the `benchmarks` folder of neither build
    from turns import BASE, ROOT, answer, checkout, median, ratio, take_turns

BATCH, T, PAPERS, BATCHES = 256, 100, 2_000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper-tokens", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--base", default=BASE, help="a revision of this repository")
    parser.add_argument("--side", choices=("windows", "loader"), help="be one side; see benchmarks.turns")
    options = parser.parse_args()
    if options.side:
        {"windows": be_windows, "loader": be_loader}[options.side](options.paper_tokens)
        return
    own = [sys.executable, __file__, f"--paper-tokens={options.paper_tokens}", "--side"]
    with checkout(options.base) as base:
        sides = {
            "ours": ([*own, "windows"], ROOT),
            "base": ([*own, "windows"], base),
            "table": ([*own, "loader"], ROOT),
        }
        rounds = take_turns(sides, options.rounds)
    print(f"papers of {options.paper_tokens} tokens, {options.rounds} rounds")
    for name, words in (("ours", "here"), ("base", options.base), ("table", "DataLoader")):
        a_window = 1e6 * median(rounds, name, "a_window_s")
        print(f"{words:>12}: {a_window:8.3f} us a window, ratio {ratio(rounds, name, measure='a_window_s'):.1f}")


def be_windows(paper_tokens: int) -> None:
    from helpers.data.components import JoinedPools
    from helpers.data.window_dataset import WindowDataset
    from helpers.data.window_order import UniformOrder

    try:
        from helpers.data.flat_tokens import FlatTokens
    except ImportError:  # of the base
        from helpers.data.token_cache import FlatTokens

    lengths, ids = np.full(PAPERS, paper_tokens), np.arange(PAPERS)
    tokens = np.random.default_rng(0).integers(50_000, size=PAPERS * paper_tokens).astype(np.uint16)
    halves = [SimpleNamespace(paper=part, length=lengths[part]) for part in np.split(ids, 2)]
    selection = SimpleNamespace(pools=halves, joined=JoinedPools.of(halves))
    order = UniformOrder(selection=selection, window_tokens=T, batch_size=BATCH, seed=0, num_tokens=10**12)
    dataset = WindowDataset(flat=FlatTokens(tokens=tokens, offsets=np.arange(PAPERS + 1) * paper_tokens), order=order)
    turn(lambda: [dataset.batch(step) for step in range(BATCHES)], BATCHES)


def be_loader(paper_tokens: int) -> None:
    import datasets
    import torch

    tokens = np.random.default_rng(0).integers(50_000, size=(PAPERS, paper_tokens))
    table = datasets.Dataset.from_dict({"tokens": list(tokens)})

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(table)

        def __getitem__(self, number: int) -> torch.Tensor:
            paper = table[number]["tokens"]
            first = np.random.randint(len(paper) - T + 1)
            return torch.tensor(paper[first : first + T])

    loader = iter(torch.utils.data.DataLoader(Windows(), batch_size=BATCH, sampler=endless()))
    turn(lambda: next(loader), 1)


def endless() -> Iterator[int]:
    rng = np.random.default_rng(0)
    while True:
        yield int(rng.integers(PAPERS))


def turn(work: Callable[[], object], num_batches: int) -> None:
    taken = {}

    def timed() -> None:
        began = time.process_time()
        work()
        taken["a_window_s"] = (time.process_time() - began) / (num_batches * BATCH)

    answer(timed, lambda: taken)


if __name__ == "__main__":
    main()
