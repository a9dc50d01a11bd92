"""What a sweep varies: grids, lists side by side, combinations left out, presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

from cnnbench.config.composition import axes
from cnnbench.config.overrides import combinations, is_excluded, override
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps import plan

Cli = Callable[..., Outcome]


def planned(*line: str) -> list[list[str]]:
    return [job.overrides for job in plan.plan(line, None).jobs]


def test_zipped_lists_go_side_by_side() -> None:
    found = combinations({"a": ["a1", "a2"], "b": ["b1", "b2"], "c": ["c1", "c2"]}, [["a", "c"]])
    assert found == [("a1", "c1", "b1"), ("a1", "c1", "b2"), ("a2", "c2", "b1"), ("a2", "c2", "b2")]
    assert planned("model=mlp,cnn", "training.epochs=3,5", "sweep.zip=[[model,training.epochs]]") == [
        ["model=mlp", "training.epochs=3"],
        ["model=cnn", "training.epochs=5"],
    ]


@pytest.mark.parametrize(
    ("zipped", "words"),
    [
        ([["a", "x"]], "names x, which has no list"),
        ([["a", "d"]], "a has 2, d has 3"),
        ([["a", "b"], ["b", "c"]], "names b twice"),
    ],
)
def test_lists_that_cannot_be_zipped_are_refused(zipped: list[list[str]], words: str) -> None:
    lists = {"a": ["1", "2"], "b": ["1", "2"], "c": ["1", "2"], "d": ["1", "2", "3"]}
    with pytest.raises(CnnbenchError, match=words):
        combinations(lists, zipped)


def test_combinations_are_left_out() -> None:
    assert is_excluded({"model": "mlp", "seed": [1, 2]}, {"model": ["mlp"], "seed": [2]})
    assert not is_excluded({"model": "mlp", "seed": [1, 2]}, {"model": ["mlp"], "seed": [0]})
    line = ("model=mlp,cnn", "seed=0,1", "sweep.exclude=[{model: mlp, seed: 1}]")
    assert planned(*line) == [["model=mlp", "seed=0"], ["model=cnn", "seed=0"], ["model=cnn", "seed=1"]]
    by_value = "sweep.exclude=[{optimizer.learning_rate: 0.1}]"
    assert planned("optimizer.learning_rate=0.1,0.01", by_value) == [["optimizer.learning_rate=0.01"]]
    with pytest.raises(CnnbenchError, match="there is no key modle"):
        planned("model=mlp,cnn", "sweep.exclude=[{modle: mlp}]")
    with pytest.raises(CnnbenchError, match="leaves no run"):
        planned("seed=0,1", "sweep.exclude=[{model: cnn}]")


def test_a_preset_gives_values_and_what_is_typed_wins() -> None:
    assert planned("sweep=seeds", "model=mlp,cnn", "seed=5,6") == [
        [f"model={model}", f"seed={seed}"] for model in ("mlp", "cnn") for seed in (5, 6)
    ]
    assert planned("sweep=seeds") == [["seed=0"], ["seed=1"], ["seed=2"]]
    assert len(planned("sweep=grid")) == 2 * 4 * 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("sweep.grid=3",), "sweep.grid"),
        (("sweep=grids",), "did you mean grid"),
        (("sweep.zips=[]",), "did you mean zip"),
        (("hydra/sweeper=basic",), "listed and stored"),
        (("hydra/launcher=jobllib",), "jobllib"),
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=many"), "hydra.launcher.n_jobs"),
        (("hydra/launcher=ray",), "needs ray"),
    ],
)
def test_a_mistake_is_one_line(line: tuple[str, ...], words: str, run_cli: Cli, folder: Path) -> None:
    if "needs ray" in words:
        from importlib.util import find_spec

        if find_spec("ray"):
            pytest.skip("ray is installed")
    outcome = run_cli("-m", "seed=0,1", *line)
    assert outcome.exit_code == 2
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "value", ["plain", "it's", "a b", 3, 0.001, True, None, [1, "x y"], {"a": [1, None]}]
)
def test_a_value_of_a_grid_reaches_hydra_as_it_is(value: object) -> None:
    from cnnbench.config.composition import typed_values

    assert typed_values([override("key", value)]) == {"key": value}
    assert axes([override("key", value)]).keys() == {"key"}
