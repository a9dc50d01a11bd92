"""PyTorch Lightning: a module, a Trainer with checkpoints, DataLoaders as in the plain loop."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from typing import Any

import lightning
import recipes
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.nn import functional
from torch.utils.data import DataLoader
from torch_networks import network, optimizer
from torch_plain import Images


class Classifier(lightning.LightningModule):
    def __init__(self, wanted: recipes.Given, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.wanted, self.network = wanted, network(wanted, shape)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        x, y = batch
        return functional.cross_entropy(self.network(x), y)

    def _evaluate(self, batch: Any, name: str) -> None:
        x, y = batch
        self.log(name, (self.network(x).argmax(1) == y).float().mean(), batch_size=len(y))

    def validation_step(self, batch: Any, number: int) -> None:
        self._evaluate(batch, "val_accuracy")

    def test_step(self, batch: Any, number: int) -> None:
        self._evaluate(batch, "accuracy")

    def configure_optimizers(self) -> Any:
        made, schedule = optimizer(self.wanted, self.network)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Clock(Callback):
    """Seconds of training in each epoch, without its validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.last = time.perf_counter() - self.began

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(self.last)


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    wanted = recipes.given()
    lightning.seed_everything(wanted.seed, verbose=False)
    splits = recipes.load(wanted)
    size = wanted.recipe.batch_size
    train, val, test = (
        DataLoader(Images(*split), size, shuffle=number == 0, num_workers=2, persistent_workers=number < 2)
        for number, split in enumerate(splits)
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        keep = ModelCheckpoint(folder, monitor="val_accuracy", mode="max")
        trainer = lightning.Trainer(
            max_epochs=wanted.epochs,
            accelerator="cpu",
            callbacks=[clock, keep],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(Classifier(wanted, splits[0][0].shape[1:]), train, val)
        found = trainer.test(dataloaders=test, ckpt_path="best", verbose=False)
    recipes.report([len(splits[0][0]) / seconds for seconds in clock.seconds], found[0]["accuracy"])


if __name__ == "__main__":
    main()
