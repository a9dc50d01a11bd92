"""Export of a run's best checkpoint to other programs, measured by itself and compared with Keras."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.data import CALIBRATION as CALIBRATION_SPLIT
from cnnbench.data import Dataset, Split
from cnnbench.errors import CnnbenchError, first_line
from cnnbench.inference import formats
from cnnbench.inference.formats import NEEDED, SUFFIXES, Compute, Format
from cnnbench.inference.load import differences, load_dataset, load_model, require_finished
from cnnbench.inference.model_card import card, description
from cnnbench.inference.quantization import (
    EIGHT_BITS,
    SCHEMES,
    Attempt,
    LayerError,
    Quantize,
    layer_errors,
    quantized,
)
from cnnbench.inference.tables import columns_of
from cnnbench.reporting import between
from cnnbench.runs import Decision, Interval, RunFolder, RunSpec, conformal, intervals_of, metrics
from cnnbench.system import plain, remove, require_package, temporary_beside, write_json, write_text

# Largest difference of an output; of a regression as a part of the largest output.
TOLERANCES = {"none": 1e-3, "float16": 0.05, "int8": 0.1}
# Eight bits move single probabilities by more than any limit worth having; what counts is the class.
LEAST_AGREEMENT_OF_INT8 = 0.95
MOST_LOST = 0.01  # of accuracy or f1, or as a part of an error, that a way to quantize may cost
EXAMPLES, CHOICE, BATCH, CALIBRATION = 2000, 512, 32, 256
SHOWN = 3  # layers that lose most
DRAWS = 400  # of examples, for the interval of a difference that has no formula


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a file and Keras compute for the same examples.

    Attributes:
        examples: of the split that both computed.
        metric: by which both are measured on these examples: `accuracy`, `f1_micro` for labels, `rmse` for
            regression; at the thresholds of the run.
        value: what the file reaches; NaN where an output is not finite.
        interval: of `value`, were as many other examples drawn; null where there is none.
        of_keras: what the checkpoint reaches.
        interval_of_keras: of `of_keras`.
        lost: by how much the file is worse, negative where it is better; NaN as `value`.
        lost_between: at 95 %, by the examples that both computed; null where `value` is NaN.
        difference: the largest absolute one between two outputs; of several targets, as a part of the largest
            output of the target.
        tolerance: the most that passes, of one target a part of its largest output; None where the agreement
            decides.
        agreement: how many of the examples got the same class, or the same labels; None for regression.
        passed: whether they agree.
    """

    examples: int
    metric: str
    value: float
    interval: Interval | None
    of_keras: float
    interval_of_keras: Interval | None
    lost: float
    lost_between: Interval | None
    difference: float
    tolerance: float | None
    agreement: int | None
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Export(Comparison):
    """Outcome of an export.

    Attributes:
        path: of the file or folder.
        format: of it.
        scheme: how numbers are stored: `none`, `float16`, `int8_full`, `int8_mixed`, `int16x8` or
            `int8_weights`.
        words: the same in words, with the layers that stay in float32.
        verdict: what the format or the bits cost, in a sentence.
        size: bytes.
        card: the model card, in Markdown.
        record: everything that is known of the file, in JSON; the file holds the same.
        tried: the ways to quantize, in their order, and what each reaches; empty without eight bits.
        chosen_on: the examples by which the way was chosen.
        layers: what each loses in eight bits throughout, the worst first.
        notes: one line for each thing worth knowing.
    """

    path: Path
    format: str
    scheme: str
    words: str
    verdict: str
    size: int
    card: Path
    record: Path
    tried: tuple[Attempt, ...] = ()
    chosen_on: str = ""
    layers: tuple[LayerError, ...] = ()
    notes: tuple[str, ...] = ()


def export_run(
    folder: RunFolder,
    spec: RunSpec,
    to: Format,
    output: Path | None = None,
    quantize: Quantize = "none",
    examples: int = EXAMPLES,
) -> Export:
    """Export the best checkpoint, run the result on test examples, and compare it with Keras.

    A result that does not agree is kept, but never in the place of an earlier one. It takes float32 batches
    of any size with raw pixels 0…255 or unscaled columns, as the model does. Weights and arithmetic are
    float32, unless quantized, under every training precision. The file holds what its outputs mean, how they
    are decided upon and how inputs are prepared; the same lies beside it in JSON, and as a model card.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        to: the format.
        output: where to; a folder that exists gets the file inside. None: a place in the run folder, whose
            earlier content is replaced.
        quantize: of `tflite` and `openvino`: weights in half precision, or 8 bits, calibrated on training
            examples; `int8` tries several ways on validation examples, and keeps the first that is good
            enough. Inputs and outputs stay float32.
        examples: of the test split to compute, at most.

    Raises:
        CnnbenchError: packages are missing, `output` exists, or an operation has no equivalent there.
    """
    require_finished(folder)
    if quantize != "none" and to not in ("tflite", "openvino"):
        raise CnnbenchError(f"--quantize {quantize} is for --format tflite or openvino", "leave it out")
    for name in NEEDED.get(to, ()):
        require_package(f"--format {to}", name, to)
    path = _place(folder, to, quantize, output)
    dataset, decision = load_dataset(spec), folder.decision
    loaded = load_model(folder, spec)
    model, notes = formats.ready_for_export(loaded)
    notes += tuple(f"not the test examples of the run: {one}" for one in differences(folder, dataset, "test"))
    test = _some(dataset.test, examples)
    expected = _of_keras(model, test.x)
    temporary = temporary_beside(path.with_suffix(SUFFIXES[to]))  # Keras looks at the suffix
    try:
        with formats.quiet():
            try:
                found = _write(model, to, temporary, quantize, dataset, decision)
            except Exception as error:  # the converters raise anything
                raise CnnbenchError(f"this model cannot be exported to {to}: {first_line(error)}") from error
            compute = formats.RUNNERS[to](temporary)
            measured = _computed(compute, test.x)
            if decision.conformal and quantize != "none":
                decision, told = _with_sets_of_its_own(decision, folder, dataset, compute)
                notes += told
        compared = compare(decision, test, expected, measured, quantize)
        if not compared.passed and path.exists():
            path = path.with_name(f"{path.stem}_failed{path.suffix}")
        result = Export(
            **vars(compared),
            path=path,
            format=to,
            verdict=verdict_on(compared, quantize),
            size=0,
            card=path.with_name(f"{path.name}.md"),
            record=path.with_name(f"{path.name}.json"),
            notes=notes,
            **found,
        )
        about = description(folder, spec, dataset, columns_of(loaded), decision, measurement(result))
        with formats.quiet():
            formats.embed(temporary, to, about)
        result = replace(result, size=_size(temporary))
        remove(path)  # a folder cannot be exchanged in one step
        temporary.replace(path)
    finally:
        remove(temporary)
    write_json(result.record, about)
    write_text(result.card, card(about))
    return result


def _with_sets_of_its_own(
    decision: Decision, folder: RunFolder, dataset: Dataset, compute: Compute
) -> tuple[Decision, tuple[str, ...]]:
    """Return a decision whose sets are made of a quantized file's outputs, and a line that says so.

    Its outputs may have steps wider than what the network's bound leaves to probabilities of a sure answer:
    with that bound, every set would be empty.
    """
    split, found = dataset.calibration, None
    if split is not None and not differences(folder, dataset, CALIBRATION_SPLIT):
        outputs = _computed(compute, split.x)
        if np.isfinite(outputs).all():
            found = conformal.calibrated(decision.task, split.y, outputs, decision.conformal["coverage"])
    if found is None:
        told = "sets are calibrated for the float model, and its calibration examples are gone: left out"
        return replace(decision, conformal={}), (told,)
    count = f"{found['examples']:,} calibration examples"
    told = f"sets are calibrated anew, for the outputs of this file, on the run's {count}"
    return replace(decision, conformal=found), (told,)


def _place(folder: RunFolder, to: Format, quantize: Quantize, output: Path | None) -> Path:
    name = to if not SUFFIXES[to] else "model"
    kind = "" if quantize == "none" else f"_{quantize}"
    own = folder.export_path(f"{name}{kind}{SUFFIXES[to]}")
    path = own if output is None else output / own.name if output.is_dir() else output
    for one in (path, path.with_name(f"{path.name}.md"), path.with_name(f"{path.name}.json")):
        if output is not None and one.exists():
            raise CnnbenchError(f"{one} exists already", "remove it, or choose another --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnbenchError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    return path


def _write(
    model: Any, to: Format, path: Path, quantize: Quantize, dataset: Dataset, decision: Decision
) -> dict[str, Any]:
    """Write a model to a path; return how its numbers are stored, what was tried, and where it loses."""
    if quantize not in EIGHT_BITS:
        formats.write(model, to, path, half=quantize == "float16")
        return {"scheme": quantize, "words": SCHEMES[quantize]}
    calibration = np.asarray(_some(dataset.train, CALIBRATION).x[:], np.float32)
    choice, chosen_on = _for_the_choice(dataset)
    expected = np.concatenate([_of_keras(model, split.x) for split in choice])
    together = Split(np.zeros((len(expected), 1)), np.concatenate([split.y for split in choice]))

    def attempt(content: bytes, one: Attempt) -> Attempt:
        place = temporary_beside(path)
        try:
            _write_tflite(content, to, place)
            compute = formats.RUNNERS[to](place)
            measured = np.concatenate([_computed(compute, split.x) for split in choice])
            return _judged(one, compare(decision, together, expected, measured, quantize), _size(place))
        finally:
            remove(place)

    with formats.saved(model) as source:
        layers = layer_errors(source, calibration, [layer.name for layer in model.layers])
        tried, content = quantized(source, quantize, calibration, layers, attempt)
    _write_tflite(content, to, path)
    (kept,) = (one for one in tried if one.kept)
    return {
        "scheme": kept.scheme,
        "words": kept.words,
        "tried": tuple(tried),
        "chosen_on": chosen_on,
        "layers": tuple(sorted(layers, key=lambda one: -one.steps)),
    }


def _write_tflite(content: bytes, to: Format, path: Path) -> None:
    """Write a TFLite model as it is, or as OpenVINO reads it."""
    if to == "tflite":
        path.write_bytes(content)
        return
    lite = path.with_name(f"{path.name}.tflite")
    try:
        lite.write_bytes(content)
        formats.write_openvino(lite, path)
    finally:
        remove(lite)


def _for_the_choice(dataset: Dataset) -> tuple[list[Split], str]:
    """Return examples by which a way to quantize is chosen, and what they are: none of the test split.

    Training examples fill up what the validation split lacks, those by which no range is chosen first.
    """
    found = [] if dataset.val is None else [_some(dataset.val, CHOICE)]
    lacking = CHOICE - sum(map(len, found))
    if lacking:
        used = _evenly(len(dataset.train), CALIBRATION)
        others = np.setdiff1d(np.arange(len(dataset.train)), used)
        others = others[_evenly(len(others), lacking)] if len(others) else others
        found.append(dataset.train.take(np.concatenate([others, used])[:lacking]))
    kinds = ["validation"] * (dataset.val is not None) + ["training"] * bool(lacking)
    counted = [f"{len(split):,} {kind}" for split, kind in zip(found, kinds, strict=True)]
    return found, f"{' and '.join(counted)} examples"


def _judged(attempt: Attempt, compared: Comparison, size: int) -> Attempt:
    """Return an attempt with its figures, and why it is not good enough."""
    share = None if compared.agreement is None else compared.agreement / compared.examples
    lost = compared.lost if math.isfinite(compared.lost) else None
    most = MOST_LOST * (compared.of_keras if compared.metric in metrics.SMALLER_IS_BETTER else 1)
    most = max(most, 1 / compared.examples + 1e-9 if compared.metric == "accuracy" else 0.0)
    reason = ""
    if lost is None:
        reason = "outputs that are NaN or infinite"
    elif not compared.passed:
        reason = f"same class for {share:.1%} only" if share is not None else "outputs too far off"
    elif lost > most:
        reason = f"{compared.metric} {'grows' if share is None else 'falls'} by {lost:.4f}"
    return replace(attempt, size=size, agreement=share, lost=lost, reason=reason)


# -- Comparison with Keras -------------------------------------------------------------------------


def compare(
    decision: Decision, split: Split, expected: np.ndarray, measured: np.ndarray, quantize: Quantize
) -> Comparison:
    """Compare outputs ``(n, outputs)`` of Keras and of a file for the examples of a split."""
    task, is_int8 = decision.task, quantize in EIGHT_BITS
    limit = TOLERANCES["int8" if is_int8 else quantize]
    if task == "regression" and expected.shape[1] > 1:  # each in a unit of its own
        scales = np.abs(expected).max(axis=0)
        difference = float((np.abs(measured - expected) / np.where(scales > 0, scales, 1)).max())
    else:
        difference = float(np.abs(measured - expected).max())
        limit *= float(np.abs(expected).max()) if task == "regression" else 1.0
    agreement = None
    if task == "multilabel":
        same = (decision.labels(expected) == decision.labels(measured)).all(axis=1)
        agreement = int(same.sum())
    elif task != "regression":
        agreement = int((decision.classes(expected) == decision.classes(measured)).sum())
    by_class = is_int8 and agreement is not None
    if agreement is not None and by_class:
        least = min(
            LEAST_AGREEMENT_OF_INT8 * len(expected), len(expected) - 1
        )  # of few examples one may differ
        passed = bool(np.isfinite(difference)) and agreement >= least
    else:
        passed = difference <= limit  # False where it is NaN
    metric = metrics.TRAINED[task][-1]
    both = decided(decision, expected), decided(decision, measured)
    (of_keras, around), (value, interval) = (_score(task, split, one, metric) for one in both)
    lost, lost_between = math.nan, None
    if math.isfinite(value):
        lost = value - of_keras if metric in metrics.SMALLER_IS_BETTER else of_keras - value
        lost_between = lost_interval(task, split, both, metric)
    return Comparison(
        examples=len(split),
        metric=metric,
        value=value,
        interval=interval,
        of_keras=of_keras,
        interval_of_keras=around,
        lost=lost,
        lost_between=lost_between,
        difference=difference,
        tolerance=None if by_class else limit,
        agreement=agreement,
        passed=passed,
    )


def decided(decision: Decision, outputs: np.ndarray) -> np.ndarray:
    """Return outputs to compute figures of: for two classes and for labels 0 or 1, by the thresholds."""
    if not np.isfinite(outputs).all():
        return outputs
    if decision.task == "binary":
        return decision.classes(outputs)[:, None].astype(np.float32)
    return decision.labels(outputs).astype(np.float32) if decision.task == "multilabel" else outputs


def _score(task: str, split: Split, outputs: np.ndarray, metric: str) -> tuple[float, Interval | None]:
    if not np.isfinite(outputs).all():
        return math.nan, None
    figures = metrics.compute_named(task, split.y, outputs, [metric])
    return figures[metric], intervals_of(task, split.y, outputs, figures, groups=split.groups).get(metric)


def lost_interval(
    task: str, split: Split, both: tuple[np.ndarray, np.ndarray], metric: str
) -> Interval | None:
    """Return where the loss lies at 95 %, were other examples computed by both; None for a single unit.

    Of accuracies on examples that stand alone it is Agresti and Min's (2005, Statistics in Medicine 24,
    729–740), which is of some width also where both are right on the same examples. All else is a bootstrap
    of the examples, or of their groups.
    """
    n = len(split)
    if metric == "accuracy" and split.groups is None:
        here, there = (metrics.predicted_classes(one) == split.y.reshape(-1) for one in both)
        worse, better = int((here & ~there).sum()) + 0.5, int((there & ~here).sum()) + 0.5
        middle = (worse - better) / (n + 2)
        half = 1.96 * math.sqrt(worse + better - (worse - better) ** 2 / (n + 2)) / (n + 2)
        return Interval(max(-1.0, middle - half), min(1.0, middle + half), "Agresti-Min")
    every = np.arange(n) if split.groups is None else np.unique(split.groups, return_inverse=True)[1]
    members = np.split(np.argsort(every, kind="stable"), np.cumsum(np.bincount(every))[:-1])
    if len(members) < 2:
        return None
    generator, losses = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = np.concatenate([members[unit] for unit in generator.integers(len(members), size=len(members))])
        of_keras, of_file = (
            metrics.compute_named(task, split.y[rows], one[rows], [metric])[metric] for one in both
        )
        losses.append(of_file - of_keras if metric in metrics.SMALLER_IS_BETTER else of_keras - of_file)
    low, high = np.quantile(losses, [0.025, 0.975])
    return Interval(float(low), float(high), "bootstrap")


def verdict_on(compared: Comparison, quantize: Quantize) -> str:
    """Say in a sentence what a file costs beside Keras."""
    if compared.lost_between is None:
        return (
            "its outputs are NaN or infinite" if math.isnan(compared.value) else "not enough examples to tell"
        )
    if quantize == "none" and compared.passed:
        return "the same is computed"
    low, high = compared.lost_between.low, compared.lost_between.high
    name = compared.metric
    verb = "grows" if name in metrics.SMALLER_IS_BETTER else "falls"
    most = MOST_LOST * (abs(compared.of_keras) if name in metrics.SMALLER_IS_BETTER else 1)
    if low > 0:
        return f"{name} {verb} by {compared.lost:.4f}, at 95 % by {low:.4f} to {high:.4f}"
    if high <= most:
        return f"{name} {verb} by no more than {max(high, 0):.4f} at 95 %"
    if compared.lost <= 0:
        return (
            f"no loss is seen on {compared.examples:,} examples, but they could not tell {high:.4f} of {name}"
        )
    better = f"between a gain of {-low:.4f} and a loss of {high:.4f}"
    return f"{name} {verb} by {compared.lost:.4f} on {compared.examples:,} examples: at 95 % {better}"


def measurement(export: Export) -> dict[str, Any]:
    """Return what an export has measured, as the file and its record hold it."""
    left_out = ("path", "card", "record", "size")
    content = {name: value for name, value in asdict(export).items() if name not in left_out}
    return dict(plain({"file": export.path.name, **content}))


def summary(export: Export) -> list[str]:
    """Return the outcome as lines of text."""

    def with_interval(value: float, interval: Interval | None) -> str:
        if math.isnan(value):
            return "outputs that are NaN or infinite"
        return f"{value:.4f}" + (f" ({between(vars(interval))})" if interval else "")

    lines = [*export.notes, f"{export.path}  ({export.size:,} bytes)"]
    if export.tried:
        lines += _attempts(export)
    lines.append(
        f"{export.metric} on {export.examples:,} test examples: "
        f"{with_interval(export.value, export.interval)}, "
        f"of Keras {with_interval(export.of_keras, export.interval_of_keras)}"
    )
    if export.scheme != "none":
        lines.append(export.verdict)
    line = f"largest difference from Keras: {export.difference:.2e}"
    if export.tolerance is not None:
        line += f" (at most {export.tolerance:.2g})"
    if export.agreement is not None:
        same = "labels" if export.metric == "f1_micro" else "class"
        line += f"; same {same} for {export.agreement} of {export.examples}"
        if export.tolerance is None:
            few = ", or all but one" if export.examples < 1 / (1 - LEAST_AGREEMENT_OF_INT8) else ""
            line += f" (at least {LEAST_AGREEMENT_OF_INT8:.0%}{few})"
    return [*lines, line, f"model card: {export.card}"]


def _attempts(export: Export) -> list[str]:
    lines = [f"kept: {export.words}"]
    if len(export.tried) > 1 or export.tried[0].reason:
        lines.append(f"tried on {export.chosen_on}:")
        for one in export.tried:
            figures = "" if one.agreement is None else f" (same class for {one.agreement:.1%})"
            lines.append(f"  {one.words}: {one.reason or f'good enough{figures}'}")
    worst: dict[str, float] = {}
    for error in export.layers:  # the worst operation of a layer first
        worst.setdefault(error.layer, error.steps)
    if worst:
        shown = [f"{layer} {steps:.1f}" for layer, steps in list(worst.items())[:SHOWN]]
        lines.append(f"errors in steps of 8 bits, where rounding alone has 0.3: {', '.join(shown)}")
    return lines


def _evenly(count: int, most: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(most, count)).astype(np.intp)


def _some(split: Split, count: int) -> Split:
    """Return examples and targets, evenly over the split, as image folders are sorted by class."""
    return split.take(_evenly(len(split), count))


def _batches(x: Any) -> Iterator[np.ndarray]:
    return (np.asarray(x[start : start + BATCH], np.float32) for start in range(0, len(x), BATCH))


def _of_keras(model: Any, x: Any) -> np.ndarray:
    with formats.exact_arithmetic():
        return _computed(lambda batch: np.asarray(model(batch, training=False)), x)


def _computed(compute: Compute, x: Any) -> np.ndarray:
    return np.concatenate([compute(batch) for batch in _batches(x)])


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
