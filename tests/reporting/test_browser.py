"""The HTML pages in a real Chromium, from disk: seen, sorted, hovered, by keyboard, by axe, and attacked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from page_runs import CONFIG, history, write_failed, write_run, write_sweep

from cnnbench.analysis.comparison import compare
from cnnbench.reporting.page.comparison import comparison_page
from cnnbench.reporting.page.progress import progress_page
from cnnbench.reporting.page.run import run_page
from cnnbench.runs.folder import RunFolder, find_runs

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


KINDS = ("run", "two", "failed", "running")
# What can be clicked or scrolled, inside Bokeh's elements too; each gets a number.
OPERABLE = """() => {
  window.operable = [];
  const scrolls = (element) => {
    const { overflowX, overflowY } = getComputedStyle(element);
    return (/auto|scroll/.test(overflowX) && element.scrollWidth > element.clientWidth)
      || (/auto|scroll/.test(overflowY) && element.scrollHeight > element.clientHeight);
  };
  const walk = (root) => root.querySelectorAll("*").forEach((element) => {
    const clicks = element.matches("a[href], button, select, input, summary, [role=button]");
    if ((clicks || scrolls(element)) && element.checkVisibility()) operable.push(element);
    if (element.shadowRoot) walk(element.shadowRoot);
  });
  walk(document.body);
  return operable.map((element) => element.outerHTML.slice(0, 80));
}"""
# The number of what has the focus, and whether that is seen.
FOCUSED = """() => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return [operable.indexOf(element), outlineStyle !== "none" && parseFloat(outlineWidth) > 0];
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind: a run, a sweep, two rankings, a run that has failed, and one under way."""
    place = tmp_path_factory.mktemp("pages")
    write_sweep(place / "sweep")
    run = write_run(place / "run", notes=["a note"])
    live = RunFolder.create(place / "live")
    live.write_config(CONFIG, ["seed=0"])
    for row in history(0.5):
        live.append_history(row)
    write_sweep(place / "two")
    for seed in (0, 1):
        other = write_run(place / "two" / f"z{seed}", seed=seed)
        other.write_metrics({**other.metrics, "objective": "val_loss", "value": 0.5 + seed})
    command = "cnnbench -m model.dropout=0.0,0.25,0.5 seed=0,1"
    pages = {
        "run": run_page(run, run.metrics),
        "failed": progress_page(write_failed(place / "failed", "the loss became nan"), "failed"),
        "running": progress_page(live, "running", 8, 60.0),
        **{
            name: comparison_page(compare(find_runs([place / name])), name, place, command)
            for name in ("sweep", "two")
        },
    }
    for name, page in pages.items():
        (place / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: place / f"{name}.html" for name in pages}


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]) -> Iterator[Opened]:
    """A page of each kind, which stays as it is."""
    page = Opened(browser, files[request.param])
    if request.param == "running":
        page.page.get_by_role("button", name="Stop refreshing").click()
    yield page
    page.page.context.close()


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


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("kind", ["run", "sweep", "two"])
def test_the_first_screen_answers_four_questions(
    browser: Browser, files: dict[str, Path], kind: str, width: int
) -> None:
    opened = Opened(browser, files[kind], viewport={"width": width, "height": 800})
    page = opened.page
    for question in ("How good", "How sure", "At what cost"):
        found = page.get_by_role("heading", name=question, exact=True)
        assert found.count() == (2 if kind == "two" else 1)
        assert all(one.bounding_box()["y"] < 800 for one in found.all())
    line = page.locator(".steps code").first
    assert line.inner_text().startswith("cnnbench ")
    box = line.bounding_box()
    assert box["y"] + box["height"] <= 800
    page.context.close()


def test_each_ranking_names_its_own_best(browser: Browser, files: dict[str, Path]) -> None:
    opened = Opened(browser, files["two"])
    read = [" ".join(text.split()) for text in opened.page.locator(".answers").all_inner_texts()]
    assert read[0].startswith("val_accuracy How good leading val accuracy 0.9050 ± 0.0071")
    assert "model.dropout=0.0 leads" in read[0]
    assert read[1].startswith("val_loss How good best val loss 1.0000 ± 0.71")
    opened.page.get_by_role("link", name="val_loss", exact=True).click()
    assert opened.page.url.endswith("#r1")
    opened.page.context.close()


def test_no_column_runs_off_unseen(opened: Opened) -> None:
    """Neither beyond the page nor, without a sign and the keyboard's focus, inside the box of a table."""
    page = opened.page
    boxes = """() => [...document.querySelectorAll(".scroll")].map((box) => [
      box.scrollWidth > box.clientWidth, box.tabIndex === 0 && box.nextElementSibling.checkVisibility()])"""
    unseen = """() => [...document.querySelectorAll("main *")].filter((element) =>
      !element.closest(".scroll, .chart") && element.getBoundingClientRect().right > innerWidth + 0.5)"""
    for width in (400, 800, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert [is_cut for is_cut, _ in page.evaluate(boxes)] == [said for _, said in page.evaluate(boxes)]
        assert page.evaluate(f"({unseen})().length") == 0


def test_axe_finds_nothing_serious(opened: Opened) -> None:
    """Whatever the theme and the width."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    for scheme in ("light", "dark"):
        for width in (400, 1280):
            opened.page.emulate_media(color_scheme=scheme)
            opened.page.set_viewport_size({"width": width, "height": 800})
            found = axe.run(opened.page).response["violations"]
            assert [
                (one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")
            ] == []


def test_everything_has_its_turn_on_the_keyboard(opened: Opened) -> None:
    """What can be clicked or scrolled gets the focus, and shows it."""
    page = opened.page
    page.set_viewport_size({"width": 400, "height": 800})
    names = page.evaluate(OPERABLE)
    reached: set[int] = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(2 * len(names)):  # what might scroll has the focus too
        if reached >= set(range(len(names))):
            break
        page.keyboard.press("Tab")
        number, is_seen = page.evaluate(FOCUSED)
        assert number < 0 or is_seen, names[number]
        reached.add(number)
    assert [name for number, name in enumerate(names) if number not in reached] == []


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


def test_what_can_be_clicked_can_be_done_by_keyboard(sweep: Opened) -> None:
    page = sweep.page

    def tab_to(selector: str) -> None:
        page.keyboard.press("Tab")
        while not page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            page.keyboard.press("Tab")

    tab_to(".skip")
    tab_to("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    tab_to("[data-filter]")
    page.keyboard.type("dropout=0.5")
    assert sweep.column(2) == ["0.5"]
    tab_to("th button")
    page.keyboard.press("Enter")
    assert page.locator("#r0-groups th").first.get_attribute("aria-sort") == "descending"
    tab_to("button.select")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
    selected = "charts.get('r0-curves').get_model_by_name('marks').data_source.selected.indices"
    assert page.evaluate(selected) == [4, 5]
    width = "(({ start, end }) => end - start)(charts.get('r0-curves').roots()[0].y_range)"
    before = page.evaluate(width)
    page.locator("#r0-curves").get_by_role("button", name="Zoom In").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(width) < before


def test_a_page_of_what_is_under_way_can_be_held(browser: Browser, files: dict[str, Path]) -> None:
    page = browser.new_context().new_page()
    page.clock.install()
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    page.goto(files["running"].as_uri())
    with page.expect_event("load"):
        page.clock.fast_forward(5000)
    page.get_by_role("button", name="Stop refreshing").click()
    page.clock.fast_forward(60_000)
    assert len(loads) == 2
    with page.expect_event("load"):
        page.get_by_role("button", name="Refresh", exact=True).click()
    page.context.close()


def test_a_long_table_shows_its_first_rows(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sorts and filters them all, and has them on demand."""
    monkeypatch.setattr("cnnbench.reporting.page.render.MOST_ROWS", 3)
    for n in range(5):
        write_run(tmp_path / "runs" / str(n), n / 10, dropout=n / 10, epochs=1)
    path = tmp_path / "page.html"
    path.write_text(comparison_page(compare(find_runs([tmp_path])), "title", tmp_path), encoding="utf-8")
    opened = Opened(browser, path)
    assert opened.column(1) == ["1", "2", "3"]
    opened.page.locator("#r0-groups th").first.get_by_role("button").click()
    opened.page.locator("#r0-groups th[aria-sort=descending]").wait_for()
    assert opened.column(1) == ["5", "4", "3"]
    opened.page.get_by_label("Filter").fill("dropout=0.1")
    opened.page.get_by_text("1 of 5 configurations").wait_for()
    assert opened.column(2) == ["0.1"]
    assert opened.column(2, "r0-runs") == ["4"]
    opened.page.get_by_label("Filter").fill("")
    opened.page.get_by_role("button", name="Show all").first.click()
    assert opened.column(1) == ["5", "4", "3", "2", "1"]
    opened.page.context.close()


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
    opened.page.get_by_role("button", name="Copy").last.click()
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
