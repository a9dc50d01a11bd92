"""What an exported file says of itself: a description for programs, and a model card for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.data import Dataset, listed
from cnnbench.inference.formats import EXACT, EXTRA, FILE, KEY, XML
from cnnbench.inference.prediction import CHANNELS
from cnnbench.models import catalogue
from cnnbench.reporting import between, number
from cnnbench.runs import Decision, RunFolder, RunSpec, in_words

SCHEMA = 1
MOST_CLASSES = 30  # in the table of each class
MOST_NAMES = 12


def description(
    folder: RunFolder,
    spec: RunSpec,
    dataset: Dataset,
    columns: Sequence[Any],
    decides: Decision,
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what an exported file holds of itself, as plain values.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        dataset: with the splits of the run.
        columns: that the model takes, of a table.
        decides: what is decided from the file's outputs.
        measured: of the file.

    Returns:
        `decision`: how outputs become answers. `input`: how inputs are prepared. `output`: what the numbers
        are. `run`, `data`, `figures` of the test split, `backbone`, and `export`: what was measured.
    """
    result, environment = folder.metrics, folder.environment
    decision = decides.as_dict()
    return {
        "schema": SCHEMA,
        "run": {
            "name": result["name"],
            "seed": result["seed"],
            "finished": result["finished"],
            "model": folder.config.get("model", {}).get("_target_", "").rpartition(".")[2],
            "parameters": result["cost"]["parameters"],
            "best_epoch": result["best_epoch"],
            "epochs": result["epochs"],
            "sha256": folder.best.get("sha256"),
            "versions": environment.get("versions", {}),
        },
        "decision": {name: list(one) if isinstance(one, tuple) else one for name, one in decision.items()},
        "input": _input(spec, dataset, columns, environment.get("dataset", {})),
        "output": _output(decision),
        "data": {
            "name": dataset.name,
            "examples": {name: len(split) for name, split in dataset.splits.items()},
            "fingerprint": environment.get("dataset", {}).get("fingerprint"),
        },
        "figures": {
            name: result.get(name, {}).get("test", {}) for name in ("metrics", "intervals", "by_output")
        },
        "backbone": _backbone(folder.config.get("model", {})),
        "export": dict(measured),
    }


def _input(
    spec: RunSpec, dataset: Dataset, columns: Sequence[Any], recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how one example is prepared; `kind` is `picture`, `table` or `array`."""
    shape = list(dataset.input_shape)
    common = {"name": "inputs", "shape": [None, *shape], "dtype": "float32"}
    if columns:
        listed = [{"name": one.name, "categories": list(one.categories)} for one in columns]
        return {**common, "kind": "table", "columns": listed, "missing": "NaN"}
    config = spec.config["dataset"]
    is_picture = len(shape) == 3 and shape[2] in CHANNELS and recorded.get("dtype", "uint8") == "uint8"
    if not is_picture:
        return {**common, "kind": "array", "scaled": False}
    return {
        **common,
        "kind": "picture",
        "layout": "NHWC",
        "height": shape[0],
        "width": shape[1],
        "channels": "RGB" if shape[2] == 3 else "grey",
        "range": [0, 255],
        "resize": config.get("resize") or "stretch",
        "filter": "bilinear",
        "bits": recorded.get("bits"),
    }


def _output(decision: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {
        "multiclass": "probability of each class",
        "binary": f"probability of {decision['names'][-1] if decision['names'] else 'class 1'}",
        "multilabel": "probability of each label",
        "regression": "value of each target",
    }
    width = 1 if decision["task"] == "binary" else max(1, len(decision["names"]))
    return {"name": "outputs", "shape": [None, width], "is": kinds[decision["task"]]}


def _backbone(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return name, weights and licence of a pretrained backbone; None of a network that has none."""
    name, weights = model.get("backbone"), model.get("weights", "imagenet")
    if name is None or weights is None:
        return None
    if catalogue.is_place(str(name)):
        return {"name": Path(str(name)).name, "weights": Path(str(name)).name, "licence": None}
    known = {one.name: one for one in catalogue.BACKBONES}.get(str(name))
    if weights != "imagenet":
        return {"name": str(name), "weights": Path(str(weights)).name, "licence": None}
    return {"name": str(name), "weights": "ImageNet", "licence": known.licence if known else None}


# -- For people ------------------------------------------------------------------------------------


def card(about: Mapping[str, Any]) -> str:
    """Return the model card, in Markdown, of what `description` returns."""
    run, decision, export = about["run"], about["decision"], about["export"]
    parts = [
        f"# {run['name']}: {export['file']}",
        _purpose(about),
        "## How to call it",
        f"In the folder of this file, with {_packages(about)}:",
        f"```python\n{snippet(about)}```",
        "## Input and output",
        "\n".join(f"- {line}" for line in (*_of_input(about["input"]), *_of_decision(decision))),
        "## How good it is",
        _figures(about),
        "## This file",
        _of_file(export),
        "## Where it comes from",
        "\n".join(f"- {line}" for line in _origin(about)),
        "## What the figures do not say",
        "They hold for examples like those of the test split. What comes from another camera, place or time "
        "is to be measured anew. They say nothing of whether the use of the answers is fair or safe.",
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(about: Mapping[str, Any]) -> str:
    decision = about["decision"]
    names = decision["names"]
    shown = listed(names, MOST_NAMES)
    kinds = {
        "multiclass": f"It tells {len(names)} classes apart: {shown}.",
        "binary": f"It tells {' from '.join(names[::-1])}.",
        "multilabel": f"It gives an example any of {len(names)} labels: {shown}.",
        "regression": f"It estimates {shown or 'a value'}.",
    }
    return kinds[decision["task"]]


def _of_input(given: Mapping[str, Any]) -> list[str]:
    size = "×".join(str(one) for one in given["shape"][1:])
    lines = [f"`{given['name']}`: batches of any size of {size} values, {given['dtype']}"]
    if given["kind"] == "picture":
        ways = {
            "stretch": "stretched to that size",
            "crop": "cut to its proportions, then brought to that size",
            "pad": "brought to that size with black beside it",
        }
        low, high = given["range"]
        lines.append(
            f"pictures: {given['channels']}, {low} to {high}, unscaled; {ways[given['resize']]} "
            f"({given['filter']}); turned as their EXIF entry says; what is transparent is white"
        )
        if given["bits"]:
            lines.append(f"of pictures with 16 bits a value, 2**{given['bits']} - 1 is white")
    elif given["kind"] == "table":
        columns = [
            f"{one['name']} ({', '.join(f'{code}: {text}' for code, text in enumerate(one['categories']))})"
            if one["categories"]
            else one["name"]
            for one in given["columns"]
        ]
        lines.append(f"columns in this order, unscaled, NaN for what is missing: {'; '.join(columns)}")
    else:
        lines.append("values as they were for the training, unscaled")
    return lines


def _of_decision(decision: Mapping[str, Any]) -> list[str]:
    names, thresholds = decision["names"], decision["thresholds"]
    lines = []
    if decision["task"] == "binary":
        at = number((thresholds or [0.5])[0])
        lines.append(f"the probability of {names[1]}; above {at} it is {names[1]}, else {names[0]}")
    elif decision["task"] == "multilabel":
        each = thresholds or [0.5] * len(names)
        if len(set(each)) == 1:
            lines.append(f"a probability of each label; above {number(each[0])} it is a yes")
        else:
            several = ", ".join(f"{name} {number(at)}" for name, at in zip(names, each, strict=True))
            lines.append(f"a probability of each label; a yes is what is above: {several}")
    elif decision["task"] == "multiclass":
        lines.append(
            "a probability of each class, in this order: " + ", ".join(names) + "; the largest decides"
        )
    else:
        lines.append("a value of each target, in this order: " + ", ".join(names or ["value"]))
    if decision["aim"]:
        lines.append(f"thresholds were chosen on validation examples for {decision['aim']}")
    if decision["temperature"] is not None:
        lines.append(
            f"calibrated: within the network the logits are divided by {number(decision['temperature'])}"
        )
    if coverage := decision["conformal"].get("coverage"):
        what = (
            "ranges that hold the value"
            if decision["task"] == "regression"
            else "sets that hold the true class"
        )
        lines.append(
            f"{what} of {100 * coverage:g} in 100 examples: `decision.conformal` of the file says how"
        )
    return lines


def _figures(about: Mapping[str, Any]) -> str:
    figures, names = about["figures"], about["decision"]["names"]
    positive = names[1] if about["decision"]["task"] == "binary" else None
    rows = ["| on the test split | the network | at 95 % |", "| --- | ---: | ---: |"]
    rows += [
        f"| {in_words(name, positive)} | {number(value)} | {between(figures['intervals'].get(name))} |"
        for name, value in figures["metrics"].items()
    ]
    by_output = dict(list(figures["by_output"].items())[:MOST_CLASSES])
    if by_output:
        columns = list(dict.fromkeys(name for one in by_output.values() for name in one))
        rows += ["", f"| of | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
        rows += [
            f"| {name} | {' | '.join(number(one.get(column)) for column in columns)} |"
            for name, one in by_output.items()
        ]
        if left := len(figures["by_output"]) - len(by_output):
            rows.append(f"\n{left} more in the JSON beside this card.")
    return "\n".join(rows)


def _of_file(export: Mapping[str, Any]) -> str:
    lines = [
        f"Format: {export['format']}; {export['words']}. Beside Keras: {export['verdict']}.",
        "",
        f"| on {export['examples']:,} test examples | this file | Keras |",
        "| --- | ---: | ---: |",
        f"| {export['metric']} | {number(export['value'])} | {number(export['of_keras'])} |",
        f"| at 95 % | {between(export['interval'])} | {between(export['interval_of_keras'])} |",
        f"| lost, at 95 % | {between(export['lost_between'])} | |",
    ]
    if export["agreement"] is not None:
        lines.append(f"| decided alike | {export['agreement']:,} of {export['examples']:,} | |")
    lines.append(f"| largest difference of an output | {number(export['difference'])} | |")
    if not export["passed"]:
        lines += ["", "**It does not agree with the network that it was made of.**"]
    if export["tried"]:
        lines += ["", f"Ways to quantize, tried on {export['chosen_on']}:", ""]
        lines.append("| way | bytes | decided alike | lost | |")
        lines.append("| --- | ---: | ---: | ---: | --- |")
        for one in export["tried"]:
            share = "–" if one["agreement"] is None else f"{one['agreement']:.1%}"
            size = "–" if one["size"] is None else f"{one['size']:,}"
            remark = ", ".join(text for text in ("kept" if one["kept"] else "", one["reason"]) if text)
            lines.append(f"| {one['words']} | {size} | {share} | {number(one['lost'])} | {remark} |")
        worst = [f"{one['layer']} ({one['operation']}) {one['steps']:.2f}" for one in export["layers"][:5]]
        lines += [
            "",
            "What layers lose in 8 bits, as the root mean squared error of their outputs in steps of the "
            f"8 bits, where rounding alone has 0.29: {', '.join(worst)}.",
        ]
    return "\n".join(lines)


def _origin(about: Mapping[str, Any]) -> list[str]:
    run, data, backbone = about["run"], about["data"], about["backbone"]
    examples = ", ".join(f"{count:,} {name}" for name, count in data["examples"].items())
    lines = [
        f"data: {data['name']}; {examples}; fingerprint {str(data['fingerprint'])[:12]}",
        f"training: {run['model']}, {run['parameters']:,} parameters, epoch {run['best_epoch']} of "
        f"{run['epochs']}, seed {run['seed']}, finished {run['finished']}",
        f"SHA-256 of the Keras file: {run['sha256']}",
        "made by: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
    ]
    if backbone:
        licence = backbone["licence"] or "not known here: look where the weights come from"
        lines.append(f"backbone: {backbone['name']}, weights: {backbone['weights']}, licence: {licence}")
    else:
        lines.append("no pretrained weights")
    lines.append("the licence of the data is theirs who have them")
    return lines


# -- The lines that call it ------------------------------------------------------------------------


def _packages(about: Mapping[str, Any]) -> str:
    runtime = {"onnx": "onnxruntime", "tflite": "tensorflow", "saved_model": "tensorflow"}
    found = [runtime.get(about["export"]["format"], "openvino"), "numpy"]
    return ", ".join([*found, "pillow"] if about["input"]["kind"] == "picture" else found)


def snippet(about: Mapping[str, Any]) -> str:
    """Return a program that decides on the example that its first argument names, and prints the answer."""
    export, given = about["export"], about["input"]
    is_picture, is_table = given["kind"] == "picture", given["kind"] == "table"
    load = {"onnx": ONNX, "tflite": TFLITE, "saved_model": SAVED_MODEL, "openvino": OPENVINO}[
        export["format"]
    ]
    runtime, _, load = load.partition("\n\n")
    imports = [
        *(["import csv"] if is_table else []),
        "import json",
        "import sys",
        *(["from zipfile import ZipFile"] if export["format"] == "tflite" else []),
        "",
        "import numpy as np",
        runtime,
        *(["from PIL import Image, ImageOps"] if is_picture else []),
    ]
    read = _picture(given) if is_picture else TABLE if is_table else ARRAY
    decision = about["decision"]
    decide = DECIDE + DECISIONS[decision["task"]]
    if decision["conformal"]:
        decide += SETS[decision["task"]]
    text = "\n".join(imports) + "\n\n" + "\n\n".join(part.strip("\n") + "\n" for part in (load, read, decide))
    shape = ", ".join(map(str, given["shape"][1:]))
    filled = {
        "FILE": json.dumps(export["file"], ensure_ascii=False),
        "SHAPE": shape,
        "EXACT": json.dumps(EXACT),
    }
    for name, value in {**filled, "KEY": KEY, "NAME": FILE, "EXTRA": EXTRA, "XML": XML}.items():
        text = text.replace(f"<{name}>", value)
    return text


ONNX = """import onnxruntime

session = onnxruntime.InferenceSession(<FILE>)
about = json.loads(session.get_modelmeta().custom_metadata_map["<KEY>"])


def compute(batch):
    return session.run(None, {"inputs": batch})[0]
"""
TFLITE = """import tensorflow as tf

interpreter = tf.lite.Interpreter(<FILE>)  # or that of ai_edge_litert.interpreter
about = json.loads(ZipFile(<FILE>).read("<NAME>"))


def compute(batch):
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, batch)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
SAVED_MODEL = """import tensorflow as tf

model = tf.saved_model.load(<FILE>)
with open(<FILE> + "/<EXTRA>/<NAME>", encoding="utf-8") as file:
    about = json.load(file)


def compute(batch):
    return model.serve(batch)
"""
OPENVINO = """import openvino

model = openvino.Core().read_model(<FILE> + "/<XML>")
about = json.loads(model.get_rt_info("<KEY>").value)
compiled = openvino.Core().compile_model(model, "CPU", <EXACT>)


def compute(batch):
    return compiled(batch)[0]
"""
ARRAY = """
def read(path):  # one example in a .npy file
    return np.load(path).astype(np.float32).reshape(1, <SHAPE>)

"""
TABLE = """
def read(path):  # the first row of a CSV file with these columns
    with open(path, encoding="utf-8-sig", newline="") as file:
        row = next(csv.DictReader(file))
    values = []
    for column in about["input"]["columns"]:
        text, categories = row[column["name"]], column["categories"]
        if categories:
            values.append(categories.index(text) if text in categories else np.nan)
        else:
            values.append(float(text) if text else np.nan)
    return np.array([values], np.float32)

"""
RESIZED = {
    "stretch": "    image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)",
    "crop": "    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)",
    "pad": """\
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.resize(inner, Image.Resampling.BILINEAR, reducing_gap=3.0)
    image = Image.new(image.mode, (width, height))
    image.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))""",
}


def _picture(given: Mapping[str, Any]) -> str:
    """Return the function that prepares a picture as the training examples were."""
    if given["kind"] != "picture":
        return ""
    mode = "RGB" if given["channels"] == "RGB" else "L"
    return f"""
def read(path):
    height, width = {given["height"]}, {given["width"]}
    image = Image.open(path)
    most = min(image.size) // (2 * max(height, width))  # a large JPEG is decoded at a part of its size
    scale = max(one for one in (1, 2, 4, 8) if one <= max(1, most))
    image.draft(None, (image.width // scale, image.height // scale))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "P":
        image = image.convert("RGB")
    image = ImageOps.exif_transpose(image).convert("{mode}")
{RESIZED[given["resize"]]}
    return np.asarray(image, np.float32).reshape(1, <SHAPE>)

"""


DECIDE = """
decision = about["decision"]
names = decision["names"]
outputs = np.asarray(compute(read(sys.argv[1])))[0]
"""
DECISIONS = {
    "binary": """threshold = (decision["thresholds"] or [0.5])[0]
print(names[int(outputs[0] > threshold)], f"{names[1]}: {outputs[0]:.4f}")
""",
    "multiclass": """best = int(outputs.argmax())
print(names[best], f"{outputs[best]:.4f}")
""",
    "multilabel": """thresholds = decision["thresholds"] or [0.5] * len(names)
print([name for name, one, limit in zip(names, outputs, thresholds) if one > limit], outputs)
""",
    "regression": """print(dict(zip(names, outputs.tolist())) if len(names) > 1 else outputs[0])
""",
}
SETS = {  # in float64, as `conformal.sets` has them
    "binary": """shares = [1 - float(outputs[0]), float(outputs[0])]
print("set:", [name for name, one in zip(names, shares) if 1 - one <= decision["conformal"]["quantile"]])
""",
    "multiclass": """shares = outputs.tolist()
print("set:", [name for name, one in zip(names, shares) if 1 - one <= decision["conformal"]["quantile"]])
""",
    "regression": """half = decision["conformal"]["quantile"]
print("range:", float(outputs[0]) - half, float(outputs[0]) + half)
""",
}
