"""A planted confound: components of unequal entropy rate move plain dXE and leave matched dXE where it is.

The ideal learner needs no training: its loss on the real evaluation windows is exact. Its plain dXE follows the order
of the components; its matched dXE is what it costs to find out the component, and nothing else.
"""

import numpy as np
import pytest

from helpers.config import DataConfig, EvalConfig, RunConfig, SyntheticConfig
from helpers.data import hidden_markov
from helpers.data.components import select
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.data.window_dataset import read_windows
from helpers.data.window_order import Windows
from helpers.evaluation.bayes import BayesReference
from helpers.evaluation.eval_xe import summarise
from helpers.evaluation.windows import evaluation_windows
from helpers.model_config import PythiaConfig
from helpers.runs.result_file import Result, write_result
from helpers.storage import Storage
from helpers.studies.ergodic.contrasts import by_seed, with_k1
from helpers.studies.ergodic.findings import find
from helpers.studies.ergodic.matched import matched_by_run, matched_estimates
from helpers.studies.ergodic.results import Results, load_results
from helpers.studies.ergodic.roles import GRID, Comparisons
from helpers.studies.preset import Preset
from tests.simulated_results import STEPS, run_line
from tests.simulated_truth import Truth, simulate

# Sparse laws of symbols: some of these processes are far more predictable than others.
UNEQUAL = SyntheticConfig(
    num_components=6, num_symbols=8, concentration=0.3, seed=1, papers_per_component=40, paper_tokens=400
)
GRID_OF_ORDERS = Preset(
    description="another order of the components at each seed",
    config=RunConfig(
        study="ergodic",
        data=DataConfig(synthetic=UNEQUAL),
        model=PythiaConfig(size="tiny"),
        eval=EvalConfig(windows_per_component=128),
    ),
    axes={"k": (1, 2, 4), "seed": (0, 1, 2, 3)},
    companions=Comparisons(baselines=True),
)


class IdealLearner:
    """Exact results of runs on the real evaluation windows."""

    def __init__(self, storage: Storage, config: RunConfig):
        self.storage, self.cache = storage, ensure_cache(config.data, storage)
        self.flat = flat_tokens(self.cache, config.eval.split, storage)

    def write(self, config: RunConfig) -> None:
        """The result of a learner that knows the processes of the run, and not which one a window is from."""
        selection = select(config, self.cache)
        bayes = BayesReference(config, self.cache, selection)
        lines = []
        for name in selection.components:
            windows, tokens_BT = self.windows(config, name)
            loglik_KBT = self.log_likelihood(config, selection.components, tokens_BT)
            loss_BT = hidden_markov.mixture_log_loss(loglik_KBT, np.ones(config.k))
            line = {"kind": "xe", "step": STEPS, "component": name, "split": config.eval.split}
            line |= summarise(loss_BT, windows.paper, self.cache.index(config.eval.split).paper_ids)
            lines.append(line | bayes.values(tokens_BT, windows.paper))
        means = {name: float(np.mean([line[name] for line in lines])) for name in ("xe", "bayes_xe", "bayes_known_xe")}
        summary = {"kind": "summary", "step": STEPS, "ppl": float(np.exp(means["xe"]))} | means
        run = run_line(config, selection.unique_tokens_by_component)
        write_result(self.storage.result(config.run_id), Result(run=run, rows=lines, summaries=[summary]))

    def windows(self, config: RunConfig, name: str) -> tuple[Windows, np.ndarray]:
        """The evaluation windows of a component, and their tokens [B, T]."""
        windows = evaluation_windows(config.data, config.eval, self.cache, name)
        return windows, read_windows(self.flat, windows, config.data.window_tokens)

    def log_likelihood(self, config: RunConfig, names: tuple[str, ...], tokens_BT: np.ndarray) -> np.ndarray:
        places = [self.cache.components.index(name) for name in names]
        return hidden_markov.log_likelihood(hidden_markov.processes(config.data.synthetic)[places], tokens_BT)

    def identification_cost(self, config: RunConfig) -> float:
        """By Bayes' rule: what the tokens 1 to 99 tell about the component, ln p(c | x_0..99) - ln p(c | x_0), over 99.

        A mean over windows of every component, in nats per token.
        """
        names, costs = select(config, self.cache).components, []
        for number, name in enumerate(names):
            _, tokens_BT = self.windows(config, name)
            joint_KBT = self.log_likelihood(config, names, tokens_BT).cumsum(axis=2)
            posterior_BT = joint_KBT[number] - np.logaddexp.reduce(joint_KBT, axis=0)
            costs.append((posterior_BT[:, -1] - posterior_BT[:, 0]).mean() / (config.data.window_tokens - 1))
        return float(np.mean(costs))


@pytest.fixture(scope="module")
def ideal(tmp_path_factory) -> IdealLearner:
    """The results of an ideal learner at every K and seed, and on each component alone."""
    learner = IdealLearner(Storage.at(tmp_path_factory.mktemp("ideal")), GRID_OF_ORDERS.config)
    for config in GRID_OF_ORDERS.runs(dict.fromkeys(learner.cache.components)):
        learner.write(config)
    return learner


@pytest.fixture(scope="module")
def results(ideal) -> Results:
    return load_results(ideal.storage)


def test_plain_dxe_follows_the_order_of_the_components(results) -> None:
    cells = by_seed(results, results.conditions[0]).set_index(["k", "seed"])
    for k in (2, 4):
        plain, bound = cells.loc[k, "dxe"], cells.loc[k, "bound"].iloc[0]
        assert plain.min() < 0 and plain.max() > bound
        assert plain.std() > 10 * bound


def test_matched_dxe_is_the_cost_of_identification(ideal, results) -> None:
    matched = matched_by_run(with_k1(results, results.conditions[0], GRID)).set_index(["k", "seed"])
    for k in (2, 4):
        dxe = matched.loc[k, "dxe"]
        assert dxe.between(0, np.log(k) / 99).all()
        cost = [ideal.identification_cost(GRID_OF_ORDERS.at(k=k, seed=seed)) for seed in dxe.index]
        assert dxe.to_numpy() == pytest.approx(cost, abs=1e-12)


def test_the_confound_is_how_hard_the_components_are(results) -> None:
    """Plain less matched is the mean of the components alone, less that of the component which K = 1 had."""
    condition = results.conditions[0]
    cells = by_seed(results, condition).set_index(["k", "seed"])
    pairs = with_k1(results, condition, GRID)
    alone = pairs.groupby(["k", "seed"])["xe_k1"].mean()
    confound = alone - alone.loc[1].reindex(alone.index.get_level_values("seed")).to_numpy()
    dxe = matched_by_run(pairs).set_index(["k", "seed"])["dxe"]
    assert (cells["dxe"] - dxe).loc[[2, 4]].to_numpy() == pytest.approx(confound.loc[[2, 4]].to_numpy(), abs=1e-12)
    assert confound.abs().max() > 0.3


def test_an_ideal_learner_has_no_excess_and_the_known_answer_in_its_interval(results) -> None:
    by_k = find(results, results.conditions[0]).by_k
    assert by_k["num_runs"].tolist() == [4, 4]
    assert by_k["excess"].to_numpy() == pytest.approx(np.zeros(2), abs=1e-12)
    assert (by_k["low"] < by_k["bayes_dxe"]).all() and (by_k["bayes_dxe"] < by_k["high"]).all()
    assert (by_k["low"] > 0).all() and (by_k["bayes_dxe"] < by_k["bound"]).all()


@pytest.mark.slow
def test_over_many_grids_only_matched_dxe_is_unbiased(tmp_path) -> None:
    """16 simulated grids whose components are as unequal in each: the mean of the matched estimate lies within its
    Monte Carlo error of the truth, the plain one does not."""
    truth, matched, plain = Truth(slope=0.007, planted_offsets=True), [], []
    for seed in range(16):
        storage = Storage.at(tmp_path / str(seed))
        simulate(storage, truth, seed, ks=(1, 8))
        results = load_results(storage)
        condition = results.conditions[0]
        matched.append(matched_estimates(with_k1(results, condition, GRID))[8].value)
        cells = by_seed(results, condition)
        plain.append(cells.loc[(cells["role"] == GRID) & (cells["k"] == 8), "dxe"].mean())
    errors = [np.std(values, ddof=1) / np.sqrt(16) for values in (matched, plain)]
    expected = 0.007 * np.log2(8)
    assert abs(np.mean(matched) - expected) < 3 * errors[0]
    assert abs(np.mean(plain) - expected) > 30 * errors[1]
