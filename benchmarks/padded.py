"""Windows as the document's sequences, which transformers takes: BOS, 100 tokens, and pad to 128."""

import numpy as np
import torch

T, PADDED, NO_LOSS, BOS = 100, 128, -100, 0


class PaddedWindows(torch.utils.data.Dataset):
    """Random windows, a padded sequence each."""

    def __init__(self, vocab_size: int):
        rng = np.random.default_rng(0)
        self.tokens_NT = torch.from_numpy(rng.integers(vocab_size - 1, size=(10_000, T)))

    def __len__(self) -> int:
        return len(self.tokens_NT)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {name: row[0] for name, row in padded(self.tokens_NT[number : number + 1]).items()}


def padded(tokens_BT: torch.Tensor) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask and labels [B, 128] of windows [B, 100]."""
    labels = torch.full((len(tokens_BT), PADDED), NO_LOSS)
    labels[:, 1 : T + 1] = tokens_BT
    inputs = labels.clamp(min=0)
    inputs[:, 0] = BOS
    mask = (torch.arange(PADDED) <= T).long().expand(len(tokens_BT), -1)
    return {"input_ids": inputs, "attention_mask": mask, "labels": labels}
