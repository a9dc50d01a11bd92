"""What fits into the minutes of a run, by arithmetic alone."""

from __future__ import annotations

import pytest

from cnnbench.config import compose, run_spec
from cnnbench.errors import CnnbenchError
from cnnbench.runs.budget import FILLED, Budget, Speed, length, span
from cnnbench.runs.spec import FineTuning, Training

TUNING = FineTuning(from_layer="all", epochs=20, learning_rate=1e-4)


def planned(minutes: float, *speeds: Speed, tuning: FineTuning | None = None, **keys: int) -> Budget:
    training = Training(epochs=40, max_minutes=minutes, fine_tuning=tuning).model_copy(update=keys)
    return Budget.of(training, 100, speeds, before=20.0, after=10.0)


def test_a_phase_ends_with_an_epoch_or_within_one() -> None:
    assert span(5, None, 100) == (5, 0)
    assert span(5, 250, 100) == (3, 50)
    assert span(5, 900, 100) == (5, 0)
    assert [length(5, most, 100) for most in (None, 250, 300)] == [5, 2.5, 3]
    assert isinstance(length(5, 300, 100), int)  # for a schedule of a user's own


def test_what_fits_is_not_cut() -> None:
    found = planned(60, Speed(5.0, 0.1, 1.0))
    assert (found.epochs, found.max_steps) == ([40], [None])
    assert found.ends == [60 * 60 - 10]


@pytest.mark.parametrize("minutes", [1.0, 1.5, 3.0, 7.0])
def test_what_is_planned_fits_and_fills_the_time(minutes: float) -> None:
    speed = Speed(5.0, 0.1, 1.0)
    found = planned(minutes, speed)
    training = found.planned_seconds - 20.0 - 10.0
    assert training <= FILLED * (60 * minutes - 30.0) + speed.epoch
    assert training >= 0.85 * FILLED * (60 * minutes - 30.0)
    assert found.lengths(100)[0] == pytest.approx(sum(divmod(found.lengths(100)[0], 1)))


def test_less_than_an_epoch_is_a_part_of_one() -> None:
    found = planned(0.65, Speed(2.0, 0.1, 1.0))
    assert found.epochs == [1]
    assert found.max_steps[0] is not None
    assert 1 <= found.max_steps[0] < 100


def test_two_phases_are_shortened_alike_and_end_one_after_the_other() -> None:
    found = planned(5, Speed(1.0, 0.05, 0.5), Speed(5.0, 0.5, 1.0), tuning=TUNING)
    first, second = found.lengths(100)
    assert first / 40 == pytest.approx(second / 20, rel=0.2)
    assert 20 < found.ends[0] < found.ends[1] == 5 * 60 - 10


def test_typed_limits_are_upper_limits() -> None:
    assert planned(60, Speed(1.0, 0.01, 0.1), max_steps=250).max_steps == [250]


def test_too_short_a_time_names_one_that_is_not() -> None:
    with pytest.raises(CnnbenchError) as refused:
        planned(0.5, Speed(5.0, 0.1, 1.0))
    assert "training.max_minutes=0.5 leaves no time" in refused.value.message
    enough = float(refused.value.hint.split()[0].partition("=")[2])
    assert planned(enough, Speed(5.0, 0.1, 1.0)).epochs == [1]


def test_the_line_that_repeats_a_plan_composes_to_it() -> None:
    training = Training(epochs=40, max_minutes=3, fine_tuning=TUNING)
    found = Budget.of(training, 100, [Speed(1.0, 0.02, 0.5), Speed(5.0, 0.5, 1.0)], 20.0, 10.0)
    typed = [text.strip("'") for text in found.repeated_by(training).split()]
    line = ["model=transfer", "dataset=cifar10", *typed]
    again = run_spec(compose(line), {}, line).training
    settled = found.settled(training)
    assert again.fine_tuning == settled.fine_tuning
    assert (again.epochs, again.max_steps, again.max_minutes) == (settled.epochs, settled.max_steps, None)
