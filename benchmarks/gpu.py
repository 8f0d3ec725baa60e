"""What a GPU has to show, in one command and at most ten minutes: a table, and the same as JSON.

    python -m benchmarks.gpu --out gpu.json

Works on a T4, L4, A100 or H100, and in a Colab cell behind `!`. Each check says what it found or why it could not be
made, and checks that the time does not suffice for are named. Without a GPU it runs on the CPU at the smallest sizes,
so that it is known to work, and says that no GPU has been measured.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; deterministic products need it

import torch
from torch.nn import functional as F

from benchmarks.padded import BOS, PaddedWindows, T, padded
from helpers.config import RunConfig
from helpers.device import choose_precision
from helpers.grid.text import aligned, size
from helpers.models.families import flops_per_token
from helpers.models.head import summed_cross_entropy
from helpers.models.language_model import build_model, weights_of
from helpers.models.neox import as_transformers, neox_config
from helpers.models.pythia import Pythia
from helpers.models.window_model import WindowModel
from helpers.peak import peak_flops
from helpers.runs.events import Saved
from helpers.runs.provenance import device_name
from helpers.runs.result_file import read_result
from helpers.settings import apply_overrides
from helpers.storage import Storage
from helpers.training.accelerator import make_accelerator
from helpers.training.state import window_state, window_step
from helpers.training.train_single_k import train_single_k

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RUN = (
    "model.size=tiny", "train.batch_size=32", "train.warmup_steps=10", "train.peak_lr=8e-3", "execution.trackers=",
    "data.synthetic.papers_per_component=40", "eval.windows_per_component=16", "execution.log_every_steps=10",
)  # fmt: skip


@dataclass(kw_only=True)
class Bench:
    device: torch.device
    ends: float
    """When no further check begins, on time.monotonic's clock."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def sizes(self) -> tuple[str, ...]:
        return ("14m", "70m", "160m") if self.is_gpu else ("tiny",)

    @property
    def vocab_size(self) -> int:
        return 50_277 if self.is_gpu else 300

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that this device has instructions for; a CPU has no loss scaler to try fp16 with."""
        if not self.is_gpu:
            return ("fp32", "bf16")
        return tuple(DTYPES) if torch.cuda.get_device_capability(self.device) >= (8, 0) else ("fp32", "fp16")

    @property
    def half(self) -> str:
        return self.precisions[-1] if not self.is_gpu else "fp16"

    def config(self, model_size: str, precision: str, *overrides: str) -> RunConfig:
        settings = [*RUN, f"model.size={model_size}", f"train.precision={precision}", *overrides]
        return apply_overrides(RunConfig(study="ergodic", k=2), settings)

    def check(self, name: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """One row: what `work` found, why it failed, or that there was no time left."""
        began = time.monotonic()
        if began > self.ends:
            found: dict[str, Any] = {"not measured": "no time left"}
        else:
            try:
                found = work(self, *arguments)
            except Exception as error:  # of any kind: the other checks are still worth their time
                found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        self.rows.append({"check": name, **found, "seconds": round(time.monotonic() - began, 1)})
        print(aligned(*_cells(self.rows[-1:])), flush=True)
        if self.is_gpu:
            torch.cuda.empty_cache()


def equality(bench: Bench, precision: str) -> dict[str, Any]:
    """Loss and gradients of windows beside transformers' on padded sequences in float32, of the same weights."""
    config = dataclasses.replace(bench.config(bench.sizes[0], precision).model, dropout=0.0)
    ours = build_model(config, bench.vocab_size, BOS, seed=0)
    theirs = as_transformers(config, bench.vocab_size, BOS, weights_of(ours)).to(bench.device)
    model = WindowModel(ours, BOS).to(bench.device)
    tokens_BT = _tokens(bench, 8)
    with torch.autocast(bench.device.type, DTYPES[precision], enabled=precision != "fp32"):
        loss = model(tokens_BT) / tokens_BT.numel()
    scale = 2.0**10 if precision == "fp16" else 1.0
    (loss * scale).backward()
    batch = {name: tensor.to(bench.device) for name, tensor in padded(tokens_BT.cpu()).items()}
    reference = theirs(**batch).loss
    reference.backward()
    own = dict(ours.named_parameters())
    pairs = [(own[Pythia.name_in_files(name)].grad / scale, p.grad) for name, p in theirs.named_parameters()]
    norm = float(torch.stack([there.norm() for _, there in pairs]).norm())
    apart = float(torch.stack([(here - there).norm() for here, there in pairs]).norm())
    return {"loss apart": abs(float(loss) - float(reference)), "gradient apart (relative)": apart / norm}


def scaler(bench: Bench, steps: int) -> dict[str, Any]:
    """A run in half precision, with the loss scaler on a GPU, beside the same in fp32."""
    xe = {}
    for precision in (bench.half, "fp32"):
        config = bench.config("tiny", precision, f"train.steps={steps}")
        with tempfile.TemporaryDirectory() as folder:
            xe[precision] = read_result(train_single_k(config, Storage.at(folder), ())).summaries[-1]["xe"]
    return {f"XE {name}": value for name, value in xe.items()} | {"steps": steps}


def throughput(bench: Bench, model_size: str) -> dict[str, Any]:
    """Tokens a second of the product's step, the micro-batch that fits, the memory used, and the Trainer's."""
    batch = 256 if bench.is_gpu else 32
    config = bench.config(model_size, bench.half, f"train.batch_size={batch}", "train.steps=100_000")
    precision, _ = choose_precision(config.train, bench.device)
    ours, micro_batch = our_tokens_per_s(bench, config, precision)
    found = {"precision": precision, "micro-batch": micro_batch, "tokens/s": round(ours)}
    if bench.is_gpu:
        found["memory"] = size(torch.cuda.max_memory_allocated())
        torch.cuda.empty_cache()
    if peak := peak_flops(device_name(bench.device), precision):
        found["of peak"] = f"{100 * ours * flops_per_token(config.model, bench.vocab_size, T) / peak:.1f} %"
    theirs = trainer_tokens_per_s(bench, config, precision, micro_batch)
    return found | {"Trainer tokens/s": round(theirs), "times the Trainer": round(ours / theirs, 2)}


def our_tokens_per_s(bench: Bench, config: RunConfig, precision: str) -> tuple[float, int]:
    """Of the product's step, and the micro-batch that it chose."""
    tokens = _tokens(bench, config.train.batch_size).cpu().numpy()
    run = SimpleNamespace(
        config=config,
        cache=SimpleNamespace(vocab_size=bench.vocab_size, bos_id=BOS),
        dataset=SimpleNamespace(batch=lambda step: SimpleNamespace(tokens=tokens, num_tokens=tokens.size)),
        num_steps=100_000,
    )
    with tempfile.TemporaryDirectory() as folder:
        state = window_state(run, make_accelerator(config, Storage.at(folder), bench.device, precision))
        if bench.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        return tokens.size / _seconds_a_step(bench, lambda: window_step(run, state)), state.micro_batch


def trainer_tokens_per_s(bench: Bench, config: RunConfig, precision: str, micro_batch: int) -> float:
    """Window tokens a second of transformers' Trainer on padded sequences; its micro-batch halved until it fits."""
    from transformers import GPTNeoXForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            _synchronize(bench)
            ends.append(time.perf_counter())

    steps, ends = 8, []
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=micro_batch, max_steps=steps, optim="adamw_torch_fused",
            gradient_accumulation_steps=config.train.batch_size // micro_batch, report_to=[], save_strategy="no",
            use_cpu=not bench.is_gpu, bf16=precision == "bf16", fp16=precision == "fp16", disable_tqdm=True,
            dataloader_pin_memory=bench.is_gpu,
        )  # fmt: skip
        model = GPTNeoXForCausalLM(neox_config(config.model, bench.vocab_size, BOS))
        trainer = Trainer(model, arguments, train_dataset=PaddedWindows(bench.vocab_size), callbacks=[Clock()])
        try:
            trainer.train()
        except torch.cuda.OutOfMemoryError:
            if micro_batch == 1:
                raise
            del trainer, model
            torch.cuda.empty_cache()
            return trainer_tokens_per_s(bench, config, precision, micro_batch // 2)
    return config.train.batch_size * T * (steps - 3) / (ends[-1] - ends[2])


def resume(bench: Bench, deterministic: bool) -> dict[str, Any]:
    """A run that ends at a checkpoint in the middle and goes on, beside one that was not disturbed."""
    config = bench.config("tiny", bench.half, "train.steps=60", "execution.snapshot_every_steps=20")
    torch.use_deterministic_algorithms(deterministic)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole, cut = Storage.at(f"{folder}/whole"), Storage.at(f"{folder}/cut")
            expected = read_result(train_single_k(config, whole, ()))
            with contextlib.suppress(Stopped):
                train_single_k(config, cut, [_stop_at_20])
            found = read_result(train_single_k(config, cut, ()))
    finally:
        torch.use_deterministic_algorithms(False)
    xe = [result.summaries[-1]["xe"] for result in (expected, found)]
    return {
        "equal bits": expected.run["weights_sha256"] == found.run["weights_sha256"],
        "XE apart": abs(xe[0] - xe[1]),
        "precision": found.run["provenance"]["sessions"][-1]["precision"],
    }


class Stopped(Exception):
    """Ends a run behind a checkpoint."""


def _stop_at_20(event: object) -> None:
    if isinstance(event, Saved) and event.step == 20:
        raise Stopped


def attention(bench: Bench, dropout: float) -> dict[str, Any]:
    """The kernels behind the attention of one forward and backward."""
    config = dataclasses.replace(bench.config(bench.sizes[0], bench.half).model, dropout=dropout)
    model = WindowModel(build_model(config, bench.vocab_size, BOS, seed=0), BOS).to(bench.device).train()
    with (
        torch.profiler.profile() as profiler,
        torch.autocast(bench.device.type, DTYPES[bench.half], enabled=bench.half != "fp32"),
    ):
        model(_tokens(bench, 8)).backward()
    names = {event.key for event in profiler.key_averages() if "scaled_dot_product" in event.key.lower()}
    return {"kernels": ", ".join(sorted(name.removeprefix("aten::") for name in names))}


def head(bench: Bench, precision: str) -> dict[str, Any]:
    """Forward and backward of the head in chunks, over those of one product and torch's cross entropy."""
    width, num_tokens = (512, 6_400) if bench.is_gpu else (64, 800)
    hidden = torch.randn(num_tokens, width, device=bench.device, requires_grad=True)
    weight = (0.02 * torch.randn(bench.vocab_size, width, device=bench.device)).requires_grad_()
    targets = torch.randint(bench.vocab_size, (num_tokens,), device=bench.device)
    ways = {
        "chunked": lambda: summed_cross_entropy(hidden, weight, targets),
        "plain": lambda: F.cross_entropy(F.linear(hidden, weight), targets, reduction="sum"),
    }

    def once(way: str) -> None:
        with torch.autocast(bench.device.type, DTYPES[precision], enabled=precision != "fp32"):
            loss = ways[way]()
        loss.backward()
        hidden.grad = weight.grad = None

    seconds = {way: _seconds_a_step(bench, lambda way=way: once(way), most_s=5) for way in ways}
    return {"time over the plain head's": round(seconds["chunked"] / seconds["plain"], 2)}


def _seconds_a_step(bench: Bench, step: Callable[[], object], most_s: float = 15) -> float:
    """Of the steps of some seconds, after two to warm up."""
    for _ in range(2):
        step()
    _synchronize(bench)
    began, steps = time.perf_counter(), 0
    while steps < 3 or (steps < 30 and time.perf_counter() - began < most_s):
        step()
        steps += 1
        _synchronize(bench)
    return (time.perf_counter() - began) / steps


def _synchronize(bench: Bench) -> None:
    if bench.is_gpu:
        torch.cuda.synchronize()


def _tokens(bench: Bench, windows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(bench.vocab_size - 1, (windows, T), generator=generator).to(bench.device)


def _cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[_word(row.get(name, "")) for name in names] for row in rows]


def _word(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, float) and 0 < abs(value) < 0.1 else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu.json", help="the JSON file")
    parser.add_argument("--minutes", type=float, default=9.0, help="no check begins later")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device=device, ends=time.monotonic() + 60 * options.minutes)
    what = (
        device_name(device) if bench.is_gpu else f"{device_name(device)}: no GPU was measured, sizes are the smallest"
    )
    print(f"{what}; torch {torch.__version__}\n")
    for precision in bench.precisions:
        bench.check(f"equality {precision}", equality, precision)
    for dropout in (0.0, 0.1):
        bench.check(f"attention, dropout {dropout}", attention, dropout)
    bench.check("head", head, bench.half)
    for model_size in bench.sizes:
        bench.check(f"throughput {model_size}", throughput, model_size)
    bench.check("half precision", scaler, 300 if bench.is_gpu else 40)
    for deterministic in (False, True):
        bench.check(f"resume, deterministic {deterministic}", resume, deterministic)
    record = {"device": what, "torch": torch.__version__, "is_gpu": bench.is_gpu, "checks": bench.rows}
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    print(f"\n{options.out}: {len(bench.rows)} checks, {sum('failed' in row for row in bench.rows)} failed")


if __name__ == "__main__":
    main()
