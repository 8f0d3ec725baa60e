"""The urns: exact losses against enumeration and against the law that the documents are drawn from."""

from math import lgamma

import numpy as np
import pytest

from helpers.config import DataConfig
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.sources import urns


def test_the_loss_of_a_document_is_its_dirichlet_multinomial_law():
    """-ln p(sequence) = ln [ (A)_n / prod_a (A / V)_{n_a} ], rising factorials: the law in closed form, no product."""
    tokens_BT = urns.documents("validation")[:5, :400]
    each = urns.NUM_BALLS / urns.NUM_SYMBOLS
    for row in tokens_BT:
        counts = np.bincount(row, minlength=urns.NUM_SYMBOLS)
        log_p = lgamma(urns.NUM_BALLS) - lgamma(urns.NUM_BALLS + len(row))
        log_p += sum(lgamma(each + n) - lgamma(each) for n in counts)
        first = np.log(urns.NUM_SYMBOLS)
        assert urns.ideal_loss(row[None]).sum() + first == pytest.approx(-log_p, rel=1e-12)


def test_a_window_is_read_as_a_document_of_its_own():
    tokens_BT = urns.documents("test")[:3, :50]
    windowed = urns.ideal_loss(tokens_BT, window=7)
    assert np.array_equal(windowed[:, :7], urns.ideal_loss(tokens_BT)[:, :7])
    for end in range(8, 50):
        alone = urns.ideal_loss(tokens_BT[:, end - 7 : end + 1])
        np.testing.assert_allclose(windowed[:, end - 1], alone[:, -1], rtol=1e-12)


def test_more_context_is_worth_something_at_every_length():
    """Over many documents the mean loss falls with the context, to the entropy of the urns."""
    tokens_BT = urns.documents("train")[:400]
    mean_T = urns.ideal_loss(tokens_BT).mean(axis=0)
    blocks = mean_T[:1280].reshape(10, 128).mean(axis=1)
    assert (np.diff(blocks)[:2] < -0.005).all() and 2.1 < blocks[-1] < blocks[0] < 2.7
    gain = urns.ideal_loss(tokens_BT, 16)[:, 320:].mean() - mean_T[320:].mean()
    assert 0.3 < gain < 0.6


def test_the_cache_holds_the_documents(storage):
    cache = ensure_cache(DataConfig(source="urns"), storage, lambda line: None)
    assert (cache.vocab_size, cache.bos_id, cache.components) == (33, 32, ("urns",))
    flat = flat_tokens(cache, "validation", storage)
    assert np.array_equal(flat.tokens.reshape(64, 1300), urns.documents("validation"))
    assert cache.manifest["content_sha256"].startswith(CONTENT)


CONTENT = "fa5cd8e2a43caacd"
"""The same on every machine and in every version."""
