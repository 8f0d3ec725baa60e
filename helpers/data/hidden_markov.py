"""The known-answer source: K hidden Markov processes, and the exact log-loss of an ideal predictor on any windows.

Process c is a tensor T[x, i, j] = P(emit symbol x and go to state j | state i); sum_x T[x] is the transition matrix of
its hidden states and starts in its stationary distribution, so every window of a paper has the law of a first window.
The forward filter gives P(x_1..x_n | c) exactly (Rabiner 1989, Proc. IEEE 77:257, eqs. 19-21), and Bayes' rule over
components gives the predictor that no model can beat on average (Cover & Thomas, Elements of Information Theory,
2nd ed., section 13.2): its excess over knowing c sums to I(C; x_1..x_n), at most ln K nats a window.

B windows, T positions, S hidden states, X symbols, K components.
"""

import hashlib

import numpy as np

from helpers.config import SPLITS, SyntheticConfig


def component_names(config: SyntheticConfig) -> tuple[str, ...]:
    width = len(str(config.num_components - 1))
    return tuple(f"hmm{component:0{width}d}" for component in range(config.num_components))


def bos_id(config: SyntheticConfig) -> int:
    """The token before a window's first symbol: the id after the symbols."""
    return config.num_symbols


def processes(config: SyntheticConfig) -> np.ndarray:
    """Tensors T[K, X, S, S] of the components: persistent hidden states, each with its own law of symbols."""
    tensors = []
    for component in range(config.num_components):
        rng = np.random.Generator(np.random.Philox(key=[config.seed, component]))
        states, symbols = config.num_states, config.num_symbols
        jump_SS = rng.dirichlet(np.full(states, config.concentration), size=states)
        transition_SS = config.persistence * np.eye(states) + (1 - config.persistence) * jump_SS
        emission_SX = rng.dirichlet(np.full(symbols, config.concentration), size=states)
        tensors.append(hidden_markov(transition_SS, emission_SX))
    return np.stack(tensors)


def hidden_markov(transition_SS: np.ndarray, emission_SX: np.ndarray) -> np.ndarray:
    """T[X, S, S] of a process that emits from its present state, then moves."""
    return np.einsum("ix,ij->xij", emission_SX, transition_SS)


def markov_chain(transition_XX: np.ndarray) -> np.ndarray:
    """T[X, X, X] of a Markov chain over the symbols: the state is the symbol emitted last."""
    return np.einsum("ix,xj->xij", transition_XX, np.eye(len(transition_XX)))


def processes_digest(config: SyntheticConfig) -> str:
    """SHA-256 of the tensors, to notice a NumPy whose generators draw other processes than the cached papers'."""
    return hashlib.sha256(processes(config).astype("<f8").tobytes()).hexdigest()


def stationary(tensor_XSS: np.ndarray) -> np.ndarray:
    """The stationary distribution [S] of the hidden states; ValueError if it is not unique (not ergodic)."""
    transition_SS = tensor_XSS.sum(axis=0)
    if not np.allclose(transition_SS.sum(axis=1), 1):
        raise ValueError("a process must have transition probabilities that sum to 1 in each state")
    states = len(transition_SS)
    equations = np.vstack([transition_SS.T - np.eye(states), np.ones(states)])
    if np.linalg.matrix_rank(equations[:-1]) < states - 1:
        raise ValueError("a process must be ergodic: this one has more than one stationary distribution")
    solution = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    return np.clip(solution, 0, None) / np.clip(solution, 0, None).sum()


def sample_papers(config: SyntheticConfig, split: str, component: int) -> np.ndarray:
    """Papers [papers, paper_tokens] (uint16) of one component; validation and test have a quarter as many as train."""
    num_papers = config.papers_per_component if split == "train" else -(-config.papers_per_component // 4)
    stream = 1 + len(SPLITS) * component + SPLITS.index(split)
    rng = np.random.Generator(np.random.Philox(key=[config.seed, 2**32 + stream]))
    return sample(processes(config)[component], num_papers, config.paper_tokens, rng).astype(np.uint16)


def sample(tensor_XSS: np.ndarray, num_windows: int, num_tokens: int, rng: np.random.Generator) -> np.ndarray:
    """Symbols [num_windows, num_tokens] of independent stationary sequences."""
    states = tensor_XSS.shape[1]
    # A move from state i is one draw from the joint law of (symbol, next state).
    cumulative = tensor_XSS.transpose(1, 0, 2).reshape(states, -1).cumsum(axis=1)
    state_B = rng.choice(states, size=num_windows, p=stationary(tensor_XSS))
    symbols_BT = np.empty((num_windows, num_tokens), dtype=np.int64)
    for position in range(num_tokens):
        edges = cumulative[state_B]
        draw_B = rng.random(num_windows) * edges[:, -1]
        move_B = (draw_B[:, None] >= edges).sum(axis=1)
        symbols_BT[:, position], state_B = move_B // states, move_B % states
    return symbols_BT


def log_likelihood(tensors_KXSS: np.ndarray, windows_BT: np.ndarray) -> np.ndarray:
    """ln P(x_t | x_<t, process k) [K, B, T] in nats, by the forward filter, scaled at every position."""
    num_processes, states = len(tensors_KXSS), tensors_KXSS.shape[2]
    start_KS = np.stack([stationary(tensor_XSS) for tensor_XSS in tensors_KXSS])
    belief_KBS = np.broadcast_to(start_KS[:, None], (num_processes, len(windows_BT), states))
    probability_TKB = np.empty((windows_BT.shape[1], num_processes, len(windows_BT)))
    for symbol_B, probability_KB in zip(windows_BT.T, probability_TKB, strict=True):
        joint_KBS = np.einsum("kbi,kbij->kbj", belief_KBS, tensors_KXSS[:, symbol_B])
        joint_KBS.sum(axis=2, out=probability_KB)
        belief_KBS = joint_KBS / np.where(probability_KB > 0, probability_KB, 1)[:, :, None]
    with np.errstate(divide="ignore"):  # a symbol that a process cannot emit has log-likelihood -inf
        return np.log(np.ascontiguousarray(probability_TKB.transpose(1, 2, 0)))  # the order in which means sum it


def mixture_log_loss(loglik_KBT: np.ndarray, prior_K: np.ndarray) -> np.ndarray:
    """-ln P(x_t | x_<t) [B, T] in nats when the component is unknown and has probability `prior_K` before x_1.

    From the components' `log_likelihood`: the joint likelihood of a prefix is the prior's mean of theirs, and the loss
    at a position is the drop of its logarithm from the prefix before.
    """
    with np.errstate(divide="ignore"):  # a component that cannot occur has weight -inf and drops out
        log_prior_K11 = np.log(prior_K / prior_K.sum())[:, None, None]
    joint_BT = np.logaddexp.reduce(loglik_KBT.cumsum(axis=2) + log_prior_K11, axis=0)
    return -np.diff(joint_BT, axis=1, prepend=0.0)


def posterior(loglik_KBT: np.ndarray, prior_K: np.ndarray) -> np.ndarray:
    """P(component | x_<t) [K, B, T] by Bayes' rule, before each token: the prior at position 0.

    From the components' `log_likelihood`; every component has a prior above 0.
    """
    before_KBT = np.concatenate([np.zeros_like(loglik_KBT[:, :, :1]), loglik_KBT.cumsum(axis=2)[:, :, :-1]], axis=2)
    joint_KBT = before_KBT + np.log(prior_K / prior_K.sum())[:, None, None]
    return np.exp(joint_KBT - np.logaddexp.reduce(joint_KBT, axis=0))


def entropy_rate(tensor_XSS: np.ndarray, num_tokens: int = 200_000, seed: int = 0) -> tuple[float, float]:
    """The entropy rate in nats per token and its standard error, as the mean log-loss of the process on itself.

    Equal to the limit by the Shannon-McMillan-Breiman theorem (Cover & Thomas, section 16.8). Averages over 100
    sequences, whose first tenth is left out so that the filter has forgotten its start.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    (loglik_BT,) = log_likelihood(tensor_XSS[None], sample(tensor_XSS, 100, num_tokens // 100, rng))
    per_sequence = -loglik_BT[:, loglik_BT.shape[1] // 10 :].mean(axis=1)
    return float(per_sequence.mean()), float(per_sequence.std(ddof=1) / np.sqrt(len(per_sequence)))
