"""A comparison for other programs: CSV with a row for each group, JSON with every run."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from cnnbench.comparison.compare import Comparison, Group
from cnnbench.comparison.records import COSTS, Record
from cnnbench.files import plain


def as_csv(comparison: Comparison) -> str:
    """One row for each group; what is not known is empty."""
    rows = [
        {"objective": ranking.objective, "dataset": ranking.dataset, **_row(group)}
        for ranking in comparison.rankings
        for group in ranking.groups
    ]
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return text.getvalue()


def _row(group: Group) -> dict[str, Any]:
    return {
        "rank": group.rank,
        **group.differs,
        "runs": len(group.runs),
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        **_verdict(group),
        "on_front": group.on_front,
        **{f"test_{name}": value for name, value in group.test.items()},
        **{name: group.cost[name] for name in COSTS},
    }


def _verdict(group: Group) -> dict[str, Any]:
    verdict = group.verdict
    return {
        "worse_by": verdict.difference,
        "margin": verdict.margin,
        "p": verdict.p,
        "worse": verdict.worse,
        "indistinguishable": verdict.indistinguishable,
        "not_tested": verdict.reason,
    }


def as_json(comparison: Comparison) -> str:
    """Everything, with the values of every run; what is not finite is null."""
    content = {
        "cost": comparison.cost,
        "rankings": [
            {
                "objective": ranking.objective,
                "dataset": ranking.dataset,
                "test": ranking.test,
                "groups": [_group(group) for group in ranking.groups],
            }
            for ranking in comparison.rankings
        ],
        "apart": [_apart(record) for record in comparison.apart],
    }
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    return {
        "rank": group.rank,
        "differs": group.differs,
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        "verdict": _verdict(group),
        "on_front": group.on_front,
        "test": group.test,
        "cost": group.cost,
        "runs": [_run(record) for record in group.records],
    }


def _run(record: Record) -> dict[str, Any]:
    return {
        "path": str(record.folder.path),
        "seed": record.seed,
        "value": record.value,
        "test": record.test,
        "cost": record.cost,
    }


def _apart(record: Record) -> dict[str, Any]:
    return {"path": str(record.folder.path), "status": record.status, "reason": record.reason}
