"""Contexts of a stream, and an epoch that trains on them, against token by token: times side by side, and memory.

    python -m benchmarks.contexts --tokens 40000 --width 768 --threads 2

The loop calls the model's own layers for one token after another, as the document's trainer does. It costs the same for
every token, so it runs on the first `--loop-tokens` alone and is scaled; the two take turns, and the median of
`--repeats` counts. An epoch token by token makes contexts, token layers and logits of one token at a time and updates
after 512, an epoch here has its contexts already. The ratios are to be at least 8 and 20 on two cores.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from helpers.model_config import ContextTokenConfig
from helpers.models.context_token import ContextToken
from helpers.models.contexts import stream_contexts
from helpers.models.head import summed_cross_entropy
from helpers.models.language_model import build_model

WINDOW = 512


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.no_grad()
def loop_contexts(model: ContextToken, e_ND: torch.Tensor) -> torch.Tensor:
    """The last layer's contexts [N, D], token by token."""
    c_D, found = torch.zeros_like(e_ND[0]), []
    for e_D in e_ND:
        c_D = model.contexts(c_D, e_D)[-1]
        found.append(c_D)
    return torch.stack(found)


def epoch_by_token(model: ContextToken, adam: torch.optim.Optimizer, ids_N: torch.Tensor, e_ND: torch.Tensor) -> None:
    """An epoch whose contexts, hidden states and logits are those of one token at a time."""
    c_D, losses = torch.zeros_like(e_ND[0]), []
    for place in range(len(ids_N) - 1):
        with torch.no_grad():
            contexts = model.contexts(c_D, e_ND[place])
            c_D = contexts[-1]
        logits_V = model.head_VD @ model.tokens(e_ND[place], contexts)
        losses.append(F.cross_entropy(logits_V, ids_N[place + 1]))
        if len(losses) == WINDOW or place == len(ids_N) - 2:
            update(adam, torch.stack(losses).mean())
            losses = []


def epoch_by_window(
    model: ContextToken,
    adam: torch.optim.Optimizer,
    ids_N: torch.Tensor,
    e_ND: torch.Tensor,
    contexts_LND: torch.Tensor,
) -> None:
    """An epoch whose contexts are there."""
    for first in range(0, len(ids_N) - 1, WINDOW):
        last = min(first + WINDOW, len(ids_N) - 1)
        hidden_ND = model.tokens(e_ND[first:last], contexts_LND[:, first:last])
        update(adam, summed_cross_entropy(hidden_ND, model.head_VD, ids_N[first + 1 : last + 1]) / (last - first))


def update(adam: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    loss.backward()
    adam.step()
    adam.zero_grad()


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--loop-tokens", type=int, default=2_048)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = build_model(ContextTokenConfig(d_model=options.width), options.vocabulary, 0, seed=0)
    ids_N = torch.randint(options.vocabulary, (options.tokens,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        e_ND = model.embed(ids_N)
    few = slice(0, options.loop_tokens)
    scale = options.tokens / options.loop_tokens
    adam = torch.optim.AdamW([*model.token_layers.parameters(), model.head], lr=2e-3, fused=True)
    contexts = stream_contexts(model, e_ND)
    looped_ND = loop_contexts(model, e_ND[few])
    difference = contexts.last_ND[few] - looped_ND
    works = {
        "contexts": lambda: stream_contexts(model, e_ND),
        "loop": lambda: loop_contexts(model, e_ND[few]),
        "epoch": lambda: epoch_by_window(model, adam, ids_N, e_ND, contexts.layers_LND),
        "epoch by token": lambda: epoch_by_token(model, adam, ids_N[few], e_ND[few]),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    loop, by_token = median["loop"] * scale, median["epoch by token"] * scale
    print(f"{contexts}; contraction {contexts.contraction:.3f} a token")
    print(
        f"difference to the loop: root mean square {rms(difference):.1e}, at most {float(difference.abs().max()):.1e}"
    )
    for name, ours, theirs in (("contexts", median["contexts"], loop), ("epoch", median["epoch"], by_token)):
        print(f"{name}: {ours:.2f} s, token by token {theirs:.1f} s, {theirs / ours:.1f} times as fast")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"contexts take {contexts.layers_LND.nbytes / 2**20:,.0f} MiB, the process at most {peak_gib:.1f} GiB")


if __name__ == "__main__":
    main()
