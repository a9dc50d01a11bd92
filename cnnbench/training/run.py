"""The program, read top to bottom: prepare, fit, measure, write."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from cnnbench import data, runs, system
from cnnbench.errors import CnnbenchError, PrunedRunError, first_line
from cnnbench.reporting import LivePage, Tracked, figures_of_run, run_page, trackings
from cnnbench.training.changes import Continuation, recorded_environment

if TYPE_CHECKING:  # TensorFlow is imported after the data are there
    from cnnbench.training.build import Built
    from cnnbench.training.callbacks import Deadline
    from cnnbench.training.measure import Measured

log = logging.getLogger("cnnbench")
KERAS_NAME = re.compile(r"(functional|sequential|model)(_\d+)?")  # of a network that was given none
LEARNT_SOON = 0.05, 20.0  # size of the largest target of a regression
OPTION = re.compile(r"\+{0,2}model=[\w/-]+")


@dataclass
class Job:
    """One run under way.

    Attributes:
        spec: what to do; its batch size is settled while the run is prepared.
        folder: of the run, held.
        observer: is told how it goes.
        interruption: notices a wish to stop.
        phases: how far the run has come.
        started: time of its beginning.
        continuation: what the run was begun with.
        watch: seconds of the run.
        budget: how it spends its minutes; None where they are not limited.
        deadlines: what ends its phases, by name, where its time is limited.
        stopped_before: whose time has ended a phase in an earlier process.
    """

    spec: runs.RunSpec
    folder: runs.RunFolder
    observer: runs.Observer
    interruption: system.Interruption
    phases: Phases
    started: str
    continuation: Continuation
    watch: runs.Watch
    budget: runs.Budget | None = None
    deadlines: Mapping[str, Deadline] = field(default_factory=dict)
    stopped_before: str | None = None

    @property
    def stopped_by(self) -> str | None:
        """Whose time has ended a phase before its epochs; None where none has."""
        now = (one.of for one in self.deadlines.values() if one.stopped is not None)
        return self.stopped_before or next(now, None)

    def settle_budget(self, budget: runs.Budget) -> None:
        """Train as planned from now on; the config keeps what was asked for."""
        self.budget = budget
        self.spec = replace(self.spec, training=budget.settled(self.spec.training))

    def settle_batch_size(self, size: int) -> None:
        """Replace `training.batch_size=auto` by a number, in the folder's config too."""
        self.spec = with_batch_size(self.spec, size)
        self.continuation.config = self.spec.config or self.spec.as_config()
        self.folder.write_config(self.continuation.config, self.spec.overrides)


@dataclass(frozen=True)
class Prepared:
    """Data of a run, and what is built for them.

    Attributes:
        dataset: with the splits of the run.
        devices: strategy in whose scope the model is trained.
        built: model, feeds, callbacks.
        identity: of config, data and code.
    """

    dataset: data.Dataset
    devices: Any
    built: Built
    identity: runs.Identity


def run(
    spec: runs.RunSpec,
    observer: runs.Observer | None = None,
    resume: bool = False,
    with_changes: bool = False,
    work: Callable[[Job], runs.RunResult] | None = None,
) -> runs.RunResult:
    """Train and measure one model, and write everything about it to `spec.folder`.

    Args:
        spec: of the run.
        observer: is told of the progress.
        resume: continue a run that was interrupted, failed or was killed.
        with_changes: continue although config, data or the user's own code have changed.
        work: makes the result in another way than by training, and tells the observer of it.

    Raises:
        ChangedError: they have changed; the folder is left as it was.
        CnnbenchError: wrong input. Any other exception is a failure of the run. Both, and an interruption,
            are recorded in the folder first.
        InterruptedRunError: Ctrl-C or SIGTERM; the state of the training is in the folder.
    """
    watch = runs.Watch()
    folder = runs.RunFolder.open(spec.folder) if resume else runs.RunFolder.create(spec.folder)
    if spec.training.batch_size == "auto" and (chosen := recorded_environment(folder).get("batch_size")):
        spec = with_batch_size(spec, chosen)
    interruption, config = system.Interruption(), spec.config or spec.as_config()
    tracked = Tracked(spec.name, folder, runs.flatten(config))
    everyone = runs.Observers(
        [observer or runs.Observer(), LivePage(folder), *trackings(spec.trackers, tracked)]
    )
    with folder.held(), folder.logging(), interruption.watch():
        if not resume:
            folder.write_config(config, spec.overrides)
        log.info("cnnbench %s%s", "resume: " if resume else "", " ".join(spec.overrides))
        continuation = Continuation(folder, config, resume, with_changes)
        continuation.check_config()
        job = Job(spec, folder, everyone, interruption, Phases(), system.now(), continuation, watch)
        try:
            result = (work or train)(job)
        except runs.ChangedError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if folder.status == runs.DONE:  # an observer has failed, not the run
                raise
            record_failure(job, data.unwrapped(error))
    return result


def train(job: Job) -> runs.RunResult:
    """Prepare, fit, measure and write."""
    prepared = prepare(job)
    fit(job, prepared)
    with job.interruption.patient(system.FINISHING):  # what is trained is measured and written first
        decision = decide(job, prepared)
        promise(job, prepared)
        measured = measure(job, prepared)
        result = write(job, prepared, measured, decision)
        job.folder.clear_states()
        job.observer.finished(result)
    return result


def prepare(job: Job) -> Prepared:
    """Read the data, build and compile the model, and announce the run."""
    spec, training, phases = job.spec, job.spec.training, job.phases
    with phases("data"):  # first, so that nobody waits for TensorFlow where they are missing
        source = spec.dataset()
        dataset = spec.drawn(source)
        check_task(spec, dataset)
        job.spec = settled_training(spec, dataset)  # the plan is of the phases that are left
        if planned := recorded_environment(job.folder).get("budget"):
            job.settle_budget(runs.Budget.from_dict(planned))
        spec, training = job.spec, job.spec.training
        identity = job.continuation.check_data(source, dataset)
        job.folder.reopen()
        wanted = training.batch_size
        notes = [
            *map(data.Fact, spec.notes),
            *dataset.notes,
            *data.remarks(dataset, 1 if wanted == "auto" else wanted),
            *data.leaks(dataset),
            *unscaled_targets(spec, dataset),
        ]
    with phases("import"):
        system.import_tensorflow(spec.plugins)
        from cnnbench.training.build import build_run, network
        from cnnbench.training.device import prepare_machine, strategy
        from cnnbench.training.steps import choose_batch_size

        # A resumed run keeps its precision.
        settled = job.folder.environment.get("precision", training.precision)
        machine = prepare_machine(spec.seed, spec.deterministic, spec.device, settled)
        devices = strategy(training.distribute, training.examples_per_step)
    if wanted == "auto":
        with phases("batch size"), system.weights_that_fit():
            job.settle_batch_size(choose_batch_size(network(spec, dataset), dataset, machine))
        spec, identity = job.spec, replace(identity, config=system.plain(job.continuation.config))
        machine = prepare_machine(spec.seed, spec.deterministic, spec.device, settled)  # a probe draws
    with phases("build"), devices.scope(), system.shortage_explained(spec.training.examples_per_step):
        engine = job.folder.environment.get("engine")
        built = build_run(spec, dataset, settled, machine, devices.num_replicas_in_sync, engine)
    if training.max_minutes is not None and job.budget is None:
        with phases("plan"), devices.scope(), system.shortage_explained(training.examples_per_step):
            built = plan(job, built)
    announce(job, dataset, built, [*notes, *built.remarks], identity)
    return Prepared(dataset, devices, built, identity)


def plan(job: Job, built: Built) -> Built:
    """Plan as many epochs as fit into `training.max_minutes`, and compile the model for them."""
    from cnnbench.training.fit import phase_speeds

    training, steps = job.spec.training, built.train.steps
    speeds, after = phase_speeds(built, training)
    budget = runs.Budget.of(training, steps, speeds, job.watch.seconds, after)
    job.settle_budget(budget)
    log.info("planned by %s, and %.1f s at the end", speeds, after)
    told = f"{budget.sentence(steps)}; the same again, whatever the speed: {budget.repeated_by(training)}"
    compile_as_planned = replace(built.compile, spec=job.spec)
    compile_as_planned(built.model)
    return replace(built, compile=compile_as_planned, remarks=(*built.remarks, data.Fact(told)))


def announce(
    job: Job, dataset: data.Dataset, built: Built, notes: list[str], identity: runs.Identity
) -> None:
    """Write the environment and identity of the run, and show its summary."""
    from cnnbench.training.environment import describe_environment, git_diff, installed_packages

    spec, training, folder = job.spec, job.spec.training, job.folder
    before = folder.environment
    described = describe_environment(spec.config, spec.overrides, built.machine, dataset, notes)
    changes = [*before.get("changes", []), *job.continuation.changes]
    job.continuation.write(identity)
    described |= {"batch_size": training.examples_per_step, "engine": asdict(built.engine)}
    if job.budget is not None:
        described["budget"] = asdict(job.budget)
    folder.write_environment({**described, "changes": changes} if changes else described)
    folder.write_code(installed_packages(), git_diff(Path.cwd(), described["git"]))
    for note in notes:
        is_fact = isinstance(note, data.Fact)
        log.log(logging.INFO if is_fact else logging.WARNING, note, extra={"notice": is_fact})
    job.observer.started(
        runs.Summary(
            name=spec.name,
            dataset=dataset.name,
            splits={name: len(split) for name, split in dataset.splits.items()},
            input_shape=dataset.input_shape,
            outputs=dataset.outputs,
            model=model_name(spec, built.model.name),
            parameters=built.size["parameters"],
            flops=built.size["flops_per_example"],
            device=built.machine.device,
            engine=built.engine.describe(),
            precision=built.machine.precision,
            epochs=sum(
                runs.span(phase.epochs, phase.max_steps, built.train.steps)[0]
                for phase in (training, training.fine_tuning)
                if phase is not None
            ),
            steps=built.train.steps,
            batch_size=training.examples_per_step,
            folder=folder.path,
            task=data.task_in_words(dataset),
        )
    )
    if before.get("code") not in (None, described["code"]):
        log.warning(
            "the code has changed since this run began: its result may be another than without a break"
        )


def fit(job: Job, prepared: Prepared) -> None:
    """Train, or continue from the last state in the folder, until the best checkpoint is stored."""
    from cnnbench.training.callbacks import Recorder
    from cnnbench.training.chunks import keep
    from cnnbench.training.fit import Fitting
    from cnnbench.training.model import features_precision
    from cnnbench.training.resume import State, StateSaver

    training, folder, built = job.spec.training, job.folder, prepared.built
    stored = folder.stored_state()
    state = State.from_dict(stored.content, stored.arrays) if stored else None
    folder.take_up(state.position.epoch if state else 0, stored)
    if state is not None:
        at = f"epoch {state.position.epoch + 1}, step {state.position.step + 1}"
        log.info("going on at %s", at, extra={"notice": True})

    def epoch_ends(entry: Mapping[str, float]) -> None:
        folder.append_history(entry)
        log.info("epoch %s", " ".join(f"{name}={value:.6g}" for name, value in entry.items()))
        job.observer.epoch_ended(entry)
        if entry["epoch"] == runs.STANDS_STILL and (remark := runs.standing_still(folder.history)):
            log.warning(remark)

    train, callbacks = built.train, list(built.callbacks.values())
    begins = job.observer.epoch_started
    recorder = Recorder(
        train.examples, train.steps, lambda epoch: begins(epoch + 1), job.observer.step, epoch_ends
    )
    saver = StateSaver(
        lambda state: folder.write_state(state.as_dict(), state.arrays),
        job.interruption,
        recorder,
        callbacks,
        training.save_minutes,
        lambda: job.stopped_by,
    )
    job.stopped_before = state.position.stopped_by if state else None
    job.deadlines = deadlines(job, state.position.seconds if state else 0.0)
    with job.phases("fit"), prepared.devices.scope(), fitting_batch_named(built):
        Fitting(
            model=built.model,
            train=train,
            val=built.held_out.get("val"),
            task=prepared.dataset.task,
            training=training,
            compile=built.compile,
            recorder=recorder,
            callbacks=callbacks,
            saver=saver,
            interruption=job.interruption,
            engine=built.engine,
            folder=folder,
            rehearses=job.spec.rehearses,
            deadlines=job.deadlines,
            features=features_precision(job.spec),
        ).run(state)
    keep(built.program, built.model)
    job.phases.seconds["fit"] += state.position.seconds if state else 0.0  # of earlier processes


def deadlines(job: Job, trained: float) -> dict[str, Deadline]:
    """Return what ends each phase where the time of the run is limited.

    Args:
        job: under way.
        trained: seconds of training in earlier processes.
    """
    from cnnbench.training.callbacks import Deadline
    from cnnbench.training.fit import FINE_TUNING, FIRST

    budget, watch, ends_at = job.budget, job.watch, job.spec.ends_at
    phases = [FIRST, *([FINE_TUNING] if job.spec.training.fine_tuning is not None else [])]
    found = {}
    if budget is not None:
        if job.continuation.resumed:
            watch.before += budget.before + trained
        of = f"the time of training.max_minutes={budget.minutes:g}"
        found = {
            phase: Deadline(lambda: watch.seconds, end, of)
            for phase, end in zip(phases, budget.ends, strict=True)
        }
    if ends_at is not None:
        end = watch.seconds + ends_at - time.time()
        for phase in phases:
            if phase not in found or end < found[phase].end:
                found[phase] = Deadline(lambda: watch.seconds, end, "the time of sweep.search.minutes")
    return found


def decide(job: Job, prepared: Prepared) -> runs.DecisionRow | None:
    """Settle on the validation split how the outputs become answers, and store it in the best checkpoint.

    A run that is killed after it takes up the checkpoint of its last state, which is as it was before.

    Returns:
        what was settled; None where nothing was asked for.
    """
    from cnnbench.nn import load_checkpoint
    from cnnbench.training.features import logits_by_features
    from cnnbench.training.measure import calibrate, logits_by_network

    dataset, folder, training = prepared.dataset, job.folder, job.spec.training
    names = tuple(dataset.class_names or dataset.targets)
    if not training.calibration.temperature and training.calibration.threshold is None:
        folder.write_decision(runs.Decision(dataset.task, names))
        return None
    logits_of = logits_by_features if by_features(job, prepared) else logits_by_network
    with job.phases("calibrate"), system.shortage_explained(training.examples_per_step):
        found = calibrate(
            load_checkpoint(folder.best_model),
            dataset,
            measured_on(prepared),
            training.calibration,
            training.metrics or (),
            logits_of,
        )
        if found.model is not None:
            folder.replace_best(found.model.save)
        folder.write_decision(found.decision)
    for remark in found.remarks:
        log.warning(remark)
    return {
        "temperature": found.decision.temperature,
        "aim": found.decision.aim,
        "thresholds": found.decision.thresholds_by_name,
        "uncalibrated": found.uncalibrated,
        "remarks": found.remarks,
    }


def measured_on(prepared: Prepared) -> dict[str, data.Feed]:
    """Return the feeds of the splits that have figures: calibration examples have none."""
    return {name: feed for name, feed in prepared.built.held_out.items() if name != data.CALIBRATION}


def by_features(job: Job, prepared: Prepared) -> bool:
    """Tell whether the stored checkpoint can be measured by the features that are kept of each picture."""
    from cnnbench.training.model import is_head_alone

    dataset, built = prepared.dataset, prepared.built
    # What rounding changes of an error is not small beside the error.
    on_features = is_head_alone(job.spec, built.model) and dataset.task != "regression"
    return on_features and built.machine.precision == "float32" and not built.machine.on_gpu


def promise(job: Job, prepared: Prepared) -> None:
    """Settle how large sets, or ranges, must be for their promise, by examples that have chosen nothing.

    Args:
        job: its best checkpoint has everything else that is settled.
        prepared: with the feed of these examples.
    """
    from cnnbench.nn import load_checkpoint
    from cnnbench.training.features import EvaluationOnFeatures
    from cnnbench.training.measure import Evaluation

    split, coverage = prepared.dataset.calibration, job.spec.training.calibration.coverage
    if split is None or coverage is None:
        return
    folder, task = job.folder, prepared.dataset.task
    evaluation = EvaluationOnFeatures if by_features(job, prepared) else Evaluation
    with job.phases("sets"), system.shortage_explained(job.spec.training.examples_per_step):
        evaluate = evaluation(load_checkpoint(folder.best_model), task)
        outputs, _ = evaluate(prepared.built.held_out[data.CALIBRATION])
        folder.write_decision(folder.decision.with_sets(split.y, outputs, coverage))


def measure(job: Job, prepared: Prepared) -> Measured:
    """Measure the stored checkpoint, not the model in memory."""
    from cnnbench.training.features import EvaluationOnFeatures
    from cnnbench.training.measure import measure_best

    dataset, built, folder = prepared.dataset, prepared.built, job.folder
    with job.phases("evaluate"), system.shortage_explained(job.spec.training.examples_per_step):
        return measure_best(
            folder,
            dataset,
            measured_on(prepared),
            built.memory,
            job.spec.training.metrics or (),
            EvaluationOnFeatures if by_features(job, prepared) else None,
        )


def write(
    job: Job, prepared: Prepared, measured: Measured, decision: runs.DecisionRow | None = None
) -> runs.RunResult:
    """Announce the figures, then draw and write what shows them."""
    from cnnbench.training.callbacks import BestCheckpoint

    spec, dataset, phases = job.spec, prepared.dataset, job.phases
    # Not the test split: ranking by it would be fitting to it.
    split = "val_" if "val" in prepared.built.held_out else ""
    if spec.training.fold is not None:  # its test split is the fold
        split = "fold_"
    trained = runs.TRAINED[dataset.task]
    best = runs.OBJECTIVE[dataset.task]
    objective = spec.objective or split + (best if split or best in trained else trained[-1])
    cost: Any = {**prepared.built.size, **measured.costs, "seconds": phases.seconds}
    chosen_by = [
        one.chosen_by for one in prepared.built.callbacks.values() if isinstance(one, BestCheckpoint)
    ]
    result = result_of(job, dataset, prepared.identity, measured.figures, objective, cost)
    say_measured(result, measured)
    if decision is not None:
        result["decision"] = decision
    settled, outputs, test = job.folder.decision, measured.outputs["test"], dataset.test
    if settled.conformal:
        result["sets"] = runs.conformal.coverage_of(
            settled.conformal, settled.task, test.y, outputs, test.groups, settled.thresholds
        )
    if spec.training.fold is not None:
        result["fold"] = {
            "examples": len(dataset.test),
            "others": sum(len(split) for name, split in dataset.splits.items() if name != "test"),
        }
    if chosen_by:
        result["best_by"] = ", ".join(chosen_by)
    if job.budget is not None:
        result["budget"] = {
            "minutes": job.budget.minutes,
            "planned_epochs": job.budget.lengths(prepared.built.train.steps),
            "planned_seconds": job.budget.planned_seconds,
            "seconds": job.watch.seconds,
        }
    if job.stopped_by is not None:
        result["stopped_by"] = job.stopped_by
    train, epoch = prepared.built.train, job.folder.best["epoch"]
    draw = partial(figures_of_run, dataset, job.folder.history, epoch, outputs, train.augmented, settled)
    return written(job, result, predictions_of(dataset, outputs, settled), draw)


def say_measured(result: runs.RunMetrics, measured: Measured) -> None:
    """Add to `metrics.json` what was measured beside the figures themselves, where there is any."""
    if measured.by_output:
        result["by_output"] = measured.by_output
    if around := in_plain(measured.intervals):
        result["intervals"] = around
    if measured.reliability:
        result["calibration"] = {split: one.row() for split, one in measured.reliability.items()}


def in_plain(found: Mapping[str, Mapping[str, runs.Interval]]) -> dict[str, dict[str, runs.IntervalRow]]:
    """Return the intervals of each split that has any as `metrics.json` has them."""
    return {
        split: {name: {"low": one.low, "high": one.high, "method": one.method} for name, one in each.items()}
        for split, each in found.items()
        if each
    }


def predictions_of(
    dataset: data.Dataset, outputs: np.ndarray, decision: runs.Decision | None = None
) -> runs.Predictions:
    """Return what a run says of its test split."""
    test, names = dataset.test, dataset.class_names or dataset.targets
    settled = decision or runs.Decision(dataset.task, tuple(names))
    return runs.Predictions(
        dataset.task, test.y, outputs, names, test.names, settled.thresholds, settled.conformal
    )


def result_of(
    job: Job,
    dataset: data.Dataset,
    identity: runs.Identity,
    figures: Mapping[str, Mapping[str, float]],
    objective: str,
    cost: Any,
) -> runs.RunMetrics:
    """Return what `metrics.json` says of every run; the environment and the best model are in the folder."""
    spec, folder = job.spec, job.folder
    result: runs.RunMetrics = {
        "status": "done",
        "name": spec.name,
        "task": dataset.task,
        "class_names": dataset.class_names,
        "input_shape": dataset.input_shape,
        "seed": spec.seed,
        "objective": objective,
        "value": runs.metrics.objective_value(figures, objective),
        "metrics": figures,
        "data": identity.data_digest,
        "weights": identity.weights,
        "changes": folder.environment.get("changes", []),
        "best_epoch": folder.best["epoch"],
        "epochs": len(folder.history),
        "cost": cost,
        "started": job.started,
        "finished": system.now(),
    }
    if dataset.targets:
        result["target_names"] = dataset.targets
    return result


def written(
    job: Job,
    result: runs.RunMetrics,
    predictions: runs.Predictions,
    draw: Callable[[], Iterable[tuple[str, bytes]]],
) -> runs.RunResult:
    """Announce the figures of a run, which nobody waits longer for; then write what shows them.

    `metrics.json` is last: where it says `done`, all other files are there.
    """
    job.observer.measured(result)
    with job.phases("figures"):
        job.folder.write_prediction_tables(predictions)
        for name, png in draw():
            job.folder.write_figure(name, png)
    with job.phases("report"):
        job.folder.write_report(run_page(job.folder, result))
    result["cost"]["seconds"] |= {name: job.phases.seconds[name] for name in ("figures", "report")}
    job.folder.write_metrics(result)
    return runs.RunResult(job.folder.path, runs.DONE, result["objective"], result["value"], result)


# -- Failures ------------------------------------------------------------------


class Phases:
    """Seconds of each phase of a run, and the current one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current = "start"

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def record_failure(job: Job, error: BaseException) -> NoReturn:
    """Record what ended a run, and raise it again."""
    spec, folder, phases = job.spec, job.folder, job.phases
    status = runs.INTERRUPTED if isinstance(error, KeyboardInterrupt) else runs.FAILED
    if isinstance(error, PrunedRunError):
        status = runs.PRUNED
        folder.clear_states()  # it is never resumed
    log.error("%s during %s: %s", status, phases.current, error, exc_info=error)
    failure = {
        "status": status,
        "stage": phases.current,
        "type": type(error).__name__,
        "cause": first_line(error),
        "traceback": traceback.format_exception(error),
        "diagnosis": getattr(error, "diagnosis", None),
    }
    try:
        last = folder.history[-1] if folder.history else {}
        command = " ".join(["cnnbench", *spec.overrides])
        folder.write_end(spec.name, spec.seed, {**failure, "last_metrics": last, "command": command})
    except (OSError, CnnbenchError):  # the disk may have failed; the first error counts
        log.exception("and the failure could not be recorded")
    job.observer.failed(status)
    raise error


@contextmanager
def fitting_batch_named(built: Built) -> Iterator[None]:
    """Let an out-of-memory error name the largest batch size with which a training step fits."""
    from cnnbench.training.steps import largest_batch

    try:
        with system.shortage_explained(built.train.batch_size):
            yield
    except system.OutOfMemoryError as error:
        if built.model.distribute_strategy.num_replicas_in_sync > 1:  # a step alone is computed on one device
            raise
        size = largest_batch(built.model, built.train)
        if not size and built.machine.on_gpu:  # it may be unusable after the failed step
            raise
        said = f"training.batch_size={size} fits" if size else "not even a single example fits"
        raise system.OutOfMemoryError(f"{error}; {said}") from error


def model_name(spec: runs.RunSpec, name: str) -> str:
    """Return a network's name; its option's or its function's for one that Keras has made up."""
    if not KERAS_NAME.fullmatch(name):
        return name
    model = spec.config.get("model")
    target = str(model.get("_target_", name)) if isinstance(model, Mapping) else name
    chosen = [text.partition("=")[2] for text in spec.overrides if OPTION.fullmatch(text)]
    return chosen[-1] if chosen else target.rpartition(".")[2]


def with_batch_size(spec: runs.RunSpec, size: int) -> runs.RunSpec:
    """Copy a spec, and its config, with this batch size."""
    training = spec.training.model_copy(update={"batch_size": size})
    config = {**spec.config, "training": {**spec.config.get("training", {}), "batch_size": size}}
    return replace(spec, training=training, config=config if spec.config else {})


def settled_training(spec: runs.RunSpec, dataset: data.Dataset) -> runs.RunSpec:
    """Copy a spec whose training leaves nothing open that only the data decide; its config stays as it is."""
    training, notes, examples = spec.training, spec.notes, len(dataset.train)
    update: dict[str, Any] = {}
    if training.scale_targets == "auto":
        update["scale_targets"] = dataset.task == "regression"
    least = training.fine_tuning.from_examples if training.fine_tuning else 0
    if examples < least:
        update["fine_tuning"] = None
        told = f"no fine-tuning: {examples:,} training examples, and it takes {least:,}"
        notes = (*notes, f"{told} (training.fine_tuning.from_examples)")
    return replace(spec, training=training.model_copy(update=update), notes=notes) if update else spec


def unscaled_targets(spec: runs.RunSpec, dataset: data.Dataset) -> list[str]:
    """Return a line about targets so large, or so small, that a network takes long to reach them."""
    if dataset.task != "regression" or spec.training.scale_targets:
        return []
    y, (least, most) = dataset.train.y, LEARNT_SOON
    if least <= abs(y).max(axis=0).min() and abs(y).max() <= most:
        return []
    return [
        f"{dataset.name}: targets go from {y.min():g} to {y.max():g}; with "
        f"training.scale_targets=true a network learns them sooner"
    ]


def check_task(spec: runs.RunSpec, dataset: data.Dataset) -> None:
    """Refuse what could not be checked before the data set said its task."""
    chosen = spec.training.metrics or ()
    runs.metrics.check_chosen(chosen, dataset.task)
    val = dataset.splits.get("val")
    names = (runs.metrics.OBJECTIVE[dataset.task], *chosen)
    runs.metrics.check_computable(names, val.y if val else None, dataset.outputs)
    check_calibration(spec.training.calibration, dataset.task, val is not None)
    if spec.training.class_weight and dataset.task == "multilabel" and spec.loss is not None:
        raise CnnbenchError(
            "training.class_weight weighs each label within its own loss, and another loss is chosen",
            "use loss=auto, or set training.class_weight to null",
        )
    if spec.training.scale_targets is True and dataset.task != "regression":
        raise CnnbenchError(
            f"training.scale_targets is for regression, not for {dataset.task}",
            "set it to false",
        )
    if spec.training.sampling and dataset.task not in ("binary", "multiclass"):
        raise CnnbenchError(
            f"training.sampling is for one class an example, not for {dataset.task}", "set it to null"
        )
    if spec.loss_tasks and dataset.task not in spec.loss_tasks:
        raise CnnbenchError(
            f"this loss is for {' or '.join(spec.loss_tasks)}, but {dataset.name} is {dataset.task}",
            "use loss=auto",
        )


def check_calibration(wanted: runs.Calibration, task: str, has_val: bool) -> None:
    """Refuse a temperature or threshold that the data leave without a meaning, or without examples.

    Raises:
        CnnbenchError: the task has none, or there is no validation split.
    """
    asked = [name for name in ("temperature", "threshold") if getattr(wanted, name)]
    for name in asked:
        runs.check_calibrated(name, task)
        if not has_val:
            raise CnnbenchError(
                f"training.calibration.{name} is chosen on a validation split, and there is none",
                "hold a part out: training.validation_fraction=0.2",
            )
