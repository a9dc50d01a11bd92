"""The content of each `--json` answer, as types: what the verbs return, and `cnnbench schema` prints.

Imported by type checkers and by `cli.schemas` alone: the command line starts without it.
"""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from cnnbench import runs, sweeps, system


class Failure(TypedDict):
    """Wrong input, a failure or an interruption.

    Attributes:
        error: what is wrong, in one line.
        hint: what to type or do instead, of wrong input; may be empty.
    """

    error: str
    hint: NotRequired[str]


class Help(TypedDict):
    """What `--help` of a verb prints.

    Attributes:
        help: the text.
    """

    help: str


class Overview(TypedDict):
    """What `cnnbench --help` tells.

    Attributes:
        verbs: what each does.
        groups: the options of each group of the config, and what each is.
    """

    verbs: dict[str, str]
    groups: dict[str, dict[str, str]]


class Versions(TypedDict):
    """The versions that matter.

    Attributes:
        cnnbench, python, tensorflow, keras: the version of each.
    """

    cnnbench: str
    python: str
    tensorflow: str
    keras: str


class Composed(TypedDict):
    """What `--cfg` shows.

    Attributes:
        yaml: the config.
    """

    yaml: str


class Lines(TypedDict):
    """Lines of text.

    Attributes:
        lines: without their ends.
    """

    lines: list[str]


class Groups(TypedDict):
    """Options that can be chosen.

    Attributes:
        groups: the options of each group, and what each is.
    """

    groups: dict[str, dict[str, str]]


class OptionKeys(Lines):
    """The keys of one option, each with its value and where that is set.

    Attributes:
        option: as it was asked for, such as `model=cnn`.
    """

    option: str


class ListedBackbone(TypedDict):
    """A pretrained backbone.

    Attributes:
        name: as `model.backbone` takes it.
        path: of its file of weights on this machine; null where it is not here.
        bytes: of that file; null where it is not here.
        parameters: without the top.
        accuracy: on ImageNet's validation images, top 1, as published, from 0 to 1; null where unknown.
        size: pixels per side that it was trained on.
        licence: of the weights.
        file: the name of its file of weights.
        how: what to do in order to have it here.
    """

    name: str
    path: str | None
    bytes: int | None
    parameters: int
    accuracy: float | None
    size: int
    licence: str
    file: str
    how: str


class ListedBackbones(TypedDict):
    """Pretrained backbones.

    Attributes:
        backbones: those that are here first, the most accurate first.
        folders: where files of weights are looked for, besides the packages of the extra.
    """

    backbones: list[ListedBackbone]
    folders: list[str]


class Explained(Lines):
    """The value of a key, and what set it.

    Attributes:
        key: dotted.
    """

    key: str


class Drawn(Lines):
    """Pictures that were drawn, a line for each.

    Attributes:
        run: its folder.
    """

    run: str


class Checked(TypedDict):
    """A run or a sweep that was tried without training it.

    Attributes:
        jobs: each run that there would be.
        hours: of all runs, one after another.
        fails: how many would fail.
    """

    jobs: list[sweeps.Forecast]
    hours: float
    fails: int


class FinishedRun(runs.RunMetrics):
    """A finished run.

    Attributes:
        folder: of the run.
    """

    folder: str


class UnfinishedRun(TypedDict):
    """A run without a result.

    Attributes:
        folder: of the run.
        status: `failed`, `interrupted`, `pruned`, `running`, `unfinished` or `unreadable`.
        reason: in one line.
        history: every metric, the learning rate, seconds and examples per second of each epoch.
    """

    folder: str
    status: str
    reason: str
    history: list[dict[str, float]]


RunContent = FinishedRun | UnfinishedRun


class Recipe(FinishedRun):
    """A preset that was run.

    Attributes:
        reproduced: whether this machine reproduces the score that it promises.
        sentence: the score, and the promise.
    """

    reproduced: bool
    sentence: str


class SweepContent(TypedDict):
    """A sweep that was run.

    Attributes:
        folder: of the sweep.
        runs: each that has begun.
    """

    folder: str
    runs: list[RunContent]


class VerifiedFigure(TypedDict):
    """One figure that was measured again.

    Attributes:
        metric: split and name.
        recorded: by the run.
        measured: now.
        agrees: whether they are equal within the tolerance.
    """

    metric: str
    recorded: float
    measured: float
    agrees: bool


class Verified(TypedDict):
    """A run that was evaluated again.

    Attributes:
        run: its folder.
        passed: whether all of it agrees.
        figures: each of them.
        notes: the tolerance, where it is not the narrowest, and its reason.
        complaints: differences besides figures.
    """

    run: str
    passed: bool
    figures: list[VerifiedFigure]
    notes: list[str]
    complaints: list[str]


class TensorRow(TypedDict):
    """One tensor of a training step.

    Attributes:
        kind: `input`, `target`, `layer`, `loss` or `gradient`.
        name: of the layer or variable.
        low, high: of its finite values; null where it has none.
        bad: number of values that are NaN or infinite.
        size: number of values.
    """

    kind: str
    name: str
    low: float
    high: float
    bad: int
    size: int


class Replayed(TypedDict):
    """The step in which a loss turned NaN or infinite.

    Attributes:
        run: its folder.
        first: the first tensor with a value that is not finite; null where all are finite.
        sentence: the same in words.
        advice: a remedy.
        tensors: in the order of computation.
    """

    run: str
    first: str | None
    sentence: str
    advice: str
    tensors: list[TensorRow]


class Reported(TypedDict):
    """A page that was written.

    Attributes:
        page: the HTML file.
    """

    page: str


class Remarked(TypedDict):
    """What a person says of a run.

    Attributes:
        folder: of the run.
        tags: words by which it is found again.
        note: a line; may be empty.
    """

    folder: str
    tags: list[str]
    note: str


class ListedRun(Remarked):
    """One run of a list.

    Attributes:
        status: what became of it.
        reason: why it is not done; empty where it is.
        objective: name of the metric that runs are ranked by; null where it is not done.
        value: of the objective; null where it is not done.
        begun: ISO 8601, with the offset of the time zone.
    """

    status: str
    reason: str
    objective: str | None
    value: float | None
    begun: str


class ListedRuns(TypedDict):
    """Runs.

    Attributes:
        runs: the latest first.
    """

    runs: list[ListedRun]


class Removable(TypedDict):
    """A run or a sweep that nobody would miss.

    Attributes:
        path: its folder.
        size: in bytes.
        why: it may go.
    """

    path: str
    size: int
    why: str


class Cleaned(TypedDict):
    """What may go, or is gone.

    Attributes:
        runs: that may go.
        removed: whether these runs were removed.
        caches: what each holds now.
        freed: bytes of the caches; null where they were not emptied.
    """

    runs: list[Removable]
    removed: bool
    caches: list[system.Cache]
    freed: int | None


class SchemaNames(TypedDict):
    """What there are schemas of.

    Attributes:
        names: each can be asked for.
    """

    names: list[str]


class SchemaDocument(TypedDict):
    """One schema.

    Attributes:
        name: of what.
        document: JSON Schema, draft 2020-12.
    """

    name: str
    document: dict[str, Any]
