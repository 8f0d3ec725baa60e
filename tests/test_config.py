"""Settings: overrides, validation in words, and a run_id that hashes the science and nothing else."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import ExecutionConfig, RunConfig, file_name, portable_name, to_json
from helpers.model_config import MODEL_CONFIGS, GptConfig
from helpers.models.families import FAMILIES
from helpers.settings import apply_overrides, config_difference, from_json


def test_overrides_of_every_kind() -> None:
    config = apply_overrides(
        RunConfig(study="ergodic", k=2),
        ["train.steps=5_000", "train.peak_lr=1e-3", "model.size=31m", "data.shuffle_labels=true",
         "data.components=cs.CV,math.ST", "data.max_papers_per_component=7", "execution.threads=none"],
    )  # fmt: skip
    assert (config.train.steps, config.train.peak_lr, config.model.size) == (5000, 1e-3, "31m")
    assert config.data.shuffle_labels is True
    assert config.data.components == ("cs.CV", "math.ST")
    assert config.data.max_papers_per_component == 7
    assert config.execution.threads is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.step=5", "unknown field 'step' in 'train.step'; the fields here are batch_size, steps"),
        ("trian.steps=5", "unknown field 'trian'.*study, k, seed, data"),
        ("train.steps.x=5", "unknown field 'x'.*it is a value"),
        ("train=5", "'train' names a group of fields"),
        ("train.steps", "has no '='"),
        ("train.steps=many", "train.steps = 'many': expected a whole number or none"),
        ("model.size=1b", "expected one of tiny, small, 14m"),
        ("data.shuffle_labels=yes", "expected true or false"),
        ("k=0", "k = 0 is not possible; use a number of components from 1 up"),
        ("train.tokens=100", "exactly one above 0"),
        ("train.tokens_per_parameter=20", "train.epochs, train.tokens_per_parameter = .* exactly one above 0"),
        ("model.activation=gelu", r"the fields here are size, dropout.*activation belongs to models of size gpt-10k"),
        ("data.components=[1", "is not a JSON list"),
        ("seed=18446744073709551616", "seed = 18446744073709551616 is not possible; use a whole number from 0 up"),
        ("data.window_tokens=200", "at most model.max_context_tokens = 128"),
        ("data.components=a,a", "each name once"),
        ("model.dropout=1", "model.dropout = 1.0 is not possible"),
        ("train.batch_size=0", "train.batch_size = 0 is not possible"),
        ("execution.micro_batch=0", "execution.micro_batch = 0 is not possible"),
    ],
)
def test_what_is_not_possible_is_said_in_words(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_overrides(RunConfig(study="ergodic"), [override])


def test_an_activation_is_one_that_there_is() -> None:
    gpt = apply_overrides(RunConfig(study="ergodic"), ["model.size=gpt-10k"])
    with pytest.raises(ValueError, match="expected one of gelu, swiglu"):
        apply_overrides(gpt, ["model.activation=relu"])


def test_a_size_chooses_its_family_and_keeps_what_both_have() -> None:
    pythia = apply_overrides(RunConfig(study="ergodic"), ["model.dropout=0.2"])
    gpt = apply_overrides(pythia, ["model.activation=swiglu", "model.size=gpt-30k"])
    assert gpt.model == GptConfig(size="gpt-30k", activation="swiglu", dropout=0.2)
    assert apply_overrides(gpt, ["model.size=70m"]) == pythia


def test_no_two_families_share_a_size_and_each_has_its_costs() -> None:
    sizes = [size for kind in MODEL_CONFIGS for size in kind.SIZES]
    assert len(set(sizes)) == len(sizes)
    assert FAMILIES.keys() == set(MODEL_CONFIGS)


def test_lists_are_of_their_own_type_and_may_hold_commas() -> None:
    config = apply_overrides(RunConfig(study="ergodic"), ['data.components=["Vision, Graphics", "b"]'])
    assert config.data.components == ("Vision, Graphics", "b")
    assert from_json(RunConfig, to_json(config)) == config


def test_settings_of_an_earlier_version_are_read() -> None:
    """A Pythia had an activation, of one value."""
    config = RunConfig(study="ergodic")
    stored = to_json(config)
    stored["model"]["activation"] = "gelu"
    assert from_json(RunConfig, stored) == config
    stored["model"]["activation"] = "swiglu"
    with pytest.raises(ValueError, match="activation is not a field"):
        from_json(RunConfig, stored)


def test_length_in_tokens_replaces_steps() -> None:
    assert (
        apply_overrides(RunConfig(study="ergodic"), ["train.steps=none", "train.tokens=1000000"]).train.tokens
        == 1_000_000
    )


def test_execution_is_not_hashed_and_everything_else_is() -> None:
    config = RunConfig(study="ergodic")
    for field in dataclasses.fields(ExecutionConfig):
        changed = {"micro_batch": 3, "threads": 3, "device": "cpu", "trackers": ()}.get(field.name, 7)
        execution = dataclasses.replace(config.execution, **{field.name: changed})
        assert dataclasses.replace(config, execution=execution).run_id == config.run_id
    for override in (
        "k=2", "seed=1", "data.order=listed", "data.allocation=constant_unique", "data.sampling=epoch",
        "data.synthetic.seed=1", "model.size=14m", "model.dropout=0", "train.steps=50000", "train.peak_lr=1e-3",
        "eval.seed=1", "eval.windows_per_component=512", "data.shuffle_labels=true", "train.precision=bf16",
    ):  # fmt: skip
        assert apply_overrides(config, [override]).run_id != config.run_id, override


def test_the_settings_of_a_gpt_are_hashed() -> None:
    gpt = apply_overrides(
        RunConfig(study="ergodic"), ["model.size=gpt-10k", "train.steps=none", "train.tokens_per_parameter=20"]
    )
    for override in ("model.activation=swiglu", "train.tokens_per_parameter=21"):
        assert apply_overrides(gpt, [override]).run_id != gpt.run_id, override


def test_a_run_keeps_its_name_when_others_gain_a_setting() -> None:
    """Storages hold runs of this name, from before there was an activation or a length in tokens a parameter."""
    assert RunConfig(study="ergodic").run_id == "ergodic-synthetic-70m-k1-s0-0748a6281e"


def test_the_place_of_a_source_is_not_its_name() -> None:
    def run_id(source: str) -> str:
        return apply_overrides(RunConfig(study="ergodic"), [f"data.source={source}"]).run_id

    assert run_id("/content/data/papers") == run_id("/home/me/data/papers") == run_id("x/data/papers")
    assert run_id("/content/data/papers") != run_id("/content/data/other")
    assert portable_name("EleutherAI/pythia-70m") == "EleutherAI/pythia-70m"
    assert portable_name("train:4096") == "train:4096"
    assert portable_name("arxiv") == "arxiv"


def test_settings_that_a_source_does_not_use_do_not_count() -> None:
    synthetic = RunConfig(study="ergodic")
    assert apply_overrides(synthetic, ["data.tokenizer=gpt2"]).run_id == synthetic.run_id
    arxiv = apply_overrides(RunConfig(study="ergodic"), ["data.source=arxiv"])
    assert apply_overrides(arxiv, ["data.synthetic.seed=5"]).run_id == arxiv.run_id
    assert apply_overrides(arxiv, ["data.tokenizer=gpt2"]).run_id != arxiv.run_id


def test_json_round_trip_and_its_errors() -> None:
    config = apply_overrides(
        RunConfig(study="ergodic", k=2), ["data.components=a,b", "train.steps=none", "train.tokens=5000"]
    )
    assert from_json(RunConfig, to_json(config)) == config
    with pytest.raises(ValueError, match=r"config.train.speed is not a field"):
        from_json(RunConfig, {"train": {"speed": 1}})
    with pytest.raises(ValueError, match=r"config.train.steps = 'x': expected a whole number or none"):
        from_json(RunConfig, {"train": {"steps": "x"}})
    with pytest.raises(ValueError, match="must be an object"):
        from_json(RunConfig, [1])


def test_the_difference_of_two_configs_is_named() -> None:
    one, two = (
        RunConfig(study="ergodic"),
        apply_overrides(RunConfig(study="ergodic"), ["train.steps=5", "data.order=listed"]),
    )
    assert config_difference(one.science(), two.science()) == [
        "data.order: rotate -> listed",
        "train.steps: 100000 -> 5",
    ]


@given(st.text(max_size=200))
def test_file_names_are_safe_whatever_the_word(word: str) -> None:
    name = file_name(word)
    assert 0 < len(name) <= 60
    assert not name.startswith(".")
    assert not set(name) & set('/\\:*?"<>|\0 \n')


def test_run_ids_are_readable() -> None:
    config = apply_overrides(RunConfig(study="ergodic", k=1, seed=2), ["data.source=arxiv", "data.components=cs.CV"])
    assert config.run_id.startswith("ergodic-arxiv-70m-k1-s2-cs.CV-")
    gpt = apply_overrides(RunConfig(study="ergodic", k=1, seed=2), ["model.size=gpt-10k"])
    assert gpt.run_id.startswith("ergodic-synthetic-gpt_10k-gelu-k1-s2-")
