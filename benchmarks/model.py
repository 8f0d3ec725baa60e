"""Training steps and evaluations beside those of an earlier build and of transformers, side by side on one core.

    python -m benchmarks.model step --size 70m --batch 16
    python -m benchmarks.model step --size 70m --batch 16 --precision bf16
    python -m benchmarks.model step --size tiny --batch 32
    python -m benchmarks.model evaluation --size 14m --batch 32

transformers has the Trainer's step, or the loss of a model that is given labels, on sequences padded to 128. Times are
CPU seconds of one thread; the roof is what the same thread multiplies matrices at, measured in the same rounds.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.turns import BASE, ROOT, checkout, median, ratio, take_turns
from helpers.model_config import PythiaConfig
from helpers.models.families import flops_per_token

SIDE = Path(__file__).with_name("model_side.py")
T = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("step", "evaluation"))
    parser.add_argument("--size", default="70m")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--base", default=BASE, help="a revision of this repository")
    options = parser.parse_args()
    with checkout(options.base) as base:
        names = {"ours": ROOT, "hf": ROOT, "base": base}
        sides = {name: (command(options.work, name, options), root) for name, root in names.items()}
        sides["roof"] = (command("roof", "ours", options), ROOT)
        rounds = take_turns(sides, options.rounds, warm_up=2)
    tell(options, rounds)


def command(work: str, side: str, options: argparse.Namespace) -> list[str]:
    settings = {name: getattr(options, name) for name in ("size", "batch", "precision", "dropout")}
    return [sys.executable, str(SIDE), work, side, *(f"--{name}={value}" for name, value in settings.items())]


def tell(options: argparse.Namespace, rounds: list[dict[str, dict[str, float]]]) -> None:
    print(f"{options.work} of {options.size} in {options.precision}, {options.batch} windows, {len(rounds)} rounds")
    for name, words in (("ours", "here"), ("base", options.base), ("hf", "transformers")):
        print(
            f"{words:>12}: {1000 * median(rounds, name):9.1f} ms, ratio {ratio(rounds, name):.2f}{memory(rounds, name)}"
        )
    vocabulary = 33 if options.size == "tiny" else 50_277
    flops = options.batch * T * flops_per_token(PythiaConfig(size=options.size), vocabulary, T)
    flops /= 1 if options.work == "step" else 3
    share = flops / 1e11 * ratio(rounds, "roof")
    print(f"matrix products at {100 / median(rounds, 'roof'):.0f} GFLOP/s; here {100 * share:.0f} % of that")


def memory(rounds: list[dict[str, dict[str, float]]], name: str) -> str:
    if "memory_bytes" not in rounds[0][name]:
        return ""
    return f", memory beyond weights, gradients, optimizer {median(rounds, name, 'memory_bytes') / 2**20:,.0f} MiB"


if __name__ == "__main__":
    main()
