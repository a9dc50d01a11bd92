"""The HTML pages in a real Chromium, from disk: sorted, filtered, hovered, by keyboard, and attacked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from page_runs import write_failed, write_run, write_sweep

from cnnbench.analysis.comparison import compare
from cnnbench.reporting.page.comparison import comparison_page
from cnnbench.reporting.page.run import run_page
from cnnbench.runs.folder import find_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
ATTACK = "</script><script>hit('script')</script>\"'><img src=x onerror=hit('image')>"
# Where on the screen the first mark of a chart is: of curves, its point number `index`.
PLACE = """([id, index]) => {
  const chart = charts.get(id);
  const { frame, canvas_view } = Bokeh.index.get_by_id(chart.roots()[0].id);
  const { glyph, data_source } = chart.get_model_by_name("marks");
  const values = (spec) => data_source.get_column(spec.field);
  const curves = glyph.xs !== undefined;
  const [x, y] = curves
    ? [[...values(glyph.xs)][0][index], [...values(glyph.ys)][0][index]]
    : [values(glyph.x)[index], values(glyph.y)[index]];
  const box = canvas_view.el.getBoundingClientRect();
  return [box.x + frame.x_scale.compute(x), box.y + frame.y_scale.compute(y)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


class Opened:
    """A page, and whatever it asked for or complained about."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        self.page: Page = context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.hits: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.expose_function("hit", lambda what: self.hits.append(what))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")

    @property
    def trouble(self) -> str | None:
        """What the page itself says of charts that it could not draw."""
        return self.page.locator("#trouble").text_content()

    def column(self, number: int, table: str = "r0-groups") -> list[str]:
        """The cells of a column that are seen, from 1."""
        return self.page.locator(f"#{table} tbody tr:visible td:nth-child({number})").all_inner_texts()

    def tooltip(self, chart: str, index: int) -> str:
        """What is said when the pointer is over a mark."""
        self.page.locator(f"#{chart}").scroll_into_view_if_needed()
        x, y = self.page.evaluate(PLACE, [chart, index])
        self.page.mouse.move(x - 4, y)
        self.page.mouse.move(x, y)
        shown = self.page.locator(".bk-Tooltip .bk-tooltip-content:visible, .bk-Tooltip div:visible").first
        shown.wait_for()
        return " ".join(shown.inner_text().split())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of a run and of a sweep."""
    place = tmp_path_factory.mktemp("pages")
    write_sweep(place / "sweep")
    run = write_run(place / "run", notes=["a note"])
    made = {"run": place / "run.html", "sweep": place / "sweep.html"}
    made["run"].write_text(run_page(run, run.metrics), encoding="utf-8")
    comparison = compare(find_runs([place / "sweep"]))
    made["sweep"].write_text(comparison_page(comparison, "sweep", place), encoding="utf-8")
    return made


@pytest.fixture
def sweep(browser: Browser, files: dict[str, Path]) -> Iterator[Opened]:
    opened = Opened(browser, files["sweep"], color_scheme="light")
    yield opened
    opened.page.context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_page_opens_from_disk(
    browser: Browser, files: dict[str, Path], kind: str, scheme: Any, width: int
) -> None:
    """All charts drawn, nothing asked of a network, nothing wider than the screen."""
    opened = Opened(
        browser, files[kind], color_scheme=scheme, viewport={"width": width, "height": 844}, offline=True
    )
    page = opened.page
    assert opened.errors == []
    assert opened.trouble == ""
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.evaluate("charts.size") == page.locator(".chart").count() == 2
    assert page.locator(".chart canvas").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
    page.context.close()


def test_without_scripts_a_page_has_its_tables_and_theme(browser: Browser, files: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto(files["sweep"].as_uri())
    assert page.locator("#r0-groups tbody tr").count() == 3
    assert page.get_by_role("button", name="Dark colours").count() == 0
    assert page.locator("select, input").filter(visible=True).count() == 0
    assert page.locator("noscript").inner_text().startswith("Charts, sorting and the filter need JavaScript")
    assert (
        page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(19, 21, 24)"
    )
    context.close()


def test_a_header_sorts_and_says_so(sweep: Opened) -> None:
    header = sweep.page.locator("#r0-groups th", has_text="parameters")
    assert sweep.column(1) == ["1", "2", "3"]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert sweep.column(1) == ["2", "3", "1"]  # by number: 1,000 2,000 3,000
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert sweep.column(1) == ["1", "3", "2"]
    assert sweep.page.locator("#r0-groups th[aria-sort]").count() == 1


def test_what_is_missing_comes_last_either_way(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "one")  # no deviation, so no interval
    for seed in (0, 1):
        write_run(tmp_path / f"two{seed}", 0.5, seed, dropout=0.5)
    path = tmp_path / "page.html"
    path.write_text(comparison_page(compare(find_runs([tmp_path])), "title", tmp_path), encoding="utf-8")
    opened = Opened(browser, path)
    button = opened.page.locator("#r0-groups th", has_text="interval").get_by_role("button")
    for _ in range(2):
        button.click()
        assert opened.column(5) == ["0.5000 – 0.5000", "–"]
    opened.page.context.close()


def test_the_filter_narrows_tables_and_charts(sweep: Opened) -> None:
    shown = "charts.get('r0-curves').get_model_by_name('marks').view.filter.indices.length"
    points = shown.replace("curves", "cost")
    assert (sweep.page.evaluate(shown), sweep.page.evaluate(points)) == (6, 3)
    sweep.page.get_by_label("Filter").fill("Dropout=0.25")
    assert sweep.column(2) == ["0.25"]
    assert sweep.column(1, "r0-runs") == ["run_10", "run_11"]
    assert (sweep.page.evaluate(shown), sweep.page.evaluate(points)) == (2, 1)
    assert sweep.page.locator("[data-found]").inner_text() == "1 of 3 configurations"
    assert sweep.page.locator("[data-drawn]").inner_text() == "2 of 6 runs drawn"
    sweep.page.get_by_label("Filter").fill("dropout=0.25 seed=1")
    assert sweep.column(1, "r0-runs") == ["run_11"]
    sweep.page.get_by_label("Filter").fill("")
    assert sweep.column(2) == ["0.0", "0.25", "0.5"]


def test_curves_and_points_say_what_they_are(sweep: Opened) -> None:
    assert sweep.tooltip("r0-curves", 2) == "model.dropout=0.0 seed 0 epoch 3 value 0.6750"
    assert sweep.tooltip("r0-cost", 1) == "model.dropout=0.25 val_accuracy 0.8050 cost 1,000"


def test_another_metric_and_another_cost_can_be_chosen(sweep: Opened) -> None:
    sweep.page.get_by_role("combobox", name="Metric").select_option("val_loss")
    assert sweep.tooltip("r0-curves", 1) == "model.dropout=0.0 seed 0 epoch 2 value 1.0000"
    sweep.page.get_by_role("combobox", name="Cost").select_option("training, seconds")
    labels = "charts.get('r0-cost').roots()[0].below[0].axis_label"
    assert sweep.page.evaluate(labels) == "training, seconds"
    assert sweep.tooltip("r0-cost", 0).endswith("cost 8")


def test_a_run_says_its_values_at_each_epoch(browser: Browser, files: dict[str, Path]) -> None:
    opened = Opened(browser, files["run"])
    assert opened.tooltip("history-loss", 1) == "epoch 2 loss 0.5000 val_loss 1.0000"
    opened.page.context.close()


def test_everything_can_be_reached_and_done_by_keyboard(sweep: Opened) -> None:
    page = sweep.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("Tab")
    page.keyboard.type("dropout=0.5")  # the filter
    assert sweep.column(2) == ["0.5"]
    page.keyboard.press("Tab")  # the table, which scrolls
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('th').cellIndex") == 0
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#r0-groups th").first.get_attribute("aria-sort") == "descending"
    while not page.evaluate("document.activeElement.matches('button.select')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
    selected = "charts.get('r0-curves').get_model_by_name('marks').data_source.selected.indices"
    assert page.evaluate(selected) == [4, 5]


def test_the_switch_repaints_the_charts(sweep: Opened) -> None:
    """Axis labels are ink on the canvas: a theme that only CSS knew would leave them as they were."""
    chart = sweep.page.locator("#r0-curves")
    chart.scroll_into_view_if_needed()
    before = chart.screenshot()
    sweep.page.locator("#theme").click()
    sweep.page.wait_for_function("getComputedStyle(document.body).backgroundColor === 'rgb(19, 21, 24)'")
    pixels = """() => {
      const layers = [];
      const walk = (root) => root.querySelectorAll("*").forEach((element) => {
        if (element instanceof HTMLCanvasElement) layers.push(element);
        if (element.shadowRoot) walk(element.shadowRoot);
      });
      walk(document.getElementById("r0-curves"));
      const { width, height } = layers[0];
      const { data } = layers[0].getContext("2d").getImageData(0, 0, width, height);
      return new Set(new Uint32Array(data.buffer)).has(0xffaea5a0);  // --soft of the dark theme
    }"""
    sweep.page.wait_for_function(pixels)
    assert chart.screenshot() != before


def test_the_command_is_copied(browser: Browser, files: dict[str, Path]) -> None:
    opened = Opened(browser, files["run"], permissions=["clipboard-read", "clipboard-write"])
    opened.page.get_by_role("button", name="Copy").click()
    opened.page.get_by_role("button", name="Copied").wait_for()
    assert opened.page.evaluate("navigator.clipboard.readText()") == "cnnbench"
    opened.page.context.close()


def test_only_so_many_curves_are_drawn_at_first(browser: Browser, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), n / 10, dropout=n / 10) for n in range(10)]
    path = tmp_path / "page.html"
    path.write_text(comparison_page(compare(runs * 8), "title", tmp_path), encoding="utf-8")
    opened = Opened(browser, path)
    assert opened.page.locator("[data-drawn]").inner_text() == "50 of 80 runs drawn"
    opened.page.get_by_role("combobox", name="Runs").select_option("all 80")
    assert opened.page.locator("[data-drawn]").inner_text() == "80 of 80 runs drawn"
    opened.page.context.close()


def test_no_text_of_a_run_is_ever_run(browser: Browser, tmp_path: Path) -> None:
    """Neither where it is shown, nor in a tooltip, nor where a page had been tampered with."""
    for number in range(2):
        options: dict[str, Any] = {"notes": [ATTACK], "name": ATTACK, "overrides": [ATTACK]}
        run = write_run(tmp_path / "runs" / f"{number} <b>", dropout=f"{number}{ATTACK}", **options)
    write_failed(tmp_path / "runs" / "bad", ATTACK, [ATTACK])
    comparison = comparison_page(compare(find_runs([tmp_path])), ATTACK, tmp_path)
    tampered = comparison.replace("</h1>", f"</h1>{ATTACK}")
    for name, page in {"run": run_page(run, run.metrics), "all": comparison, "tampered": tampered}.items():
        path = tmp_path / f"{name}.html"
        path.write_text(page, encoding="utf-8")
        opened = Opened(browser, path)
        assert opened.trouble == ""
        assert opened.page.locator("img[src=x]").count() == (name == "tampered")
        if name == "all":
            for chart in ("r0-curves", "r0-cost"):
                assert ATTACK in opened.tooltip(chart, 0)
        opened.page.evaluate("hit('the alarm works')")
        assert opened.hits == ["the alarm works"]
        opened.page.context.close()
