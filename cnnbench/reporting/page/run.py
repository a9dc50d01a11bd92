"""The page of one finished run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.analysis import Record, is_number
from cnnbench.reporting.columns import COSTS
from cnnbench.reporting.figures import read_png
from cnnbench.reporting.page.charts import history_in_words, history_marks, run_history
from cnnbench.reporting.page.render import Answer, data_uri, render
from cnnbench.reporting.steps import after_run, more_seeds
from cnnbench.reporting.tables import members_rows
from cnnbench.reporting.text import (
    best_epoch,
    between,
    calibration_in_words,
    count_of,
    decision_in_words,
    duration,
    fixed,
    number,
    sets_in_words,
)
from cnnbench.runs import DONE, OBJECTIVE, TRAINED, RunFolder, in_words, positive_class

# In the order of the page; the learning curves are drawn there by its script.
PICTURES = {
    "confusion_matrix": "Confusion matrix of the test split",
    "labels": "Each label on the test split",
    "calibration": "Calibration of the test split's probabilities",
    "curves": "ROC and precision-recall curves of the test split",
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
        for name in ("loss", _followed(metrics["task"], history))
        if history  # the average of folds has none
    }
    names, splits = figures_table(metrics)
    output_names, outputs = outputs_table(metrics)
    member_columns, members = members_rows(metrics)
    return render(
        "run.html.j2",
        charts,
        chart_ids=list(charts),
        title=metrics["name"],
        answers={"": list(_answers(metrics, environment, spent))},
        subtitle=subtitle(metrics, environment),
        steps={**more_seeds(folder, metrics["seed"]), **after_run(folder, metrics)},
        marks=history_marks(history),
        words={id: history_in_words(history, id.partition("-")[2]) for id in charts},
        command=shlex.join(environment.get("command", ["cnnbench", *folder.overrides])),
        notes=environment.get("dataset", {}).get("notes", []),
        best_epoch=metrics["best_epoch"],
        metric_names=names,
        splits=splits,
        intervals=bool(metrics.get("intervals")),
        calibration=calibration_table(metrics),
        settled=[*decision_in_words(metrics), *metrics.get("decision", {}).get("remarks", ())],
        member_columns=member_columns,
        members=members,
        sets=sets_in_words(metrics["sets"]) if metrics.get("sets") else [],
        output_kind={"multilabel": "label", "regression": "target"}.get(metrics["task"], "class"),
        output_names=output_names,
        outputs=outputs,
        costs={
            known.label.partition(",")[0]: known.text(spent[name])
            for name, known in COSTS.items()
            if math.isfinite(spent[name]) and name != "seconds"
        },
        phases={name: duration(seconds) for name, seconds in cost["seconds"].items()},
        pictures=list(pictures(folder, metrics)),
        predictions=folder.prediction_tables,
        environment=dict(environment_rows(environment)),
        overrides=folder.overrides,
        config=yaml.safe_dump(folder.config, sort_keys=False, allow_unicode=True),
    )


def figures_table(metrics: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the final metrics for people, and for each split their values as text."""
    names = list(dict.fromkeys(name for split in metrics["metrics"].values() for name in split))
    positive, around = positive_class(metrics), metrics.get("intervals", {})
    rows: dict[str, list[str]] = {}
    for split, figures in metrics["metrics"].items():
        rows[split] = [fixed(figures.get(name)) for name in names]
        if split in around:
            rows[f"{split}, 95 %"] = [between(around[split].get(name)) for name in names]
    return [in_words(name, positive) for name in names], rows


def calibration_table(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return for each split ECE, what chance alone shows on average, and what it exceeds once in twenty."""
    return {
        split: [fixed(row[name]) for name in ("ece", "by_chance", "by_chance_95")]
        for split, row in metrics.get("calibration", {}).items()
    }


def outputs_table(metrics: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the metrics of single classes, labels or targets, and of each its values on the test split."""
    thresholds = metrics.get("decision", {}).get("thresholds", {})
    found = {
        output: {**figures, **({"threshold": thresholds[output]} if output in thresholds else {})}
        for output, figures in metrics.get("by_output", {}).get("test", {}).items()
    }
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    return [name.replace("_", " ") for name in names], {
        output: [
            number(figures.get(name)) if name == "support" else fixed(figures.get(name)) for name in names
        ]
        for output, figures in found.items()
    }


def _followed(task: str, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the metric whose curve is drawn beside the loss."""
    name = OBJECTIVE[task]
    return name if any(f"val_{name}" in row or name in row for row in history) else TRAINED[task][-1]


def headline(metrics: Mapping[str, Any]) -> dict[str, str]:
    test = metrics["metrics"]["test"]
    name = OBJECTIVE[metrics["task"]]
    cost = metrics["cost"]
    return {
        metrics["objective"].replace("_", " "): fixed(metrics["value"]),
        f"test {name.replace('_', ' ')}": fixed(test.get(name)),
        "parameters": COSTS["parameters"].text(cost["parameters"]),
        "training": duration(cost["seconds"]["fit"]),
        **({"best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}"} if metrics["epochs"] else {}),
    }


def _answers(
    metrics: Mapping[str, Any], environment: Mapping[str, Any], spent: Mapping[str, float]
) -> Iterator[Answer]:
    """Answer how good a run is, how sure that is, and at what cost."""
    name, test = OBJECTIVE[metrics["task"]], metrics["metrics"]["test"]
    examples = environment.get("dataset", {}).get("splits", {}).get("test", 0)
    yield Answer(
        "How good",
        {
            f"test {name.replace('_', ' ')}": fixed(test.get(name)),
            metrics["objective"].replace("_", " "): fixed(metrics["value"]),
        },
        best_epoch(metrics),
    )
    one = "one seed: more of them say how far trainings differ"
    if metrics.get("members"):
        one = "the table of its members says what the average gains"
    known = metrics.get("intervals", {}).get("test", {}).get(name)
    if known or (name == "accuracy" and examples and is_number(test.get(name))):
        low, high = (known["low"], known["high"]) if known else share_interval(test[name], examples)
        words = name.replace("_", " ")
        figures = {f"95 % interval of the test {words}": f"{fixed(low)} – {fixed(high)}"}
        yield Answer("How sure", figures, f"{count_of(examples, 'test example')}; {one}")
    else:
        models = metrics.get("average_of", ())
        yield Answer("How sure", {"models": str(len(models))} if models else {"seed": "1"}, one)
    fit = metrics["cost"]["seconds"]["fit"]
    figures = {"training": duration(fit), "parameters": COSTS["parameters"].text(spent["parameters"])}
    shown = {"latency": "for one example", "memory": "at the peak"}
    rest = [
        f"{COSTS[key].text(spent[key])} {words}" for key, words in shown.items() if math.isfinite(spent[key])
    ]
    yield Answer("At what cost", figures, ", ".join(rest))


def share_interval(share: float, examples: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many examples, by Jeffreys (Brown, Cai and DasGupta 2001)."""
    from scipy.special import betaincinv

    right = share * examples
    low, high = (float(betaincinv(right + 0.5, examples - right + 0.5, at)) for at in (0.025, 0.975))
    return low, high


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
    if name == "calibration" and (row := metrics.get("calibration", {}).get("test")):
        return f"{title}: {'; '.join(calibration_in_words(row))}"
    if name in ("confusion_matrix", "curves", "labels", "residuals"):
        figures = ", ".join(f"{key} {number(value)}" for key, value in metrics["metrics"]["test"].items())
        return f"{title}: {figures}"
    return title if name == "calibration" else f"{title}, as a grid of small pictures"


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
    if "task" in environment.get("dataset", {}):
        yield "task", environment["dataset"]["task"]
    if "dataset" in environment:
        yield "fingerprint of the data", str(environment["dataset"].get("fingerprint"))
