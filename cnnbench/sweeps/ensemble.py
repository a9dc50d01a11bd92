"""Ensembles: which finished runs make one model together, and the config of the run that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import config, data, runs
from cnnbench.errors import CnnbenchError, shown

TARGET = "cnnbench.models.ensemble.ensemble"
VERB = "ensemble"
LEAST = 2
NAMED = 5  # classes that a line names
Member = tuple[runs.RunFolder, runs.RunSpec]  # a finished run, and what made it


def is_ensemble(stored: Mapping[str, Any]) -> bool:
    """Tell whether a config is that of an ensemble."""
    model = stored.get("model")
    return isinstance(model, Mapping) and model.get("_target_") == TARGET


def members_of(stored: Mapping[str, Any]) -> list[runs.RunFolder]:
    """Return the runs of an ensemble, by its config.

    Raises:
        CnnbenchError: one is not there any more.
    """
    places = [Path(file).parent for file in stored["model"]["members"]]
    if gone := [place for place in places if not place.is_dir()]:
        raise CnnbenchError(
            f"{gone[0]}, a member of the ensemble, is gone", f"make it anew: cnnbench {VERB} RUN …"
        )
    return [runs.RunFolder.open(place) for place in places]


def ensemble_spec(members: Sequence[Member], run_dir: Path | None) -> runs.RunSpec:
    """Compose the run that measures the mean of finished ones.

    Its data set is theirs. It has their validation split where all have the same; of others, each of which
    some member has learnt from, it has none.

    Args:
        members: finished runs, and what made them.
        run_dir: where the ensemble goes; None for a new folder.

    Raises:
        CnnbenchError: they are fewer than two, or do not belong together: data, classes or preprocessing
            differ.
    """
    folders = [folder for folder, _ in members]
    digests = [str(folder.best.get("sha256")) for folder in folders]
    if len(members) < LEAST:
        found = folders[0].path if folders else "nothing"
        raise CnnbenchError(
            f"an ensemble takes at least two runs, and here is {found} alone",
            "cnnbench -m seed=0,1,2 makes three; then cnnbench ensemble SWEEP",
        )
    for other in members[1:]:
        _refuse_others(members[0], other)
    for place, digest in enumerate(digests):
        if digest in digests[:place]:
            twice = f"{folders[digests.index(digest)].path} and {folders[place].path}"
            raise CnnbenchError(f"{twice} are the same model", "name each once")
    first = members[0][1]
    names = {spec.name for _, spec in members}
    dataset = str(first.config["dataset"]["_target_"]).rpartition(".")[2]
    hold_out_the_same = _hold_out_the_same(members)
    # Temperature and threshold are the members'. What they hold out for sets is not left for val.
    calibrations = [spec.training.calibration for _, spec in members]
    all_make_sets = hold_out_the_same and all(one.coverage is not None for one in calibrations)
    coverage, share = calibrations[0].coverage if all_make_sets else None, calibrations[0].share
    calibration = runs.Calibration(coverage=coverage, share=share).model_dump()
    unused = {"folds": None, "fold": None, "fine_tuning": None, "calibration": calibration}
    training = {**first.config["training"], **unused}
    if not hold_out_the_same:
        training |= {"validation_fraction": 0.0, "examples": None}
    plugins = dict.fromkeys(plugin for _, spec in members for plugin in spec.plugins)
    trackers = {
        name: node for name, node in first.config["callbacks"].items() if node and config.is_tracker(node)
    }
    files = [str(folder.best_model.absolute()) for folder in folders]
    composed = {
        **first.config,
        "name": f"ensemble_{names.pop() if len(names) == 1 else dataset}",
        "run_dir": None if run_dir is None else str(run_dir),
        "deterministic": all(spec.deterministic for _, spec in members),
        "objective": None,
        "expected": None,
        "plugins": list(plugins),
        "training": training,
        "callbacks": trackers,
        "model": {"_target_": TARGET, "members": files, "digests": digests},
    }
    typed = (VERB, *(str(folder.path) for folder in folders))
    return config.spec_from(composed, run_dir, typed)


def _hold_out_the_same(members: Sequence[Member]) -> bool:
    """Tell whether all members have one validation split, from which none has learnt."""
    held = {folder.identity.drawn.get("val") for folder, _ in members if folder.identity is not None}
    return len(held) == 1 and None not in held and all(spec.training.fold is None for _, spec in members)


# -- Which runs do not belong together -----------------------------------------------------------------


def _refuse_others(first: Member, second: Member) -> None:
    """Refuse two runs whose outputs have no mean that could be measured.

    Raises:
        CnnbenchError: tasks, classes, examples, data or preprocessing differ; or the test examples of one are
            among those that the other has learnt from.
    """
    (one, spec), (other, other_spec) = first, second
    results = one.metrics, other.metrics
    for key, noun in (
        ("task", "tasks"),
        ("class_names", "classes"),
        ("target_names", "targets"),
        ("input_shape", "shapes of an example"),
    ):
        here, there = (result.get(key) or [] for result in results)
        if here != there:
            found = f"{_listed(here)} and {_listed(there)}"
            raise CnnbenchError(
                f"{one.path} and {other.path} have different {noun}: {found}",
                "the members of an ensemble answer the same question about the same examples",
            )
    nodes = [
        runs.without_places({"dataset": {**each.config["dataset"], "task": None}})
        for each in (spec, other_spec)
    ]
    keys = runs.differing(*(config.with_keywords(node) for node in nodes))
    told = [f"{key} is {shown(a)} and {shown(b)}" for key, (a, b) in keys.items()]
    began = one.identity, other.identity
    if began[0] is None or began[1] is None:
        old = (one if began[0] is None else other).path
        raise CnnbenchError(f"{old} is of version 0.1.0, which did not write down its data", "train it again")
    if began[0].data_digest != began[1].data_digest:
        _refuse_learnt(first, second)
        _refuse_learnt(second, first)
        told += runs.split_changes(began[0].data, began[1].data)
        raise CnnbenchError(
            f"{one.path} and {other.path} were made with different data: {'; '.join(told)}",
            "train them on the same data set, with the same options of it",
        )
    if told:
        raise CnnbenchError(
            f"{one.path} and {other.path} prepare their examples differently: {'; '.join(told)}",
            "train them with the same options of the data set",
        )


def _refuse_learnt(tested: Member, learnt: Member) -> None:
    """Refuse test examples of one run that are in the training or validation split of another."""
    test = tested[1].dataset().test.digests
    splits = learnt[1].drawn(learnt[1].dataset()).splits
    seen = {digest for name in splits if name != "test" for digest in splits[name].digests or ()}
    count = sum(digest in seen for digest in test or ())
    if count:
        raise CnnbenchError(
            f"{count:,} of {len(test or ()):,} test examples of {tested[0].path} are training or validation "
            f"examples of {learnt[0].path}",
            "an ensemble is measured on what no member has seen: train both with one division of the data",
        )


def _listed(value: Any) -> str:
    if isinstance(value, str):
        return value
    if all(isinstance(one, int) for one in value):
        return "×".join(map(str, value))
    return data.listed(value, NAMED) if len(value) else "none"
