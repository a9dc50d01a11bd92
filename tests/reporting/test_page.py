"""The HTML pages as text: what is in them, that nothing else is needed, and that nothing foreign runs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bokeh.resources import Resources
from conftest import Outcome
from hypothesis import given
from hypothesis import strategies as st
from page_runs import write_failed, write_run, write_sweep
from PIL import Image

from cnnbench.analysis.comparison import compare, pareto_front
from cnnbench.reporting.page.charts import MOST_POINTS, Curve, learning_curves, run_history
from cnnbench.reporting.page.comparison import comparison_page
from cnnbench.reporting.page.notebook import comparison_html, run_html
from cnnbench.reporting.page.run import run_page, share_interval
from cnnbench.reporting.tables import answers
from cnnbench.runs.folder import RunFolder, find_runs

Cli = Callable[..., Outcome]
ATTACK = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element of a page, as its tag and attributes, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts.append((self.found[-1][1], data))

    def attributes(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.found if name in attributes]


def script(page: str, identity: str) -> bytes:
    (packed,) = (text for attributes, text in Elements(page).scripts if attributes.get("id") == identity)
    return gzip.decompress(base64.b64decode(packed))


def text_of(page: str) -> str:
    """What a person reads, on one line."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def comparison_of(folder: Path) -> str:
    return comparison_page(compare(find_runs([folder])), "title", folder)


def page_of(run: RunFolder) -> str:
    return run_page(run, run.metrics)


# -- a run ---------------------------------------------------------------------------------------


def test_every_finished_run_leaves_its_page(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    recorded = json.loads((finished_run / "metrics.json").read_text())
    read = text_of(page)
    assert f"{recorded['metrics']['test']['accuracy']:.4f}" in read
    assert "cnnbench dataset=synthetic dataset.classes=3" in read
    titles = ("Confusion matrix of the test split", "Worst mistakes", "Examples of the training split")
    assert [title for title in titles if title not in read] == []
    assert f"{recorded['calibration']['test']['by_chance_95']:.4f}" in read.partition("Calibration")[2]
    assert len(re.findall(r'<img src="data:image/png;base64,[^"]+" alt="[^"]{20,}"', page)) == 5
    assert set(json.loads(script(page, "charts"))) == {"history-loss", "history-accuracy"}
    assert "test, 95 %" in read
    assert "Each class on the test split" in read
    for name in ("predictions.csv", "mistakes.csv"):
        assert f'<a href="{name}">' in page
        assert (finished_run / name).is_file()


def test_the_page_shows_what_was_recorded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0.75, notes=["12 equal examples in two splits"], overrides=["seed=0"])
    read = text_of(page_of(run))
    for text in (
        "val accuracy 0.7500",
        "test accuracy 0.5000",
        "best epoch 3 of 4",
        "12 equal examples in two splits",
        "val 0.5000 0.7500 –",
        "test 0.6250 0.5000 0.3750",
        "FLOPs per example 2 M",
        "latency of one example 2 ms",
        "keras 3.15",
        "Changed on the command line: seed=0",
        "_target_: cnnbench.models.cnn.cnn",
    ):
        assert text in read


def test_the_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", overrides=["model.filters=[8, 16]", "name=it's"])
    assert "cnnbench 'model.filters=[8, 16]' 'name=it'\"'\"'s'" in text_of(page_of(run))


def test_what_was_not_finite_is_a_dash(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", None)
    assert "val accuracy –" in text_of(page_of(run))


def test_a_file_that_is_no_picture_is_not_embedded(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.write_figure("samples", b"root:x:0:0")
    Image.new("RGB", (2, 2)).save(tmp_path / "picture.png")
    run.write_figure("confusion_matrix", (tmp_path / "picture.png").read_bytes())
    sources = Elements(page_of(run)).attributes("src")
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")


def test_a_long_history_is_thinned_and_keeps_its_last_epoch() -> None:
    rows = [{"epoch": epoch, "loss": 1.0} for epoch in range(1, 1001)]
    chart = json.dumps(run_history(rows, "loss", 7))
    (epochs,) = re.findall(r'\["epoch",\s*\[([\d, ]+)\]', chart)
    drawn = [int(text) for text in epochs.split(",")]
    assert len(drawn) <= MOST_POINTS
    assert drawn[-1] == 1000
    assert drawn == sorted(drawn)


def test_a_curve_of_one_epoch_is_a_point() -> None:
    curve = Curve("one", "0", 0, "#123456", [{"epoch": 1, "accuracy": 0.5}])
    chart = json.dumps(learning_curves([curve], ["accuracy"]))
    assert '"name": "Scatter"' in chart
    (packed,) = re.findall(r'"end_0", .*?"data": "([^"]*)"', chart)
    assert np.frombuffer(gzip.decompress(base64.b64decode(packed)), np.float32).tolist() == [0.5]


@pytest.mark.parametrize(("share", "examples", "low", "high"), [(0.9, 10, 0.62, 0.99), (1, 360, 0.993, 1)])
def test_chance_leaves_an_interval(share: float, examples: int, low: float, high: float) -> None:
    """Those of Jeffreys: beta(9.5, 1.5) and beta(360.5, 0.5)."""
    found = share_interval(share, examples)
    assert found == pytest.approx((low, high), abs=5e-3)


# -- self-contained, and nothing foreign runs ------------------------------------------------------


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, str]:
    """A page of each kind, with an attack wherever a name or text of a run is shown."""
    place = tmp_path / "runs"
    for number, dropout in enumerate((ATTACK, "harmless")):
        run = write_run(
            place / f"run {number} <b>&",
            dropout=dropout,
            overrides=[f"model.dropout={ATTACK}"],
            notes=[ATTACK],
            name=ATTACK,
        )
    write_failed(place / "bad", ATTACK, [ATTACK])
    return {"run": page_of(run), "comparison": comparison_of(place)}


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_needs_nothing_beside_itself(pages: dict[str, str], kind: str) -> None:
    elements = Elements(pages[kind])
    assert {tag for tag, _ in elements.found} & {"link", "iframe", "object", "embed", "base"} == set()
    assert [source for source in elements.attributes("src") if not source.startswith("data:")] == []
    assert [link for link in elements.attributes("href") if ":" in link or link.startswith("//")] == []
    assert re.findall(r"url\(|@import", pages[kind]) == []


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_names_and_texts_of_a_run_are_text(pages: dict[str, str], kind: str) -> None:
    elements = Elements(pages[kind])
    assert len([tag for tag, _ in elements.found if tag == "script"]) == 3
    assert [name for _, attributes in elements.found for name in attributes if name.startswith("on")] == []
    assert ATTACK in text_of(pages[kind]) or unescape(pages[kind]).count(ATTACK) > 3
    assert "<img src=x" not in pages[kind]


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_the_policy_allows_the_two_scripts_and_no_request(pages: dict[str, str], kind: str) -> None:
    """A browser refuses everything else, even if it came into the page unescaped."""
    (policy,) = map(unescape, re.findall(r'Security-Policy" content="([^"]*)"', pages[kind]))
    allowed = re.findall(r"script-src ([^;]*)", policy)[0].split()
    (own,) = (text for attributes, text in Elements(pages[kind]).scripts if not attributes)
    library = script(pages[kind], "library")
    assert library == Resources(mode="inline", components=["bokeh"]).js_raw[0].encode()
    hashes = [base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (library, own.encode())]
    assert allowed == [f"'sha256-{digest}'" for digest in hashes]
    assert policy.startswith("default-src 'none'; img-src data:")


def test_a_folder_cannot_pass_for_a_script(tmp_path: Path) -> None:
    write_run(tmp_path / "javascript:alert(1)")
    assert "javascript%3Aalert%281%29" in Elements(comparison_of(tmp_path)).attributes("href")


def test_names_in_any_script_stay_as_they_are(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", name="고양이_개", notes=["class 고양이 has 3 examples"])
    assert "<h1>고양이_개</h1>" in page_of(run)
    assert "class 고양이 has 3 examples" in page_of(run)


# -- a comparison ----------------------------------------------------------------------------------


def test_groups_are_ranked_with_deviation_interval_and_cost(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    page = comparison_of(tmp_path)
    read = text_of(page)
    # Two seeds: mean ± 12.706 s / √2 by Student's t with one degree of freedom.
    half = 12.7062047 * 0.01 / math.sqrt(2) / math.sqrt(2)
    # Of its logit, since it is of a share: log 0.905/0.095 ± half / (0.905 · 0.095).
    low, high = (
        1 / (1 + math.exp(-math.log(0.905 / 0.095) + side * half / 0.905 / 0.095)) for side in (1, -1)
    )
    assert f"1 0.0 2 0.9050 ± 0.0071 {low:.4f} – {high:.4f} first 0.5000 3,000" in read
    assert "6 runs in 3 configurations · 1 without a result" in read
    assert "model.dropout 0.0 0.25 0.5" in read
    assert set(json.loads(script(page, "charts"))) == {"r0-curves", "r0-cost"}


def test_failed_runs_stand_apart_with_their_reason(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    read = text_of(comparison_of(tmp_path))
    assert "run_bad failed the loss became nan in epoch 1 seed=7" in read.partition("Without a result")[2]


def test_a_comparison_of_failures_alone_is_a_page_too(tmp_path: Path) -> None:
    write_failed(tmp_path / "bad", "no memory")
    assert "bad failed no memory" in text_of(comparison_of(tmp_path))


def test_runs_link_to_their_pages_or_else_their_folders(tmp_path: Path) -> None:
    write_run(tmp_path / "with page").write_report("page")
    write_run(tmp_path / "without", seed=1)
    comparison = compare(find_runs([tmp_path]))
    links = Elements(comparison_page(comparison, "title", tmp_path / "elsewhere")).attributes("href")
    assert links[1:] == ["../with%20page/report.html", "../without"]


def test_two_objectives_are_two_rankings(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    run = write_run(tmp_path / "b", seed=1)
    run.write_metrics({**run.metrics, "objective": "val_loss", "value": 0.5})
    read = text_of(comparison_of(tmp_path))
    assert "Ranking by val_accuracy" in read
    assert "Ranking by val_loss Mean ± standard deviation over the runs of a configuration; less is" in read


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.one_of(st.integers(0, 8), st.just(math.nan))), min_size=1, max_size=12
    )
)
def test_the_front_holds_exactly_what_no_other_beats(points: list[tuple[int, float]]) -> None:
    cost, quality = np.array(points, float).T

    def beaten(one: int) -> bool:
        return any(
            cost[other] <= cost[one]
            and quality[other] >= quality[one]
            and (cost[other] < cost[one] or quality[other] > quality[one])
            for other in range(len(points))
        )

    front = pareto_front(cost.tolist(), quality.tolist())
    expected = {points[n] for n in range(len(points)) if not math.isnan(quality[n]) and not beaten(n)}
    assert {points[n] for n in front} == expected
    assert list(cost[front]) == sorted(cost[front])


def test_a_thousand_runs_fit_into_two_megabytes(tmp_path: Path) -> None:
    """Their histories are noise, which nothing packs; the folders are one, read a thousand times."""
    random = np.random.default_rng(0)
    runs = [write_run(tmp_path / str(n), dropout=n / 10, epochs=20) for n in range(10)]

    class Noisy(RunFolder):
        @property
        def history(self) -> list[dict[str, Any]]:
            rows = super().history
            for row in rows:
                row |= {name: float(random.random()) for name in row if name != "epoch"}
            return rows

    page = comparison_page(compare([Noisy(run.path) for run in runs] * 100), "title", tmp_path)
    assert "1,000 runs in 10 configurations" in page
    assert "best 50</option>" in page
    assert "all 500</option>" in page
    assert "Of the best 500 of 1,000 runs" in page
    assert "The first 100 of 1,000 runs" in page
    assert page.count("<tr data-group") == 10 + 100
    assert json.loads(script(page, "rows"))["r0-runs"].count("<tr") == 900
    assert len(page.encode()) < 2_000_000


# -- parts for a notebook --------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, str]:
    """A fragment of each kind, with an attack wherever a name or text of a run is shown."""
    for number, dropout in enumerate((ATTACK, "harmless")):
        run = write_run(tmp_path / f"run {number}", 0.5 + number / 4, dropout=dropout, name=ATTACK)
    write_failed(tmp_path / "bad", ATTACK)
    Image.new("RGB", (2, 2)).save(tmp_path / "picture.png")
    for name in ("learning_curves", "confusion_matrix"):
        run.write_figure(name, (tmp_path / "picture.png").read_bytes())
    comparison = compare(find_runs([tmp_path]))
    return {"run": run_html(run, run.metrics), "comparison": comparison_html(comparison)}


@pytest.mark.parametrize(("kind", "pictures"), [("run", 2), ("comparison", 1)])
def test_a_part_for_a_notebook_is_self_contained(parts: dict[str, str], kind: str, pictures: int) -> None:
    elements = Elements(parts[kind])
    tags = [tag for tag, _ in elements.found]
    assert {"html", "body", "script", "link", "iframe"} & set(tags) == set()
    sources = elements.attributes("src")
    assert len(sources) == pictures
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert re.findall(r"url\(|@import|https?:", parts[kind]) == []
    assert ATTACK in unescape(parts[kind])
    assert "<img src=x" not in parts[kind]


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_the_style_of_a_part_stays_inside_it(parts: dict[str, str], kind: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", parts[kind], re.DOTALL)
    selectors = [one.strip() for rule in re.findall(r"([^{}]+)\{", style) for one in rule.split(",")]
    assert selectors
    assert [one for one in selectors if not one.startswith(".cnnbench-part")] == []
    assert not re.search(r"(?<![-\w])(color|background): (?!inherit|#fff; }|none)", style)


def test_a_part_shows_the_figures_of_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0.75)
    read = text_of(run_html(run, run.metrics))
    for text in ("cnn_pets", "val accuracy 0.7500", "best epoch 3 of 4", "test 0.6250 0.5000 0.3750"):
        assert text in read
    write_sweep(tmp_path / "sweep")
    comparison = compare(find_runs([tmp_path / "sweep"]))
    read = text_of(comparison_html(comparison))
    for text in ("6 runs in 3 configurations", "1 0.0 2 0.9050 ± 0.0071 ", *answers(comparison)):
        assert text in read


# -- the command line -------------------------------------------------------------------------------


def test_report_writes_the_page_of_a_run(run_cli: Cli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    outcome = run_cli("report", str(run.path))
    assert (outcome.exit_code, outcome.out) == (0, f"page: {run.path}/report.html\n")
    assert text_of(run.report.read_text(encoding="utf-8")) == text_of(page_of(run))


def test_report_of_a_folder_is_the_comparison(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    assert run_cli("report", str(tmp_path / "sweep"), "--output", "new/page.html").exit_code == 0
    page = (folder / "new" / "page.html").read_text(encoding="utf-8")
    assert "<h1>sweep</h1>" in page
    assert [link for link in Elements(page).attributes("href")[1:] if not link.startswith("../")] == []


def test_compare_writes_a_page_too(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    outcome = run_cli("compare", str(tmp_path / "sweep"), "--html", "page.html")
    assert outcome.exit_code == 0
    assert "ranking by val_accuracy" in outcome.out
    assert "Ranking by val_accuracy" in (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_of_a_run_without_a_result_says_why(run_cli: Cli, tmp_path: Path) -> None:
    run = write_failed(tmp_path / "run", "no memory")
    outcome = run_cli("report", str(run.path))
    assert outcome.exit_code == 0
    assert "no memory" in run.report.read_text()


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_place_without_runs_is_wrong_input(run_cli: Cli, place: str) -> None:
    outcome = run_cli("report", place)
    assert outcome.exit_code == 2
    assert re.match(r"error: (nowhere does not exist|there are no runs)", outcome.err)


def test_a_page_that_cannot_be_written_is_wrong_input(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (folder / "file").touch()
    outcome = run_cli("report", str(run.path), "--output", "file/page.html")
    assert outcome.exit_code == 2
    assert outcome.err.startswith("error: cannot write to file/page.html")


def test_a_link_in_a_run_from_elsewhere_is_refused(run_cli: Cli, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    (run.path / "figures").mkdir()
    (run.path / "figures" / "samples.png").symlink_to(tmp_path / "secret.png")
    assert run_cli("report", str(run.path)).exit_code == 2
    assert not run.report.exists()


def test_a_resumed_run_writes_its_page_anew(finished_run: Path, tmp_path: Path) -> None:
    """The page goes with the figures: what is in it is what metrics.json says."""
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    run = RunFolder(copy)
    run.write_metrics({**run.metrics, "value": 0.123456})
    assert "0.1235" in text_of(page_of(run))


def test_a_page_needs_no_tensorflow(run_python: Callable[..., Outcome], tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    code = (
        "import sys; from cnnbench.cli.main import main; "
        "sys.argv = ['cnnbench', 'report', sys.argv[1]]; main();"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    assert run_python(code, str(tmp_path / "sweep")).out.splitlines()[-1] == "[]"
