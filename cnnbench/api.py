"""The public API: runs, sweeps and comparisons, for notebooks and scripts; the command line uses it too."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnbench import analysis, config, inference, reporting, runs, sweeps, system, training
from cnnbench.errors import CnnbenchError, FolderRefusedError

if TYPE_CHECKING:  # `cnnbench --help` needs none of these
    import keras
    import matplotlib.figure
    import numpy as np
    import pandas as pd

    from cnnbench.runs import RunSpec

__all__ = [
    "Comparison",
    "Run",
    "compare",
    "compose",
    "diff",
    "doctor",
    "ensemble",
    "open_run",
    "probe",
    "run",
    "sweep",
]

Place = str | Path


def compose(*overrides: str, config_dir: Place | None = None, **values: Any) -> RunSpec:
    """Compose and check the config of one run, without making it.

    Args:
        overrides: as on the command line: `"model=cnn"`, `"optimizer.learning_rate=0.01"`.
        config_dir: a folder with options of your own.
        values: keys of the config with Python values; `**{"model.filters": [8]}` for dotted ones.

    Returns:
        What `run` takes; change it with `dataclasses.replace`.

    Raises:
        CnnbenchError: an option, key or value is wrong.
    """
    line = _line(overrides, values)
    composed = config.compose(line, _folder(config_dir))
    return config.run_spec(composed, composed.hydra.runtime.choices, line)


def run(
    *what: str | RunSpec,
    config_dir: Place | None = None,
    verbose: bool = True,
    observer: runs.Observer | None = None,
    **values: Any,
) -> Run:
    """Train and measure one model; everything that is known of it lands in a folder of its own.

    Args:
        what: overrides as for `compose`, or one `RunSpec`, whose changes are written into its config.
        config_dir: a folder with options of your own.
        verbose: print summary, progress and figures.
        observer: is told how the run goes, instead of the terminal.
        values: as for `compose`.

    Returns:
        The finished run.

    Raises:
        CnnbenchError: wrong input; nothing is left of the run. Any other exception is a failure of the run,
            which is recorded in its folder first.
    """
    specs = [one for one in what if isinstance(one, runs.RunSpec)]
    if specs and (len(what) > 1 or values or config_dir is not None):
        raise CnnbenchError(
            "a RunSpec takes no overrides", "change it with dataclasses.replace, or compose it with them"
        )
    if specs:
        spec = replace(specs[0], config=config.written_config(specs[0]))
        config.remember(spec.config)
    else:
        spec = compose(*(str(one) for one in what), config_dir=config_dir, **values)
    return train(spec, observer, verbose=verbose)


def train(
    spec: RunSpec,
    observer: runs.Observer | None = None,
    *,
    verbose: bool = False,
    resume: bool = False,
    with_changes: bool = False,
    alone: bool = True,
) -> Run:
    """Make the run of a spec, or go on with it: the one way from a spec to a result.

    Args:
        spec: what to do.
        observer: is told how it goes.
        verbose: without an observer, tell the terminal.
        resume: go on in a folder whose run was interrupted, failed or killed.
        with_changes: go on although config, data or plugins have changed since.
        alone: the run is none of a sweep, whose failures are recorded whatever they are.

    Raises:
        CnnbenchError: wrong input; the folder of a run alone is removed again if nothing was trained.
    """
    if spec.training.folds is not None and spec.training.fold is None:
        raise CnnbenchError(
            f"training.folds={spec.training.folds} makes a run of each fold",
            "add -m; in Python, cnnbench.sweep",
        )
    spec = placed(spec)
    terminal = reporting.Terminal(reporting.stdout()) if verbose and observer is None else None
    try:
        work = sweeps.averaging(spec)
        result = training.run.run(spec, observer or terminal, resume, with_changes, work)
    except FolderRefusedError:  # it belongs to somebody else
        raise
    except CnnbenchError:
        if alone and not resume:
            runs.RunFolder(spec.folder).discard_if_untrained()
        raise
    finally:
        if terminal is not None:
            terminal.close()
    return Run(runs.RunFolder(result.folder))


def ensemble(
    *members: Place | Run,
    output: Place | None = None,
    trust_plugins: bool = False,
    verbose: bool = True,
    observer: runs.Observer | None = None,
) -> Run:
    """Make one model of several finished runs: the mean of their outputs, measured on their test split.

    Args:
        members: runs, run folders, or folders with runs below them, such as a sweep's.
        output: the folder of the ensemble; None for a new one below `outputs/`.
        trust_plugins: run the code that the members name, though you have not typed it on this machine.
        verbose: print the figures, beside those of each member.
        observer: is told how it goes, instead of the terminal.

    Returns:
        A finished run like any other: `predict`, `evaluate`, `verify`, `export`, `compare` take it.

    Raises:
        CnnbenchError: the runs are not finished, or do not belong together: other data, classes or
            preprocessing, or test examples that one of them has learnt from.
    """
    return train(compose_ensemble(members, output, trust_plugins), observer, verbose=verbose)


def compose_ensemble(
    members: Sequence[Place | Run], output: Place | None = None, trust_plugins: bool = False
) -> RunSpec:
    """Return the spec of an ensemble; arguments and errors as of `ensemble`."""
    found: dict[Path, tuple[runs.RunFolder, RunSpec]] = {}
    for member in members:
        for run in _runs_at(member, trust_plugins):
            found.setdefault(run.folder.resolve(), (run.finished().files, run.spec()))
    folder = None if output is None else Path(output).expanduser()
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise CnnbenchError(
            f"{folder} is not empty; an ensemble never overwrites a run", "choose another --output"
        )
    spec = sweeps.ensemble_spec([*found.values()], folder)
    config.remember(spec.config)
    return spec


def _runs_at(place: Place | Run, trust_plugins: bool) -> list[Run]:
    """Return the run itself, or those below a folder; of folds, they without their average."""
    if isinstance(place, Run):
        return [place]
    path = Path(place).expanduser()
    if runs.RunFolder(path).has_run:
        return [open_run(path, trust_plugins)]
    below = runs.find_runs([path]) if path.is_dir() else []
    if not below:
        open_run(path)
    return [
        Run(one, trust_plugins) for one in below if one.config.get("training", {}).get("fold") != runs.AVERAGE
    ]


def placed(spec: RunSpec) -> RunSpec:
    """Return a spec whose folder is chosen: a new one below `outputs/` where it names none."""
    if isinstance(spec.run_dir, Path):
        return spec
    given = None if spec.run_dir is None else Path(spec.run_dir).expanduser()  # a text, in a notebook
    return replace(spec, run_dir=given or runs.new_folder(Path("outputs"), spec.name))


def sweep(*overrides: str, config_dir: Place | None = None, **values: Any) -> list[Run]:
    """Make a run for every combination of the values that are separated by commas.

    Args:
        overrides: as after `cnnbench -m`: `"model=mlp,cnn"`, `"seed=0,1,2"`, `"sweep=search"`.
        config_dir: a folder with options of your own.
        values: one value for all runs; a tuple or range has several.

    Returns:
        The runs in their order, failed ones included: look at their `status`.

    Raises:
        CnnbenchError: any of the runs would fail for wrong input; none was started.
        InterruptedRunError: Ctrl-C or SIGTERM; every run under way has saved.
    """
    line = [*overrides]
    for key, value in values.items():
        several = value if isinstance(value, tuple | range) else (value,)
        line.append(f"{key}={','.join(config.override(key, one).partition('=')[2] for one in several)}")
    made = sweeps.start_sweep(line, _folder(config_dir))
    if made.stopped_by is not None:
        raise system.InterruptedRunError(made.stopped_by)
    return runs_of(made)


def probe(
    *overrides: str,
    backbones: Sequence[str] | None = None,
    examples: int | None = None,
    config_dir: Place | None = None,
    tell: Callable[[str], object] = lambda text: None,
    **values: Any,
) -> sweeps.Probe:
    """Rank backbones on pictures by cross-validated linear models of their features; see `cnnbench probe`.

    Args:
        overrides: as for `compose`: `"dataset=image_folder"`, `"dataset.root=pics"`.
        backbones: names as of `model.backbone`; None for all whose weights are here.
        examples: the most pictures of the training split that are used; None for 2,000.
        config_dir: a folder with options of your own.
        tell: is told what is done next.
        values: as for `compose`.

    Returns:
        The backbones in their order, a learning curve of the first, and what more pictures would bring.

    Raises:
        CnnbenchError: an override is wrong, the data are no pictures, or a backbone is not here.
    """
    most = sweeps.PICTURES if examples is None else examples
    return sweeps.probe_line(_line(overrides, values), backbones, most, _folder(config_dir), tell)


def doctor(
    *overrides: str,
    run: Place | None = None,
    backbone: str | None = None,
    limit: float | None = None,
    output: Place | None = None,
    config_dir: Place | None = None,
    trust_plugins: bool = False,
    tell: Callable[[str], object] = lambda text: None,
    **values: Any,
) -> sweeps.Doctor:
    """Look for what is wrong with a data set, and write a page and a table of fixes; see `cnnbench doctor`.

    Args:
        overrides: as for `compose`: `"dataset=image_folder"`, `"dataset.root=pics"`.
        run: a run folder, whose data set is looked at; then there are no overrides.
        backbone: a name as of `model.backbone`, or `"pixels"`; None for the best that is here, or the run's.
        limit: the share of examples that may have a finding.
        output: folder for the page and `fixes.csv`; None for a new one below `outputs/`.
        config_dir: a folder with options of your own.
        trust_plugins: of a run: import the code that it names.
        tell: is told what is done next.
        values: as for `compose`.

    Returns:
        The findings, and where page and fixes are; `passed` says whether they are within the limit.

    Raises:
        CnnbenchError: an override is wrong, the data are too few, or the folder holds fixes already.
    """
    folder = None if output is None else Path(output).expanduser()
    if run is None:
        return sweeps.doctor_line(
            _line(overrides, values), backbone, limit, folder, _folder(config_dir), tell
        )
    if overrides or values or backbone:
        raise CnnbenchError(
            "doctor takes the data set and the backbone of the run", "leave out what else was given"
        )
    spec = inference.stored_spec(open_run(run, trust_plugins).files, trust_plugins, verb="doctor")
    return sweeps.doctor_run(spec, limit, folder, tell)


def runs_of(stored: sweeps.Sweep) -> list[Run]:
    """Return the runs of a sweep in their order, without those that have not begun."""
    folders = (stored.run_folder(job.number) for job in stored.jobs)
    return [Run(folder) for folder in folders if folder.has_run]


def open_run(folder: Place, trust_plugins: bool = False) -> Run:
    """Open a run that is there, finished or not.

    Args:
        folder: the run folder.
        trust_plugins: run the code that it names, though you have not typed it on this machine.

    Raises:
        CnnbenchError: there is no run.
    """
    return Run(runs.RunFolder.open(Path(folder).expanduser()), trust_plugins)


def compare(
    what: Place | Run | Iterable[Place | Run] = "outputs",
    *,
    where: Sequence[str] = (),
    sort: str | None = None,
    cost: str = "seconds",
) -> Comparison:
    """Rank runs: mean and deviation over seeds, which differences are real, and what they cost.

    Args:
        what: runs, run folders, or folders with runs below them.
        where: only runs whose config agrees: `"model._target_=…"`, `"seed=0,1"`.
        sort: order by a metric (`test_f1_macro`), cost or config key instead of the objective.
        cost: which cost the front of quality against cost is drawn by, e.g. `parameters`.

    Raises:
        CnnbenchError: there are no runs, or none can be read.
    """
    several = [what] if isinstance(what, str | Path | Run) else list(what)
    places = [one.folder if isinstance(one, Run) else Path(one).expanduser() for one in several]
    found = runs.find_runs(places)
    if not found:
        raise CnnbenchError("there are no runs", "give a folder with runs, or make one: cnnbench")
    records = analysis.select_records(analysis.read_records(found), where)
    if all(record.status == runs.UNREADABLE for record in records):
        raise CnnbenchError(records[0].reason, f"none of the runs can be read ({len(records)})")
    comparison = analysis.compare_records(records, cost)
    return Comparison(analysis.order_groups(comparison, sort) if sort else comparison, tuple(places))


def diff(first: Place | Run, second: Place | Run) -> analysis.Difference:
    """Find what differs between two runs: config, figures, environment, test examples that flipped.

    Raises:
        CnnbenchError: there is no run, or it cannot be read.
    """
    one, other = (run if isinstance(run, Run) else open_run(run) for run in (first, second))
    return analysis.difference(one.files, other.files)


@dataclass(frozen=True)
class Run:
    """One run in its folder, finished or not.

    Attributes:
        files: everything that is stored of it.
        trust_plugins: run the code that it names, though this user has not typed it on this machine.
    """

    files: runs.RunFolder
    trust_plugins: bool = False

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.files.path

    @property
    def name(self) -> str:
        """`<model>_<dataset>`, or the name that was given."""
        return str(self.config.get("name") or self.folder.name)

    @property
    def status(self) -> str:
        """`done`, `failed`, `interrupted`, `pruned`, `running` or `unfinished`."""
        return self.files.status

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as plain values."""
        return self.files.config

    @property
    def result(self) -> dict[str, Any]:
        """The content of `metrics.json`: figures, cost, task, class names.

        Raises:
            CnnbenchError: the run is not finished.
        """
        if self.status != runs.DONE:
            raise CnnbenchError(f"{self.folder} has no finished run ({self.status}: {self.files.reason})")
        return self.files.metrics

    @property
    def metrics(self) -> dict[str, float]:
        """The final figures of the best checkpoint by split and name, such as `test_accuracy`.

        Raises:
            CnnbenchError: the run is not finished.
        """
        return runs.metrics.by_split_and_name(self.result["metrics"])

    @property
    def history(self) -> list[dict[str, Any]]:
        """One mapping an epoch: every metric, the learning rate, seconds, examples per second."""
        return self.files.history

    @property
    def figures(self) -> dict[str, matplotlib.figure.Figure]:
        """The pictures by name, as matplotlib figures, drawn from stored values."""
        return reporting.run_figures(self.files)

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index; empty for regression."""
        return tuple(self.result["class_names"])

    @property
    def target_names(self) -> tuple[str, ...]:
        """Of a regression; empty for classes, and for runs of 0.1.0."""
        return tuple(self.result.get("target_names", ()))

    def to_frame(self) -> pd.DataFrame:
        """Return the history as a pandas frame, one row an epoch.

        Raises:
            CnnbenchError: pandas is not installed.
        """
        return _frame(self.history).set_index("epoch")

    def spec(self) -> RunSpec:
        """Return the spec that makes this run again.

        Raises:
            CnnbenchError: its plugins are not trusted, or its config is wrong.
        """
        return inference.stored_spec(self.finished().files, self.trust_plugins)

    def finished(self) -> Run:
        """Return the run itself.

        Raises:
            CnnbenchError: it has no best checkpoint and final figures.
        """
        inference.require_finished(self.files)
        return self

    def model(self) -> keras.Model:
        """Load the best checkpoint; it takes raw examples ``(n, *input_shape)``, pixels from 0 to 255.

        Raises:
            CnnbenchError: the run is not finished, or the file cannot be loaded.
        """
        return inference.load_model(self.files, self.spec())

    def predict(self, examples: np.ndarray | Place | Sequence[Place]) -> np.ndarray:
        """Return the outputs of the best checkpoint.

        Args:
            examples: an array ``(n, *input_shape)``, raw as the data set has them; or picture files, folders
                of pictures, `.npy`, `.npz` and `.csv` files, prepared as in the training.

        Returns:
            Probabilities ``(n, classes)``, or ``(n, labels)``, in the order of `class_names`; of a regression
            values ``(n,)``, of several targets ``(n, targets)``.

        Raises:
            CnnbenchError: the shape is another, or a file cannot be read.
        """
        import numpy as np

        names, shape = self.class_names, tuple(self.result["input_shape"])
        if not isinstance(examples, np.ndarray):
            places = [examples] if isinstance(examples, str | Path) else examples
            return self._predict_files([str(Path(place).expanduser()) for place in places])
        if examples.shape[1:] != shape:
            given, wanted = ("×".join(map(str, ("n", *one))) for one in (examples.shape[1:], shape))
            raise CnnbenchError(f"the examples are {given}, but this model takes {wanted}")
        if not len(examples):
            width = len(names or self.target_names)
            return np.empty((0, width) if width > 1 else 0)
        outputs = np.asarray(self.model().predict(examples, verbose=0), np.float64)
        if self.result["task"] == "binary":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        return outputs if names or outputs.shape[1] > 1 else outputs[:, 0]

    def _predict_files(self, places: Sequence[str]) -> np.ndarray:
        import numpy as np

        rows: list[Any] = []
        for answers in self.predictions(places):
            for one in answers:
                if one.error is not None:
                    raise CnnbenchError(f"{one.path}: {one.error}")
                if one.value is not None:
                    rows.append(one.value)
                else:
                    found = one.values or one.probabilities
                    rows.append([found[name] for name in self.class_names or self.target_names])
        return np.array(rows, np.float64)

    def predictions(
        self, files: Sequence[str], stdin: Iterable[str] = (), max_pixels: int | None = None
    ) -> Iterator[list[inference.Prediction]]:
        """Answer for every input in turn, a batch at a time; what cannot be read has its error.

        Args:
            files: pictures, folders of pictures, `.npy`, `.npz`, `.csv`; of a run on a table, tables with its
                columns; `-` stands for paths in `stdin`.
            stdin: lines with paths.
            max_pixels: of a picture that is decoded; default: as in the run.
        """
        recorded, spec = self.result, self.spec()
        dataset = {**spec.config["dataset"], **({"max_pixels": max_pixels} if max_pixels else {})}
        shape = recorded["input_shape"]
        # A data set that says how pictures are resized is one of files in any size.
        trained_on = self.files.environment.get("dataset", {})
        name = trained_on.get("name", "another data set")
        shrunk = None if "resize" in dataset else inference.Shrunk(shape, name)
        picture = inference.picture_reader(shape, dataset, shrunk, trained_on.get("dtype", "uint8"))
        model = inference.load_model(self.files, spec)
        rows = inference.Rows(inference.columns_of(model))
        source = inference.items(files, stdin, shape, picture, rows)
        answers = inference.predict(
            model,
            self.files.decision,
            inference.batches(source, inference.BATCH),
        )
        return inference.remarked(answers, (shrunk, rows))

    def evaluate(
        self,
        *overrides: str,
        split: Literal["val", "test"] = "test",
        config_dir: Place | None = None,
        told: Callable[[int, int], None] | None = None,
    ) -> inference.Evaluation:
        """Measure the best checkpoint on a split of its data set, or of another.

        Args:
            overrides: `"dataset=…"`, `"dataset.key=…"`, `"data_dir=…"`; none: the run's own data.
                `"corruption=all"`, or kinds with commas, measures corrupted pictures, too; `"severity=1..5"`.
            split: which one.
            config_dir: a folder with options of your own, as the run had it.
            told: hears how many of how many corruptions are done.

        Raises:
            CnnbenchError: the run is not finished, or the data do not fit, or have changed.
        """
        overrides, corruptions = inference.asked(overrides)
        folder, is_other = self.finished().files, inference.chooses_dataset(overrides)

        def changed(own: dict[str, Any]) -> dict[str, Any]:
            if not is_other:
                typed = inference.with_keys(own, config.typed_values(overrides))
                return runs.with_absolute_places(typed) if overrides else typed
            place = own.get("data_dir")
            recorded = [f"data_dir={config.quoted(str(place))}"] if place is not None else []
            line = [*recorded, *overrides]
            as_trained = {"dataset.size": folder.metrics["input_shape"][:2]}
            composed = config.compose(line, _folder(config_dir), as_trained)
            return inference.with_dataset(own, config.plain_config(composed), folder.metrics["task"])

        spec = inference.stored_spec(folder, self.trust_plugins, changed, verb="evaluate")
        own_data: Literal["must", "may", "no"] = "no" if is_other else "may" if overrides else "must"
        return inference.evaluate_checkpoint(folder, spec, split, own_data, corruptions, told)

    def verify(self, *places: str) -> inference.Verdict:
        """Let Keras evaluate the best checkpoint again, and compare with the recorded figures.

        Args:
            places: where data lie now: `"dataset.root=…"`.

        Returns:
            What was compared; `.passed` says whether all agrees.

        Raises:
            CnnbenchError: the run is not finished, or its data are gone.
        """
        return inference.verify(self.files, self._moved(places, "verify"))

    def export(
        self,
        to: inference.Format,
        output: Place | None = None,
        quantize: inference.Quantize = "none",
        examples: int | None = None,
    ) -> inference.Export:
        """Write the best checkpoint in another format, measure it, and check that it computes the same.

        Args:
            to: `onnx`, `saved_model`, `tflite` or `openvino`.
            output: file, or folder for it; default: `exports/` in the run folder.
            quantize: for `tflite` and `openvino`: `float16`, `int8` (the first of several ways that is good
                enough), or one way: `int8_full`, `int8_mixed`, `int16x8`, `int8_weights`.
            examples: of the test split to compute, at most; default: 2,000.

        Raises:
            CnnbenchError: the run is not finished, or a package is missing.
        """
        path = None if output is None else Path(output).expanduser()
        most = examples or inference.EXAMPLES
        return inference.export_run(self.finished().files, self.spec(), to, path, quantize, most)

    def visualize(
        self,
        files: Sequence[Place] = (),
        layer: str | None = None,
        examples: int = 12,
        output: Place | None = None,
    ) -> list[str]:
        """Draw what the model sees: its filters, feature maps and class-activation maps.

        Args:
            files: pictures; none: from the test split.
            layer: only this one.
            examples: how many for class-activation maps.
            output: folder for the pictures; default: `figures/` in the run folder.

        Returns:
            The files, and a line for each picture that this model cannot have.
        """
        spec, path = self.spec(), None if output is None else Path(output)
        return list(inference.visualize(self.files, spec, [*map(str, files)], layer, examples, path))

    def resume(
        self,
        *places: str,
        with_changes: bool = False,
        verbose: bool = True,
        observer: runs.Observer | None = None,
    ) -> Run:
        """Go on after an interruption, a failure or a crash, to the result that the run would have had.

        Args:
            places: where data lie now: `"dataset.root=…"`.
            with_changes: go on although config, data or plugins have changed.
            verbose: print progress and figures.
            observer: is told how it goes, instead of the terminal.

        Returns:
            The finished run; at once where it was finished before.

        Raises:
            CnnbenchError: another process is at work in the folder, or what the run was made of has changed.
        """
        if self.status == runs.DONE:
            return self
        spec = self.spec_to_resume(*places)
        return train(spec, observer, verbose=verbose, resume=True, with_changes=with_changes)

    def spec_to_resume(self, *places: str) -> RunSpec:
        """Return the spec to go on with; arguments and errors as of `resume`."""
        if self.status == runs.RUNNING:
            text = f"another process is at work in {self.folder}"
            raise CnnbenchError(text, "wait for it, or stop it first")
        spec = self._moved(places, "resume")
        if places:
            config.remember(spec.config)
        return spec

    def _moved(self, places: Sequence[str], verb: str) -> RunSpec:
        return inference.stored_spec(
            self.files, self.trust_plugins, lambda own: inference.with_places(own, places), verb=verb
        )

    def page(self) -> str:
        """Return the HTML page of the run; of one without a result, what is known of it."""
        if self.status == runs.DONE:
            return reporting.run_page(self.files, self.result)
        return reporting.progress_page(self.files, self.status)

    def __repr__(self) -> str:
        """Name the folder, from here, and its state in one line."""
        folder = config.from_here(self.folder)
        if self.status != runs.DONE:
            return f"<Run {folder}: {self.status}>"
        return f"<Run {folder}: {self.result['objective']} {self.result['value']:.4g}>"

    def _repr_html_(self) -> str:
        if self.status != runs.DONE:
            return f"<pre>{html.escape(repr(self))}\n{html.escape(self.files.reason)}</pre>"
        return reporting.run_html(self.files, self.result)


@dataclass(frozen=True)
class Comparison:
    """Runs ranked by their objective, with what their differences are worth.

    Attributes:
        analysis: the rankings, groups and verdicts behind it.
        places: where the runs were looked for.
    """

    analysis: analysis.Comparison
    places: tuple[Path, ...] = ()

    @property
    def best(self) -> list[Run]:
        """The runs of the group that ranks first; of several data sets or objectives, of the first one.

        Whether it is better than the second is what `table` says.
        """
        rankings = self.analysis.rankings
        return [Run(folder) for folder in rankings[0].groups[0].runs] if rankings else []

    @property
    def table(self) -> list[dict[str, Any]]:
        """One mapping a group: rank, what tells it from the others, mean, deviation, verdict, costs."""
        return analysis.comparison_rows(self.analysis)

    @property
    def answers(self) -> list[str]:
        """The comparison in words, one sentence or two a ranking."""
        return list(reporting.answers(self.analysis))

    def to_frame(self) -> pd.DataFrame:
        """Return `table` as a pandas frame.

        Raises:
            CnnbenchError: pandas is not installed.
        """
        return _frame(self.table)

    def page(self, relative_to: Place = ".", command: str | None = None) -> str:
        """Return the HTML page; its links to runs are relative to a folder."""
        title = ", ".join(place.resolve().name for place in self.places)
        return reporting.comparison_page(self.analysis, title, Path(relative_to), command)

    def __repr__(self) -> str:
        """Say what the comparison answers."""
        return "\n".join(self.answers)

    def _repr_html_(self) -> str:
        return reporting.comparison_html(self.analysis)


def _line(overrides: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    return [*overrides, *(config.override(key, value) for key, value in values.items())]


def _folder(config_dir: Place | None) -> str | None:
    return None if config_dir is None else str(config_dir)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise CnnbenchError("pandas is not installed", "pip install pandas") from error
    return pd.DataFrame(rows)
