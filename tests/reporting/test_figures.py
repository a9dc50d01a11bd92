from __future__ import annotations

import io
import logging
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_runs import write_run, write_sweep
from PIL import Image
from sklearn.datasets import load_digits

from cnnbench.analysis import compare
from cnnbench.data import Column
from cnnbench.reporting.figures import canvas, charts, curves, lettering
from cnnbench.reporting.figures import images as images_module
from cnnbench.reporting.figures import outputs as outputs_module
from cnnbench.reporting.figures import run as run_module
from cnnbench.runs import metrics
from cnnbench.runs.folder import find_runs

DIGITS = [str(digit) for digit in range(10)]
TARGETS = ["price", "rooms", "a rather long name of a target", "age", "distance"]
KOREAN = ["고양이", "강아지"]
UNDRAWABLE = "\U000f0000"  # private use: no font that we would take has it


@pytest.fixture(autouse=True)
def _forget_warnings() -> Iterator[None]:
    lettering._warned.clear()
    yield
    lettering._warned.clear()


@pytest.fixture
def korean_font() -> str:
    families, missing = lettering.fonts_for(frozenset("".join(KOREAN)))
    if missing:
        pytest.skip("no font with Korean letters is installed here (Debian: fonts-nanum)")
    return families[1]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images * (255 / 16)).astype(np.uint8)[..., None], data.target


def noise(count: int, *shape: int) -> np.ndarray:
    return rng().integers(0, 256, (count, *shape), dtype=np.uint8)


def pixels(figure: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(canvas.to_png(figure))))


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def epoch(**values: float) -> dict[str, float]:
    return values


def probabilities(labels: np.ndarray, classes: int) -> np.ndarray:
    raw = np.exp(np.eye(classes)[labels] * 3 + rng().normal(0, 1.5, (len(labels), classes)))
    return raw / raw.sum(axis=1, keepdims=True)


def many_classes() -> tuple[np.ndarray, np.ndarray, list[str]]:
    labels = np.arange(3000) % 100
    guesses = np.where(rng().random(3000) < 0.6, labels, rng().integers(0, 100, 3000))
    return labels, guesses, [f"a rather long name of class {index}" for index in range(100)]


def of_labels(had: np.ndarray, chances: np.ndarray) -> dict[str, dict[str, float]]:
    names = [f"label {index}" for index in range(had.shape[1])]
    return metrics.by_output("multilabel", had, chances[:, : had.shape[1]], names)


def each_figure() -> dict[str, Callable[[], Any]]:
    images, labels = digits()
    outputs = probabilities(labels, 10)
    colour, colour_labels = noise(60, 32, 32, 3), np.arange(60) % 10
    rows, targets = rng().normal(size=(200, 30)), rng().normal(size=200)
    curves = [
        epoch(
            loss=9.0 * 0.8**i,
            val_loss=float("nan") if i == 30 else 9 * 0.9**i,
            accuracy=i / 60,
            learning_rate=0.1,
        )
        for i in range(60)
    ]
    large, guesses, names = many_classes()
    many, chances = (rng().random((200, 60)) < 0.3).astype(np.uint8), rng().random((200, 60))
    had, values = many[:, :4], rng().normal(size=(200, 5)) * 1000
    return {
        "samples": lambda: images_module.sample_grid(images, labels, DIGITS, "digits"),
        "colour samples": lambda: images_module.sample_grid(colour, colour_labels, DIGITS, "colour"),
        "wide samples": lambda: images_module.sample_grid(
            noise(8, 20, 300, 3), np.arange(8) % 2, ["a", "b"], "wide"
        ),
        "histograms": lambda: images_module.sample_grid(rows, targets, (), "rows"),
        "label samples": lambda: images_module.sample_grid(colour, had[:60], DIGITS[:4], "labels"),
        "target samples": lambda: images_module.sample_grid(
            colour, values[:60], (), "targets", target_names=TARGETS
        ),
        "histograms of labels": lambda: images_module.sample_grid(rows, had, DIGITS[:4], "rows"),
        "histograms of targets": lambda: images_module.sample_grid(
            rows, values, (), "rows", target_names=TARGETS
        ),
        "labels": lambda: outputs_module.label_bars(of_labels(had, chances), 200),
        "many labels": lambda: outputs_module.label_bars(of_labels(many, chances), 200),
        "wrong labels": lambda: images_module.wrong_labels(colour, had[:60], chances[:60, :4], DIGITS[:4]),
        "rows with wrong labels": lambda: images_module.wrong_labels(rows, had, chances[:, :4], DIGITS[:4]),
        "scatters": lambda: outputs_module.target_scatters(values, values[::-1], TARGETS),
        "largest of several": lambda: images_module.largest_errors(
            colour, values[:60], values[60:120], target_names=TARGETS
        ),
        "rows of several": lambda: images_module.largest_errors(
            rows, values, values[::-1], target_names=TARGETS
        ),
        "augmentation": lambda: images_module.augmentation_grid(images, images, "augmented"),
        "curves": lambda: charts.learning_curves(curves, 12),
        "many metrics": lambda: charts.learning_curves([{f"metric_{i}": 1.0 for i in range(40)}], None),
        "confusion": lambda: charts.confusion_matrix(labels, outputs.argmax(1), DIGITS),
        "confusion of 2": lambda: charts.confusion_matrix(labels > 4, labels > 5, ["no " * 20, "yes " * 20]),
        "confusion of 100": lambda: charts.confusion_matrix(large, guesses, names),
        "confusion of 1000": lambda: charts.confusion_matrix(np.arange(1000), np.arange(1000), ()),
        "residuals": lambda: charts.residuals(targets, targets + 1),
        "worst": lambda: images_module.worst_mistakes(images, labels, outputs, DIGITS),
        "worst rows": lambda: images_module.worst_mistakes(rows, labels[:200], outputs[:200], DIGITS),
        "largest errors": lambda: images_module.largest_errors(rows, targets, targets * 2),
        "largest errors of images": lambda: images_module.largest_errors(images[:200], targets, targets * 2),
    }


@pytest.mark.parametrize("name", each_figure())
def test_equal_inputs_give_the_same_png_of_sensible_size(name: str) -> None:
    draw = each_figure()[name]
    first = canvas.to_png(draw())
    assert first == canvas.to_png(draw())
    width, height = Image.open(io.BytesIO(first)).size
    assert 400 <= width <= 1600
    assert 100 <= height <= 1600


def test_png_holds_no_date_and_no_version() -> None:
    image = Image.open(io.BytesIO(canvas.to_png(charts.residuals(np.arange(9.0), np.arange(9.0)))))
    image.load()
    assert set(image.info) == {"dpi"}


def test_importing_figures_is_light_and_drawing_never_imports_pyplot() -> None:
    code = (
        "import sys, numpy as np\n"
        "from cnnbench.reporting.figures import canvas, charts\n"
        "heavy = {'matplotlib', 'PIL', 'sklearn', 'keras', 'tensorflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "canvas.to_png(charts.learning_curves([{'loss': 1.0}], 1))\n"
        "canvas.to_png(charts.confusion_matrix(np.arange(2), np.arange(2), ()))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- text ------------------------------------------------------------------------------------------


def test_korean_names_are_drawn_with_a_font_that_has_them(
    korean_font: str, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = noise(8, 16, 16, 3), np.arange(8) % 2
    figure = images_module.sample_grid(images, labels, KOREAN, "동물")
    assert texts(figure) == ["동물", *KOREAN * 4]
    assert korean_font in figure.axes[0].texts[1].get_fontfamily()
    # Boxes would be the same picture for any three letters.
    drawn = pixels(figure)
    assert (drawn != pixels(images_module.sample_grid(images, labels, ["강아지", "고양이"], "동물"))).any()
    assert (drawn != pixels(images_module.sample_grid(images, labels, ["???", "???"], "??"))).any()
    assert not caplog.records


def test_korean_class_names_are_drawn_in_every_figure_that_shows_classes(
    korean_font: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.arange(40) % 2
    outputs = np.full(40, 0.9)
    for figure in (
        charts.confusion_matrix(labels, outputs > 0.5, KOREAN),
        images_module.worst_mistakes(noise(40, 8, 8, 1), labels, outputs, KOREAN),
        images_module.worst_mistakes(
            rng().normal(size=(40, 3)) > 0,
            labels,
            outputs,
            KOREAN,
            [Column("키"), Column("몸무게"), Column("나이", ("어림", "늙음"))],
        ),
        images_module.sample_grid(
            rng().normal(size=(40, 3)) > 0,
            labels,
            KOREAN,
            "표",
            [Column("키"), Column("몸무게"), Column("나이", ("어림", "늙음"))],
        ),
        images_module.largest_errors(
            rng().normal(size=(40, 3)) > 0,
            labels,
            outputs,
            [Column("키"), Column("몸무게"), Column("나이", ("어림", "늙음"))],
        ),
    ):
        canvas.to_png(figure)  # a missing glyph is a UserWarning, which fails the test
    assert not caplog.records


def test_decomposed_korean_from_macos_looks_like_composed_korean(korean_font: str) -> None:
    decomposed = [unicodedata.normalize("NFD", name) for name in KOREAN]
    assert decomposed != KOREAN
    images, labels = noise(2, 8, 8, 1), np.arange(2)
    assert canvas.to_png(images_module.sample_grid(images, labels, decomposed, "x")) == canvas.to_png(
        images_module.sample_grid(images, labels, KOREAN, "x")
    )


def test_a_font_installed_after_matplotlib_listed_the_fonts_is_found(
    korean_font: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import font_manager

    wanted = frozenset("".join(KOREAN))
    listed = [e for e in font_manager.fontManager.ttflist if not lettering.drawable_by(e.fname, wanted)]
    listed += [e for e in font_manager.fontManager.ttflist if "Last Resort" in e.name and e not in listed]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    for cached in (lettering.fonts_for, lettering._add_new_fonts):
        cached.cache_clear()
    try:
        families, missing = lettering.fonts_for(wanted)
    finally:
        for cached in (lettering.fonts_for, lettering._add_new_fonts):
            cached.cache_clear()
    assert families
    assert not missing


def test_characters_without_a_font_are_replaced_and_warned(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"cat {UNDRAWABLE}", "dog \udcff"]  # the second: a byte of a file name that is no UTF-8
    with caplog.at_level(logging.WARNING, logger="cnnbench"):
        for _ in range(2):
            figure = images_module.sample_grid(noise(2, 8, 8, 1), np.arange(2), names, "title")
            canvas.to_png(figure)
    assert texts(figure) == ["title", "cat ?", "dog ?"]
    (record,) = [record for record in caplog.records if record.name == "cnnbench"]
    assert "U+F0000" in record.getMessage()
    assert "U+DCFF" in record.getMessage()
    record.getMessage().encode()  # a lone surrogate would break a log file


@pytest.mark.parametrize(
    "name", ["$x_1$", "$\\nonsense{$", "a_b^c", "100 %", "line\nbreak\ttab", "\u200bzero\ufe0f"]
)
def test_names_are_never_read_as_formulas_or_layout(name: str) -> None:
    figure = images_module.sample_grid(noise(1, 8, 8, 1), np.zeros(1, int), [name], name)
    canvas.to_png(figure)
    shown = name.replace("\n", " ").replace("\t", " ").replace("\u200b", "").replace("\ufe0f", "")
    assert texts(figure) == [shown, shown]
    canvas.to_png(charts.confusion_matrix(np.arange(2), np.arange(2), [name, "other"]))


@pytest.mark.parametrize("name", ["W" * 80, "고양이" * 20, "short"])
def test_captions_are_shortened_until_they_fit_and_never_overlap(name: str) -> None:
    labels = np.arange(60) % 10
    outputs = np.roll(np.eye(10), 1, axis=1)[labels]
    for figure in (
        images_module.sample_grid(noise(60, 32, 32, 3), labels, [name] * 10, name),
        images_module.worst_mistakes(noise(60, 20, 40, 3), labels, outputs, [name] * 10),
    ):
        renderer = figure.canvas.get_renderer()
        width, height = figure.canvas.get_width_height()
        boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
        assert not any(one.overlaps(two) for one, two in combinations(boxes, 2))
        assert all(0 <= b.x0 <= b.x1 <= width and 0 <= b.y0 <= b.y1 <= height for b in boxes)
        assert any("…" in text for text in texts(figure)) == (name != "short")


# --- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "each"), [(2, 10), (3, 5), (5, 5), (7, 3), (10, 2), (30, 1)])
def test_samples_are_spread_evenly_over_the_classes(classes: int, each: int) -> None:
    labels = np.sort(np.arange(900) % classes)  # sorted: the first 25 are all of class 0
    names = [f"c{index}" for index in range(classes)]
    captions = texts(images_module.sample_grid(noise(900, 8, 8, 1), labels, names, "x"))[1:]
    counts = {name: captions.count(name) for name in captions}
    assert len(counts) == min(classes, 25)
    assert set(counts.values()) == {each}


def test_a_class_with_few_examples_leaves_the_others_their_places() -> None:
    labels = np.array([0] * 50 + [1])
    captions = texts(images_module.sample_grid(noise(51, 8, 8, 1), labels, ["many", "one"], "x"))[1:]
    assert captions.count("one") == 1
    assert captions.count("many") == 10


def test_float_images_look_like_the_same_images_in_bytes() -> None:
    images, labels = noise(20, 8, 8, 3), np.arange(20) % 4
    images[0, 0, 0], images[1, 0, 0] = 0, 255
    names = DIGITS[:4]
    expected = canvas.to_png(images_module.sample_grid(images, labels, names, "x"))
    for scaled in (images / np.float32(255), images.astype(np.float64)):
        assert canvas.to_png(images_module.sample_grid(scaled, labels, names, "x")) == expected


def test_images_of_another_range_are_stretched_instead_of_black() -> None:
    dark = (noise(4, 8, 8, 1) // 16).astype(np.uint8)  # 0…15, as scikit-learn counts its digits
    standardised = rng().normal(size=(4, 8, 8, 1)).astype(np.float32)
    standardised[0, 0, 0] = np.nan
    for images in (dark, standardised):
        drawn = pixels(images_module.sample_grid(images, np.arange(4), DIGITS[:4], "x"))[48:176]
        assert 80 < drawn.mean() < 220


def test_images_for_regression_are_spread_over_the_targets() -> None:
    targets = np.linspace(0, 100, 101)
    captions = texts(images_module.sample_grid(noise(101, 8, 8, 1), targets, (), "x"))[1:]
    assert len(captions) == 25
    assert (captions[0], captions[-1]) == ("0", "100")


def test_images_with_labels_show_each_label_and_one_without_any() -> None:
    had = np.eye(4, dtype=np.uint8).repeat(9, axis=0)
    had[0], had[1] = 1, 0
    captions = texts(images_module.sample_grid(noise(36, 8, 8, 1), had, DIGITS[:4], "x"))[1:]
    assert captions[:3] == ["0", "1", "and 2 more"]  # of four labels
    assert {"1", "2", "3"} < {*captions}
    assert captions[-1] == "no label"


def test_the_surest_wrong_labels_come_first_and_say_whether_they_were_missed() -> None:
    had = np.array([[1, 0], [1, 0], [0, 1]], np.uint8)
    outputs = np.array([[0.9, 0.1], [0.02, 0.6], [0.2, 0.4]])
    drawn = texts(images_module.wrong_labels(noise(3, 8, 8, 1), had, outputs, ["cat", "dog"]))
    assert drawn[0] == "Surest mistakes (2 of 2; 3 examples)"
    assert drawn[1:] == ["cat", "missed cat 2.0 %", "false dog 60.0 %", "dog", "missed dog 40.0 %"]
    said = texts(images_module.wrong_labels(noise(3, 8, 8, 1), had, had.astype(float), ["cat", "dog"]))
    assert "No mistakes: all labels of 3 examples are right." in said


def test_the_labels_of_a_chart_are_the_best_and_the_worst_where_there_are_many() -> None:
    figures = {
        f"l{n}": {"precision": 1, "recall": 1, "f1": 1, "average_precision": n / 60, "support": n}
        for n in range(60)
    }
    (axes,) = outputs_module.label_bars(figures, 200).axes
    named = [label.get_text() for label in axes.get_yticklabels()]
    assert (len(named), named[0], named[-1]) == (40, "l59 (59)", "l0 (0)")
    assert "the best and the worst 20 of 60 labels" in axes.get_xlabel()


def test_each_target_has_a_panel_with_its_own_errors() -> None:
    y = np.array([[0.0, 0.0], [1.0, 100.0], [2.0, np.nan]])
    figure = outputs_module.target_scatters(np.nan_to_num(y), y + np.array([0.5, 10]), ["a", "b"])
    assert [axes.get_title() for axes in figure.axes] == ["a\nMAE 0.5   RMSE 0.5", "b\nMAE 10   RMSE 10"]
    assert "2 examples, 1 without a finite prediction left out" in figure.get_suptitle()


def test_features_are_shown_as_histograms_with_their_names_and_the_target() -> None:
    figure = images_module.sample_grid(
        rng().normal(size=(50, 2)), rng().normal(size=50), (), "x", [Column("age"), Column("rooms")]
    )
    assert [axes.get_title() for axes in figure.axes] == ["age", "rooms", "target"]


def test_categories_are_drawn_by_their_names_and_what_is_missing_as_a_dash() -> None:
    table = [Column("city", ("Busan", "Jeju")), Column("age")]
    rows = np.array([[0, 1], [1, np.nan], [np.nan, 3], [1, 40]])
    bars = images_module.sample_grid(rows, np.arange(4.0), (), "x", table).axes[0]
    assert [text.get_text() for text in bars.get_xticklabels()] == ["Busan", "Jeju"]
    assert [bar.get_height() for bar in bars.patches] == [1, 2]
    shown = images_module.largest_errors(rows, np.zeros(4), np.array([4, 3, 2, 1]), table).axes[1]
    cells = [text.get_text() for text in shown.texts]
    assert [cells[3:5], cells[8:10], cells[13:15]] == [["Busan", "1"], ["Jeju", "–"], ["–", "3"]]


def test_augmentation_shows_the_same_images_in_the_same_cells() -> None:
    images = noise(12, 8, 8, 3)
    drawn = pixels(images_module.augmentation_grid(images, images.astype(np.float32), "x"))[76:]
    half = drawn.shape[1] // 2
    np.testing.assert_array_equal(drawn[:, 15 : half - 20], drawn[:, half + 19 : -16])
    changed = pixels(images_module.augmentation_grid(images, np.flip(images, axis=2), "x"))[76:]
    np.testing.assert_array_equal(drawn[:, :half], changed[:, :half])
    assert (drawn[:, half:] != changed[:, half:]).any()


def test_overshooting_augmentation_leaves_the_brightness_of_the_rest_alone() -> None:
    images = noise(9, 8, 8, 1)
    images[0, 0, 0] = 255
    after = images.astype(np.float32)
    after[0, 0, 0] = 280.0
    assert (
        pixels(images_module.augmentation_grid(images, after, "x"))
        == pixels(images_module.augmentation_grid(images, images, "x"))
    ).all()


# --- curves ----------------------------------------------------------------------------------------


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes}


def labels_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_have_a_panel_per_metric_loss_first_learning_rate_last_and_none_for_costs() -> None:
    record = epoch(
        learning_rate=0.1,
        accuracy=0.5,
        val_accuracy=0.4,
        epoch=1,
        seconds=3,
        examples_per_second=9,
        loss=2,
        val_loss=3,
        val_top_5=1,
    )
    figure = charts.learning_curves([record, record], 2)
    assert list(panels(figure)) == ["loss", "accuracy", "top_5", "learning_rate"]
    assert labels_of(figure) == ["train", "validation", "best epoch (2)"]


def test_one_epoch_is_a_point_over_the_tick_1() -> None:
    figure = charts.learning_curves([epoch(loss=1.0)], 1)
    (axes,) = figure.axes
    assert axes.get_xticks().tolist() == [1]
    assert axes.lines[0].get_marker() == "o"
    assert axes.lines[-1].get_xdata() == [1, 1]
    canvas.to_png(figure)


@pytest.mark.parametrize("epochs", [1, 2, 7, 8, 15, 60, 99, 100, 1000])
def test_ticks_are_few_whole_epochs_from_1(epochs: int) -> None:
    (axes,) = charts.learning_curves([epoch(loss=1.0)] * epochs, None).axes
    ticks = axes.get_xticks()
    assert ticks[0] == 1
    assert ticks[-1] <= epochs
    assert min(2, epochs) <= len(ticks) <= 8
    assert (ticks == ticks.astype(int)).all()
    assert (np.diff(ticks) > 0).all()


def test_values_that_are_not_finite_leave_a_gap_and_a_cross() -> None:
    losses = [3.0, float("nan"), 2.0, float("inf"), None]
    figure = charts.learning_curves([{"loss": loss} for loss in losses], None)
    curve, crosses = figure.axes[0].lines
    assert np.isfinite(curve.get_ydata()).tolist() == [True, False, True, False, False]
    assert crosses.get_xdata().tolist() == [2, 4, 5]
    assert labels_of(figure) == ["train", "not a finite number"]
    canvas.to_png(figure)


def test_a_metric_missing_in_some_epochs_is_no_broken_value() -> None:
    figure = charts.learning_curves([epoch(loss=1), epoch(loss=1, val_loss=2), epoch(loss=1)], None)
    assert labels_of(figure) == ["train", "validation"]


def test_a_run_of_nan_only_says_so() -> None:
    figure = charts.learning_curves([epoch(loss=float("nan"))] * 3, None)
    assert "no finite value" in texts(figure)
    canvas.to_png(figure)


@pytest.mark.parametrize("best", [None, 0, 99])
def test_a_best_epoch_outside_the_history_is_not_marked(best: int | None) -> None:
    assert labels_of(charts.learning_curves([epoch(loss=1.0)] * 3, best)) == ["train"]


def test_no_epoch_at_all_gives_a_figure_that_says_so() -> None:
    assert any("No epoch" in text for text in texts(charts.learning_curves([], None)))


def test_a_loss_over_several_decades_and_a_falling_learning_rate_get_log_scales() -> None:
    history = [epoch(loss=10.0 ** (2 - i), accuracy=0.1, learning_rate=0.1 ** (i + 1)) for i in range(5)]
    drawn = panels(charts.learning_curves(history, None))
    assert {name: axes.get_yscale() for name, axes in drawn.items()} == {
        "loss": "log",
        "accuracy": "linear",
        "learning_rate": "log",
    }


# --- true against predicted ------------------------------------------------------------------------


def test_confusion_matrix_counts_rows_as_true_and_columns_as_predicted() -> None:
    figure = charts.confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["cat", "dog"])
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text().split("\n")[0] for text in axes.texts}
    assert cells == {(0, 0): "2", (1, 0): "1", (1, 1): "1"}  # where nothing is, nothing is written
    np.testing.assert_allclose(axes.images[0].get_array(), [[2 / 3, 1 / 3], [0, 1]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert "75.00 % of 4" in axes.get_title()


def test_a_class_without_examples_is_an_empty_row() -> None:
    axes = charts.confusion_matrix(np.array([0, 0]), np.array([0, 2]), ["a", "b", "c"]).axes[0]
    assert axes.images[0].get_array()[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("classes", "numbers"), [(2, 2), (10, 10), (25, 25), (26, 0), (100, 0)])
def test_cells_have_numbers_up_to_25_classes(classes: int, numbers: int) -> None:
    labels = np.arange(classes)
    drawn = texts(charts.confusion_matrix(labels, labels, [f"n{i}" for i in labels]))
    assert len(drawn) == numbers


@pytest.mark.parametrize("classes", [2, 10, 13, 25, 100])
def test_labels_of_the_confusion_matrix_do_not_overlap(classes: int) -> None:
    labels = np.arange(classes)
    figure = charts.confusion_matrix(labels, labels, [f"a class named {i}" for i in labels])
    canvas.to_png(figure)
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    rows = sorted(text.get_window_extent(renderer).y0 for text in axes.get_yticklabels())
    tallest = max(text.get_window_extent(renderer).height for text in axes.get_yticklabels())
    assert np.diff(rows).min() > 0.75 * tallest  # the box has room for letters below the line
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"a class named {i}" for i in labels]


def test_cell_numbers_stay_inside_their_cells() -> None:
    labels = np.repeat(np.arange(25), 12_345)
    figure = charts.confusion_matrix(labels, labels, DIGITS * 2 + DIGITS[:5])
    canvas.to_png(figure)
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    cell = axes.get_window_extent(renderer).width / 25
    assert max(text.get_window_extent(renderer).width for text in axes.texts) < cell


def test_residuals_leave_out_and_count_predictions_that_are_not_finite() -> None:
    truth = np.arange(10.0)
    said = truth[:, None] + 1
    said[3], said[4] = np.nan, np.inf
    figure = charts.residuals(truth, said)
    assert "8 examples" in figure.get_suptitle()
    assert "2 without" in figure.get_suptitle()
    assert len(figure.axes[0].lines[0].get_xdata()) == 8
    assert "mean 1 " in figure.axes[1].get_title()
    assert any("No finite" in text for text in texts(charts.residuals(truth, truth * np.nan)))


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e12])
def test_values_that_are_all_but_equal_have_a_histogram(scale: float) -> None:
    values = scale * (1 + 1e-15 * np.arange(50))
    canvas.to_png(charts.residuals(values, values))
    canvas.to_png(charts.residuals(values * 0, values))
    canvas.to_png(images_module.sample_grid(values[:, None], values, (), "x"))


def test_worst_mistakes_are_the_surest_wrong_ones_first() -> None:
    labels = np.array([0, 1, 2, 0, 1])
    outputs = np.array([[0.9, 0.1, 0], [0.7, 0.2, 0.1], [0, 0.99999, 0.00001], [0, 1, 0], [np.nan, 0, 0]])
    figure = images_module.worst_mistakes(noise(5, 8, 8, 1), labels, outputs, ["cat", "dog", "cow"])
    assert texts(figure)[1:] == [
        "cat",
        "→ dog",
        "100 %",
        "cow",
        "→ dog",
        "99.999 %",
        "dog",
        "→ cat",
        "70.0 %",
    ]


def test_below_a_mistake_stands_the_file_that_it_comes_from() -> None:
    names = ["test/cats/1.jpg", "test/cats/2.jpg", "test/dogs/3.jpg"]
    pictures, outputs = noise(3, 8, 8, 1), np.array([[0.9], [0.8], [0.7]])
    figure = images_module.worst_mistakes(pictures, np.array([0, 0, 1]), outputs, ["cat", "dog"], (), names)
    assert texts(figure)[1:] == ["cat", "→ dog", "90.0 %", "1.jpg", "cat", "→ dog", "80.0 %", "2.jpg"]
    labels = np.array([[1, 0], [0, 1], [0, 1]])
    figure = images_module.wrong_labels(pictures, labels, 1 - labels, ["cat", "dog"], (), names)
    assert [text for text in texts(figure) if text.endswith(".jpg")] == ["1.jpg", "2.jpg", "3.jpg"]
    figure = images_module.largest_errors(pictures, np.zeros(3), np.arange(3), (), (), names)
    assert [text for text in texts(figure) if text.endswith(".jpg")] == ["3.jpg", "2.jpg", "1.jpg"]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_binary_output_is_the_probability_of_class_1(shape: tuple[int, ...]) -> None:
    outputs = np.array([0.2, 0.2, 0.9]).reshape(shape)
    figure = images_module.worst_mistakes(noise(3, 8, 8, 1), np.array([0, 1, 0]), outputs, ["cat", "dog"])
    assert texts(figure)[1:] == ["cat", "→ dog", "90.0 %", "dog", "→ cat", "80.0 %"]


def test_no_mistakes_gives_a_figure_that_says_so() -> None:
    figure = images_module.worst_mistakes(noise(3, 8, 8, 1), np.arange(3), np.eye(3), ["a", "b", "c"])
    assert any("No mistakes: all 3" in text for text in texts(figure))
    canvas.to_png(figure)


def test_a_model_that_gives_nan_only_is_not_praised() -> None:
    figure = images_module.worst_mistakes(
        noise(3, 8, 8, 1), np.arange(3), np.full((3, 3), np.nan), ["a", "b", "c"]
    )
    assert any("No finite output" in text for text in texts(figure))


TABLE = (Column("age"), Column("rooms"))


def test_largest_errors_lists_the_rows_by_size_of_the_error_with_their_features() -> None:
    rows = np.array([[1.5, 10], [2.5, 20], [3.5, 30], [4.5, 40]])
    figure = images_module.largest_errors(rows, np.zeros(4), np.array([1, -3, np.nan, 2]), TABLE)
    bars, table = figure.axes
    assert [text.get_text() for text in table.get_yticklabels()] == ["row 1", "row 3", "row 0"]
    assert [text.get_text() for text in table.get_xticklabels()][-2:] == ["age", "rooms"]
    assert [text.get_text() for text in table.texts][:5] == ["0", "-3", "-3", "2.5", "20"]
    assert [bar.get_width() for bar in bars.patches] == [-3, 2, 1]


# --- a finished run ----------------------------------------------------------------------------------


def test_figures_of_a_finished_run_are_drawn_from_what_is_stored(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.write_predictions(y_true=np.array([0, 1, 1]), outputs=np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    images, labels = noise(4, 8, 8, 1), np.arange(4) % 2
    stored = canvas.to_png(images_module.sample_grid(images, labels, ["cat", "dog"], "x"))
    run.write_figure("samples", stored)
    run.write_figure("worst_mistakes", b"no picture")
    figures = run_module.run_figures(run)
    assert list(figures) == ["learning_curves", "confusion_matrix", "calibration", "curves", "samples"]
    points = figures["calibration"].axes[0].collections[-1].get_offsets()
    assert np.asarray(points).tolist() == [
        pytest.approx([0.6, 0]),
        pytest.approx([0.8, 1]),
        pytest.approx([0.9, 1]),
    ]
    assert list(panels(figures["learning_curves"])) == ["loss", "accuracy", "learning_rate"]
    assert labels_of(figures["learning_curves"])[-1] == "best epoch (3)"
    assert "66.67 % of 3" in figures["confusion_matrix"].axes[0].get_title()
    assert [text.get_text() for text in figures["confusion_matrix"].axes[0].get_yticklabels()] == [
        "cat",
        "dog",
    ]
    assert (pixels(figures["samples"]) == np.asarray(Image.open(io.BytesIO(stored)))).all()


def test_figures_of_a_finished_regression_have_residuals(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.write_metrics({**run.metrics, "task": "regression", "class_names": []})
    run.write_predictions(y_true=np.arange(3.0), outputs=np.arange(3.0)[:, None])
    assert list(run_module.run_figures(run)) == ["learning_curves", "residuals"]


def test_a_chart_of_groups_has_a_mark_for_each_with_its_rank(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    groups = compare(find_runs([tmp_path])).groups
    axes = charts.quality_against_cost(groups, "parameters", "parameters").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("parameters", "val_accuracy")


def test_curves_have_the_areas_of_scikit_learn_and_a_dot_at_the_threshold() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    y = (rng.random(80) < 0.4).astype(int)
    outputs = np.clip(0.4 * y + 0.6 * rng.random(80), 0, 1)[:, None]
    roc, precise = curves.threshold_curves("binary", y, outputs, ["cat", "dog"], (0.7,)).axes
    area, average = (score(y, outputs[:, 0]) for score in (roc_auc_score, average_precision_score))
    assert [text.get_text() for text in roc.get_legend().get_texts()] == [f"dog {area:.3f}"]
    assert [text.get_text() for text in precise.get_legend().get_texts()] == [f"dog {average:.3f}"]
    said = outputs[:, 0] > 0.7
    dot = roc.lines[-1].get_xydata()[0]
    assert dot.tolist() == [said[y == 0].mean(), said[y == 1].mean()]
    line = next(line for line in roc.lines if line.get_label() == f"dog {area:.3f}")
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area)


def test_of_many_classes_the_worst_curves_are_drawn() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 12
    outputs = np.eye(12)[y] * np.arange(12)[None] / 6 + rng.random((120, 12))
    figure = curves.threshold_curves("multiclass", y, outputs, [f"n{index}" for index in range(12)])
    shown = {text.get_text().split()[0] for text in figure.axes[0].get_legend().get_texts()}
    assert len(shown) == 10
    assert "n0" in shown
    assert "n11" not in shown
    alone = curves.threshold_curves("binary", np.zeros(4), np.ones((4, 1)), ["a", "b"])
    assert any("every example is of one class" in text for text in texts(alone))
