"""`evaluate corruption=…`: what a model loses by corrupted pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from inspection_runs import spec_of, trained

from cnnbench.data import CORRUPTIONS, corrupted
from cnnbench.errors import CnnbenchError
from cnnbench.inference.robustness import Asked, asked, measure_robustness
from cnnbench.nn import load_checkpoint


def test_a_line_names_kinds_and_severities() -> None:
    rest, found = asked(["dataset.root=x", "corruption=fog,gaussian_noise", "severity=2..4"])
    assert rest == ("dataset.root=x",)
    assert found == Asked(["gaussian_noise", "fog"], [2, 3, 4])
    assert asked(["corruption=all"])[1] == Asked(list(CORRUPTIONS), (1, 2, 3, 4, 5))
    assert asked(["corruption=[fog, snow]", "severity=[5,1]"])[1] == Asked(["snow", "fog"], [1, 5])
    assert asked(["dataset=digits"]) == (("dataset=digits",), None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["corruption=frog"], "there is no corruption frog"),
        (["corruption=fog", "severity=0..3"], "none from 1 to 5"),
        (["corruption=fog", "severity="], "none from 1 to 5"),
        (["corruption="], "names none"),
        (["severity=3"], "none is named"),
        (["corruption=fog", "corruption=snow"], "corruption= is typed twice"),
        (["corruption=fog", "severity=1", "severity=2"], "severity= is typed twice"),
    ],
)
def test_what_cannot_be_is_refused(line: list[str], message: str) -> None:
    with pytest.raises(CnnbenchError, match=message):
        asked(line)


def test_the_figures_are_those_of_the_corrupted_pictures(run_cli: Any) -> None:
    folder = trained("multiclass")
    done = run_cli("evaluate", str(folder.path), "corruption=contrast,fog", "severity=1,5", "--json")
    found = json.loads(done.out)["robustness"]
    test, model = spec_of(folder).dataset().test, load_checkpoint(folder.best_model)
    for row in found["each"]:
        x = [
            corrupted(one, row["corruption"], row["severity"], [0, index])
            for index, one in enumerate(test.x[:])
        ]
        right = model.predict(np.stack(x), verbose=0).argmax(axis=1) == test.y
        assert row["value"] == pytest.approx(right.mean())
        assert row["interval"]["low"] < row["value"] < row["interval"]["high"] or row["value"] in (0, 1)
    values = [row["value"] for row in found["each"]]
    assert [(row["corruption"], row["severity"]) for row in found["each"]] == [
        *(("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)),
    ]
    assert found["kinds"][0]["value"] == pytest.approx(np.mean(values[:2]))
    assert found["mean"]["value"] == pytest.approx(np.mean(values))
    assert found["mean"]["interval"]["method"] == "Student"
    assert found["clean"] == folder.metrics["metrics"]["test"]["accuracy"]
    table = run_cli("evaluate", str(folder.path), "corruption=contrast").out
    assert "contrast" in table
    assert "with the pictures as they are" in table


def test_the_mean_over_one_severity_has_the_interval_of_its_figure() -> None:
    folder = trained("multiclass")
    test, model = spec_of(folder).dataset().test, load_checkpoint(folder.best_model)
    found = measure_robustness(
        lambda x: model.predict(x, verbose=0), test, folder.decision, Asked(["fog", "snow"], [2]), 0.5, 64
    )
    assert [one.interval for one in found.kinds] == [one.interval for one in found.each]
    assert found.mean.interval not in [one.interval for one in found.each]


def test_what_is_no_picture_is_refused(run_cli: Any) -> None:
    done = run_cli("evaluate", str(trained("regression").path), "corruption=all")
    assert done.exit_code == 2
    assert "pictures of 8 bits" in done.err


def test_the_batch_changes_nothing() -> None:
    folder = trained("multilabel")
    test, model = spec_of(folder).dataset().test, load_checkpoint(folder.best_model)
    of_sizes = [
        measure_robustness(
            lambda x: model.predict(x, verbose=0), test, folder.decision, Asked(["snow"], [2]), 0.5, size
        )
        for size in (7, 1000)
    ]
    assert of_sizes[0].mean.value == pytest.approx(of_sizes[1].mean.value, abs=1e-6)
    assert of_sizes[0].each[0].interval is not None
