"""The statistics of a comparison: error rates on simulated runs, and scipy's own tests on the same values.

A hundred simulations in the ordinary run, with wide bounds; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from cnnbench.analysis import significance
from cnnbench.analysis.significance import Sample, Verdict, half_width, judge
from cnnbench.data.partition import folds

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "100"))
LOW, HIGH = stats.binom.interval(0.95 if SIMULATIONS >= 1000 else 0.99, SIMULATIONS, 0.05)
Draw = Callable[[np.random.Generator], list[Sample]]


def by_seed(*spreads: float, seeds: int, means: Sequence[float] = ()) -> Draw:
    """Groups with the same seeds; what a seed does to all of them is as large as the rest."""

    def draw(rng: np.random.Generator) -> list[Sample]:
        common = rng.normal(size=seeds)
        levels = means or [0.0] * len(spreads)
        return [
            dict(enumerate(level + common + rng.normal(0, spread, seeds)))
            for level, spread in zip(levels, spreads, strict=True)
        ]

    return draw


def apart(groups: int, seeds: int) -> Draw:
    """Groups without a seed in common."""
    return lambda rng: [
        {100 * group + seed: rng.normal() for seed in range(seeds)} for group in range(groups)
    ]


def false_alarms(draw: Draw) -> int:
    rng = np.random.default_rng(0)
    return sum(
        any(verdict.worse for verdict in judge(draw(rng), True, with_p=False).verdicts)
        for _ in range(SIMULATIONS)
    )


@pytest.mark.parametrize(
    "draw",
    [
        by_seed(1, 1, seeds=3),
        by_seed(1, 1, seeds=5),
        apart(2, 5),
        by_seed(1, 1, 1, seeds=3),
        by_seed(*[1] * 8, seeds=3),
        by_seed(*[1] * 8, seeds=2),
        apart(5, 4),
    ],
    ids=["2 paired", "2 paired, 5 seeds", "2 apart", "3 paired", "8 paired", "8 paired, 2 seeds", "5 apart"],
)
def test_equal_groups_are_told_apart_as_often_as_the_level_says(draw: Draw) -> None:
    """Any claim about any group counts, the best one being chosen by the same values."""
    assert LOW <= false_alarms(draw) <= HIGH


@pytest.mark.parametrize(
    "draw",
    [
        apart(2, 3),
        by_seed(1, 1, 1, 8, seeds=5),
        by_seed(*[1] * 4, *[0.001] * 4, seeds=3),
        by_seed(*[1] * 6, *[10] * 2, seeds=3),
    ],
    ids=["Welch with 3 seeds", "one noisy", "four that stand still", "two noisy"],
)
def test_the_error_rate_is_on_the_safe_side_otherwise(draw: Draw) -> None:
    assert false_alarms(draw) <= HIGH


def test_comparing_all_with_the_best_one_pair_at_a_time_would_not_keep_the_level() -> None:
    """What the corrected procedures are for."""
    rng, draw, alarms = np.random.default_rng(0), by_seed(*[1] * 8, seeds=3), 0
    for _ in range(SIMULATIONS):
        values = np.array([list(sample.values()) for sample in draw(rng)])
        best = values.mean(axis=1).argmax()
        others = np.delete(values, best, axis=0)
        alarms += bool((stats.ttest_rel(values[best], others, axis=1).pvalue <= 0.05).any())
    assert alarms > 2 * HIGH


def test_a_known_difference_is_found() -> None:
    rng = np.random.default_rng(1)
    found = [
        judge(by_seed(1, 1, 1, 1, seeds=5, means=[0, 0, 0, 4])(rng), True, with_p=False)
        for _ in range(min(SIMULATIONS, 200))
    ]
    assert all(judgement.best == 3 for judgement in found)
    assert np.mean([all(v.worse for v in j.verdicts[:3]) for j in found]) > 0.95


def test_the_interval_covers_a_known_difference() -> None:
    """That of every group at once, so at least as often as 95 %; the best is known here."""
    rng, covered = np.random.default_rng(2), 0
    for _ in range(SIMULATIONS):
        verdicts = judge(by_seed(1, 1, 1, seeds=4, means=[0, 1, 9])(rng), True, with_p=False).verdicts
        covered += all(
            abs(verdict.difference - true) <= verdict.margin
            for verdict, true in zip(verdicts[:2], (9, 8), strict=True)
        )
    assert SIMULATIONS - covered <= HIGH


# -- folds -----------------------------------------------------------------------------------------

EXAMPLES, FOLDS, USED, USELESS = 50, 5, 3, 8
CROSS_VALIDATIONS = SIMULATIONS // 2
MOST_MISSED = stats.binom.ppf(0.975 if SIMULATIONS >= 1000 else 0.995, CROSS_VALIDATIONS, 0.05)


def cross_validate(rng: np.random.Generator) -> list[Sample]:
    """Squared errors by fold of two linear regressions, of which one has useless columns besides."""
    x = rng.normal(size=(EXAMPLES, USED + USELESS))
    y = x[:, :USED].sum(axis=1) + rng.normal(size=EXAMPLES)
    fold = folds(y, "regression", FOLDS, int(rng.integers(2**31)))
    samples: list[Sample] = []
    for columns in (x[:, :USED], x):
        sample = {}
        for number in range(FOLDS):
            seen, unseen = fold != number, fold == number
            weights = np.linalg.lstsq(columns[seen], y[seen], rcond=None)[0]
            sample[number] = float(np.mean((y[unseen] - columns[unseen] @ weights) ** 2))
        samples.append(sample)
    return samples


def expected_error(columns: int) -> float:
    """Return that of a regression with noise of variance 1 on normal columns, trained without one fold."""
    seen = EXAMPLES - EXAMPLES // FOLDS
    return 1 + columns / (seen - columns - 1)


def test_the_interval_of_folds_covers_the_expected_error_at_least_as_often_as_it_says() -> None:
    rng, overlap = np.random.default_rng(3), 1 / (FOLDS - 1)
    difference = expected_error(USED + USELESS) - expected_error(USED)
    missed = dict.fromkeys(("mean", "difference", "uncorrected"), 0)
    for _ in range(CROSS_VALIDATIONS):
        samples = cross_validate(rng)
        values = list(samples[0].values())
        off = abs(np.mean(values) - expected_error(USED))
        missed["mean"] += off > half_width(values, overlap)
        missed["uncorrected"] += off > half_width(values)
        judgement = judge(samples, False, overlap=overlap)
        verdict = judgement.verdicts[1 - (judgement.best or 0)]
        found = verdict.difference if judgement.best == 0 else -verdict.difference
        missed["difference"] += abs(found - difference) > verdict.margin
    assert missed["mean"] <= MOST_MISSED
    assert missed["difference"] <= MOST_MISSED
    assert missed["uncorrected"] > missed["mean"]


def test_the_test_of_folds_is_that_of_nadeau_and_bengio() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal([[0.0], [1.0]], 1, (2, 10))
    judgement = judge([dict(enumerate(one)), dict(enumerate(other))], True, overlap=1 / 9)
    distances = other - one
    error = distances.std(ddof=1) * math.sqrt(1 / 10 + 1 / 9)
    verdict = judgement.verdicts[0]
    assert verdict.difference == pytest.approx(distances.mean())
    assert verdict.margin == pytest.approx(stats.t.ppf(0.975, 9) * error)
    assert verdict.p == pytest.approx(2 * stats.t.sf(abs(distances.mean()) / error, 9))
    assert "Nadeau and Bengio" in judgement.test


# -- against scipy -------------------------------------------------------------------------------


@pytest.fixture
def values() -> np.ndarray:
    """``(3, 5)``: groups, seeds."""
    return np.random.default_rng(3).normal(size=(3, 5)) + np.array([[0.0], [1.0], [1.5]])


def samples(values: np.ndarray, shift: int = 0) -> list[Sample]:
    return [{seed + shift * group: v for seed, v in enumerate(row)} for group, row in enumerate(values)]


def other(verdicts: Sequence[Verdict]) -> Verdict:
    (found,) = [verdict for verdict in verdicts if math.isfinite(verdict.margin)]
    return found


def test_two_groups_with_the_same_seeds_are_a_paired_t_test(values: np.ndarray) -> None:
    judgement = judge(samples(values[:2]), True)
    expected = stats.ttest_rel(values[0], values[1])
    low, high = expected.confidence_interval()
    verdict = other(judgement.verdicts)
    assert judgement.test == "paired t-test"
    assert verdict.p == pytest.approx(expected.pvalue)
    assert verdict.margin == pytest.approx((high - low) / 2)
    assert verdict.difference == pytest.approx(abs(low + high) / 2)


def test_two_groups_without_common_seeds_are_welchs_test(values: np.ndarray) -> None:
    judgement = judge(samples(values[:2], shift=10), True)
    expected = stats.ttest_ind(values[0], values[1], equal_var=False)
    low, high = expected.confidence_interval()
    assert judgement.test == "Welch's t-test"
    assert other(judgement.verdicts).p == pytest.approx(expected.pvalue)
    assert other(judgement.verdicts).margin == pytest.approx((high - low) / 2)


def test_several_groups_without_common_seeds_are_tukeys_hsd(values: np.ndarray) -> None:
    judgement = judge(samples(values, shift=10), True)
    expected = stats.tukey_hsd(*values)
    interval = expected.confidence_interval()
    best = judgement.best
    assert judgement.test == "Tukey's HSD"
    for group in {0, 1, 2} - {best}:
        verdict = judgement.verdicts[group]
        assert verdict.p == pytest.approx(expected.pvalue[best, group])
        width = interval.high[best, group] - interval.low[best, group]
        assert verdict.margin == pytest.approx(width / 2, rel=1e-5)


def test_groups_of_unequal_size_are_tukeys_hsd_too(values: np.ndarray) -> None:
    groups = samples(values, shift=10)
    del groups[0][0], groups[0][1], groups[1][10]
    judgement = judge(groups, False)
    expected = stats.tukey_hsd(*(list(group.values()) for group in groups)).pvalue
    for group in {0, 1, 2} - {judgement.best}:
        assert judgement.verdicts[group].p == pytest.approx(expected[judgement.best, group])


def test_several_groups_with_common_seeds_are_tukeys_test_of_the_two_way_table(values: np.ndarray) -> None:
    """The residual variance by the textbook formula for complete blocks."""
    judgement = judge(samples(values), True)
    assert judgement.test == "Tukey's test, paired by seed"
    groups, seeds = values.shape
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    freedom = (groups - 1) * (seeds - 1)
    error = math.sqrt((rest**2).sum() / freedom / seeds)
    means = values.mean(axis=1)
    for group in {0, 1, 2} - {judgement.best}:
        ratio = (means[judgement.best] - means[group]) / error
        expected = stats.studentized_range.sf(ratio, groups, freedom)
        assert judgement.verdicts[group].p == pytest.approx(expected)


def test_a_missing_run_leaves_the_model_to_least_squares(values: np.ndarray) -> None:
    """As numpy solves it with a column for each group and each seed."""
    groups = samples(values)
    del groups[2][4], groups[0][1]
    table = values.copy()
    table[2, 4] = table[0, 1] = np.nan
    model = significance.fit_additive(table)
    rows, columns = np.nonzero(~np.isnan(table))
    design = np.hstack([np.eye(3)[rows], np.eye(5)[columns]])
    solution, *_ = np.linalg.lstsq(design, table[rows, columns])
    assert model is not None
    assert model.effects - model.effects[0] == pytest.approx(solution[:3] - solution[0])
    assert model.freedom == 13 - np.linalg.matrix_rank(design)
    residuals = table[rows, columns] - design @ solution
    assert model.residuals[rows, columns] == pytest.approx(residuals)


def test_p_of_many_groups_is_interpolated_without_loss() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(40, 3)) + np.linspace(0, 3, 40)[:, None]
    model = significance.fit_additive(values)
    assert model is not None
    differences, margins, p = significance.tukey_tests(model, 39, 0.05, with_p=True)
    some = [0, 7, 20, 33]
    critical = stats.studentized_range.ppf(0.95, 40, model.freedom)
    expected = stats.studentized_range.sf(differences[some] / margins[some] * critical, 40, model.freedom)
    assert p[some] == pytest.approx(expected, rel=0.1)


def test_holm_as_in_a_worked_example() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before."""
    corrected = significance.holm(np.array([0.01, 0.04, 0.03, 0.005, np.nan]))
    assert corrected[:4] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(corrected[4])


def test_the_interval_and_p_of_corrected_t_tests_say_the_same() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        judgement = judge(by_seed(1, 1, 1, 20, seeds=4, means=[0, 2, 4, 0])(rng), True)
        for verdict in judgement.verdicts:
            assert verdict.worse == (verdict.p <= 0.05)


def test_corrected_t_tests_are_those_of_scipy_on_each_pair() -> None:
    """Pairs with three seeds in common are tested by seed, others by Welch's test; a value is missing."""
    rng = np.random.default_rng(7)
    table = rng.normal(size=(4, 9)) + np.array([[0.0], [2.0], [3.0], [0.5]])
    table[0, 5:] = table[1, 4:] = table[1, 1] = table[2, :5] = table[3, :3] = np.nan
    tests = {}
    for one, two in combinations(range(4), 2):
        both = ~np.isnan(table[one] + table[two])
        alone = [row[~np.isnan(row)] for row in (table[one], table[two])]
        tests[one, two] = (
            stats.ttest_rel(table[one][both], table[two][both])
            if both.sum() >= 3
            else stats.ttest_ind(*alone, equal_var=False)
        )
    expected = significance.holm(np.array([test.pvalue for test in tests.values()]))
    differences, margins, p, name = significance.pairwise_tests(table, 2, 0.05)
    assert name == "t-tests, paired where seeds are shared, Holm's correction"
    assert math.isnan(p[2])
    for (pair, test), corrected in zip(tests.items(), expected, strict=True):
        if 2 not in pair:
            continue
        (group,) = set(pair) - {2}
        interval = test.confidence_interval(1 - 0.05 * test.pvalue / corrected)
        assert p[group] == pytest.approx(corrected)
        assert margins[group] == pytest.approx((interval.high - interval.low) / 2)
        sign = 1 if pair[0] == 2 else -1
        assert differences[group] == pytest.approx(sign * (interval.high + interval.low) / 2)


def test_half_width_is_that_of_students_interval(values: np.ndarray) -> None:
    low, high = stats.ttest_1samp(values[0], 0).confidence_interval()
    assert half_width(values[0]) == pytest.approx((high - low) / 2)
    assert math.isnan(half_width([0.5]))
    assert half_width([0.5, 0.5]) == 0


# -- what cannot be tested -----------------------------------------------------------------------


def reasons(groups: Sequence[Sample]) -> list[str]:
    return [verdict.reason for verdict in judge(groups, True).verdicts]


def test_one_run_cannot_be_told_apart() -> None:
    assert reasons([{0: 0.5}, {0: 0.75}]) == ["one run", ""]
    assert reasons([{0: 0.5, 1: 0.6}, {0: 0.75}]) == ["the best has one run", ""]
    assert reasons([{0: 0.5}, {0: 0.75, 1: 0.8}]) == ["one run", ""]


def test_a_value_that_is_not_finite_is_no_figure() -> None:
    judgement = judge([{0: math.nan, 1: 0.9}, {0: 0.5, 1: 0.6}, {0: math.inf}], True)
    assert judgement.best == 1
    assert [verdict.reason for verdict in judgement.verdicts] == ["no figure", "", "no figure"]
    assert judge([{0: math.nan}], True).best is None


def test_the_same_difference_for_every_seed_is_no_proof() -> None:
    """Two validation sets of a hundred examples each often differ by one, with both seeds."""
    assert reasons([{0: 0.51, 1: 0.61}, {0: 0.52, 1: 0.62}]) == ["no spread to judge by", ""]
    assert (
        reasons([{0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}, {0: 0.6, 1: 0.6}])[:2] == ["no spread to judge by"] * 2
    )


@pytest.mark.parametrize("groups", [2, 3])
def test_equal_values_are_not_distinguishable(groups: int) -> None:
    verdicts = judge([{0: 0.5, 1: 0.7}] * groups, True).verdicts
    assert [verdict.p for verdict in verdicts[1:]] == [1.0] * (groups - 1)
    assert all(verdict.indistinguishable for verdict in verdicts[1:])


def test_seeds_that_only_some_share_are_paired_where_they_are() -> None:
    rng = np.random.default_rng(6)
    groups = [dict(enumerate(rng.normal(size=4))) for _ in range(2)]
    groups += [{10 + seed: rng.normal() for seed in range(4)}]
    assert judge(groups, True).test == "t-tests, paired where seeds are shared, Holm's correction"


def test_smaller_may_be_better() -> None:
    judgement = judge([{0: 5.0, 1: 5.1, 2: 5.2}, {0: 1.0, 1: 1.1, 2: 1.3}], False)
    assert judgement.best == 1
    assert judgement.verdicts[0].worse
    assert judgement.verdicts[0].difference == pytest.approx(3.9667, abs=1e-4)
