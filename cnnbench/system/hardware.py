"""Cores, GPUs and memory of this machine, as far as this process may use them."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from cnnbench.errors import CnnbenchError

FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo, Intel's and AMD's, and ARM's
THREADS = "CNNBENCH_THREADS"  # how many a run may use; see `training.device`
FLOAT32 = 4  # bytes
CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Count the cores that this process may use: in a container or under taskset fewer than there are."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_bfloat16() -> bool:
    """Tell whether the processor computes in bfloat16; unknown is no."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not FLAGS.isdisjoint(flags.split())


def gpus() -> list[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them, without TensorFlow."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name not in ("", "-1")]
    return _ask_gpus("index")


def gpu_memory_free() -> int | None:
    """Return the free bytes of the fullest GPU that this process may use; None where nothing tells."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = _ask_gpus("memory.free", *(["-i", chosen] if chosen else []))
    if not found or not all(mebibytes.isdigit() for mebibytes in found):
        return None
    return min(map(int, found)) * 2**20


def gpus_and_drivers() -> list[str]:
    """Name each GPU that this process may use, with its driver: `NVIDIA H100 80GB HBM3, driver 580.95.05`."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and not gpus():
        return []
    found = _ask_gpus("name,driver_version", *(["-i", chosen] if chosen else []))
    return [f"{name}, driver {driver}" for name, _, driver in (line.rpartition(", ") for line in found)]


def _ask_gpus(what: str, *flags: str) -> list[str]:
    """Ask the driver's own tool for a line about each GPU; none where it is missing or fails."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", *flags]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return [line.strip() for line in listed.stdout.splitlines()] if listed.returncode == 0 else []


# -- Memory ----------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """There was no memory for something that a training needs."""


def available_memory() -> float:
    """Return the bytes that this machine, or the container that we are in, can still give."""
    return min(float(psutil.virtual_memory().available), _left_in_container())


def _left_in_container() -> float:
    """Return what the tightest control group (version 2) around this process leaves; infinity without one."""
    try:
        own = next(
            line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
        )
    except (OSError, StopIteration):
        return math.inf
    group, left = CGROUPS / own.lstrip("/"), math.inf
    for folder in (group, *group.parents):
        try:
            limit = float((folder / "memory.max").read_text())
            used = int((folder / "memory.current").read_text())
            statistics = (folder / "memory.stat").read_text()
        except (OSError, ValueError):  # no limit ("max"), or no control group any more
            continue
        cached = re.search(r"^inactive_file (\d+)$", statistics, re.MULTILINE)  # given back when it is needed
        left = min(left, limit - used + int(cached[1] if cached else 0))
    return left


def require_memory(needed: float, what: str, hint: str) -> None:
    """Refuse what cannot fit.

    Raises:
        CnnbenchError: `needed` bytes are more than there are.
    """
    there = available_memory()
    if needed > there:
        raise CnnbenchError(
            f"{what} would take {needed / 1e9:,.1f} GB of memory or more, and {there / 1e9:,.1f} GB are free",
            hint,
        )


@contextmanager
def weights_that_fit() -> Iterator[None]:
    """Refuse a layer's weights, inside the block, before they are made when all together cannot fit.

    Only lower bounds are known here: gradients, the optimizer and the batches come on top.
    """
    import keras

    make, total = keras.Layer.add_weight, 0.0

    def add_weight(layer: Any, shape: Any = None, *arguments: Any, **keywords: Any) -> Any:
        nonlocal total
        total += FLOAT32 * math.prod(shape or ())
        require_memory(
            total, f"the model up to its layer {layer.name}", "make it smaller (model=…, --cfg job)"
        )
        return make(layer, shape, *arguments, **keywords)

    keras.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.Layer.add_weight = make


# What TensorFlow, XLA, cuDNN and numpy say when there is no memory, in errors of several types.
SHORTAGE = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|RESOURCE_EXHAUSTED|out of memory|OOM when|unable to allocate"
    r"|failed to alloc|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
# What a batch can cause that is too large, beside other reasons.
SYMPTOM = re.compile(
    r"no valid config found|illegal (?:memory )?address|illegal memory access|CUDA_ERROR_ILLEGAL_ADDRESS"
    r"|No algorithm worked|CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    re.IGNORECASE,
)
ADVICE = "make the model or training.batch_size smaller"
AMOUNT = re.compile(r"alloc\w*\D{0,60}?([\d.]+) ?([KMGT]i?B|bytes|B)\b", re.IGNORECASE)
TENSOR = re.compile(r"tensor with shape ?\[([\d,]*)\](?: and type (\w+))?")
UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
BYTES = {"double": 8, "int64": 8, "half": 2, "bfloat16": 2, "uint8": 1, "int8": 1, "bool": 1}


@contextmanager
def shortage_explained(batch_size: int | None = None) -> Iterator[None]:
    """Turn what TensorFlow and numpy say inside of memory that they do not get into one line.

    Args:
        batch_size: examples of a step.

    Raises:
        OutOfMemoryError: there was not enough, or the step failed on a GPU as one does that is too large.
    """
    import tensorflow as tf

    kinds = tf.errors.ResourceExhaustedError, tf.errors.InternalError, tf.errors.UnknownError
    try:
        yield
    except (MemoryError, *kinds, tf.errors.AbortedError, tf.errors.FailedPreconditionError) as error:
        text = str(error)
        is_shortage = isinstance(error, MemoryError | kinds[0]) or SHORTAGE.search(text)
        if not is_shortage and not SYMPTOM.search(text):
            raise
        raise OutOfMemoryError(_shortage(text, batch_size, bool(is_shortage))) from error


def advice_on_memory(text: str) -> str:
    """Return what to do where a text has signs of a lack of memory; empty where it has none."""
    if not (SHORTAGE.search(text) or SYMPTOM.search(text)):
        return ""
    return f"it may be that a batch does not fit into memory: {ADVICE}"


def _shortage(text: str, batch_size: int | None, is_certain: bool) -> str:
    batch = f" with training.batch_size={batch_size}" if batch_size is not None else ""
    if not is_certain:
        found = SYMPTOM.search(text)
        said = found[0] if found else ""
        return f"a step{batch} failed on the GPU ({said}), as one does that does not fit into it: {ADVICE}"
    tensor, amount = TENSOR.search(text), AMOUNT.search(text)
    needed = None
    if amount:
        needed = float(amount[1]) * 1024 ** UNITS[re.sub("i?b$|bytes$", "", amount[2].lower())]
    elif tensor:
        sizes = [int(size) for size in tensor[1].split(",") if size]
        needed = math.prod(sizes) * BYTES.get(tensor[2] or "", FLOAT32)
    what = f" for a tensor with shape[{tensor[1]}]" if tensor else ""
    facts = [f"{_size(needed)} needed at once"] if needed is not None else []
    there = _memory_there(text)
    if math.isfinite(there):
        facts.append(f"{_size(there)} there")
    listed = f" ({', '.join(facts)})" if facts else ""
    return f"out of memory{batch}{what}{listed}: {ADVICE}"


def _memory_there(text: str) -> float:
    """Return the bytes of the GPU where an error is of one, else what this machine can still give."""
    if not re.search(r"GPU|CUDA|cuDNN|cuBLAS|StreamExecutor", text):
        return available_memory()
    try:
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        listed = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10)
        sizes = [float(line) for line in listed.stdout.split()]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return math.inf
    return min(sizes) * 2**20 if sizes and listed.returncode == 0 else math.inf


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


class PeakMemory:
    """Most resident memory of this process since the object was made, in bytes."""

    def __init__(self) -> None:
        # Resets the kernel's high-water mark; elsewhere it is the peak of the process's whole life.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        status = Path("/proc/self/status")
        if status.is_file():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        memory = psutil.Process().memory_info()
        if hasattr(memory, "peak_wset"):  # Windows
            return int(memory.peak_wset)
        import resource  # everywhere else

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
