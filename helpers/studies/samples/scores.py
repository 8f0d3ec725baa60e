"""What a model says of a stream: the cross entropy of each next token, and whether it was the likeliest.

N tokens of which N - 1 are predicted, D width, L layers, V vocabulary rows, S samples.
"""

from typing import Any

import numpy as np
import torch

from helpers.evaluation.eval_xe import clustered_standard_error
from helpers.models.context_token import ContextToken
from helpers.models.head import CHUNK_LOGITS


@torch.no_grad()
def score(
    model: ContextToken, ids_N: torch.Tensor, e_ND: torch.Tensor, contexts_LND: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Cross entropy [N - 1] in nats of the tokens after the first, and whether each had the largest logit."""
    losses, hits = [], []
    size = max(1, CHUNK_LOGITS[ids_N.device.type] // len(model.head_VD))
    for first in range(0, len(ids_N) - 1, size):
        chunk = slice(first, min(first + size, len(ids_N) - 1))
        targets = ids_N[chunk.start + 1 : chunk.stop + 1, None]
        logits_NV = model.tokens(e_ND[chunk], contexts_LND[:, chunk]) @ model.head_VD.T
        losses.append(-logits_NV.log_softmax(dim=1).gather(1, targets)[:, 0])
        hits.append(logits_NV.argmax(dim=1) == targets[:, 0])
    return torch.cat(losses).double().cpu().numpy(), torch.cat(hits).cpu().numpy()


def validation_row(loss_N: np.ndarray, hit_N: np.ndarray, sample_N: np.ndarray, names: list[str]) -> dict[str, Any]:
    """XE, perplexity and top-1 accuracy over predictions, with standard errors over samples, whose tokens are not
    independent; and each sample's own, which a comparison of runs is paired by. `sample_N` counts `names`."""
    counts_S = np.bincount(sample_N, minlength=len(names))
    held = counts_S > 0
    sums = [np.bincount(sample_N, values, minlength=len(names))[held] for values in (loss_N, hit_N)]
    xe = float(loss_N.mean())
    return {
        "xe": xe,
        "ppl": float(np.exp(xe)),
        "se": clustered_standard_error(loss_N, sample_N),
        "accuracy": float(hit_N.mean()),
        "accuracy_se": clustered_standard_error(hit_N.astype(float), sample_N),
        "predictions": len(loss_N),
        "by_paper": {
            "paper_id": [name for name, is_held in zip(names, held, strict=True) if is_held],
            "predictions": counts_S[held].tolist(),
            "xe": (sums[0] / counts_S[held]).tolist(),
            "accuracy": (sums[1] / counts_S[held]).tolist(),
        },
    }
