"""What to type next after a run or a comparison: lines for the terminal and for pages, by what they do."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.analysis import Comparison, Group, Ranking
from cnnbench.runs import PRUNED, RUNNING, UNREADABLE, RunFolder

ENOUGH_SEEDS = 5  # from then on more of them are not the first thing to try
MORE_SEEDS = 2  # at least
ENSEMBLE = "ensemble"  # the verb, in the line of a run that is one
OF_ONE_RUN = ("seed=", "run_dir=", "training.fold=")


def after_run(folder: RunFolder, metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that go on with a finished run."""
    lines = {
        "predict": _predict(folder, metrics),
        "compare": shlex.join(["cnnbench", "compare", str(folder.path.parent)]),
    }
    members = metrics.get("members")
    if members and "fold" not in metrics["metrics"]:  # folds are tested on other examples
        lines["diff"] = shlex.join(["cnnbench", "diff", members[0]["run"], str(folder.path)])
    return lines


def more_seeds(folder: RunFolder, seed: int) -> dict[str, str]:
    """Return the line that makes a finished run again with two other seeds; an ensemble has none."""
    command = folder.environment.get("command", ["cnnbench", *folder.overrides])
    if command[1:2] == [ENSEMBLE]:
        return {}
    seeds = [one for one in range(MORE_SEEDS + 1) if one != seed][:MORE_SEEDS]
    return {"more seeds": _sweep_of(command[1:], seeds)}


def after_comparison(comparison: Comparison, command: str | None) -> dict[str, str]:
    """Return the lines that go on with a comparison: what is not done, what is not sure, the best of each.

    Args:
        comparison: of some runs.
        command: the line of the sweep that made them, where one did.
    """
    lines = {}
    final = (PRUNED, RUNNING, UNREADABLE)
    undone = [record.folder.path for record in comparison.apart if record.status not in final]
    if undone:
        place = _parent(comparison) if command else None
        lines["go on with what is not done"] = shlex.join(["cnnbench", "resume", str(place or undone[0])])
    for ranking in comparison.rankings:
        best = ranking.by_rank[0]
        on = f" on {ranking.dataset}" if len(comparison.rankings) > 1 else ""
        if is_open(ranking) and best.overrides[:1] != [ENSEMBLE]:
            lines["more seeds" if command else f"more seeds{on}"] = _more_seeds_of(best, ranking, command)
        if math.isfinite(best.mean):
            record = best.best_run
            lines[f"predict with the best{on}"] = _predict(record.folder, record.metrics)
    return lines


def is_open(ranking: Ranking) -> bool:
    """Tell whether more seeds may still tell the best from another."""
    best, *others = ranking.by_rank
    return len(best.by_seed) < ENOUGH_SEEDS and not (others and ranking.is_settled)


def _more_seeds_of(best: Group, ranking: Ranking, command: str | None) -> str:
    used = {seed for group in ranking.groups for seed in group.by_seed}
    first = max(used) + 1
    seeds = range(first, first + max(MORE_SEEDS, len(best.by_seed)))
    typed = shlex.split(command)[2:] if command else []
    if not typed or any(text.startswith(("sweep.search", "sweep=search")) for text in typed):
        typed = best.overrides
    return _sweep_of(typed, list(seeds))


def _sweep_of(overrides: Sequence[str], seeds: Sequence[int]) -> str:
    kept = [text for text in overrides if not text.lstrip("+").startswith(OF_ONE_RUN)]
    return shlex.join(["cnnbench", "-m", *kept, f"seed={','.join(map(str, seeds))}"])


def _predict(folder: RunFolder, metrics: Mapping[str, Any]) -> str:
    example = "photo.jpg" if len(metrics.get("input_shape", ())) == 3 else "values.csv"
    return shlex.join(["cnnbench", "predict", str(folder.path), example])


def _parent(comparison: Comparison) -> Path | None:
    """Return the folder in which all runs lie side by side; None where there is none."""
    records = [*comparison.apart, *(record for group in comparison.groups for record in group.records)]
    parents = {record.folder.path.parent for record in records}
    return parents.pop() if len(parents) == 1 else None
