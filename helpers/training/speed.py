"""How fast this device trains a model: a few real steps, for the time estimates of a plan."""

import time

import numpy as np
import torch

from helpers.config import RunConfig
from helpers.device import choose_device, choose_precision
from helpers.models.families import flops_per_token
from helpers.models.language_model import build_model
from helpers.models.window_model import WindowModel
from helpers.training.accelerator import CPU_MICRO_BATCH
from helpers.training.optimizer import make_optimizer

_CPU_FLOPS = 2e11  # a measured step stays below this on a CPU, about two seconds
_STEPS = 3


def measure_tokens_per_s(config: RunConfig, vocab_size: int) -> float:
    """Training tokens a second of this model on this device: the fastest of a few steps, after one to warm up."""
    device = choose_device(config.execution)
    precision, _ = choose_precision(config.train, device)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    model = WindowModel(build_model(config.model, vocab_size, 0, config.seed), 0).to(device).train()
    optimizer = make_optimizer(config.train, model)
    windows = _num_windows(config, vocab_size, device)
    while True:
        try:
            return _tokens_per_s(model, optimizer, windows, config.data.window_tokens, dtype)
        except torch.cuda.OutOfMemoryError:
            if windows == 1:
                raise
            windows = -(-windows // 2)


def _num_windows(config: RunConfig, vocab_size: int, device: torch.device) -> int:
    """As many windows as a micro-batch may have: on a CPU no more than a step of seconds holds, on a GPU all, for few
    would measure how fast kernels are launched."""
    batch = config.execution.micro_batch or config.train.batch_size
    if device.type != "cpu":
        return min(batch, config.train.batch_size)
    window = config.data.window_tokens
    cost = flops_per_token(config.model, vocab_size, window) * window
    return min(batch, config.train.batch_size, CPU_MICRO_BATCH, max(1, int(_CPU_FLOPS / cost)))


def _tokens_per_s(
    model: WindowModel, optimizer: torch.optim.Optimizer, windows: int, window_tokens: int, dtype: torch.dtype | None
) -> float:
    device = next(model.parameters()).device
    tokens_BT = torch.zeros(windows, window_tokens, dtype=torch.long, device=device)
    seconds = []
    for _ in range(1 + _STEPS):
        began = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = model(tokens_BT) / tokens_BT.numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return tokens_BT.numel() / float(np.min(seconds[1:]))
