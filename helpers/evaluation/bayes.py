"""The exact reference: what an ideal learner of a run's training distribution loses on the run's evaluation windows."""

from typing import Any

import numpy as np

from helpers.config import RunConfig
from helpers.data import hidden_markov
from helpers.data.components import Selection
from helpers.data.token_cache import TokenCache


class BayesReference:
    """The exact log-loss of an ideal learner of a run's training distribution, on the run's evaluation windows.

    It knows the processes and how often the run draws each: 1 / K for the active components, or under `shuffle_labels`
    the share of each true component in the shuffled pools.
    """

    KEYS = ("bayes_xe", "bayes_xe_by_position", "bayes_known_xe", "bayes_known_xe_by_position")

    def __init__(self, config: RunConfig, cache: TokenCache, selection: Selection):
        if hidden_markov.processes_digest(config.data.synthetic) != cache.manifest["processes_sha256"]:
            raise ValueError(
                f"the papers of cache {cache.cache_id} come from other processes than this version draws; "
                f"delete {cache.folder} to sample them anew"
            )
        self.processes = hidden_markov.processes(config.data.synthetic)
        self.true_component = cache.index(config.eval.split).component
        true_train = cache.index("train").component
        shares = [np.bincount(true_train[pool.paper], minlength=len(self.processes)) for pool in selection.pools]
        self.prior_K = np.mean([share / share.sum() for share in shares], axis=0)

    def posterior(self, tokens_BT: np.ndarray) -> np.ndarray:
        """P(component | x_<t) [K, B, T] before each token, of the components that the run's training holds."""
        active = np.flatnonzero(self.prior_K)
        loglik_KBT = hidden_markov.log_likelihood(self.processes[active], tokens_BT)
        return hidden_markov.posterior(loglik_KBT, self.prior_K[active])

    def values(self, tokens_BT: np.ndarray, paper_B: np.ndarray) -> dict[str, Any]:
        """Bayes values of windows, as a mixture and knowing each window's component."""
        loglik_KBT = hidden_markov.log_likelihood(self.processes, tokens_BT)
        mixture_T = hidden_markov.mixture_log_loss(loglik_KBT, self.prior_K).mean(axis=0)
        known_BT = -loglik_KBT[self.true_component[paper_B], np.arange(len(tokens_BT))]
        known_T = known_BT.mean(axis=0)
        values = (float(mixture_T[1:].mean()), mixture_T.tolist(), float(known_T[1:].mean()), known_T.tolist())
        return dict(zip(self.KEYS, values, strict=True))
