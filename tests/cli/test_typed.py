"""What people type with the habits of other tools: done and said, or answered with a line to type."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome
from PIL import Image

from cnnbench.cli.typed import place, understood
from cnnbench.cli.verbs import VERBS
from cnnbench.errors import CnnbenchError
from cnnbench.runs import RunFolder

Cli = Callable[..., Outcome]

# What is typed, as a shell hands it over, and the line that is meant.
MEANT = [
    ("train", ""),
    ("run", ""),
    ("train pics", "pics"),
    ("train model=mlp", "model=mlp"),
    ("fit --epochs 3", "training.epochs=3"),
    ("sweep seed=0,1,2", "-m seed=0,1,2"),
    ("sweep pics seed=0,1", "pics -m seed=0,1"),
    ("search lr=interval(1e-4,1e-2)", "-m sweep=search 'optimizer.learning_rate=interval(1e-4,1e-2)'"),
    ("help", "--help"),
    ("help verify", "verify --help"),
    ("version", "--version"),
    ("--model cnn", "model=cnn"),
    ("--dataset=cifar10", "dataset=cifar10"),
    ("--model CNN --epochs 3 --lr 0.1", "model=cnn training.epochs=3 optimizer.learning_rate=0.1"),
    ("--batch-size 64", "training.batch_size=64"),
    ("--deterministic", "deterministic=true"),
    ("--gpu", "device=gpu"),
    ("epochs=3", "training.epochs=3"),
    ("epochs = 3", "training.epochs=3"),
    ("epochs= 3", "training.epochs=3"),
    ("lr=0.1", "optimizer.learning_rate=0.1"),
    ("optimizer.lr=0.1", "optimizer.learning_rate=0.1"),
    ("learning_rate=0.1", "optimizer.learning_rate=0.1"),
    ("batch=64 patience=5", "training.batch_size=64 callbacks.early_stopping.patience=5"),
    ("filters=[8,16]", "'model.filters=[8,16]'"),
    ("model=mlp units=[8]", "model=mlp 'model.units=[8]'"),
    ("optimizer=AdamW weight_decay=0.1", "optimizer=adamw optimizer.weight_decay=0.1"),
    ("scheduler=cosine", "optimizer/learning_rate=cosine"),
    ("root=pics", "dataset=image_folder dataset.root=pics"),
    ("data=pics", "dataset=image_folder dataset.root=pics"),
    ("data=cifar10", "dataset=cifar10"),
    ("dataset=pics", "dataset=image_folder dataset.root=pics"),
    ("dataset=image_folder root=pics imgsz=32", "dataset=image_folder dataset.root=pics dataset.size=32"),
    ("epochs=3 my.npz", "training.epochs=3 dataset=arrays dataset.file=my.npz"),
    ("dataset=rows", "dataset=arrays dataset.file=rows"),
    ("data=my.npz", "dataset=arrays dataset.file=my.npz"),
    ("model=mlp pics", "model=mlp dataset=image_folder dataset.root=pics"),
    ("model=CNN", "model=cnn"),
    ("dataset=CIFAR-10", "dataset=cifar10"),
    ("-m model=MLP,CNN seed=0,1", "-m model=mlp,cnn seed=0,1"),
    ("-m epochs=1,2", "-m training.epochs=1,2"),
    ("experiment=cifar10_cnn", "experiment=notes/cifar10_cnn"),
    ("cnn cifar10", "model=cnn dataset=cifar10"),
    ("device=cuda", "device=gpu"),
    ("device=0", "device=gpu"),
    ("device=cuda:0", "device=gpu"),
    ("model.filters=[64, 128] seed=1", "'model.filters=[64, 128]' seed=1"),
    ("dataset=image_folder dataset.root=my pics", "dataset=image_folder 'dataset.root=my pics'"),
    ("my pics", "'my pics'"),
    ("done verify", "verify done"),
    ("run verify done", "verify done"),
    ("predict pics/cat/1.png done", "predict done pics/cat/1.png"),
    ("predict pics/cat/1.png done --top 1", "predict done pics/cat/1.png --top 1"),
    ("list models", "list model"),
    ("list cnn", "list model=cnn"),
    ("explain epochs", "explain training.epochs"),
    ("explain lr model=MLP", "explain optimizer.learning_rate model=mlp"),
    ("check epochs=3", "check training.epochs=3"),
    ("lr-find phase=fine_tuning epochs=3 --seeds 2", "lr-find phase=fine_tuning training.epochs=3 --seeds 2"),
]
# What is right already stays as it is.
LEFT = [
    "",
    "model=cnn dataset=cifar10",
    "training.epochs=3 +model.x=1 ~callbacks.early_stopping",
    "--cfg job model=mlp",
    "--config-dir pics seed=1",
    "-m model=mlp,cnn seed=0,1",
    "사진",
    "pics seed=1",
    "name=a run_dir=b",
    "verify done",
    "note done lr = 0.1 was better",
    "compare done --filter model=cnn",
    "optimizer/learning_rate=cosine",
    "'model={_target_: x, y: [1, 2]}'",
]
# What may mean several things, or nothing: words of the complaint, and of the line to type.
REFUSED = [
    ("sweep", "needs values", "cnnbench -m seed=0,1,2"),
    ("--verify done", "is a verb here", "cnnbench verify done"),
    ("device=cuda:1", "the GPUs that it sees", "CUDA_VISIBLE_DEVICES=1"),
    ("monitor=val_loss", "there is no key monitor", "callbacks.checkpoint.monitor=val_loss"),
    ("verify twice", "2 folders have the name", "cnnbench verify outputs/twice"),
    ("verify cnn_synthetic", "3 runs have the name", "cnnbench verify outputs/older"),
]


@pytest.fixture
def here(folder: Path, finished_run: Path) -> Path:
    """A working folder with pictures and runs."""
    for root in ("pics", "my pics", "사진"):
        for name in ("cat", "dog"):
            (folder / root / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / root / name / "1.png")
    (folder / "my.npz").touch()
    (folder / "rows").mkdir()
    (folder / "rows" / "x.npy").touch()
    shutil.copytree(finished_run, folder / "done")
    for number, name in enumerate(("older", "newer")):
        shutil.copytree(finished_run, folder / "outputs" / name)
        config = folder / "outputs" / name / "config.yaml"
        if name == "newer":  # than the name of its folder
            config.write_text(config.read_text().replace("name: cnn_synthetic", "name: named", 1))
        os.utime(config, (number, number))
    return folder


@pytest.mark.parametrize(("typed", "meant"), MEANT, ids=[row[0] for row in MEANT])
def test_a_habit_of_other_tools_is_the_line_that_is_meant(typed: str, meant: str, here: Path) -> None:
    assert shlex.join(understood(typed.split(" "), VERBS)) == meant


@pytest.mark.parametrize("typed", LEFT)
def test_a_line_of_ours_is_left_alone(typed: str, here: Path) -> None:
    assert understood(shlex.split(typed), VERBS) == shlex.split(typed)


@pytest.mark.parametrize(("typed", "complaint", "hint"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_in_doubt_is_answered_with_a_line(
    typed: str, complaint: str, hint: str, here: Path, run_cli: Cli
) -> None:
    shutil.copytree(here / "done", here / "outputs" / "twice")
    sweep = here / "outputs" / "sweep"
    shutil.copytree(here / "done", sweep / "twice")
    (sweep / "sweep.json").touch()
    outcome = run_cli(*typed.split(" "))
    assert outcome.exit_code == 2
    assert complaint in outcome.err
    assert hint in outcome.err


def test_how_a_line_was_read_is_said_once_and_it_runs(run_cli: Cli, folder: Path) -> None:
    outcome = run_cli("train", *TINY, "epochs=1", "--batch-size", "64", "run_dir=run")
    assert outcome.exit_code == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("read as: ")]
    assert line.endswith("training.epochs=1 training.batch_size=64 run_dir=run")
    assert "training.batch_size=64" in (folder / "run" / "overrides.yaml").read_text()
    again = run_cli(*shlex.split(line.removeprefix("read as: cnnbench ")), "--cfg", "job")
    assert again.exit_code == 0
    assert "read as" not in again.err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("done", "done"),
        ("done/best.keras", "done"),
        ("done/figures/learning_curves.png", "done"),
        ("older", "outputs/older"),
        ("named", "outputs/newer"),
        ("latest", "outputs/newer"),
        ("pics", "pics"),
        ("nowhere", "nowhere"),
        ("no/where", "no/where"),
    ],
)
def test_a_run_is_its_folder_a_file_in_it_its_name_or_the_latest(text: str, found: str, here: Path) -> None:
    assert place(text, say=False) == Path(found)


@pytest.mark.parametrize("typed", ["latest", "sweep", "outputs/sweep"])
def test_of_a_sweep_the_best_run_is_offered_and_none_is_taken(typed: str, here: Path, run_cli: Cli) -> None:
    sweep = here / "outputs" / "sweep"
    for number, value in ((0, 0.25), (2, 0.5), (1, 0.75)):  # runs of a sweep need not end in their order
        run = RunFolder(sweep / f"{number:03d}")
        shutil.copytree(here / "done", run.path)
        (run.path / "config.yaml").write_text(
            (run.path / "config.yaml").read_text().replace("seed: 0", f"seed: {number}", 1)
        )
        os.utime(run.path / "config.yaml", (2e9 + number, 2e9 + number))
        run.write_metrics({**run.metrics, "seed": number, "value": value})
    (sweep / "sweep.json").touch()
    assert place(typed, say=False) == Path("outputs/sweep")
    assert place("000", say=False) == Path("outputs/sweep/000")
    outcome = run_cli("predict", typed, "a b.jpg")
    assert outcome.exit_code == 2
    assert "outputs/sweep is a sweep, and one of its runs is wanted" in outcome.err
    assert outcome.err.endswith("val_accuracy on synthetic: cnnbench predict outputs/sweep/001 'a b.jpg'\n")


def test_a_part_of_a_name_is_answered_with_lines_the_newest_first(here: Path, run_cli: Cli) -> None:
    for number in range(4):
        run = here / "outputs" / f"2026-11-2{number}_tiny"
        shutil.copytree(here / "done", run)
        os.utime(run / "config.yaml", (1e9 - number, 1e9 - number))
    outcome = run_cli("evaluate", "TINY", "--split", "val")
    assert outcome.exit_code == 2
    assert "there is no run TINY, but 4 with that in the name" in outcome.err
    lines = [f"cnnbench evaluate outputs/2026-11-2{number}_tiny --split val" for number in range(3)]
    assert [line.strip() for line in outcome.err.splitlines()[-3:]] == lines


def test_the_latest_run_is_named_and_shown(here: Path, run_cli: Cli) -> None:
    outcome = run_cli("latest")
    assert outcome.exit_code == 0
    assert "latest: outputs/newer" in outcome.err
    assert "results: outputs/newer" in outcome.out


def test_a_typed_word_that_is_a_folder_is_that_folder(here: Path) -> None:
    (here / "pics").rename(here / "train")
    assert understood(["train"], VERBS) == ["train"]
    assert understood(["train", "my pics"], VERBS) == ["my pics"]
    with pytest.raises(CnnbenchError, match="needs values"):
        understood(["sweep"], VERBS)
