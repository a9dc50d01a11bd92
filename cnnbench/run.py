"""The program, read top to bottom: data, model, training, and the best checkpoint's figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from cnnbench import metrics
from cnnbench.building import build, check_task, loss, mixes, optimizer
from cnnbench.datasets.reading import unwrapped
from cnnbench.datasets.remarks import remarks
from cnnbench.datasets.splits import class_weights, leaks, with_validation
from cnnbench.ending import Phases, record_failure
from cnnbench.figures.of_run import figures_of_run
from cnnbench.files import now
from cnnbench.history import STANDS_STILL, standing_still
from cnnbench.memory import shortage_explained, weights_that_fit
from cnnbench.page.of_run import run_page
from cnnbench.results import RunFolder
from cnnbench.run_files import DONE
from cnnbench.signals import Interruption
from cnnbench.spec import Observer, Observers, RunResult, RunSpec, Summary
from cnnbench.startup import import_tensorflow
from cnnbench.trackers.core import Tracked, flat, trackings

log = logging.getLogger("cnnbench")


def run(spec: RunSpec, observer: Observer | None = None, resume: bool = False) -> RunResult:
    """Train and measure one model; everything that is known of it lands in `spec.run_dir`.

    Args:
        spec: what to do.
        observer: is told how it goes.
        resume: go on in a folder whose run was interrupted, failed or was killed.

    Raises:
        CnnbenchError: wrong input. Any other exception is a failure of the run. Both, and an interruption,
            are recorded in the folder first.
        InterruptedRunError: Ctrl-C or SIGTERM; the state of the training is in the folder.
    """
    folder = RunFolder.open(spec.run_dir) if resume else RunFolder.create(spec.run_dir)
    phases, interruption = Phases(), Interruption()
    config = spec.config or spec.as_config()
    tracked = Tracked(spec.name, folder, flat(config))
    everyone = Observers([observer or Observer(), *trackings(spec.trackers, tracked)])
    with folder.held(), folder.logging(), interruption.watch():
        if resume:
            folder.reopen()
        else:
            folder.write_config(config, spec.overrides)
        log.info("cnnbench %s%s", "resume: " if resume else "", " ".join(spec.overrides))
        try:
            result = _train_and_measure(spec, folder, phases, everyone, interruption)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  recorded and raised again
            record_failure(spec, folder, phases, everyone, unwrapped(error))
        folder.clear_states()
        everyone.finished(result)
    return result


def _train_and_measure(
    spec: RunSpec, folder: RunFolder, phases: Phases, observer: Observer, interruption: Interruption
) -> RunResult:
    started = now()
    training = spec.training

    # Data first: where they are missing, nobody waits for TensorFlow.
    with phases("data"):
        dataset = with_validation(spec.dataset(), training.validation_fraction, training.examples, spec.seed)
        check_task(spec, dataset)
        notes = [*dataset.notes, *remarks(dataset, training.batch_size), *leaks(dataset)]

    with phases("import"):
        import_tensorflow(spec.plugins)
        from cnnbench import cost, engine, environment
        from cnnbench.adapting import adapt
        from cnnbench.callbacks import Recorder
        from cnnbench.distribution import shared_batch, strategy, synchronize
        from cnnbench.feed import Feed
        from cnnbench.fitting import Fitting
        from cnnbench.kernels import use_fast_kernels
        from cnnbench.measuring import measure
        from cnnbench.models.transfer import check_layer
        from cnnbench.precision import built_in_best
        from cnnbench.saving import StateSaver
        from cnnbench.state import State
        from cnnbench.views import with_views

        settled = folder.environment.get("precision", training.precision)  # of a run taken up: what it had
        machine = engine.prepare(spec.seed, spec.deterministic, spec.device, settled)
        devices = strategy(training.distribute, training.batch_size)
        replicas = devices.num_replicas_in_sync

    with phases("build"), devices.scope():
        memory = cost.PeakMemory()
        network = partial(
            build, "model", lambda: spec.model(input_shape=dataset.input_shape, outputs=dataset.outputs)
        )
        with weights_that_fit():
            built, machine = built_in_best(network, spec, settled, dataset, machine)
        views = training.test_time_augmentation
        model = engine.with_activation(
            with_views(built, views),
            dataset.task,
            dataset.train.y if training.scale_targets else None,
        )
        if training.fine_tuning is not None:
            check_layer(model, training.fine_tuning.from_layer)
        adapt(model, dataset.train)
        synchronize(model, replicas)
        size = {"parameters": model.count_params(), "flops_per_example": cost.flops(model)}
        step_flops = cost.flops(built) if views else size["flops_per_example"]  # trained on one view
        augmentation = build("augmentation", spec.augmentation) if spec.augmentation else None
        augment = augmentation and augmentation.for_data(dataset.input_shape, dataset.outputs, dataset.task)
        column, most = dataset.outputs == 1, engine.evaluation_batch(training.batch_size)
        train = Feed(dataset.train, training.batch_size, spec.seed, augment, column, parts=replicas)
        held_out = {
            # The test split is for the stored model, which is on one device.
            name: Feed(split, shared_batch(most, len(split), replicas if name == "val" else 1), column=column)
            for name, split in dataset.splits.items()
            if name != "train"
        }
        callbacks = {name: build(f"callback {name}", make) for name, make in spec.callbacks.items()}

        def compile_model(part: Any, learning_rate: float | None) -> None:
            """Compile the model or its head; the configured learning rate unless another is given."""
            engine.compile_model(
                part,
                optimizer=build("optimizer", partial(optimizer, spec, train.steps, learning_rate)),
                loss=build("loss", partial(loss, spec, dataset.task, augment)),
                metrics=engine.metrics(dataset.task, soft_labels=mixes(augment)),
                # Keras chains none that several devices share.
                steps_per_execution=engine.steps_per_execution(
                    training.steps_per_execution if replicas == 1 else 1,
                    step_flops if part is model else cost.flops(part),
                    training.batch_size,
                    train.steps,
                    machine.on_gpu,
                ),
                jit_compile=machine.on_gpu and not spec.deterministic and replicas == 1,  # as Keras decides
            )
            if not machine.on_gpu and replicas == 1:  # on a GPU XLA fuses them
                use_fast_kernels(part)

        compile_model(model, None)

    # What the folder and the person are told before the wait.
    before = folder.environment.get("code")
    described = environment.describe(spec.config, spec.overrides, machine, dataset, notes)
    folder.write_environment(described)
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
            parameters=size["parameters"],
            flops=size["flops_per_example"],
            device=machine.device,
            precision=machine.precision,
            epochs=training.epochs + (training.fine_tuning.epochs if training.fine_tuning else 0),
            steps=train.steps,
            folder=folder.path,
        )
    )

    stored = folder.stored_state()
    state = State.from_dict(stored.content, stored.arrays) if stored else None
    folder.take_up(state.position.epoch if state else 0, stored)
    if before not in (None, described["code"]):
        log.warning(
            "the code has changed since this run began: its result may be another than without a break"
        )
    if state is not None:
        at = f"epoch {state.position.epoch + 1}, step {state.position.step + 1}"
        log.info("going on at %s", at, extra={"notice": True})

    def epoch_ends(entry: Mapping[str, float]) -> None:
        folder.append_history(entry)
        log.info("epoch %s", " ".join(f"{name}={value:.6g}" for name, value in entry.items()))
        observer.epoch_ended(entry)
        if entry["epoch"] == STANDS_STILL and (remark := standing_still(folder.history)):
            log.warning(remark)

    recorder = Recorder(
        train.examples,
        train.steps,
        lambda epoch: observer.epoch_started(epoch + 1),
        observer.step,
        epoch_ends,
    )
    with phases("fit"), devices.scope(), shortage_explained():
        Fitting(
            model=model,
            train=train,
            val=held_out.get("val"),
            training=training,
            compile=compile_model,
            recorder=recorder,
            callbacks=list(callbacks.values()),
            saver=StateSaver(
                lambda state: folder.write_state(state.as_dict(), state.arrays),
                interruption,
                recorder,
                list(callbacks.values()),
                training.save_minutes,
            ),
            interruption=interruption,
            class_weight=class_weights(dataset) if training.class_weight == "balanced" else None,
            folder=folder,
        ).run(state)
    phases.seconds["fit"] += state.position.seconds if state else 0.0  # in the processes before this one

    # The figures that count come from the file, not from the model in memory.
    with phases("evaluate"):
        measured = measure(folder, dataset, held_out, memory)
    best, history = folder.best, folder.history
    with phases("figures"):
        for name, png in figures_of_run(
            dataset, history, best["epoch"], measured.outputs["test"], train.augmented
        ):
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
        "value": metrics.objective_value(measured.figures, objective),
        "metrics": measured.figures,
        "best_epoch": best["epoch"],
        "epochs": len(history),
        "cost": {**size, **measured.costs, "seconds": phases.seconds},
        "started": started,
        "finished": now(),
    }
    with phases("report"):
        folder.write_report(run_page(folder, result))
    folder.write_metrics(result)
    return RunResult(folder.path, DONE, objective, result["value"], result)
