"""How much of what was planted `cnnbench doctor` finds: wrong labels, re-saved pictures, noise in CIFAR-10.

    python benchmarks/doctor.py pictures FOLDER   # {training_set,test_set}/CLASS/*.jpg, five draws
    python benchmarks/doctor.py cifar10           # 50,000 pictures, 5 % of the labels changed

Each prints a line for each draw, and the means. Features are computed once, and not counted in the time.
"""

from __future__ import annotations

import argparse
import io
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cnnbench import config, runs, system
from cnnbench.sweeps import doctor

PICTURES, FLIPS, RESAVED, TESTED, DRAWS = 370, 15, 10, 60, 5
NOISE = 0.05


@dataclass(frozen=True)
class Planted:
    """What was done to a folder of pictures.

    Attributes:
        flipped: names of the training pictures in the wrong class.
        copied: names of the training pictures that the test split has again, saved in another way.
    """

    flipped: frozenset[str]
    copied: frozenset[str]


def plant(source: Path, target: Path, seed: int, pictures: int = PICTURES, flips: int = FLIPS) -> Planted:
    """Draw pictures of a folder into another, some in the wrong class, some again in the test split.

    Args:
        source: with `training_set` and `test_set`, each with the same two class folders.
        target: is made.
        seed: of all draws.
        pictures: of the training split; a sixth as many are drawn for the test split.
        flips: pictures that are put into the other class; two thirds as many are re-saved.
    """
    rng = np.random.default_rng(seed)
    classes = sorted(path.name for path in (source / "training_set").iterdir() if path.is_dir())
    drawn = {}
    for split, count in (("training_set", pictures), ("test_set", pictures // 6)):
        files = sorted((source / split).glob("*/*.*"))
        drawn[split] = [files[row] for row in rng.permutation(len(files))[:count]]
    wrong = set(rng.permutation(pictures)[:flips].tolist())
    flipped = set()
    for split, files in drawn.items():
        for row, file in enumerate(files):
            is_wrong = split == "training_set" and row in wrong
            label = classes[1 - classes.index(file.parent.name)] if is_wrong else file.parent.name
            place = target / split.removesuffix("_set").replace("training", "train") / label / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            if is_wrong:
                flipped.add(f"train/{label}/{file.name}")
    right = [row for row in range(pictures) if row not in wrong]
    copied = set()
    for row in rng.permutation(right)[: round(flips * RESAVED / FLIPS)]:
        file = drawn["training_set"][row]
        place = target / "test" / file.parent.name / f"again_{file.stem}.jpg"
        place.write_bytes(resaved(file, rng))
        copied.add(f"train/{file.parent.name}/{file.name}")
    return Planted(frozenset(flipped), frozenset(copied))


def resaved(file: Path, rng: np.random.Generator) -> bytes:
    """Return a picture in 60 to 100 % of its size, as a JPEG of quality 50 to 90."""
    packed = io.BytesIO()
    with Image.open(file) as image:
        scale = rng.uniform(0.6, 1.0)
        size = round(scale * image.width), round(scale * image.height)
        image.convert("RGB").resize(size).save(packed, "JPEG", quality=int(rng.integers(50, 91)))
    return packed.getvalue()


@dataclass(frozen=True)
class Result:
    """What was found of what was planted.

    Attributes:
        found: of the wrong labels.
        flagged: training pictures whose label is doubted.
        copies: of the re-saved pictures.
        false: share of the pictures with a finding that was not planted.
    """

    found: int
    flagged: int
    copies: int
    false: float


def judged(examination: doctor.Examination, planted: Planted) -> Result:
    """Compare what was found with what was planted."""
    doubted = {one.example for one in examination.findings if one.kind == "wrong label"}
    leaks = {one.example for one in examination.findings if one.kind == "leak"}
    flagged = {one.example for one in examination.findings}
    again = {f"test/{name.removeprefix('train/').replace('/', '/again_')}" for name in planted.copied}
    wrong = flagged - planted.flipped - planted.copied - again
    return Result(
        len(doubted & planted.flipped),
        len({name for name in doubted if name.startswith("train/")}),
        len(leaks & planted.copied),
        len(wrong) / len(examination.pool),
    )


def examine(folder: Path, *more: str) -> doctor.Examination:
    """Look at a folder of pictures by the backbone that is here."""
    line = ["dataset=image_folder", f"dataset.root={folder}", "dataset.resize=crop", *more]
    composed = config.compose([*line, "model=auto"])
    spec = config.run_spec(composed, composed.hydra.runtime.choices, line)
    return doctor.examine(spec, doctor.Judge(spec.config["model"].get("backbone"), spec.model))


def pictures(source: Path) -> None:
    """Plant and look, a few times, and once more each time without a plant."""
    results, clean = [], []
    for seed in range(DRAWS):
        with tempfile.TemporaryDirectory() as place:
            planted = plant(source, Path(place) / "planted", seed)
            one = judged(examine(Path(place) / "planted"), planted)
            nothing = plant(source, Path(place) / "clean", seed, flips=0)
            clean.append(judged(examine(Path(place) / "clean"), nothing).false)
        results.append(one)
        precision = one.found / max(1, one.flagged)
        print(
            f"draw {seed}: {one.found} of {FLIPS} wrong labels at precision {precision:.2f}, {one.copies} of "
            f"{RESAVED} re-saved pictures; of clean data {clean[-1]:.2%} are flagged",
            flush=True,
        )
    found, flagged = (sum(getattr(one, name) for one in results) for name in ("found", "flagged"))
    print(
        f"mean: {found / DRAWS:.1f} of {FLIPS} at precision {found / max(1, flagged):.2f}, "
        f"{sum(one.copies for one in results) / DRAWS:.1f} of {RESAVED}, clean {np.mean(clean):.2%}"
    )


def cifar10(backbone: str) -> None:
    """Change 5 % of the labels of CIFAR-10's training split, and measure time and memory."""
    from sklearn.metrics import roc_auc_score

    line = ["dataset=cifar10", "model=auto", f"model.backbone={backbone}"]
    composed = config.compose(line)
    spec: runs.RunSpec = config.run_spec(composed, composed.hydra.runtime.choices, line)
    whole = spec.dataset()
    rng = np.random.default_rng(0)
    y = whole.train.y.astype(np.int64)
    wrong = rng.random(len(y)) < NOISE
    y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    train = replace(whole.train, y=y)
    # The test split is as small as can be: 50,000 pictures are what is measured.
    noisy = replace(whole, train=train, test=whole.test.take(np.arange(100)))
    begun: list[float] = []

    def tell(text: str) -> None:
        print(f"{time.perf_counter() - (begun or [time.perf_counter()])[0]:6.1f} s  {text}", flush=True)
        if text == "neighbours":
            begun.append(time.perf_counter())

    found = doctor.examine(replace(spec, dataset=lambda: noisy), doctor.Judge(backbone, spec.model), tell)
    seconds = time.perf_counter() - begun[0]
    own = found.outputs[np.arange(len(y)), y]
    doubted = np.zeros(len(y), bool)
    doubted[[one.row for one in found.findings if one.kind == "wrong label" and one.split == "train"]] = True
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(y):,} pictures, {wrong.sum():,} wrong: AUROC {roc_auc_score(wrong, -own):.4f}; "
        f"{doubted.sum():,} doubted, {(doubted & wrong).sum() / wrong.sum():.1%} of the wrong ones at "
        f"precision {(doubted & wrong).sum() / doubted.sum():.2f}, "
        f"{(doubted & ~wrong).sum() / (~wrong).sum():.2%} of the right ones; {seconds:.0f} s, {peak:.2f} GiB "
        f"at most with features and TensorFlow, on {system.usable_cores()} cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pictures", "cifar10"))
    parser.add_argument("source", nargs="?", type=Path, help="of pictures: the folder")
    parser.add_argument("--backbone", default="EfficientNetLite0", help="for CIFAR-10")
    given = parser.parse_args()
    if given.what == "cifar10":
        cifar10(given.backbone)
    elif given.source is None:
        parser.error("pictures needs the folder")
    else:
        pictures(given.source)


if __name__ == "__main__":
    main()
