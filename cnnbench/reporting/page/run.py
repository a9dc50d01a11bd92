"""The page of one finished run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.analysis import Record
from cnnbench.reporting.columns import COSTS
from cnnbench.reporting.figures import read_png
from cnnbench.reporting.page.charts import run_history
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


@dataclass(frozen=True)
class Picture:
    title: str
    alt: str
    uri: str


def run_page(folder: RunFolder, metrics: Mapping[str, Any]) -> str:
    """Return the HTML page of a finished run.

    Args:
        folder: everything but the final metrics is read from it.
        metrics: the content of its `metrics.json`, which may still have to be written.
    """
    environment, history, cost = folder.environment, folder.history, metrics["cost"]
    spent = Record(folder, DONE, metrics=metrics).cost
    charts = {
        f"history-{name}": run_history(history, name, metrics["best_epoch"])
        for name in ("loss", *TRAINED[metrics["task"]][-1:])
    }
    names, splits = figures_table(metrics)
    return render(
        "run.html.j2",
        charts,
        chart_ids=list(charts),
        title=metrics["name"],
        headline=headline(metrics),
        subtitle=subtitle(metrics, environment),
        command=shlex.join(environment.get("command", ["cnnbench", *folder.overrides])),
        notes=environment.get("dataset", {}).get("notes", []),
        best_epoch=metrics["best_epoch"],
        metric_names=names,
        splits=splits,
        costs={
            known.label.partition(",")[0]: known.text(spent[name])
            for name, known in COSTS.items()
            if math.isfinite(spent[name]) and name != "seconds"
        },
        phases={name: duration(seconds) for name, seconds in cost["seconds"].items()},
        pictures=list(pictures(folder, metrics)),
        environment=dict(environment_rows(environment)),
        overrides=folder.overrides,
        config=yaml.safe_dump(folder.config, sort_keys=False, allow_unicode=True),
    )


def figures_table(metrics: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the final metrics, and for each split their values as text."""
    names = list(dict.fromkeys(name for split in metrics["metrics"].values() for name in split))
    return names, {
        split: [fixed(figures.get(name)) for name in names] for split, figures in metrics["metrics"].items()
    }


def headline(metrics: Mapping[str, Any]) -> dict[str, str]:
    test = metrics["metrics"]["test"]
    name = TRAINED[metrics["task"]][-1]
    cost = metrics["cost"]
    return {
        metrics["objective"].replace("_", " "): fixed(metrics["value"]),
        f"test {name}": fixed(test.get(name)),
        "parameters": COSTS["parameters"].text(cost["parameters"]),
        "training": duration(cost["seconds"]["fit"]),
        "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
    }


def subtitle(metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    finished = metrics["finished"].replace("T", " ").partition("+")[0]
    return " · ".join((sizes(environment), f"seed {metrics['seed']}", f"{finished} UTC"))


def sizes(environment: Mapping[str, Any]) -> str:
    """Name the data set and the sizes of its splits."""
    data = environment.get("dataset", {})
    splits = ", ".join(f"{size:,} {split}" for split, size in data.get("splits", {}).items())
    return f"{data.get('name', 'data set')}{f' ({splits})' if splits else ''}"


def pictures(
    folder: RunFolder,
    metrics: Mapping[str, Any],
    titles: Mapping[str, str] = PICTURES,
    uri: Callable[[bytes], str] = data_uri,
) -> Iterator[Picture]:
    """Yield the pictures that lie in the folder, of those with a title."""
    found = folder.figures
    for name, title in titles.items():
        path = found.get(name)
        if path and (png := read_png(path)):
            yield Picture(title, _alt(name, title, metrics), uri(png))


def _alt(name: str, title: str, metrics: Mapping[str, Any]) -> str:
    if name == "learning_curves":
        return f"{title}: training and validation over {metrics['epochs']} epochs"
    if name in ("confusion_matrix", "residuals"):
        figures = ", ".join(f"{key} {number(value)}" for key, value in metrics["metrics"]["test"].items())
        return f"{title}: {figures}"
    return f"{title}, as a grid of small pictures"


def environment_rows(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known of machine, versions and fingerprints, by its name."""
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
