"""Whether `cnnbench probe` puts backbones in the order of fine-tuning: Kendall's tau on three data sets.

    python benchmarks/probe.py [--pictures FOLDER] [--backbones A B …] [--epochs 5] [--seeds 1] [--output F]

Data sets are 1,500 pictures of CIFAR-10, 1,000 of Fashion-MNIST, and a folder of your own, such as 1,000 cats
and dogs. The probe sees the training split alone. Fine-tuning trains a head, then the whole backbone, and is
measured on the test split. Twenty minutes on two cores with five backbones.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.stats import kendalltau

from cnnbench import api, models, system
from cnnbench.data.sources.cifar import cifar10
from cnnbench.data.sources.mnist import fashion_mnist
from cnnbench.models.transfer import transfer

TESTED = 2000  # pictures of the test split
SIZES = {"cifar10": 96, "fashion_mnist": 96, "pictures": 112}  # pixels a side that backbones see
FINE_TUNING = (
    "{{from_layer: {first}, epochs: {epochs}, learning_rate: 3e-4, "
    "schedule: cosine, warmup_epochs: 1, layer_decay: 0.8}}"
)


def lines(folder: Path, pictures: Path | None) -> dict[str, list[str]]:
    """Write the arrays of both public data sets, and return the line that reads each data set."""
    found = {}
    for name, dataset, count in (
        ("cifar10", cifar10(), 1500),
        ("fashion_mnist", fashion_mnist(), 1000),
    ):
        rng = np.random.default_rng(0)
        train, test = rng.permutation(len(dataset.train))[:count], rng.permutation(len(dataset.test))[:TESTED]
        file = folder / f"{name}.npz"
        np.savez(
            file,
            x_train=dataset.train.x[train],
            y_train=dataset.train.y[train],
            x_test=dataset.test.x[test],
            y_test=dataset.test.y[test],
        )
        found[name] = ["dataset=arrays", f"dataset.file={file}"]
    if pictures is not None:
        size = SIZES["pictures"]
        found["pictures"] = ["dataset=image_folder", f"dataset.root={pictures}", f"dataset.size={size}"]
    return {name: [*line, f"model.image_size={SIZES[name]}"] for name, line in found.items()}


def first_layer(backbone: str) -> str:
    """Return the layer from which on all is trained, but for the averages of batch normalisation.

    `from_layer: all` trains these, too, for which a thousand pictures are too few: with it EfficientNetLite2
    fell from 0.78 to 0.61 in an epoch, and did not come back.
    """
    model = transfer((32, 32, 3), 10, backbone=backbone, image_size=96)
    return next(layer.name for layer in model.layers if layer.weights)


def fine_tuned(line: list[str], backbone: str, epochs: int, seed: int) -> float:
    """Return the test accuracy of a head, and then the whole backbone, trained on a data set."""
    with tempfile.TemporaryDirectory() as folder:
        run = api.run(
            *line,
            "model=auto",
            f"model.backbone={backbone}",
            "training.fine_tuning=" + FINE_TUNING.format(first=first_layer(backbone), epochs=epochs),
            "training.validation_fraction=0",
            "callbacks.checkpoint=null",  # the last epoch counts, and not the best of both phases
            "callbacks.early_stopping=null",
            f"seed={seed}",
            f"run_dir={folder}/run",
        )
        return run.metrics["test_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, help="folder with training_set and test_set, or classes")
    parser.add_argument("--backbones", nargs="+", default=[one.name for one in models.catalogue.here()])
    parser.add_argument("--data-sets", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--epochs", type=int, default=5, help="of the whole backbone")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/probe.json"))
    given = parser.parse_args()
    measured: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, line in lines(Path(folder), given.pictures).items():
            if name not in given.data_sets:
                continue
            ranked = api.probe(*line, backbones=given.backbones).ranked
            probed = {one.name: one.score for one in ranked if one.name in given.backbones}
            print(
                f"{name}, probe: " + ", ".join(f"{key} {value:.3f}" for key, value in probed.items()),
                flush=True,
            )
            tuned = {}
            for backbone in given.backbones:
                tuned[backbone] = mean(
                    fine_tuned(line, backbone, given.epochs, seed) for seed in range(given.seeds)
                )
                print(f"{name}, fine-tuned: {backbone} {tuned[backbone]:.3f}", flush=True)
            tau = kendalltau([probed[key] for key in tuned], list(tuned.values())).statistic
            best = max(probed, key=lambda key: probed[key])
            worse = [one.name for one in ranked if one.is_worse and one.name in tuned]
            agreed = sum(tuned[key] < tuned[best] for key in worse)
            print(f"{name}: Kendall's tau {tau:.2f}; really behind {best} by the probe: {', '.join(worse)}")
            print(f"{name}: of these {agreed} of {len(worse)} are behind it when fine-tuned", flush=True)
            measured[name] = {"probe": probed, "fine_tuned": tuned}
            given.output.parent.mkdir(parents=True, exist_ok=True)
            system.write_json(given.output, measured)


if __name__ == "__main__":
    main()
