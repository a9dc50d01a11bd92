"""A PyTorch loop on a GPU: all tensors there, channels_last, bfloat16, steps eager or as one CUDA graph."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import recipes
import torch
from torch.nn import functional
from torch_networks import network
from torch_tuned import tensors

WARM_UP = 11  # steps before the capture, in which cuDNN chooses its kernels


def outputs(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, torch.bfloat16):
        return model(x.to(torch.bfloat16).div_(255)).float()


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    with torch.no_grad():
        hits = [
            outputs(model, images).argmax(1) == labels
            for images, labels in zip(x.split(2000), y.split(2000), strict=True)
        ]
    model.train()
    return float(torch.cat(hits).float().mean())


class Step:
    """One step of the training, on the examples of some indices: ``(batch,)`` int64.

    The rate of Adam is a tensor that falls within the step, so that a graph of it has no number of its own.
    """

    def __init__(
        self, wanted: recipes.Given, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.rate, self.falling = torch.tensor(recipes.LEARNING_RATE, device=x.device), 1.0
        self.optimizer: torch.optim.Optimizer
        if wanted.recipe.dense_units is None:
            rate, momentum = recipes.RESNET_LEARNING_RATE, recipes.MOMENTUM
            self.optimizer = torch.optim.SGD(model.parameters(), rate, momentum, nesterov=True, fused=True)
        else:
            self.falling = recipes.DECAY_RATE ** (1 / recipes.DECAY_STEPS)
            self.optimizer = torch.optim.Adam(
                model.parameters(), self.rate, eps=1e-7, fused=True, capturable=x.device.type == "cuda"
            )

    def __call__(self, indices: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(outputs(self.model, self.x[indices]), self.y[indices]).backward()
        self.optimizer.step()
        self.rate.mul_(self.falling)


def captured(step: Step, size: int) -> Callable[[torch.Tensor], None]:
    """Return a step as one CUDA graph; what is trained while it is made is forgotten."""
    indices = torch.zeros(size, dtype=torch.int64, device=step.x.device)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with forgotten(step):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                indices.copy_(torch.randint(len(step.x), (size,), device=step.x.device))
                step(indices)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            step(indices)

    def replay(chosen: torch.Tensor) -> None:
        indices.copy_(chosen)
        graph.replay()

    return replay


@contextmanager
def forgotten(step: Step) -> Iterator[None]:
    """Put back weights and rate after some steps, and set to zero what the optimizer has gathered.

    All tensors stay where they are, for a graph knows them by their place.
    """
    kept = [*step.model.state_dict().values(), step.rate]
    before = [one.clone() for one in kept]
    yield
    with torch.no_grad():
        for one, value in zip(kept, before, strict=True):
            one.copy_(value)
        for state in step.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()


def main(device: str = "cuda") -> None:
    wanted = recipes.given(modes=("eager", "graph"))
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(wanted.seed)
    splits = recipes.load(wanted)
    (x, y), val, test = ([one.to(device) for one in tensors(*split)] for split in splits)
    model = network(wanted, splits[0][0].shape[1:]).to(device, memory_format=torch.channels_last)
    step, size = Step(wanted, model, x, y), wanted.recipe.batch_size
    whole = len(x) - len(x) % size  # a graph takes no smaller batch; the others of an epoch are left out
    rates, best = [], 0.0
    one_step = captured(step, size) if wanted.mode == "graph" else step
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.pt"
        for _ in range(wanted.epochs):
            began = time.perf_counter()
            for indices in torch.randperm(len(x), device=device)[:whole].split(size):
                one_step(indices)
            if device == "cuda":
                torch.cuda.synchronize()
            rates.append(whole / (time.perf_counter() - began))
            reached = accuracy(model, *val)
            if reached >= best:
                best = reached
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
        memory = {"gpu_memory": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
        recipes.report(rates, accuracy(model, *test), precision="bfloat16", **memory)


if __name__ == "__main__":
    main()
