"""The optimizer of every study, against torch's own."""

import copy
import subprocess
import sys
from pathlib import Path

import torch

from helpers.training.optimizer import AdamW
from tests.small_run import CONFIG

SETTINGS = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)


def _descend(optimizer: torch.optim.Optimizer, model: torch.nn.Module, step: int) -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_steps_and_states_are_those_of_torch() -> None:
    """Bit for bit, and from one to the other in the middle."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    theirs.load_state_dict(ours.state_dict())
    own, reference = AdamW(ours.parameters(), **SETTINGS), torch.optim.AdamW(theirs.parameters(), **SETTINGS)
    for step in range(6):
        if step == 3:
            state = copy.deepcopy(own.state_dict())
            own.load_state_dict(copy.deepcopy(reference.state_dict()))
            reference.load_state_dict(state)
        _descend(own, ours, step)
        _descend(reference, theirs, step)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
    assert own.state_dict()["param_groups"] == reference.state_dict()["param_groups"]
    assert ours.weight.requires_grad


def test_a_run_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Which costs a process as much as torch does."""
    program = (
        "import sys\n"
        "from helpers.storage import Storage\n"
        "from helpers.training.train_single_k import train_single_k\n"
        "from tests.small_run import CONFIG\n"
        f"train_single_k(CONFIG, Storage.at({str(tmp_path)!r}), ())\n"
        "assert not {'torch._dynamo', 'torch.distributed.tensor', 'sympy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True, timeout=300)
    assert (tmp_path / "results" / f"{CONFIG.run_id}.jsonl").exists()
