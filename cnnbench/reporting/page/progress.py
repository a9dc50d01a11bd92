"""The page of a run without a result: of one under way, written while it trains, or of one that has ended."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping
from typing import Any

import yaml

from cnnbench.reporting.page.charts import history_in_words, history_marks, run_history
from cnnbench.reporting.page.render import render
from cnnbench.reporting.page.run import environment_rows, sizes
from cnnbench.reporting.text import duration, number
from cnnbench.runs import NO_METRICS, PRUNED, RUNNING, Observer, RunFolder, Summary

log = logging.getLogger("cnnbench")

REFRESH_SECONDS = 5  # between two looks of the browser, and at least between two pages
SHORTEST_SECONDS = 10.0  # a run that takes less has only the page of its end
MOST_COST = 0.02  # of the time of a run, for its pages


def progress_page(
    folder: RunFolder, status: str, epochs: int | None = None, seconds_left: float | None = None
) -> str:
    """Return the HTML page of a run without a result; it refreshes itself while the run is under way.

    Args:
        folder: everything is read from it.
        status: of the run.
        epochs: that it may take, as far as that is known.
        seconds_left: that they take, as far as that is known.
    """
    history, environment, config = folder.history, folder.environment, folder.config
    is_running = status == RUNNING
    best = folder.best.get("epoch")
    names = [name for name in (history[-1] if history else {}) if f"val_{name}" in history[-1]]
    charts = {f"history-{name}": run_history(history, name, best) for name in names}
    return render(
        "progress.html.j2",
        charts,
        chart_ids=list(charts),
        refresh=REFRESH_SECONDS if is_running else None,
        title=str(config.get("name")),
        subtitle=f"{sizes(environment)} · seed {config.get('seed')} · {status}",
        headline=_headline(status, history, epochs, seconds_left),
        cause="" if is_running else str(folder.failure.get("cause") or folder.reason),
        stage="" if is_running else str(folder.failure.get("stage") or ""),
        steps={
            "if it is stopped, go on with it" if is_running else "go on with it": shlex.join(
                ["cnnbench", "resume", str(folder.path)]
            )
        },
        command=shlex.join(environment.get("command", ["cnnbench", *folder.overrides])),
        marks=history_marks(history),
        words={id: history_in_words(history, id.partition("-")[2]) for id in charts},
        best_epoch=best,
        last={name: number(value) for name, value in (history[-1] if history else {}).items()},
        environment=dict(environment_rows(environment)),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )


def _headline(
    status: str, history: list[dict[str, float]], epochs: int | None, seconds_left: float | None
) -> dict[str, str]:
    last: Mapping[str, Any] = history[-1] if history else {}
    figures = {
        name.replace("_", " "): number(value) for name, value in last.items() if name not in NO_METRICS
    }
    validation = {name: text for name, text in figures.items() if name.startswith("val ")}
    done = f"{len(history)} of {epochs}" if epochs else str(len(history))
    left = {} if seconds_left is None else {"left, about": duration(seconds_left)}
    return {"status": status, "epochs": done, **left, **dict(list((validation or figures).items())[:2])}


class LivePage(Observer):
    """Writes the page of a run while it trains, and where it ends without a result.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.epochs: int | None = None
        self._began = self._next = time.perf_counter()

    def started(self, summary: Summary) -> None:
        self.epochs = summary.epochs

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        now, done = time.perf_counter(), int(entry["epoch"])
        left = entry["seconds"] * max(0, (self.epochs or done) - done)
        if now < self._next or now - self._began + left < SHORTEST_SECONDS:
            return
        self._write(RUNNING, left)
        cost = time.perf_counter() - now
        self._next = now + max(REFRESH_SECONDS, cost / MOST_COST)

    def failed(self, status: str) -> None:
        if status != PRUNED:
            self._write(status)

    def _write(self, status: str, seconds_left: float | None = None) -> None:
        try:
            self.folder.write_report(progress_page(self.folder, status, self.epochs, seconds_left))
        except Exception as error:  # the training goes on: a page is no result
            log.warning("the page of the run could not be written: %s", error)
            log.debug("", exc_info=error)
