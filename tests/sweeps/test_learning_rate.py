"""The range test of the learning rate: what is concluded from a curve, and what is typed next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Outcome
from PIL import Image

from cnnbench.cli.range_test import _line_with_rate
from cnnbench.config import compose, run_spec
from cnnbench.reporting.figures.range_test import range_test_figure, range_test_lines
from cnnbench.sweeps.learning_rate import FINE_TUNING, judge

Cli = Callable[..., Outcome]
Curve = list[tuple[float, float]]
RATES = np.geomspace(1e-6, 10, 150)


def curve(loss: Callable[[float], float]) -> Curve:
    return [(float(rate), loss(float(rate))) for rate in RATES]


def valley(rate: float) -> float:
    """Fall around 1e-3, be lowest at about 0.03 and rise beyond 0.1."""
    return 0.2 + 2 / (1 + rate / 1e-3) + max(0.0, rate - 0.05) ** 2 * 20


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested() -> None:
    found = judge("training", [curve(valley)])
    assert found.suggestion == pytest.approx(0.01, rel=0.6)
    assert found.lowest == pytest.approx(10 * found.suggestion, rel=0.05)
    assert found.steepest is not None
    assert 5e-4 < found.steepest < 5e-3  # the loss lags behind by its smoothing


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_curve(broken: float) -> None:
    found = judge("training", [curve(lambda rate: broken if rate > 0.2 else valley(rate))])
    assert found.suggestion == pytest.approx(judge("training", [curve(valley)]).suggestion)
    assert found.diverged == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("loss", [math.nan, 2.3, None])
def test_nothing_is_suggested_where_the_loss_never_falls(loss: float | None) -> None:
    rising = curve(lambda rate: 2.3 + rate if loss is None else loss)
    assert judge("training", [rising]).suggestion is None


def test_several_seeds_are_one_answer() -> None:
    curves = [curve(valley), curve(lambda rate: valley(rate / 4)), curve(lambda _: math.nan)]
    found = judge("training", curves)
    assert len(found.suggestions) == 2
    assert min(found.suggestions) <= found.suggestion <= max(found.suggestions)


def test_the_drawing_is_narrow_and_shows_where_the_suggestion_lies() -> None:
    found = judge("training", [curve(valley)])
    lines = range_test_lines(found.rates, found.losses, found.suggestion)
    assert max(map(len, lines)) <= 79
    assert all(line.isascii() for line in lines)
    labels, mark = lines[-2], lines[-1]
    assert labels.index("0.001") < mark.index("^") < labels.index("0.1 ", labels.index("0.01") + 4)
    assert range_test_lines([1e-3, 1e-2], [math.nan, math.nan], None)  # and is drawn whatever there is
    range_test_figure([1e-3, 1e-2], [1.0, 1.1], {"suggested": None}, "nothing to mark")


@pytest.mark.parametrize(
    ("line", "phase", "expected"),
    [
        (["model=mlp"], "training", "cnnbench model=mlp optimizer.learning_rate=0.003"),
        (["optimizer.learning_rate=1"], "training", "cnnbench optimizer.learning_rate=0.003"),
        (
            ["optimizer/learning_rate=cosine"],
            "training",
            "cnnbench optimizer/learning_rate=cosine optimizer.learning_rate.initial_learning_rate=0.003",
        ),
        (
            ["model=transfer", "training.fine_tuning={from_layer: all, epochs: 2, learning_rate: 1}"],
            FINE_TUNING,
            "cnnbench model=transfer 'training.fine_tuning={from_layer: all, epochs: 2, learning_rate: 1}' "
            "training.fine_tuning.learning_rate=0.003",
        ),
    ],
)
def test_the_line_to_type_next(line: list[str], phase: str, expected: str) -> None:
    composed = compose(line)
    spec = run_spec(composed, composed.hydra.runtime.choices, line)
    assert _line_with_rate(spec, line, phase, 0.003) == expected


def test_a_test_leaves_a_picture_and_no_run(run_cli: Cli, folder: Path) -> None:
    line = [text for text in TINY if not text.startswith("training")]
    outcome = run_cli("lr-find", *line, "training.batch_size=16", "--seeds", "2")
    assert outcome.exit_code == 0, outcome.err
    assert [path.name for path in folder.iterdir()] == ["lr_find_cnn_synthetic.png"]
    with Image.open(folder / "lr_find_cnn_synthetic.png") as picture:
        assert picture.width == 720
    next_line = outcome.out.splitlines()[-1]
    assert next_line.startswith("next: cnnbench dataset=synthetic")
    assert "optimizer.learning_rate=" in next_line


def test_targets_of_classes_are_no_more_scaled_than_in_a_run(run_cli: Cli, folder: Path) -> None:
    line = [text for text in TINY if not text.startswith("training")]

    def losses(scaled: str) -> list[float]:
        outcome = run_cli(
            "lr-find", *line, "deterministic=true", f"training.scale_targets={scaled}", "--json"
        )
        found: list[float] = json.loads(outcome.out)["test"]["losses"]
        return found

    assert losses("auto") == losses("false")


def test_a_phase_that_a_run_would_leave_out_is_not_tested(run_cli: Cli, folder: Path) -> None:
    line = [
        "dataset=synthetic",
        "dataset.size=32",
        "dataset.examples=60",
        "model=transfer",
        "training=transfer",
    ]
    backbone = ["model.backbone=MobileNet", "model.weights=null", "model.backbone_arguments={alpha: 0.25}"]
    outcome = run_cli("lr-find", "phase=fine_tuning", *line, *backbone)
    assert outcome.exit_code == 2
    assert "and it takes 2,000" in outcome.err
    assert "training.fine_tuning.from_examples=1" in outcome.err
