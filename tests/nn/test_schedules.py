"""Schedules: the values at the steps that matter, and what an optimizer makes of them."""

from __future__ import annotations

from itertools import pairwise

import keras
import pytest

from cnnbench.nn import schedules

STEPS, EPOCHS, PEAK = 10, 20, 0.4


def values(schedule: keras.optimizers.schedules.LearningRateSchedule, upto: int) -> list[float]:
    return [float(schedule(step)) for step in range(upto + 1)]


def test_constant_is_a_plain_number_that_callbacks_may_change() -> None:
    assert schedules.constant(0.01) == 0.01
    assert isinstance(schedules.constant(1), float)  # Keras refuses a whole number
    assert float(keras.optimizers.SGD(schedules.constant(0.01)).learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("staircase", [False, True])
def test_exponential_decay_is_its_formula(staircase: bool) -> None:
    schedule = schedules.exponential_decay(0.1, decay_steps=4, decay_rate=0.5, staircase=staircase)
    for step in (0, 1, 3, 4, 6, 8, 40):
        exponent = step // 4 if staircase else step / 4
        assert float(schedule(step)) == pytest.approx(0.1 * 0.5**exponent, rel=1e-5)


def test_cosine_without_warmup_falls_from_the_peak_to_the_end() -> None:
    rates = values(schedules.cosine(STEPS, EPOCHS, PEAK), STEPS * EPOCHS)
    assert rates[0] == pytest.approx(PEAK)
    assert rates[STEPS * EPOCHS // 2] == pytest.approx(PEAK / 2)
    assert rates[-1] == pytest.approx(0.0, abs=1e-7)
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_cosine_ends_at_the_final_fraction_and_stays_there() -> None:
    schedule = schedules.cosine(STEPS, EPOCHS, PEAK, final_fraction=0.25)
    assert float(schedule(STEPS * EPOCHS)) == pytest.approx(PEAK / 4)
    assert float(schedule(10 * STEPS * EPOCHS)) == pytest.approx(PEAK / 4)


def test_cosine_warms_up_linearly_from_zero_to_the_peak_and_then_falls() -> None:
    rates = values(schedules.cosine(STEPS, EPOCHS, PEAK, warmup_epochs=2), STEPS * EPOCHS)
    warmup = 2 * STEPS
    for step in range(warmup + 1):
        assert rates[step] == pytest.approx(PEAK * step / warmup, abs=1e-6)
    assert max(rates) == pytest.approx(PEAK)
    assert rates.index(max(rates)) == warmup
    assert rates[(warmup + STEPS * EPOCHS) // 2] == pytest.approx(PEAK / 2, rel=1e-4)
    assert rates[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_warmup_of_half_an_epoch_is_half_its_steps() -> None:
    schedule = schedules.cosine(STEPS, EPOCHS, PEAK, warmup_epochs=0.5)
    assert float(schedule(STEPS // 2)) == pytest.approx(PEAK)


@pytest.mark.parametrize("warmup_epochs", [EPOCHS, EPOCHS + 5])
def test_a_warmup_as_long_as_the_training_still_makes_a_schedule(warmup_epochs: int) -> None:
    schedule = schedules.cosine(STEPS, EPOCHS, PEAK, warmup_epochs=warmup_epochs)
    assert float(schedule(STEPS * EPOCHS - 1)) == pytest.approx(PEAK)


def test_cosine_of_a_single_step_is_a_schedule() -> None:
    assert float(schedules.cosine(1, 1, PEAK)(0)) == pytest.approx(PEAK)
