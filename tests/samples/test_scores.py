"""Scores of a stream against torch's own cross entropy on all logits at once."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.model_config import ContextTokenConfig
from helpers.models.contexts import stream_contexts
from helpers.models.language_model import build_model
from helpers.studies.samples import scores


def test_scores_are_torchs_own_in_chunks_of_any_size(monkeypatch) -> None:
    model = build_model(ContextTokenConfig(d_model=8, n_layer=2), 30, 0, seed=0).requires_grad_(False)
    model.head.normal_(generator=torch.Generator().manual_seed(1))
    ids_N = torch.randint(30, (51,), generator=torch.Generator().manual_seed(2))
    e_ND = model.embed(ids_N)
    contexts_LND = stream_contexts(model, e_ND).layers_LND
    logits_NV = (model.hidden(ids_N[None]) @ model.head_VD.T)[0, :-1]
    expected = F.cross_entropy(logits_NV, ids_N[1:], reduction="none").double().numpy()
    for logits in (2**20, 30 * 7):
        monkeypatch.setitem(scores.CHUNK_LOGITS, "cpu", logits)
        loss_N, hit_N = scores.score(model, ids_N, e_ND, contexts_LND)
        np.testing.assert_allclose(loss_N, expected, atol=1e-5)
        assert np.array_equal(hit_N, (logits_NV.argmax(1) == ids_N[1:]).numpy())


def test_a_row_has_each_samples_own_and_an_error_over_samples() -> None:
    loss_N, hit_N = np.array([1.0, 2.0, 4.0, 5.0, 9.0]), np.array([True, False, True, True, False])
    row = scores.validation_row(loss_N, hit_N, np.array([1, 1, 2, 2, 2]), ["one token", "b", "c"])
    assert row["xe"] == pytest.approx(4.2) and row["ppl"] == pytest.approx(np.exp(4.2))
    assert row["accuracy"] == pytest.approx(0.6) and row["predictions"] == 5
    assert row["by_paper"] == {
        "paper_id": ["b", "c"], "predictions": [2, 3], "xe": [1.5, 6.0], "accuracy": [0.5, pytest.approx(2 / 3)],
    }  # fmt: skip
    sums = np.array([-5.4, 5.4])  # of each sample's deviations from 4.2
    assert row["se"] == pytest.approx(np.sqrt(2 * (sums**2).sum()) / 5)
