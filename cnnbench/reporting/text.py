"""Numbers, sizes and times, written as a person reads them; `–` stands for what is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbench.runs import CalibrationRow


def number(value: float | None) -> str:
    """Write four significant digits, thousands with commas."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def fixed(value: float | None) -> str:
    """Write four decimals, so that a column of scores lines up."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def between(interval: Mapping[str, Any] | None) -> str:
    """Write an interval of `metrics.json`, with as many digits as its width deserves."""
    if interval is None:
        return "–"
    low, high = interval["low"], interval["high"]
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return "–"
    digits = max(0, 1 - math.floor(math.log10(high - low)))
    return f"{low:,.{digits}f} – {high:,.{digits}f}"


def calibration_in_words(row: CalibrationRow) -> list[str]:
    """Write how far probabilities are from what comes true, and how far chance alone would take them."""
    ece, chance, most = map(digits, (row["ece"], row["by_chance"], row["by_chance_95"]))
    verdict = "more than by chance" if row["ece"] > row["by_chance_95"] else "no more than by chance"
    return [
        f"calibration error (ECE): {ece}, {verdict}",
        f"if perfectly calibrated: {chance} on average, more than {most} once in twenty",
    ]


def decision_in_words(metrics: Mapping[str, Any]) -> list[str]:
    """Write what a run has settled on its validation split, and what that has changed on the test split."""
    settled = metrics.get("decision")
    if not settled:
        return []
    now, before, lines = metrics["metrics"]["test"], settled["uncalibrated"]["test"], []
    if settled["temperature"] is not None:
        changes = [f"test loss {fixed(now['loss'])} (was {fixed(before['loss'])})"]
        if "test" in metrics.get("calibration", {}) and "ece" in before:
            changes.append(
                f"ECE {digits(metrics['calibration']['test']['ece'])} (was {digits(before['ece'])})"
            )
        lines.append(f"temperature {digits(settled['temperature'])} from val: {', '.join(changes)}")
    if thresholds := settled["thresholds"]:
        names = [name for name in ("precision", "recall", "f1", "f1_micro", "f1_macro") if name in now]
        changes = [f"{name} {now[name]:.3f} ({before[name]:.3f})" for name in names]
        changes[0] = changes[0].replace(")", " at 0.5)")
        low, high = min(thresholds.values()), max(thresholds.values())
        of = (
            f" {low:.3g} of {next(iter(thresholds))}"
            if len(thresholds) == 1
            else f"s {low:.3g} to {high:.3g}"
        )
        lines.append(f"threshold{of} from val, for {settled['aim']}")
        lines.append(f"on test: {', '.join(changes)}")
    return lines


def digits(value: float) -> str:
    """Write two significant digits, of a number whose third nobody should trust."""
    return number(float(f"{value:.2g}"))


def count(value: float, unit: str = "") -> str:
    """Write 1,234 and 12.3 k and 4.6 M; with a unit 4.6 MFLOP."""
    if not math.isfinite(value):
        return "–"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(1e4, 0.9995 * size):  # 999,600 is 1 M, not 1000 k
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:,.0f} {unit}".rstrip()


def count_of(value: int, noun: str) -> str:
    """Write 1 run and 1,234 runs."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def best_epoch(metrics: Mapping[str, Any]) -> str:
    """Write which epoch of a finished run is the best, of how many, and by what."""
    if metrics.get("average_of"):
        what = "fold models" if "fold" in metrics["metrics"] else "models"
        return f"the average of {len(metrics['average_of'])} {what}"
    by = f" ({metrics['best_by']})" if metrics.get("best_by") else ""
    return f"best epoch {metrics['best_epoch']} of {metrics['epochs']}{by}"


def sets_in_words(found: Mapping[str, Any]) -> list[str]:
    """Write how the sets, or ranges, of `metrics.json` keep their promise, and how large they are."""
    what = "ranges" if "width" in found else "sets"
    share = f"{number(found['coverage'])} of {found['examples']:,} hold the truth ({between(found)} at 95 %)"
    verdict = ""
    if "kept" in found:
        low, high = found["by_chance"]
        verdict = ": kept" if found["kept"] else f": not kept, chance gives {number(low)} to {number(high)}"
    lines = [f"{what}: {share}, promised {number(found['promised'])}{verdict}"]
    if "width" in found:
        return [*lines, f"each is {number(found['width'])} wide"]
    empty, single, *several = found["sizes"]
    answers, right = found["answers"], ""
    if answers:
        accuracy = found["accuracy_of_single"]
        right = " (all right)" if accuracy == 1 else f" ({number(100 * accuracy)} % of them right)"
    lines.append(f"{answers:,} with one class{right}, {sum(several):,} with several, {empty:,} with none")
    if against := single - answers:
        lines.append(f"{against:,} with one class, which the threshold decides against: no answers")
    if empty > sum(several):
        lines.append("fewer are empty with a training.calibration.coverage above the accuracy")
    return lines


def duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def milliseconds(seconds: float) -> str:
    """Write a latency with two significant digits."""
    return f"{number(float(f'{1000 * seconds:.2g}'))} ms" if math.isfinite(seconds) else "–"


def memory(size: float) -> str:
    """Write bytes as GB."""
    return f"{size / 1e9:.2f} GB" if math.isfinite(size) else "–"
