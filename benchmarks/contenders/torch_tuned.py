"""A tuned PyTorch loop: all tensors in memory, channels_last, bfloat16 autocast where it gains."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import recipes
import torch
from torch.nn import functional
from torch_networks import network, optimizer


def tensors(images: object, labels: object) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return x, torch.from_numpy(labels)


def outputs(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=MIXED):
        return model(x.float().div_(255))


MIXED = True


def mixed_is_faster(wanted: recipes.Given, x: torch.Tensor, y: torch.Tensor) -> bool:
    """Time some steps of a copy of the network with and without autocast, as cnnbench does."""
    global MIXED
    seconds = {}
    for MIXED in (False, True):
        model = network(wanted, (*x.shape[2:], x.shape[1])).to(memory_format=torch.channels_last)
        times = []
        for _ in range(12):
            began = time.perf_counter()
            functional.cross_entropy(outputs(model, x).float(), y).backward()
            times.append(time.perf_counter() - began)
        seconds[MIXED] = min(times)
    return seconds[True] < seconds[False]


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    with torch.no_grad():
        hits = [(outputs(model, x[i : i + 512]).argmax(1) == y[i : i + 512]) for i in range(0, len(x), 512)]
    model.train()
    return float(torch.cat(hits).float().mean())


def main() -> None:
    wanted = recipes.given()
    torch.manual_seed(wanted.seed)
    train, val, test = recipes.load(wanted)
    model = network(wanted, train[0].shape[1:]).to(memory_format=torch.channels_last)
    steps, schedule = optimizer(wanted, model)
    (x, y), val_tensors, test_tensors = tensors(*train), tensors(*val), tensors(*test)
    rates, best, size = [], 0.0, wanted.recipe.batch_size
    global MIXED
    MIXED = mixed_is_faster(wanted, x[:size], y[:size])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.pt"
        for _ in range(wanted.epochs):
            began = time.perf_counter()
            for indices in torch.randperm(len(x)).split(size):
                steps.zero_grad(set_to_none=True)
                loss = functional.cross_entropy(outputs(model, x[indices]).float(), y[indices])
                loss.backward()
                steps.step()
                schedule.step()
            rates.append(len(x) / (time.perf_counter() - began))
            reached = accuracy(model, *val_tensors)
            if reached >= best:
                best = reached
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
        precision = "bfloat16" if MIXED else "float32"
        recipes.report(rates, accuracy(model, *test_tensors), precision=precision)


if __name__ == "__main__":
    main()
