"""How fast this device trains a model: a few real steps, for the time estimates of a plan."""

import time

import numpy as np
import torch

from helpers.config import RunConfig
from helpers.models.language_model import build_model
from helpers.models.shapes import flops_per_token
from helpers.models.window_model import WindowModel
from helpers.training.device import CPU_MICRO_BATCH, choose_device, choose_precision
from helpers.training.state import make_optimizer

_BUDGET_FLOPS = 2e11  # a measured step stays below this on a CPU, about two seconds
_STEPS = 3


def measure_tokens_per_s(config: RunConfig, vocab_size: int) -> float:
    """Training tokens a second of this model on this device: the fastest of a few steps, after one to warm up."""
    device = choose_device(config)
    precision, _ = choose_precision(config, device)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    window = config.data.window_tokens
    model = WindowModel(build_model(config.model, vocab_size, 0, config.seed), 0).to(device).train()
    optimizer = make_optimizer(config.train, model)
    cost = flops_per_token(config.model, vocab_size, window) * window
    most = CPU_MICRO_BATCH if device.type == "cpu" else config.train.batch_size
    windows = min(config.train.batch_size, most, max(1, int(_BUDGET_FLOPS / cost)))
    tokens_BT = torch.zeros(windows, window, dtype=torch.long, device=device)
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
    return windows * window / float(np.min(seconds[1:]))
