"""A plain PyTorch loop: a data set that makes a tensor of each image, a DataLoader with two workers."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import recipes
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch_networks import network, optimizer


class Images(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.x[index]).permute(2, 0, 1).float() / 255, int(self.y[index])


def accuracy(model: torch.nn.Module, batches: DataLoader[tuple[torch.Tensor, int]]) -> float:
    model.eval()
    with torch.no_grad():
        hits = [(model(x).argmax(1) == y).float() for x, y in batches]
    model.train()
    return float(torch.cat(hits).mean())


def main() -> None:
    wanted = recipes.given()
    torch.manual_seed(wanted.seed)
    splits = recipes.load(wanted)
    size = wanted.recipe.batch_size
    train, val, test = (
        DataLoader(Images(*split), size, shuffle=number == 0, num_workers=2, persistent_workers=number < 2)
        for number, split in enumerate(splits)
    )
    model = network(wanted, splits[0][0].shape[1:])
    steps, schedule = optimizer(wanted, model)
    rates, best = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.pt"
        for _ in range(wanted.epochs):
            began = time.perf_counter()
            for x, y in train:
                steps.zero_grad()
                loss = functional.cross_entropy(model(x), y)
                loss.backward()
                steps.step()
                schedule.step()
            rates.append(len(splits[0][0]) / (time.perf_counter() - began))
            reached = accuracy(model, val)
            if reached >= best:
                best = reached
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
        recipes.report(rates, accuracy(model, test))


if __name__ == "__main__":
    main()
