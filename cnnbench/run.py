"""The program, read top to bottom: data, model, training, and the best checkpoint's figures."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import numpy as np

from cnnbench import metrics
from cnnbench.datasets.core import Dataset
from cnnbench.datasets.splits import class_weights, leaks, with_validation
from cnnbench.errors import CnnbenchError
from cnnbench.figures.of_run import figures_of_run
from cnnbench.files import now
from cnnbench.results import DONE, FAILED, INTERRUPTED, RunFolder
from cnnbench.spec import Observer, RunResult, RunSpec, Summary
from cnnbench.startup import import_tensorflow

log = logging.getLogger("cnnbench")


def run(spec: RunSpec, observer: Observer | None = None) -> RunResult:
    """Train and measure one model; everything that is known of it lands in `spec.run_dir`.

    Args:
        spec: what to do.
        observer: is told how it goes.

    Raises:
        CnnbenchError: wrong input. Any other exception is a failure of the run. Both, and an interruption,
            are recorded in the folder first.
    """
    folder = RunFolder.create(spec.run_dir)
    folder.write_config(spec.config or spec.as_config(), spec.overrides)
    phases = Phases()
    with folder.logging():
        log.info("cnnbench %s", " ".join(spec.overrides))
        try:
            result = _train_and_measure(spec, folder, phases, observer or Observer())
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  recorded and raised again
            _record_failure(spec, folder, phases, error)
    return result


def _train_and_measure(spec: RunSpec, folder: RunFolder, phases: Phases, observer: Observer) -> RunResult:
    started = now()
    training = spec.training

    # Data first: where they are missing, nobody waits for TensorFlow.
    with phases("data"):
        dataset = with_validation(spec.dataset(), training.validation_fraction, training.examples, spec.seed)
        check_task(spec, dataset)
        notes = [*dataset.notes, *leaks(dataset)]

    with phases("import"):
        import_tensorflow(spec.plugins)
        from cnnbench import cost, engine, environment
        from cnnbench.callbacks import Recorder
        from cnnbench.feed import Feed
        from cnnbench.fitting import Fitting
        from cnnbench.models.transfer import check_layer

    with phases("build"):
        machine = engine.prepare(spec.seed, spec.deterministic, spec.device, training.precision)
        memory = cost.PeakMemory()
        built = build("model", lambda: spec.model(input_shape=dataset.input_shape, outputs=dataset.outputs))
        model = engine.with_activation(
            built, dataset.task, dataset.train.y if training.scale_targets else None
        )
        if training.fine_tuning is not None:
            check_layer(model, training.fine_tuning.from_layer)
        engine.adapt(model, dataset.train)
        flops = cost.flops(model)
        augmentation = build("augmentation", spec.augmentation) if spec.augmentation else None
        augment = augmentation and augmentation.for_data(dataset.input_shape, dataset.outputs, dataset.task)
        train = Feed(dataset.train, training.batch_size, spec.seed, augment, column=dataset.outputs == 1)
        held_out = {
            name: Feed(split, engine.evaluation_batch(training.batch_size), column=dataset.outputs == 1)
            for name, split in dataset.splits.items()
            if name != "train"
        }
        callbacks = {name: build(f"callback {name}", make) for name, make in spec.callbacks.items()}

        def compile_model(part: Any, learning_rate: float | None) -> None:
            """Compile the model or its head; the configured learning rate unless another is given."""
            engine.compile_model(
                part,
                optimizer=build("optimizer", partial(_optimizer, spec, train.steps, learning_rate)),
                loss=build("loss", partial(_loss, spec, dataset.task, augment)),
                metrics=engine.metrics(dataset.task, soft_labels=_mixes(augment)),
                steps_per_execution=engine.steps_per_execution(
                    training.steps_per_execution,
                    cost.flops(part),
                    training.batch_size,
                    train.steps,
                    machine.on_gpu,
                ),
                jit_compile=machine.on_gpu and not spec.deterministic,
            )

        compile_model(model, None)

    # What the folder and the person are told before the wait.
    folder.write_environment(environment.describe(spec.config, machine, dataset, notes))
    for note in notes:
        log.warning(note)
    observer.started(
        Summary(
            name=spec.name,
            dataset=dataset.name,
            splits={name: len(split) for name, split in dataset.splits.items()},
            input_shape=dataset.input_shape,
            outputs=dataset.outputs,
            model=model.name,
            parameters=model.count_params(),
            flops=flops,
            device=machine.device,
            precision=machine.precision,
            epochs=training.epochs + (training.fine_tuning.epochs if training.fine_tuning else 0),
            steps=train.steps,
            folder=folder.path,
        )
    )

    def epoch_ends(entry: Mapping[str, float]) -> None:
        folder.append_history(entry)
        log.info("epoch %s", " ".join(f"{name}={value:.6g}" for name, value in entry.items()))
        observer.epoch_ended(entry)

    with phases("fit"):
        Fitting(
            model=model,
            train=train,
            val=held_out.get("val"),
            training=training,
            compile=compile_model,
            recorder=Recorder(
                train.examples,
                train.steps,
                lambda epoch: observer.epoch_started(epoch + 1),
                observer.step,
                epoch_ends,
            ),
            callbacks=list(callbacks.values()),
            class_weight=class_weights(dataset) if training.class_weight == "balanced" else None,
            folder=folder,
        ).run()
        history = folder.history

    # The figures that count come from the file, not from the model in memory.
    with phases("evaluate"):
        best_model = engine.load(folder.best_model)
        best = folder.best
        followed = ("loss", *metrics.TRAINED[dataset.task])
        figures = {"train": {name: best["metrics"][name] for name in followed}}  # means over that epoch
        outputs = {}
        for name, feed in held_out.items():
            outputs[name] = engine.predict(best_model, feed)
            figures[name] = engine.evaluate(best_model, dataset.task, dataset.splits[name].y, outputs[name])
        costs = {
            "parameters": model.count_params(),
            "flops_per_example": flops,
            "examples_per_second": float(np.median([row["examples_per_second"] for row in history])),
            "latency_seconds": cost.latency(best_model, dataset.test.x[0]),
            "peak_memory_bytes": memory.bytes(),
            "checkpoint_bytes": folder.best_model.stat().st_size,
        }
        folder.write_predictions(y_true=dataset.test.y, outputs=outputs["test"])

    with phases("figures"):
        for name, png in figures_of_run(dataset, history, best["epoch"], outputs["test"], train.augmented):
            folder.write_figure(name, png)

    split = "val_" if "val" in held_out else ""  # never the test split: ranking by it would be fitting to it
    objective = spec.objective or split + metrics.OBJECTIVE[dataset.task]
    result = {
        "status": DONE,
        "name": spec.name,
        "task": dataset.task,
        "class_names": dataset.class_names,
        "input_shape": dataset.input_shape,
        "seed": spec.seed,
        "objective": objective,
        "value": metrics.objective_value(figures, objective),
        "metrics": figures,
        "best_epoch": best["epoch"],
        "epochs": len(history),
        "cost": {**costs, "seconds": phases.seconds},
        "started": started,
        "finished": now(),
    }
    folder.write_metrics(result)
    run_result = RunResult(folder.path, DONE, objective, result["value"], result)
    observer.finished(run_result)
    return run_result


class Phases:
    """Seconds per phase, and which one is under way."""

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


def check_task(spec: RunSpec, dataset: Dataset) -> None:
    """What could not be checked before the data set said its task."""
    if spec.training.scale_targets and dataset.task != "regression":
        raise CnnbenchError(
            f"training.scale_targets is for regression, not for {dataset.task}",
            "set it to false",
        )
    if spec.loss_tasks and dataset.task not in spec.loss_tasks:
        raise CnnbenchError(
            f"this loss is for {' or '.join(spec.loss_tasks)}, but {dataset.name} is {dataset.task}",
            "use loss=auto",
        )


def _optimizer(spec: RunSpec, steps_per_epoch: int, learning_rate: float | None) -> Any:
    rate = learning_rate if learning_rate is not None else spec.learning_rate
    return spec.optimizer(
        learning_rate=rate(steps_per_epoch, spec.training.epochs) if callable(rate) else rate
    )


def _loss(spec: RunSpec, task: str, augment: Any) -> Any:
    from cnnbench import losses

    if spec.loss is not None:
        return spec.loss()
    return losses.for_task(task, soft_labels=_mixes(augment))


def _mixes(augment: Any) -> bool:
    return augment is not None and bool(augment.mixes_labels)


def build(what: str, make: Callable[[], Any]) -> Any:
    """Call a factory; what Keras says against its values is the user's to mend, not a crash."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CnnbenchError(
            f"cannot build the {what}: {reason}", f"check the keys of {what} (--cfg job)"
        ) from error


def _record_failure(spec: RunSpec, folder: RunFolder, phases: Phases, error: BaseException) -> NoReturn:
    status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    cause = str(error) or type(error).__name__
    log.error("%s during %s: %s", status, phases.current, cause, exc_info=error)
    folder.write_failure(
        {
            "status": status,
            "stage": phases.current,
            "type": type(error).__name__,
            "cause": cause.splitlines()[0],
            "traceback": traceback.format_exception(error),
            "diagnosis": getattr(error, "diagnosis", None),
            "last_metrics": folder.history[-1] if folder.history else {},
            "command": " ".join(["cnnbench", *spec.overrides]),
        }
    )
    folder.write_metrics(
        {
            "status": status,
            "reason": cause.splitlines()[0],
            "name": spec.name,
            "seed": spec.seed,
            "finished": now(),
        }
    )
    raise error
