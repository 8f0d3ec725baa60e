"""The optimizer of every study."""

from inspect import unwrap

import torch
from torch.optim import Adam, Optimizer

from helpers.config import TrainConfig
from helpers.models.window_model import WindowModel


class AdamW(torch.optim.AdamW):
    """torch's own, without the marks that keep torch.compile out of it: on their first use each process would import
    the compiler, which takes as long as torch itself, and nothing of an optimizer is compiled here."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    step = torch.no_grad()(unwrap(Adam.step))


def make_optimizer(train: TrainConfig, model: WindowModel) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices only, and of these on all but the model's
    `undecayed_matrices`; fused, which AdamW does not choose by itself."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    undecayed = {id(p) for p in parameters if p.dim() < 2} | {id(p) for p in model.model.undecayed_matrices()}
    groups = [
        {"params": [p for p in parameters if id(p) not in undecayed], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if id(p) in undecayed], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=train.peak_lr, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)
