"""One side of `benchmarks.model`: a training step or an evaluation of one build, or of transformers.

    PYTHONPATH=BUILD python benchmarks/model_side.py step ours --size tiny

Answers each line of its input by one step; see `benchmarks.turns`. It runs under this build and under earlier ones.
"""

import argparse
import ctypes
import dataclasses
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from padded import BOS, PaddedWindows, T, padded
from turns import answer, end_turn, wait_for_turn

VOCABULARY = {"tiny": 33}
PYTHIA_VOCABULARY = 50_277


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=("step", "evaluation", "roof"))
    parser.add_argument("side", choices=("ours", "base", "hf"))
    parser.add_argument("--size", default="70m")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--dropout", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    works = {
        ("step", "hf"): trainer_step, ("step", "ours"): our_step, ("step", "base"): our_step,
        ("evaluation", "hf"): labels_evaluation, ("evaluation", "ours"): our_evaluation,
        ("evaluation", "base"): our_evaluation, ("roof", "ours"): roof,
    }  # fmt: skip
    works[options.work, options.side](options)


def our_step(options: argparse.Namespace) -> None:
    """The step of the product's loop, with Accelerate, clipping and optimizer, on windows that are there."""
    from helpers.storage import Storage

    config = our_config(options)
    rng, rows = np.random.default_rng(0), vocabulary(options) - 1
    length = np.full(options.batch, T)

    def batch(step: int) -> SimpleNamespace:
        return SimpleNamespace(tokens=rng.integers(rows, size=(options.batch, T)), num_tokens=int(length.sum()))

    with tempfile.TemporaryDirectory() as folder:
        storage, device = Storage.at(folder), torch.device("cpu")
        state, step = (base_state if options.side == "base" else run_state)(options, config, storage, device, batch)
        step()  # from here on there is the optimizer's state
        memory = PeakMemory(state.model)
        answer(lambda: memory.of(step), lambda: {"memory_bytes": memory.beyond_bytes})


def run_state(options, config, storage, device, batch):
    from helpers.training.accelerator import make_accelerator
    from helpers.training.state import window_state, window_step

    run = SimpleNamespace(
        config=config,
        cache=SimpleNamespace(vocab_size=vocabulary(options), bos_id=BOS),
        dataset=SimpleNamespace(batch=batch),
        num_steps=config.train.steps,
    )
    state = window_state(run, make_accelerator(config, storage, device, options.precision))

    def step() -> None:
        window_step(run, state)
        state.step += 1

    return state, step


def base_state(options, config, storage, device, batch):
    from helpers.training.device import make_accelerator

    from helpers.training.schedule import learning_rate
    from helpers.training.state import new_state, train_step

    accelerator = make_accelerator(config, storage, device, options.precision)
    state = new_state(config, accelerator, vocabulary(options), BOS)
    return state, lambda: train_step(
        state, batch(state.step), config, learning_rate(config, state.step, config.train.steps)
    )


def trainer_step(options: argparse.Namespace) -> None:
    """Trainer with the same optimizer on the same number of windows, padded; a turn is from one step's end to the
    next one's."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        began = None

        def on_step_end(self, args, state, control, **others):
            if self.began is not None:
                end_turn(time.process_time() - self.began, {"memory_bytes": memory.beyond_bytes})
            memory.end()
            if not wait_for_turn():
                raise SystemExit
            memory.begin()
            self.began = time.process_time()

    model = transformers_model(options).train()
    memory = PeakMemory(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=options.batch, max_steps=100_000, optim="adamw_torch_fused",
            adam_beta2=0.95, weight_decay=0.1, learning_rate=2e-4, lr_scheduler_type="cosine", max_grad_norm=1.0,
            logging_steps=50, report_to=[], save_strategy="no", use_cpu=True, bf16=options.precision == "bf16",
            dataloader_pin_memory=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=PaddedWindows(vocabulary(options)), callbacks=[Turns()])
        trainer.train()


def our_evaluation(options: argparse.Namespace) -> None:
    from helpers.evaluation.eval_xe import cross_entropy
    from helpers.models.language_model import build_model

    try:
        from helpers.models.window_model import WindowModel
    except ImportError:  # of the base
        from helpers.training.loss import WindowModel

    model = WindowModel(build_model(our_config(options).model, vocabulary(options), BOS, seed=0), BOS).eval()
    tokens_BT = np.random.default_rng(0).integers(vocabulary(options) - 1, size=(options.batch, T))
    answer(lambda: cross_entropy(model, tokens_BT))


def labels_evaluation(options: argparse.Namespace) -> None:
    """The loss that transformers returns for labels, 16 windows at a time."""
    model = transformers_model(options).eval()
    tokens_BT = np.random.default_rng(0).integers(vocabulary(options) - 1, size=(options.batch, T))
    batches = [padded(part) for part in torch.from_numpy(tokens_BT).split(16)]

    @torch.no_grad()
    def work() -> None:
        for batch in batches:
            model(**batch).loss.item()

    answer(work)


def roof(options: argparse.Namespace) -> None:
    """A product of the head's shape, with 512 tokens: CPU seconds of 1e11 FLOPs, half of a step's order."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    left, right = torch.randn(512, 512).to(dtype), torch.randn(512, 8192).to(dtype)
    times = round(1e11 / (2 * 512 * 512 * 8192))
    answer(lambda: [left @ right for _ in range(times)])


def our_config(options: argparse.Namespace) -> object:
    from helpers.config import RunConfig

    config, replace = RunConfig(study="ergodic"), dataclasses.replace
    model = replace(config.model, size=options.size, dropout=options.dropout)
    train = replace(config.train, batch_size=options.batch, precision=options.precision)
    return replace(config, model=model, train=train, execution=replace(config.execution, trackers=()))


def transformers_model(options: argparse.Namespace) -> torch.nn.Module:
    from transformers import GPTNeoXForCausalLM

    from helpers.models.neox import neox_config

    return GPTNeoXForCausalLM(neox_config(our_config(options).model, vocabulary(options), BOS))


def vocabulary(options: argparse.Namespace) -> int:
    return VOCABULARY.get(options.size, PYTHIA_VOCABULARY)


class PeakMemory:
    """The most that a step held beyond weights, gradients and the optimizer's two states: the process's peak of
    resident memory (Linux), less what it held before and a gradient of each weight."""

    def __init__(self, model: torch.nn.Module):
        self.gradients = sum(parameter.nbytes for parameter in model.parameters())
        self.beyond_bytes = 0

    def of(self, step) -> None:
        self.begin()
        step()
        self.end()

    def begin(self) -> None:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = _status("VmRSS")

    def end(self) -> None:
        if hasattr(self, "before"):
            self.beyond_bytes = _status("VmHWM") - self.before - self.gradients


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    main()
