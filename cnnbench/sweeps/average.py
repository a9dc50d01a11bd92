"""The average of finished models, of all folds or of an ensemble: one file, measured on the test split."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench import data, models, runs, system, training
from cnnbench.errors import CnnbenchError
from cnnbench.reporting import figures_of_run
from cnnbench.sweeps.ensemble import is_ensemble, members_of

if TYPE_CHECKING:  # TensorFlow is imported after the data are there
    import keras


log = logging.getLogger("cnnbench")
TOLERANCE = 1e-6  # of an output, as a part of the largest where that is above 1
CHECKED = 512  # examples of the test split, on which the file is compared with its members


@dataclass(frozen=True)
class Folds:
    """What the models of a cross-validation say of the examples that they have not seen.

    Attributes:
        number: ``(n,)`` the fold of each training example of the data set.
        outputs: ``(n, outputs)`` of the model that has not seen the example.
        loss: their mean loss.
    """

    number: np.ndarray
    outputs: np.ndarray
    loss: float

    @classmethod
    def of(cls, members: Sequence[runs.RunFolder], source: data.Dataset, seed: int) -> Folds:
        """Put together what the runs of all folds, in their order, have stored.

        Args:
            members: a finished run for each fold.
            source: the data set as it came.
            seed: of the runs.
        """
        number = data.fold_numbers(source, len(members), seed)
        stored = [one.predictions["outputs"] for one in members]
        outputs = np.empty((len(number), *stored[0].shape[1:]), stored[0].dtype)
        for fold, held_out in enumerate(stored):
            outputs[number == fold] = held_out
        losses = [one.metrics["metrics"]["test"]["loss"] for one in members]
        return cls(number, outputs, float(np.average(losses, weights=np.bincount(number))))


def averaging(spec: runs.RunSpec) -> Callable[[training.run.Job], runs.RunResult] | None:
    """Return what makes the result of a run that is an average; None of a run that is trained."""
    if is_ensemble(spec.config):
        return average_members
    return average_folds if spec.training.fold == runs.AVERAGE else None


def average_folds(job: training.run.Job) -> runs.RunResult:
    """Make one model of those of all folds, check and measure it, and write everything about it.

    Args:
        job: its folder lies beside those of the folds.

    Raises:
        CnnbenchError: a fold is missing, or the data have changed since.
    """
    members = _folds_beside(job.spec)
    files = [one.best_model for one in members]

    def build(**given_by_run: Any) -> keras.Model:
        digests = [system.sha256(file) for file in files]
        return models.ensemble.ensemble(members=[*map(str, files)], digests=digests, **given_by_run)

    return _averaged(job, members, build)


def average_members(job: training.run.Job) -> runs.RunResult:
    """Make one model of the members of an ensemble, check and measure it, and write everything about it.

    Args:
        job: its config names the members.

    Raises:
        CnnbenchError: a member is gone or another by now, or the data have changed since.
    """
    return _averaged(job, members_of(job.spec.config), job.spec.model)


def _folds_beside(spec: runs.RunSpec) -> list[runs.RunFolder]:
    """Find the runs of all folds in the folder that this run lies in.

    Raises:
        CnnbenchError: one is missing, or not finished.
    """
    wanted = _without_fold(spec.config)
    found = {
        one.config["training"].get("fold"): one
        for one in runs.find_runs([spec.folder.parent])
        if one.status == runs.DONE and _without_fold(one.config) == wanted
    }
    folds = range(spec.training.folds or 0)
    if missing := [fold for fold in folds if fold not in found]:
        raise CnnbenchError(
            f"beside {spec.folder} there is no finished run of fold {missing[0]}",
            "training.folds=… without training.fold makes every fold, and then their average",
        )
    return [found[fold] for fold in folds]


def _without_fold(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what differs from fold to fold: its number, its folder, a size chosen by it."""
    of_fold = ("fold", "batch_size")
    training = {key: value for key, value in config["training"].items() if key not in of_fold}
    return {**system.plain(config), "training": training, "run_dir": None}


def are_all_folds(members: Sequence[runs.RunFolder]) -> bool:
    """Tell whether runs are those of one cross-validation, each fold once and in order."""
    configs = [one.config for one in members]
    alike = all(_without_fold(config) == _without_fold(configs[0]) for config in configs)
    of = [(config["training"].get("folds"), config["training"].get("fold")) for config in configs]
    return alike and of == [(len(members), fold) for fold in range(len(members))]


def _averaged(
    job: training.run.Job, members: Sequence[runs.RunFolder], build: Callable[..., keras.Model]
) -> runs.RunResult:
    """Make one model of several, check it, measure it beside them, and write everything about it.

    Args:
        job: of the average.
        members: finished runs.
        build: `build(input_shape=, outputs=)` → the compiled mean of their models.
    """
    spec, folder, phases = job.spec, job.folder, job.phases
    with phases("data"):
        source = spec.dataset()
        dataset = spec.drawn(source)
        identity = job.continuation.check_data(source, dataset)
        _refuse_changed(members, identity)
        folds = Folds.of(members, source, members[0].metrics["seed"]) if are_all_folds(members) else None
        folder.reopen()
    with phases("import"):
        system.import_tensorflow(spec.plugins)
        from cnnbench.nn import load_checkpoint

        machine = training.prepare_machine(spec.seed, spec.deterministic, spec.device, _precision(members))
        memory = system.PeakMemory()
    with phases("build"), system.shortage_explained(spec.training.examples_per_step):
        built = build(input_shape=dataset.input_shape, outputs=dataset.outputs)
        info: dict[str, Any] = {"epoch": 0, "monitor": None, "value": None, "metrics": {}, "averaged": True}
        folder.write_best(built.save, info)
        notes = list[str]()
        decision = common_decision(members, dataset, notes)
        notes += _promise_notes(members, spec, dataset)
        model = load_checkpoint(folder.best_model)
    job.continuation.write(identity)
    described = training.describe_environment(
        spec.config, spec.overrides, machine, dataset, [*dataset.notes, *notes]
    )
    changes = job.continuation.changes
    folder.write_environment({**described, "changes": changes} if changes else described)
    for note in notes:
        log.warning(note)
    with phases("evaluate"), system.shortage_explained(spec.training.examples_per_step):
        chosen, train = spec.training.metrics or (), source.train
        measure = partial(training.measure_split, training=spec.training, thresholds=decision.thresholds)
        coverage = spec.training.calibration.coverage
        if dataset.calibration is not None and coverage is not None:
            outputs = measure(model, dataset, data.CALIBRATION)[0]
            decision = decision.with_sets(dataset.calibration.y, outputs, coverage)
        folder.write_decision(decision)
        unmeasured = ("train", data.CALIBRATION)
        held_out = {name: split for name, split in dataset.splits.items() if name not in unmeasured}
        measured = {name: measure(model, dataset, name) for name in held_out}
        said = {name: (split.y, measured[name][0]) for name, split in held_out.items()}
        checked = np.linspace(0, len(dataset.test) - 1, min(CHECKED, len(dataset.test))).astype(np.intp)
        examples, expected, rows = dataset.test.x[checked], np.zeros(()), list[runs.MemberRow]()
        for one in members:  # one in memory at a time, beside the average
            member = load_checkpoint(one.best_model)
            outputs = training.forward_graph(member)(examples).numpy().astype(np.float64)
            expected = expected + outputs / len(members)
            rows.append(_row(one, identity, partial(measure, member, dataset, "test")))
        difference = check_average(training.forward_graph(model)(examples).numpy(), expected)
        figures = {name: found[1] for name, found in measured.items()}
        around = {name: found[2] for name, found in measured.items()}
        if folds is not None:
            unseen = runs.metrics.compute(dataset.task, train.y, folds.outputs, chosen, decision.thresholds)
            figures = {"fold": {"loss": folds.loss, **unseen}, **figures}
            around["fold"] = runs.intervals_of(
                dataset.task, train.y, folds.outputs, figures["fold"], None, train.groups, decision.thresholds
            )
            folder.write_out_of_fold(y_true=train.y, outputs=folds.outputs, fold=folds.number)
        folder.write_predictions(y_true=dataset.test.y, outputs=said["test"][1])
        costs = [one.metrics["cost"] for one in members]
        cost: Any = {
            "parameters": model.count_params(),
            "flops_per_example": training.count_flops(model),
            "examples_per_second": float(np.median([one["examples_per_second"] for one in costs])),
            "latency_seconds": training.measure_latency(training.forward_graph(model), dataset.test.x[0]),
            "peak_memory_bytes": memory.bytes(),
            "checkpoint_bytes": folder.best_model.stat().st_size,
        }
    # Of all members: what the model has cost.
    cost["seconds"] = {**phases.seconds, "fit": sum(one["seconds"]["fit"] for one in costs)}
    objective = _objective(spec, dataset.task, figures)
    result = training.run.result_of(job, dataset, identity, figures, objective, cost)
    names = dataset.class_names or dataset.targets
    each = {
        name: runs.metrics.by_output(dataset.task, *pair, names, decision.thresholds)
        for name, pair in said.items()
    }
    if by_output := {name: found for name, found in each.items() if found}:
        result["by_output"] = by_output
    if plain := training.run.in_plain(around):
        result["intervals"] = plain
    events = said if folds is None else {**said, "fold": (train.y, folds.outputs)}
    reliable = {name: runs.reliability(dataset.task, *pair) for name, pair in events.items()}
    if reliabilities := {name: one.row() for name, one in reliable.items() if one is not None}:
        result["calibration"] = reliabilities
    if decision.thresholds is not None:
        result["decision"] = {
            "temperature": None,
            "aim": decision.aim,
            "thresholds": decision.thresholds_by_name,
            "uncalibrated": {
                name: runs.metrics.compute(dataset.task, *pair, chosen) for name, pair in said.items()
            },
            "remarks": notes,
        }
    if decision.conformal:
        result["sets"] = runs.conformal.coverage_of(
            decision.conformal,
            dataset.task,
            *said["test"],
            dataset.test.groups,
            decision.thresholds,
        )
    result["average_of"] = [one.path.name for one in members]
    result["members"] = rows
    result["largest_difference"] = difference
    tested = said["test"][1]
    predictions = training.run.predictions_of(dataset, tested, decision)
    draw = partial(figures_of_run, dataset, [], 0, tested, decision=decision)
    done = training.run.written(job, result, predictions, draw)
    job.observer.finished(done)
    return done


def _refuse_changed(members: Sequence[runs.RunFolder], identity: runs.Identity) -> None:
    """Refuse members that were trained with other data or fixes, or another validation split than now.

    The validation split of the average would hold examples that they have learnt from.

    Raises:
        CnnbenchError: there is such a member.
    """
    if changed := [one.path for one in members if one.metrics.get("data") != identity.data_digest]:
        raise CnnbenchError(
            f"{changed[0]} was trained on other data than there are now", "put them back, or train it anew"
        )
    known = [(one, one.identity) for one in members if one.identity is not None]
    for one, own in known:
        if own.data != identity.data:  # `data_digest` is of the uncorrected data
            raise CnnbenchError(
                f"{one.path} was trained with other fixes than {runs.FIXES} has now",
                "put the table back as it was, or train every member anew",
            )
    whole = [(one, own.drawn.get("val")) for one, own in known if one.config["training"].get("fold") is None]
    drawn = identity.drawn.get("val")
    if drawn is not None and len({val for _, val in whole}) == 1 and whole[0][1] not in (None, drawn):
        raise CnnbenchError(
            f"another validation split than that of {whole[0][0].path} is drawn now",
            "train every member anew",
        )


def _promise_notes(members: Sequence[runs.RunFolder], spec: runs.RunSpec, dataset: data.Dataset) -> list[str]:
    """Return a line where members promise a coverage that the average does not."""
    made = spec.training.calibration.coverage if dataset.calibration is not None else None
    promised: set[Any] = {
        (one.config["training"].get("calibration") or {}).get("coverage") for one in members
    }
    others = sorted(promised - {made, None})
    told = " and ".join(f"{one:g}" for one in others)
    here = "the average makes no sets" if made is None else f"the average promises {made:g}"
    return [f"members promise a coverage of {told}: {here}"] if others else []


def _precision(members: Sequence[runs.RunFolder]) -> str:
    """Return the precision that all members have; float32 where they differ."""
    found = {str(one.environment.get("precision", "float32")) for one in members}
    return found.pop() if len(found) == 1 else "float32"


def _row(member: runs.RunFolder, identity: runs.Identity, measure: Callable[[], Any]) -> runs.MemberRow:
    """Return what `metrics.json` says of a member: as it was recorded, but for a fold, tested on others.

    Args:
        member: a finished run.
        identity: of the average.
        measure: as `training.measure_split` on the test split of the average.
    """
    own = member.identity
    if own is not None and own.drawn.get("test") == identity.drawn["test"]:
        figures = member.metrics["metrics"]["test"]
        intervals = member.metrics.get("intervals", {}).get("test", {})
    else:
        _, figures, around = measure()
        intervals = training.run.in_plain({"test": around}).get("test", {})
    return {
        "run": str(member.path.absolute()),
        "name": str(member.metrics["name"]),
        "seed": member.metrics["seed"],
        "sha256": member.best["sha256"],
        "loss": system.plain(member.config.get("loss")),
        "metrics": figures,
        "intervals": intervals,
    }


def _objective(spec: runs.RunSpec, task: str, figures: Mapping[str, Any]) -> str:
    """Return what the average is ranked by: of the validation split or the folds where it has them.

    Members that hold out different examples leave none that no member has learnt from, but the test split.
    """
    split = next(name for name in ("fold", "val", "test") if name in figures)
    wanted = spec.objective or f"{split}_{runs.metrics.OBJECTIVE[task]}"
    of, _, name = wanted.partition("_")
    return wanted if of in figures else f"{split}_{name}"


def common_decision(
    members: Sequence[runs.RunFolder], dataset: data.Dataset, notes: list[str]
) -> runs.Decision:
    """Return how the outputs of the average become answers: by the thresholds that all members share.

    Args:
        members: their files say by which thresholds they decide.
        dataset: names the outputs.
        notes: where the members' thresholds are not taken over, a line is added that says so.
    """
    stored = [one.decision for one in members]
    thresholds, aims = {one.thresholds for one in stored}, {one.aim for one in stored}
    if len(thresholds) > 1:
        notes.append(
            "the members decide by different thresholds, each chosen for one: the average decides by 0.5"
        )
    common = thresholds.pop() if len(thresholds) == 1 else None
    aim = aims.pop() if common is not None and len(aims) == 1 else None
    names = tuple(dataset.class_names or dataset.targets)
    return runs.Decision(dataset.task, names, common, aim)


def check_average(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference between the outputs of a stored average and the mean of its members'.

    Raises:
        RuntimeError: it is larger than the rounding of a sum.
    """
    difference = float(np.abs(outputs - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit or math.isnan(difference):
        raise RuntimeError(
            f"the average differs from the mean of its members by {difference:.2g}, more than {limit:.2g}"
        )
    return difference
