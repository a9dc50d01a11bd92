"""The average of the models of all folds: one file, measured on the data set's own test split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench import data, runs, system, training
from cnnbench.errors import CnnbenchError
from cnnbench.reporting import figures_of_run

if TYPE_CHECKING:  # TensorFlow is imported after the data are there
    import keras


TOLERANCE = 1e-6  # of an output, as a part of the largest where that is above 1
CHECKED = 512  # examples of the test split, on which the file is compared with the fold models


@dataclass(frozen=True)
class Folds:
    """The finished runs of a cross-validation, by the number of the fold.

    Attributes:
        members: their folders.
        number: ``(n,)`` the fold of each training example of the data set.
        outputs: ``(n, outputs)`` of the model that has not seen the example.
    """

    members: Sequence[runs.RunFolder]
    number: np.ndarray
    outputs: np.ndarray

    @classmethod
    def beside(cls, spec: runs.RunSpec, source: data.Dataset, digest: str) -> Folds:
        """Find the runs of all folds in the folder that this run lies in.

        Args:
            spec: of the average.
            source: the data set as it came.
            digest: of its content.

        Raises:
            CnnbenchError: one is missing, not finished, or was made with other data.
        """
        count, wanted = spec.training.folds or 0, _without_fold(spec.config)
        found = {
            one.config["training"].get("fold"): one
            for one in runs.find_runs([spec.folder.parent])
            if one.status == runs.DONE and _without_fold(one.config) == wanted
        }
        if missing := [fold for fold in range(count) if fold not in found]:
            raise CnnbenchError(
                f"beside {spec.folder} there is no finished run of fold {missing[0]}",
                "training.folds=… without training.fold makes every fold, and then their average",
            )
        members = [found[fold] for fold in range(count)]
        if others := [one.path for one in members if one.metrics.get("data") != digest]:
            raise CnnbenchError(
                f"{others[0]} was trained on other data than there are now", "put them back, or train it anew"
            )
        number = data.fold_numbers(source, count, spec.seed)
        stored = [one.predictions["outputs"] for one in members]
        outputs = np.empty((len(number), *stored[0].shape[1:]), stored[0].dtype)
        for fold, held_out in enumerate(stored):
            outputs[number == fold] = held_out
        return cls(members, number, outputs)


def _without_fold(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what differs from fold to fold: its number, its folder, a size chosen by it."""
    of_fold = ("fold", "batch_size")
    training = {key: value for key, value in config["training"].items() if key not in of_fold}
    return {**system.plain(config), "training": training, "run_dir": None}


def average_folds(job: training.run.Job) -> runs.RunResult:
    """Make one model of those of all folds, check and measure it, and write everything about it.

    Args:
        job: its folder lies beside those of the folds.

    Raises:
        CnnbenchError: a fold is missing, or the data have changed since.
    """
    spec, folder, phases = job.spec, job.folder, job.phases
    with phases("data"):
        source = spec.dataset()
        dataset = spec.drawn(source)
        identity = job.continuation.check_data(source, dataset)
        folds = Folds.beside(spec, source, identity.data_digest)
        folder.reopen()
    with phases("import"):
        system.import_tensorflow(spec.plugins)
        from cnnbench.nn import load_checkpoint

        machine = training.prepare_machine(spec.seed, spec.deterministic, spec.device, "float32")
        memory = system.PeakMemory()
    with phases("build"):
        models = [load_checkpoint(one.best_model) for one in folds.members]
        averaged = average_of(models)
        info: dict[str, Any] = {"epoch": 0, "monitor": None, "value": None, "metrics": {}, "averaged": True}
        folder.write_best(averaged.save, info)
        folder.write_decision(runs.Decision(dataset.task, tuple(dataset.class_names or dataset.targets)))
        model = load_checkpoint(folder.best_model)
        difference = check_average(model, models, dataset.test)
    job.continuation.write(identity)
    described = training.describe_environment(spec.config, spec.overrides, machine, dataset, dataset.notes)
    changes = job.continuation.changes
    folder.write_environment({**described, "changes": changes} if changes else described)
    with phases("evaluate"):
        feed = data.Feed(
            dataset.test,
            training.evaluation_batch(spec.training.examples_per_step, dataset.input_shape),
            column=dataset.outputs == 1,
        )
        chosen = spec.training.metrics or ()
        evaluation, train = training.Evaluation(model, dataset.task, chosen), source.train
        outputs, figures = evaluation(feed)
        unseen = runs.metrics.compute(dataset.task, train.y, folds.outputs, chosen)
        losses = [one.metrics["metrics"]["test"]["loss"] for one in folds.members]
        unseen = {"loss": float(np.average(losses, weights=np.bincount(folds.number))), **unseen}
        test = dataset.test
        around = {
            "fold": runs.intervals_of(dataset.task, train.y, folds.outputs, unseen, None, train.groups),
            "test": evaluation.intervals(test, outputs, figures),
        }
        folder.write_predictions(y_true=test.y, outputs=outputs)
        folder.write_out_of_fold(y_true=train.y, outputs=folds.outputs, fold=folds.number)
        costs = [one.metrics["cost"] for one in folds.members]
        cost: Any = {
            "parameters": model.count_params(),
            "flops_per_example": training.count_flops(model),
            "examples_per_second": float(np.median([one["examples_per_second"] for one in costs])),
            "latency_seconds": training.measure_latency(training.forward_graph(model), dataset.test.x[0]),
            "peak_memory_bytes": memory.bytes(),
            "checkpoint_bytes": folder.best_model.stat().st_size,
        }
    # Of all folds: what the model has cost.
    cost["seconds"] = {**phases.seconds, "fit": sum(one["seconds"]["fit"] for one in costs)}
    found = {"fold": unseen, "test": figures}
    objective = spec.objective or f"fold_{runs.metrics.OBJECTIVE[dataset.task]}"
    if objective.partition("_")[0] not in found:  # of the validation split, which the average has not
        objective = f"fold_{objective.partition('_')[2]}"
    result = training.run.result_of(job, dataset, identity, found, objective, cost)
    if plain := training.run.in_plain(around):
        result["intervals"] = plain
    said = {"fold": (train.y, folds.outputs), "test": (test.y, outputs)}
    reliable = {split: runs.reliability(dataset.task, *pair) for split, pair in said.items()}
    if rows := {split: one.row() for split, one in reliable.items() if one is not None}:
        result["calibration"] = rows
    result["average_of"] = [one.path.name for one in folds.members]
    result["largest_difference"] = difference
    predictions = training.run.predictions_of(dataset, outputs)
    done = training.run.written(job, result, predictions, partial(figures_of_run, dataset, [], 0, outputs))
    job.observer.finished(done)
    return done


def average_of(models: Sequence[keras.Model]) -> keras.Model:
    """Return a model whose outputs are the mean of those of several, compiled as the first is.

    Each is one layer, so that layers of one name stay apart.
    """
    import keras

    first = models[0].inputs[0]
    inputs = keras.Input(first.shape[1:], dtype=first.dtype, name="inputs")
    outputs = [
        keras.Model(model.inputs[0], model.outputs[0], name=f"fold_{number}")(inputs)
        for number, model in enumerate(models)
    ]
    mean = keras.layers.Average(dtype="float32", name="average")(outputs)
    averaged = keras.Model(inputs, mean, name="average_of_folds")
    averaged.compile("sgd", models[0].loss)  # of which nothing has to be stored
    return averaged


def check_average(model: keras.Model, models: Sequence[keras.Model], split: data.Split) -> float:
    """Return the largest difference between the outputs of a stored average and the mean of its members'.

    Raises:
        RuntimeError: it is larger than the rounding of a sum.
    """
    rows = np.linspace(0, len(split) - 1, min(CHECKED, len(split))).astype(np.intp)
    examples = split.x[rows]
    expected = np.mean(
        [training.forward_graph(one)(examples).numpy().astype(np.float64) for one in models], axis=0
    )
    difference = float(np.abs(training.forward_graph(model)(examples).numpy() - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit or math.isnan(difference):
        raise RuntimeError(
            f"the average differs from the mean of the fold models by {difference:.2g}, more than {limit:.2g}"
        )
    return difference
