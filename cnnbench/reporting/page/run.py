"""The page of one finished run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.analysis import Record
from cnnbench.reporting.page.charts import run_history
from cnnbench.reporting.page.comparison import COSTS
from cnnbench.reporting.page.render import data_uri, render
from cnnbench.reporting.text import duration, fixed, number
from cnnbench.runs import DONE, TRAINED, RunFolder

# In the order of the page; the learning curves are drawn there by its script.
PICTURES = {
    "confusion_matrix": "Confusion matrix of the test split",
    "residuals": "Predictions and residuals of the test split",
    "worst_mistakes": "Worst mistakes on the test split",
    "samples": "Examples of the training split",
    "augmentation": "Before and after augmentation",
}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    title: str
    alt: str
    uri: str


def run_page(folder: RunFolder, metrics: Mapping[str, Any]) -> str:
    """The page of a run.

    Args:
        folder: everything but the final metrics is read from it.
        metrics: what stands, or will stand, in its `metrics.json`.
    """
    environment, history, cost = folder.environment, folder.history, metrics["cost"]
    spent = Record(folder, DONE, metrics=metrics).cost
    charts = {
        f"history-{name}": run_history(history, name, metrics["best_epoch"])
        for name in ("loss", *TRAINED[metrics["task"]][-1:])
    }
    names = list(dict.fromkeys(name for split in metrics["metrics"].values() for name in split))
    return render(
        "run.html.j2",
        charts,
        chart_ids=list(charts),
        title=metrics["name"],
        headline=_headline(metrics),
        subtitle=_subtitle(metrics, environment),
        command=shlex.join(environment.get("command", ["cnnbench", *folder.overrides])),
        notes=environment.get("dataset", {}).get("notes", []),
        best_epoch=metrics["best_epoch"],
        metric_names=names,
        splits={
            split: [fixed_or_dash(figures.get(name)) for name in names]
            for split, figures in metrics["metrics"].items()
        },
        costs={
            known.label.partition(",")[0]: known.text(spent[name])
            for name, known in COSTS.items()
            if math.isfinite(spent[name]) and name != "seconds"
        },
        phases={name: duration(seconds) for name, seconds in cost["seconds"].items()},
        pictures=list(_pictures(folder, metrics)),
        environment=dict(_environment_rows(environment)),
        overrides=folder.overrides,
        config=yaml.safe_dump(folder.config, sort_keys=False, allow_unicode=True),
    )


def _headline(metrics: Mapping[str, Any]) -> dict[str, str]:
    test = metrics["metrics"]["test"]
    name = TRAINED[metrics["task"]][-1]
    cost = metrics["cost"]
    return {
        metrics["objective"].replace("_", " "): fixed_or_dash(metrics["value"]),
        f"test {name}": fixed_or_dash(test.get(name)),
        "parameters": COSTS["parameters"].text(cost["parameters"]),
        "training": duration(cost["seconds"]["fit"]),
        "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
    }


def fixed_or_dash(value: float | None) -> str:
    """What was not finite stands as null in the file."""
    return "–" if value is None else fixed(value)


def _subtitle(metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    data = environment.get("dataset", {})
    sizes = ", ".join(f"{size:,} {split}" for split, size in data.get("splits", {}).items())
    parts = (
        f"{data.get('name', 'data set')} ({sizes})",
        f"seed {metrics['seed']}",
        metrics["finished"].replace("T", " ").partition("+")[0] + " UTC",
    )
    return " · ".join(parts)


def _pictures(folder: RunFolder, metrics: Mapping[str, Any]) -> Iterator[Picture]:
    found = folder.figures
    for name, title in PICTURES.items():
        path = found.get(name)
        content = path.read_bytes() if path else b""
        if content.startswith(PNG):  # what merely bears the name stays where it is
            yield Picture(title, _alt(name, title, metrics), data_uri(content))


def _alt(name: str, title: str, metrics: Mapping[str, Any]) -> str:
    if name in ("confusion_matrix", "residuals"):
        figures = ", ".join(f"{key} {number(value)}" for key, value in metrics["metrics"]["test"].items())
        return f"{title}: {figures}"
    return f"{title}, as a grid of small pictures"


def _environment_rows(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("device", "precision", "threads", "platform", "python"):
        if name in environment:
            yield name, str(environment[name])
    yield from ((name, str(version)) for name, version in environment.get("versions", {}).items())
    yield "git commit", environment.get("git") or "–"
    for name, label in (("code", "code"), ("config_hash", "config")):
        if name in environment:
            yield f"fingerprint of the {label}", str(environment[name])
    if "dataset" in environment:
        yield "fingerprint of the data", str(environment["dataset"].get("fingerprint"))
