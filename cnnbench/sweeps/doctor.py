"""The doctor: what is likely to be wrong with a data set, and fixes that leave its files alone."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench import analysis, config, data, models, reporting, runs, system, training
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps.probe import PIXELS, Typed, pixels_extractor
from cnnbench.sweeps.schema import ClassOverlap, Doctor, Finding, ShortcutRow

if TYPE_CHECKING:
    import keras

FIXES, PAGE = "fixes.csv", "doctor.html"
SHOWN = 60  # of a kind, on the page
OF_ONE_RUN = ("seed=", "run_dir=", "training.fold=", "dataset.fixes=")
FOLDS, SEED = 5, 0
COLUMNS = "columns"
SMALL = 32  # pixels per side up to which grey pictures are no photographs, which backbones are for
KINDS = ("wrong label", "leak", "near-duplicate", "blank", "tiny", "dark", "blurred", "outlier")
ABOUT = {
    "wrong label": "A linear model that has not seen them finds another label far more likely (confident "
    "learning). The most doubtful first. Some are right, and only hard: look before you relabel.",
    "leak": "In two splits, so that the figures on the later one are too good. The fix leaves out the one "
    "that is learnt from.",
    "near-duplicate": "Twice in one split. The fix keeps them together where splits are drawn; of equal ones "
    "it leaves one out.",
    "blank": "Of one colour.",
    "tiny": "Files so small that most of what the network sees is invented.",
    "dark": "Nearly black.",
    "blurred": "Without a sharp edge, unlike the others.",
    "outlier": "Unlike everything else by their features. Often right, and worth a look.",
}
BLANK, DARK, BRIGHTEST = 2.0, 20.0, 60.0  # of 255: deviation of a blank picture; mean and top of a dark one
TINY = 32  # pixels of the shorter side of a file
TINY_PART = 0.5  # of the size that is read, below which a picture is mostly invented
BLURRED, BLUR_DEVIATIONS = 15.0, 4.0  # variance of the Laplacian, and robust deviations of its logarithm
LEAST_SIDE = 16  # pixels; of smaller pictures two may look alike and be different
MANY = 5000  # examples, from which on one fit is work for several threads
PIECE = 256  # pictures at a time
Tell = Callable[[str], object]


def doctor_line(
    line: Sequence[str],
    backbone: str | None = None,
    limit: float | None = None,
    output: Path | None = None,
    config_dir: str | None = None,
    tell: Tell = lambda text: None,
) -> Doctor:
    """Look for what is wrong with a data set.

    Args:
        line: overrides as of a run.
        backbone: whose features labels and neighbours are judged by, or `pixels`; None for the best that is
            here.
        limit: the share of examples that may have a finding.
        output: folder for the page and the fixes; None for a new one below `outputs/`.
        config_dir: a folder with the user's own options.
        tell: is told what is done next.

    Raises:
        CnnbenchError: the line is wrong, the data are too few, or the folder holds fixes already.
    """
    refuse(output)
    typed = Typed.read(line, config_dir, "doctor")
    chosen = backbone or _best_backbone(typed.line, config_dir)
    by_backbone = chosen not in (None, PIXELS)
    size = typed.size_for(str(chosen)) if by_backbone else None
    read = typed.read_size(size) if size is not None else None
    spec = typed.spec(read, None)
    made = typed.spec(read, chosen, size).model if by_backbone else None
    found = examine(spec, Judge(chosen, made, backbone is not None), tell)
    return _written(found, typed.to_run(None, None, None), limit, output, tell, config_dir)


def doctor_run(
    spec: runs.RunSpec,
    limit: float | None = None,
    output: Path | None = None,
    tell: Tell = lambda text: None,
) -> Doctor:
    """Look for what is wrong with the data set of a run, by the features of its own backbone, if it has one.

    Args:
        spec: of the run.
        limit: the share of examples that may have a finding.
        output: folder for the page and the fixes; None for a new one below `outputs/`.
        tell: is told what is done next.
    """
    refuse(output)
    backbone = spec.config["model"].get("backbone")
    judge = Judge(backbone, spec.model, typed=True)
    if backbone is None and (best := _best_backbone([], None)) is not None:
        size = models.catalogue.find(best).size
        line = ["model=transfer", config.override("model.backbone", best), f"model.image_size={size}"]
        composed = config.compose(line)
        judge = Judge(best, config.run_spec(composed, composed.hydra.runtime.choices, line).model)
    return _written(examine(spec, judge, tell), spec.overrides, limit, output, tell)


def _best_backbone(line: Sequence[str], config_dir: str | None) -> str | None:
    """Return the backbone that `model=auto` would choose; None where none is here."""
    found = config.unresolved(config.compose([*line, "model=auto"], config_dir))["model"].get("backbone")
    return None if found is None else str(found)


@dataclass(frozen=True)
class Judge:
    """What labels and neighbours are judged by.

    Attributes:
        backbone: its name; None, or `pixels`, without one.
        model: makes a model with it.
        typed: somebody has asked for it.
    """

    backbone: str | None
    model: Callable[..., keras.Model] | None = None
    typed: bool = False

    def extractor(self, dataset: data.Dataset) -> tuple[str, keras.Model]:
        """Return what it is called, and what makes features of pictures."""
        height, width, channels = dataset.input_shape
        is_small = channels == 1 and max(height, width) <= SMALL and not self.typed
        if self.model is None or self.backbone in (None, PIXELS) or is_small:
            return PIXELS, pixels_extractor(dataset.input_shape)
        whole = self.model(input_shape=dataset.input_shape, outputs=dataset.outputs)
        return str(self.backbone), models.split_at_features(whole)[0]


def examine(spec: runs.RunSpec, judge: Judge, tell: Tell = lambda text: None) -> Examination:
    """Look at every example of a data set, and write nothing.

    Args:
        spec: of a run on it.
        judge: of labels and neighbours.
        tell: is told what is done next.

    Raises:
        CnnbenchError: the data are wrong, or too few.
    """
    from threadpoolctl import threadpool_limits

    tell("reading the data")
    with data.sharing(None):  # what is in two splits is a finding
        pool = Pool(spec.dataset())
    notes = [note for note in pool.dataset.notes if not isinstance(note, data.Fact)]
    name, features = _features(pool, spec, judge, tell)
    tell("neighbours")
    axes = analysis.largest_axes(features)
    del features
    close = np.ascontiguousarray(axes.values[:, : analysis.NEIGHBOUR_AXES])
    near = analysis.Neighbours.of(close)
    findings: list[Finding] = []
    looks = None
    if pool.has_pictures:
        tell("looking at every picture")
        looks = Looks.of(pool)
        findings += looks.findings(pool)
    pairs = _pairs(pool, close, near, looks)
    cluster = _clusters(len(pool), pairs)
    findings += [
        pool.finding("outlier", row, far, f"{far:.1f} deviations farther from its neighbours than usual")
        for row, far in analysis.outliers(near)
    ]
    tell("a linear model for each fold")
    fold = _folds(pool, cluster)
    with threadpool_limits(
        1 if len(pool) < MANY else None
    ):  # small matrices are no work for all cores together
        outputs = analysis.cross_validate(axes, pool.y, pool.task, fold)
    issues = analysis.find_label_issues(pool.y, pool.task, outputs)
    findings += [_wrong_label(pool, issue) for issue in issues]
    findings += _of_pairs(pool, pairs, _trust(pool, outputs, issues))
    overlaps, shortcuts = list[ClassOverlap](), list[ShortcutRow]()
    if pool.task in ("binary", "multiclass"):
        names = pool.dataset.class_names
        overlaps = [
            ClassOverlap(names[one.first], names[one.second], one.share, one.examples)
            for one in analysis.overlapping_classes(pool.y, outputs, [issue.row for issue in issues])
        ]
        if looks is not None:
            tell("shortcuts")
            shortcuts = _shortcuts(pool, looks, fold)
    score = analysis.score(pool.task, pool.y, outputs)
    findings.sort(key=lambda one: KINDS.index(one.kind))
    table = spec.config.get("dataset", {}).get("fixes")
    before = [] if table is None else data.read_fixes(Path(table))
    return Examination(pool, name, score, cluster, outputs, findings, overlaps, shortcuts, notes, before)


# -- The examples ----------------------------------------------------------------------------------


class Pool:
    """The examples of all splits, one after another; indexing reads them.

    Attributes:
        dataset: that they are of.
        y: their targets.
    """

    def __init__(self, dataset: data.Dataset) -> None:
        self.dataset = dataset
        self.parts = list(dataset.splits.items())
        self.starts = np.cumsum([0, *(len(part) for _, part in self.parts)])
        self.y = np.concatenate([part.y for _, part in self.parts])
        self.names = [name for _, part in self.parts for name in data.names_of(part)]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        split = np.searchsorted(self.starts, numbers, "right") - 1
        found = np.empty((len(numbers), *self.dataset.input_shape), self.parts[0][1].x.dtype)
        for index in np.unique(split):
            own = split == index
            found[own] = self.parts[index][1].x[numbers[own] - self.starts[index]]
        return found

    @property
    def task(self) -> Any:
        return self.dataset.task

    @property
    def has_pictures(self) -> bool:
        return len(self.dataset.input_shape) == 3 and self.dataset.train.x.dtype == np.uint8

    def row(self, split: str, row: int) -> int:
        """Return the row here of one of a split."""
        return int(self.starts[[name for name, _ in self.parts].index(split)]) + row

    def place(self, row: int) -> tuple[str, int]:
        """Return the split of a row, and its row there."""
        index = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.parts[index][0], row - int(self.starts[index])

    def label(self, row: int) -> str:
        return data.label_of(self.dataset, self.y[row])

    def finding(
        self,
        kind: str,
        row: int,
        score: float,
        why: str,
        action: str = "",
        other: int | None = None,
        suggested: str = "",
    ) -> Finding:
        split, number = self.place(row)
        beside = ("", None) if other is None else self.place(other)
        return Finding(
            kind=kind,
            split=split,
            example=self.names[row],
            label=self.label(row),
            other_split=beside[0],
            other="" if other is None else self.names[other],
            other_label="" if other is None else self.label(other),
            suggested=suggested,
            score=score,
            why=why,
            # A test split that a model has cleaned flatters models, so its examples are named and left.
            action="" if split == "test" else action,
            row=number,
            other_row=beside[1],
        )

    @cached_property
    def digests(self) -> list[bytes] | None:
        known = [part.digests for _, part in self.parts]
        return None if any(one is None for one in known) else [one for some in known for one in some or ()]

    @property
    def equal_pairs(self) -> Iterator[tuple[int, int]]:
        """Each picture with the first equal one of its split and of each later split.

        Rows of a table may well be equal and yet two examples.
        """
        first: dict[bytes, dict[str, int]] = {}
        digests = self.digests or () if self.has_pictures else ()
        for row, content in enumerate(digests):
            first.setdefault(content, {}).setdefault(self.place(row)[0], row)
        for row, content in enumerate(digests):
            if (other := first[content][self.place(row)[0]]) != row:
                yield other, row
            yield from ((row, later) for later in first[content].values() if later > row)

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The groups of all; what is in none is one by itself."""
        if all(part.groups is None for _, part in self.parts):
            return None
        known = [part.groups for _, part in self.parts]
        start = max(int(one.max()) for one in known if one is not None) + 1
        alone = start + np.arange(len(self))
        return np.concatenate(
            [
                alone[begin : begin + len(part)] if part.groups is None else part.groups
                for begin, (_, part) in zip(self.starts, self.parts, strict=False)
            ]
        )


def _features(pool: Pool, spec: runs.RunSpec, judge: Judge, tell: Tell) -> tuple[str, np.ndarray]:
    if len(pool.dataset.input_shape) != 3:
        return COLUMNS, _columns(pool)
    system.import_tensorflow(spec.plugins)
    training.prepare_machine(SEED, spec.deterministic, spec.device, "float32")
    name, extractor = judge.extractor(pool.dataset)
    tell(f"features of {name}: {len(pool):,} pictures")
    found = [training.features_of(extractor, part.x, part.digests) for _, part in pool.parts]
    return name, np.concatenate(found)


def _columns(pool: Pool) -> np.ndarray:
    """Return the columns of a table as numbers: what is missing as the middle, each category by itself."""
    x = pool[:].reshape(len(pool), -1).astype(np.float64)
    columns = pool.dataset.columns or [data.Column(str(index)) for index in range(x.shape[1])]
    found = []
    for values, column in zip(x.T, columns, strict=True):
        if column.categories:
            found += [values == code for code in range(len(column.categories))]
        else:
            found.append(np.where(np.isnan(values), np.nanmedian(values) if len(values) else 0, values))
    return np.stack(found, axis=1).astype(np.float32)


def _folds(pool: Pool, cluster: np.ndarray) -> np.ndarray:
    """Return the fold of each example; those that show the same, or are of a group, are together."""
    contents = cluster if (np.bincount(cluster) > 1).any() else None
    try:
        return data.folds(pool.y, pool.task, FOLDS, SEED, pool.groups, contents)
    except data.TooFewError as error:
        name = "" if error.label is None else f" of {pool.dataset.class_names[error.label]}"
        raise CnnbenchError(
            f"{pool.dataset.name}: too few different examples{name} to cross-validate: {error.count}",
            f"at least {FOLDS} in all, and 2 of each class",
        ) from error


def _pairs(
    pool: Pool, features: np.ndarray, near: analysis.Neighbours, looks: Looks | None
) -> list[tuple[int, int, float]]:
    """Return the pairs of pictures that show the same, with their distance; 0 of equal ones."""
    equal = dict.fromkeys(pool.equal_pairs, 0.0)
    if looks is None or min(pool.dataset.input_shape[:2]) < LEAST_SIDE:
        return [(*pair, apart) for pair, apart in equal.items()]
    hashes = data.perceptual_hashes(pool)
    found = analysis.near_duplicates(hashes, features, near, looks.deviation > BLANK)
    return sorted((*pair, apart) for pair, apart in ({(a, b): d for a, b, d in found} | equal).items())


def _clusters(size: int, pairs: Sequence[tuple[int, int, float]]) -> np.ndarray:
    """Return ``(size,)`` a number of each example, the same for those that are joined by pairs."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = np.array([pair[:2] for pair in pairs] or np.empty((0, 2)), np.intp).T
    links = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1])


# -- Findings --------------------------------------------------------------------------------------


def _trust(pool: Pool, outputs: np.ndarray, issues: Sequence[analysis.LabelIssue]) -> np.ndarray:
    """Return ``(n,)`` how far each label is believed out of fold: more is better, doubted ones least."""
    rows = np.arange(len(pool))
    if pool.task == "regression":
        trust = -np.abs(pool.y.reshape(len(pool), -1) - outputs).max(axis=1)
    elif pool.task == "multilabel":
        trust = np.where(pool.y > 0, outputs, 1 - outputs).min(axis=1)
    else:
        trust = analysis.of_classes(outputs)[rows, pool.y.astype(np.intp)]
    doubted = np.isin(rows, [issue.row for issue in issues])
    return np.where(doubted, -np.inf, trust)


def _of_pairs(pool: Pool, pairs: Iterable[tuple[int, int, float]], trust: np.ndarray) -> Iterator[Finding]:
    """Yield a finding for each example that shows the same as an earlier one, or as one of another split.

    Of a pair in two splits the training example goes, so that the test split stays what it is. Of equal ones
    in one split the one stays whose label is believed most, or all go, where they are in a later split, too.

    Args:
        pool: all examples.
        pairs: of rows that show the same, and how far they are apart.
        trust: ``(n,)`` in each label, as of `_trust`.
    """
    done: set[int] = set()
    crossing, equal, near = (list[tuple[int, int, float]]() for _ in range(3))
    for pair in pairs:
        is_crossing = pool.place(pair[0])[0] != pool.place(pair[1])[0]
        (crossing if is_crossing else near if pair[2] else equal).append(pair)
    for first, second, apart in sorted(crossing, key=lambda pair: pair[2]):
        # The later split is held out: what is learnt from goes.
        if first not in done:
            done.add(first)
            split = pool.place(second)[0]
            yield pool.finding("leak", first, apart, f"{_how(apart)} of {split}", "exclude", second)
    copies: dict[int, set[int]] = {}
    number = _clusters(len(pool), equal)
    for first, second, _ in equal:
        copies.setdefault(int(number[first]), set()).update((first, second))
    for rows in copies.values():
        kept = max(sorted(rows), key=lambda row: (row in done, trust[row]))
        for row in sorted(rows - {kept}):
            done.add(row)
            label = "" if pool.label(row) == pool.label(kept) else ", with a more likely label"
            why = f"{_how(0)} of the same split{label}"
            yield pool.finding("near-duplicate", row, 0.0, why, "exclude", kept)
    for first, second, apart in sorted(near, key=lambda pair: pair[2]):
        if second not in done:
            done.add(second)
            label = "" if pool.label(first) == pool.label(second) else ", with another label"
            why = f"{_how(apart)} of the same split{label}"
            yield pool.finding("near-duplicate", second, apart, why, "group", first)


def _how(apart: float) -> str:
    return "equals a picture" if not apart else f"shows the same as a picture (distance {apart:.2f})"


def _wrong_label(pool: Pool, issue: analysis.LabelIssue) -> Finding:
    names = pool.dataset.class_names
    if pool.task == "regression":
        suggested = "|".join(f"{value:.4g}" for value in issue.suggested)
        why = f"the residual is expected once in {1 / max(issue.score, 1e-300):.1g} examples"
    else:
        suggested = "|".join(names[int(index)] for index in issue.suggested)
        why = f"its label has probability {issue.score:.3f} out of fold"
    return pool.finding("wrong label", issue.row, issue.score, why, "exclude", None, suggested)


@dataclass(frozen=True)
class Looks:
    """Plain statistics of pictures.

    Attributes:
        mean, deviation, top: of the grey values of each, 0 to 255; the top is their 95th percentile.
        sharpness: variance of the Laplacian.
        border, colour: see `analysis.border_of` and `colour_of`.
        sizes: ``(n, 2)`` width and height of the files, NaN where there is no file.
        bytes: of the files, NaN likewise.
    """

    mean: np.ndarray
    deviation: np.ndarray
    top: np.ndarray
    sharpness: np.ndarray
    border: np.ndarray
    colour: np.ndarray
    sizes: np.ndarray
    bytes: np.ndarray

    @classmethod
    def of(cls, pool: Pool) -> Looks:
        grey, border, colour = [], [], []
        for start in range(0, len(pool), PIECE):
            pictures = pool[start : start + PIECE]
            grey.append(_grey(pictures))
            border.append(analysis.border_of(pictures))
            colour.append(analysis.colour_of(pictures))
        with data.pillow_warnings():
            files = np.array([_of_file(pool.dataset.places.get(name)) for name in pool.names])
        mean, deviation, top, sharpness = np.concatenate(grey).T
        return cls(
            mean=mean,
            deviation=deviation,
            top=top,
            sharpness=sharpness,
            border=np.concatenate(border),
            colour=np.concatenate(colour),
            sizes=files[:, :2],
            bytes=files[:, 2],
        )

    def findings(self, pool: Pool) -> Iterator[Finding]:
        """Yield what is blank, tiny, dark or blurred."""
        read, done = min(pool.dataset.input_shape[:2]), set[int]()
        side = self.sizes.min(axis=1)
        blurred = self._blurred()
        for kind, rows, values, why, action in (
            (
                "blank",
                self.deviation < BLANK,
                self.deviation,
                "its grey values deviate by {:.1f} of 255",
                "exclude",
            ),
            ("tiny", side < min(TINY, TINY_PART * read), side, "its shorter side has {:.0f} pixels", ""),
            ("dark", (self.mean < DARK) & (self.top < BRIGHTEST), self.mean, "its mean is {:.0f} of 255", ""),
            ("blurred", blurred, self.sharpness, "the variance of its Laplacian is {:.1f}", ""),
        ):
            for row in np.flatnonzero(rows):
                if row not in done:  # what is blank is blurred, too
                    done.add(int(row))
                    yield pool.finding(kind, int(row), float(values[row]), why.format(values[row]), action)

    def _blurred(self) -> np.ndarray:
        from scipy.stats import median_abs_deviation

        known = np.log(np.maximum(self.sharpness, 1e-3))
        spread = median_abs_deviation(known, scale="normal")
        blurred: np.ndarray = (self.sharpness < BLURRED) & (
            known < np.median(known) - BLUR_DEVIATIONS * spread
        )
        return blurred


def _grey(pictures: np.ndarray) -> np.ndarray:
    """Return mean, deviation, 95th percentile and variance of the Laplacian of the grey values of each."""
    from scipy.ndimage import laplace

    grey = pictures.mean(axis=3, dtype=np.float32)
    flat = grey.reshape(len(grey), -1)
    sharpness = np.array([laplace(one).var() for one in grey])
    return np.stack([flat.mean(axis=1), flat.std(axis=1), np.percentile(flat, 95, axis=1), sharpness], axis=1)


def _of_file(path: Path | None) -> tuple[float, float, float]:
    """Return width, height and bytes of a file with a picture."""
    if path is None:
        return (np.nan,) * 3
    height, width, _ = data.size_of(path)
    return float(width), float(height), float(path.stat().st_size)


def _shortcuts(pool: Pool, looks: Looks, fold: np.ndarray) -> list[ShortcutRow]:
    rows = np.arange(len(pool))
    if len(rows) > analysis.MOST_SHORTCUT_EXAMPLES:
        rows = np.sort(data.draw(pool.y, pool.task, len(rows) - analysis.MOST_SHORTCUT_EXAMPLES, SEED)[0])
    columns = {
        "file size": looks.bytes[:, None],
        "resolution": looks.sizes,
        "border": looks.border,
        "mean colour and contrast": looks.colour,
    }
    some = {by: values[rows] for by, values in columns.items()}
    return [
        ShortcutRow(
            one.by, one.score, one.chance, "shortcut" if one.is_strong else "none" if one.is_weak else "some"
        )
        for one in analysis.find_shortcuts(some, pool.y[rows], fold[rows])
    ]


# -- The answer ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examination:
    """What was found, before anything is written.

    Attributes:
        pool: all examples.
        features: what they were judged by.
        score: of a linear model of these, out of fold.
        cluster: ``(n,)`` a number of each example, the same for those that show the same.
        outputs: of that model for each example.
        findings, overlaps, shortcuts, notes: as of `Doctor`.
        before: what corrects the data already.
    """

    pool: Pool
    features: str
    score: float
    cluster: np.ndarray
    outputs: np.ndarray
    findings: list[Finding]
    overlaps: list[ClassOverlap]
    shortcuts: list[ShortcutRow]
    notes: list[str]
    before: Sequence[data.Fix] = ()

    @property
    def flagged(self) -> int:
        """How many examples have a finding."""
        return len({(one.split, one.row) for one in self.findings})

    def fixes(self) -> list[data.Fix]:
        """Return what can be done about the findings: a row for each example that goes, or has a group.

        Those that the data were corrected by already come first.
        """
        found: dict[tuple[str, str], data.Fix] = {}
        for one in self.findings:
            if one.action == "exclude":
                perhaps = f"; perhaps {one.suggested}" if one.suggested else ""
                why = f"{one.kind}: {one.why}{perhaps}"
                fix = data.Fix(one.split, one.example, "exclude", "", one.label, why)
                found.setdefault((one.split, one.example), fix)
        groups: dict[tuple[str, int], list[int]] = {}
        for row in np.flatnonzero(np.bincount(self.cluster)[self.cluster] > 1).tolist():
            split = self.pool.place(row)[0]
            if split != "test" and (split, self.pool.names[row]) not in found:
                groups.setdefault((split, int(self.cluster[row])), []).append(row)
        reasons = {
            (one.split, one.example): f"{one.kind}: {one.why}"
            for one in self.findings
            if one.action == "group"
        }
        usual = "near-duplicate: shows the same as a picture of the same split"
        together = [
            data.Fix(
                split,
                name,
                "group",
                f"same {split} {number}",
                self.pool.label(row),
                reasons.get((split, name), usual),
            )
            for (split, number), rows in groups.items()
            if len(rows) > 1
            for row in rows
            for name in [self.pool.names[row]]
        ]
        return _joined(self.before, [*found.values(), *together], self.pool)


def _joined(before: Sequence[data.Fix], new: Sequence[data.Fix], pool: Pool) -> list[data.Fix]:
    """Return one table of two, the second of which is of the data as the first corrects them."""
    splits = {name: split for split, part in pool.parts for name in data.names_of(part)}
    old = [replace(fix, split=fix.split or splits.get(fix.example, "")) for fix in before]
    gone = {(fix.split, fix.example) for fix in new if fix.action == "exclude"}
    labels = {(fix.split, fix.example): fix.label for fix in old if fix.action == "relabel"}
    old = [fix for fix in old if fix.action == "exclude" or (fix.split, fix.example) not in gone]
    grouped = {(fix.split, fix.example): fix.value for fix in old if fix.action == "group"}
    # A new group takes the name of an old one that it has a member of, and joins it with others.
    called = {name: name for name in grouped.values()}
    new_names: dict[str, str] = {}
    for fix in new:
        if fix.action != "group":
            continue
        own = grouped.get((fix.split, fix.example))
        name = new_names.setdefault(fix.value, _free(fix.value, called) if own is None else called[own])
        called.setdefault(name, name)
        if own is not None and called[own] != (name := called[name]):
            called = {one: name if other == called[own] else other for one, other in called.items()}
    old = [replace(fix, value=called[fix.value]) if fix.action == "group" else fix for fix in old]
    later = [
        replace(
            fix,
            value=called[new_names[fix.value]] if fix.action == "group" else fix.value,
            label=labels.get((fix.split, fix.example), fix.label),
        )
        for fix in new
        if fix.action != "group" or (fix.split, fix.example) not in grouped
    ]
    return [*old, *later]


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "+"
    return name


def refuse(output: Path | None) -> None:
    """Refuse a folder with fixes, which somebody may have edited, before hours of work.

    Raises:
        CnnbenchError: it has some, or cleanlab is not installed.
    """
    system.require_package("doctor", "cleanlab", "doctor")
    if output is not None and (output / FIXES).exists():
        raise CnnbenchError(
            f"{output / FIXES} is there already, and may have been edited",
            "name another folder by --output, or remove it",
        )


def _written(
    found: Examination,
    line: Sequence[str],
    limit: float | None,
    output: Path | None,
    tell: Tell,
    config_dir: str | None = None,
) -> Doctor:
    """Write the page and the fixes, and return what is in them."""
    tell("writing the page")
    pool, dataset = found.pool, found.pool.dataset
    folder = output or runs.new_folder(Path("outputs"), f"doctor_{dataset.name}")
    fixes = found.fixes()
    share = found.flagged / len(pool)
    is_cut_short = any(row.verdict == "shortcut" for row in found.shortcuts)
    counted = Counter(one.kind for one in found.findings)
    answer = Doctor(
        dataset=dataset.name,
        task=dataset.task,
        examples={name: len(part) for name, part in pool.parts},
        features=found.features,
        metric=runs.OBJECTIVE[dataset.task].removeprefix("val_"),
        score=found.score,
        findings=found.findings,
        counts={kind: counted[kind] for kind in KINDS if counted[kind]},
        overlaps=found.overlaps,
        shortcuts=found.shortcuts,
        flagged=found.flagged,
        share=share,
        limit=limit,
        passed=limit is None or (share <= limit and not is_cut_short),
        fixes=str(folder / FIXES) if fixes else "",
        page=str(folder / PAGE),
        next=_worth(line, folder, dataset.task, config_dir) if fixes else [],
        notes=found.notes,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if fixes:
            system.write_text(folder / FIXES, data.write_fixes(fixes))
        system.write_text(folder / PAGE, _page(answer, pool))
    except OSError as error:
        raise system.unwritable(folder, error) from error
    return answer


def _worth(line: Sequence[str], folder: Path, task: str, config_dir: str | None = None) -> list[str]:
    """Return the lines that tell what the fixes are worth: runs in pairs, and their comparison on test."""
    kept = [text for text in line if not text.lstrip("+").startswith(OF_ONE_RUN)]
    before = next((text.partition("=")[2] for text in line if text.startswith("dataset.fixes=")), "null")
    both = config.override("dataset.fixes", str(folder / FIXES)).partition("=")[2]
    place = folder / "worth"
    own = [] if config_dir is None else ["--config-dir", config_dir]
    pairs = [f"dataset.fixes={before},{both}", "seed=0,1,2", config.override("run_dir", str(place))]
    metric = f"test_{runs.OBJECTIVE[task].removeprefix('val_')}"
    return [
        shlex.join(["cnnbench", "-m", *own, *kept, *pairs]),
        shlex.join(["cnnbench", "compare", str(place), "--sort", metric]),
    ]


# -- The page --------------------------------------------------------------------------------------


def _page(answer: Doctor, pool: Pool) -> str:
    sections = {}
    for kind in answer.counts:
        own = [one for one in answer.findings if one.kind == kind]
        sections[kind] = reporting.Cases(
            about=ABOUT[kind], total=len(own), cases=[_case(one, pool) for one in own[:SHOWN]]
        )
    return reporting.doctor_page(answer, sections)


def _case(one: Finding, pool: Pool) -> reporting.Case:
    places = [(one.split, one.example, one.label, one.row)]
    if one.other_row is not None:
        places.append((one.other_split, one.other, one.other_label, one.other_row))
    uris = [
        reporting.picture_uri(pool[[pool.row(split, row)]][0]) if pool.has_pictures else ""
        for split, _, _, row in places
    ]
    return reporting.Case(
        pictures=[
            reporting.Shown(uri, f"{split}: {name}", label)
            for uri, (split, name, label, _) in zip(uris, places, strict=True)
        ],
        why=one.why,
        suggested=one.suggested,
        action=one.action or "none",
    )
