"""Lines as people type them, with the habits of other tools, and the line that each of them means.

Where the meaning is beyond doubt the line is taken so, and printed as it was read; else it is left as it is
and whoever reads it next refuses it by name.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cnnbench import analysis, config, data, reporting, runs, sweeps
from cnnbench.errors import CnnbenchError

# What starts a run elsewhere, and what it is here.
WORDS = {
    **dict.fromkeys(("train", "run", "fit"), ()),
    "sweep": ("-m",),
    "search": ("-m", "sweep=search"),
}
# Names that other tools have for the place of the data …
PLACES = ("data", "data_path", "path", "folder", "source")
# … and for other keys and groups.
SYNONYMS = {
    **dict.fromkeys(("lr", "learning_rate", "lr0"), "optimizer.learning_rate"),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs"), "training.epochs"),
    **dict.fromkeys(("batch", "bs", "batchsize"), "training.batch_size"),
    **dict.fromkeys(("val_split", "validation_split"), "training.validation_fraction"),
    **dict.fromkeys(PLACES, "dataset.root"),
    **dict.fromkeys(("imgsz", "image_size", "img_size", "input_size"), "dataset.size"),
    **dict.fromkeys(("output", "output_dir", "out", "save_dir"), "run_dir"),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("arch", "net", "network", "architecture"), "model"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("aug", "augment", "augmentations"), "augmentation"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "schedule"), "optimizer/learning_rate"),
    **dict.fromkeys(("loss_fn", "criterion"), "loss"),
    **dict.fromkeys(("wd", "decay"), "optimizer.weight_decay"),
}
GPUS = re.compile(r"(?:cuda|gpu)(?::0)?|0", re.IGNORECASE)
OTHER_GPU = re.compile(r"(?:cuda:|gpu:)?(\d+)", re.IGNORECASE)
FLAG = re.compile(r"--([A-Za-z][\w./-]*)(?:=(.*))?", re.DOTALL)
ASSIGNMENT = re.compile(r"([+~]{0,2})([A-Za-z_][\w./@-]*)=(.*)", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w./@-]*")
# Flags that are read elsewhere; of those with a value the next argument is it.
KNOWN_FLAGS = frozenset(
    ("help", "hydra-help", "version", "multirun", "resolve", "run", "shell-completion", "quiet", "verbose")
)
FLAGS_WITH_VALUE = frozenset(
    (
        *("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-path", "-cp"),
        *("--config-name", "-cn", "--info", "-i", "--experimental-rerun", "--json"),
        *("--seeds", "--output"),
    )
)
TAKE_LINES = ("check", "check-recipe", "evaluate", "lr-find")
# Of these verbs, which are no keys of a config.
OF_VERBS = {"probe": ("backbones=", "examples="), "doctor": ("backbone=",)}
VALUED = ("--config-dir", "--limit", "--output")  # what follows is their value
TAKE_FILES = ("predict", "visualize")
LATEST = "latest"
NO_VALUE = "0"
NO_FLAGS: Mapping[str, Sequence[str]] = MappingProxyType({})
OUTPUTS = Path("outputs")
OPENING, CLOSING = "[{(", "]})"
MOST_LINES = 3  # that a hint offers


class UnclearRunError(CnnbenchError):
    """A text that is no run, but may be meant for some.

    Args:
        message: what is wrong.
        text: as typed.
        meant: what each may be, and its folder; whoever knows the line makes a line to type of each.
    """

    def __init__(self, message: str, text: str, meant: Sequence[tuple[str, Path]]) -> None:
        super().__init__(message, f"name one whole: {', '.join(str(folder) for _, folder in meant)}")
        self.text, self.meant = text, meant

    def in_line(self, line: Sequence[str]) -> CnnbenchError:
        """Return the error whose hint has the whole line for each folder."""
        lines = [
            f"{what}{shlex.join(['cnnbench', *(str(folder) if one == self.text else one for one in line)])}"
            for what, folder in self.meant
        ]
        return CnnbenchError(self.message, lines[0] if len(lines) == 1 else "\n  ".join(["one of", *lines]))


def understood(arguments: Sequence[str], verbs: Mapping[str, Any]) -> list[str]:
    """Return a line as it is meant.

    Args:
        arguments: as typed, without `--json`, `--quiet` and `--verbose`.
        verbs: the names of all verbs.

    Raises:
        CnnbenchError: it can be mended in more ways than one; the hint is a line to type.
    """
    if arguments[:1] == ["note"]:  # free text
        return list(arguments)
    line = _joined(arguments)
    line = _without_words(line, verbs) if line else line
    if not line:
        return line
    first, *rest = line
    if first in TAKE_LINES:
        own = rest[:1] if first in ("check-recipe", "evaluate") else []
        own += [text for text in rest if first == "lr-find" and text.startswith("phase=")]  # no key
        return [first, *own, *_keys_read([text for text in rest if text not in own])]
    if first == "doctor" and any("=" not in text and is_run(place(text, say=False)) for text in rest[:1]):
        return [first, *_run_first(first, rest)]
    if first in OF_VERBS:
        own = [
            text
            for before, text in pairwise(["", *rest])
            if text.startswith((*OF_VERBS[first], "--")) or before in VALUED
        ]
        named = [_own_data(text) or [text] for text in rest if text not in own]
        return [first, *_keys_read(list(chain(*named))), *own]
    if first == "explain":
        return [first, *_keys_of(rest)]
    if first == "list":
        return [first, *(_list_read(text) for text in rest)]
    if first in verbs:
        return [first, *_run_first(first, rest)]
    if rest and rest[0] in verbs and is_run(place(first, say=False)):
        return [rest[0], first, *rest[1:]]
    return _line(line, verbs)


def reading(before: Sequence[str], after: Sequence[str]) -> str | None:
    """Say how a line was read; None where it was read as typed."""
    if list(before) == list(after):
        return None
    return f"read as: {shlex.join(['cnnbench', *after])}"


# -- Pieces that belong together -------------------------------------------------------------------


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join what a shell has taken apart: `model.filters=[64, 128]`, `epochs = 3`, `dataset.root=my pics`."""
    line: list[str] = []
    waiting = list(arguments)
    while waiting:
        text = waiting.pop(0)
        if waiting and NAME.fullmatch(text) and waiting[0].startswith("="):
            text += waiting.pop(0)
        if waiting and ASSIGNMENT.fullmatch(text) and text.endswith("=") and _is_value(waiting[0]):
            text += waiting.pop(0)
        parts = _closing(text, waiting) or _longer_place(text, waiting)
        if parts:
            text = " ".join([text, *waiting[:parts]])
            del waiting[:parts]
        line.append(text)
    return line


def _is_value(text: str) -> bool:
    return not text.startswith("-") and not ASSIGNMENT.fullmatch(text)


def _depth(text: str) -> int:
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    return sum(unquoted.count(one) for one in OPENING) - sum(unquoted.count(one) for one in CLOSING)


def _closing(text: str, following: Sequence[str]) -> int:
    """Return how many arguments more close the brackets of an assignment; 0 where none do."""
    if not ASSIGNMENT.fullmatch(text) or _depth(text) <= 0:
        return 0
    for count, _ in enumerate(following, 1):
        if _depth(" ".join([text, *following[:count]])) == 0:
            return count
    return 0


def _longer_place(text: str, following: Sequence[str]) -> int:
    """Return how many arguments more make the name of something that exists, which `text` alone is not."""
    value = (ASSIGNMENT.fullmatch(text) or ["", "", "", text])[3]
    if not value or existing(value):
        return 0
    for count, part in enumerate(following, 1):
        if not _is_value(part):
            return 0
        if existing(" ".join([value, *following[:count]])):
            return count
    return 0


def existing(text: str) -> Path | None:
    """Return what exists by a name, `~` for the home; None where nothing does."""
    try:
        path = Path(os.path.expanduser(text))  # noqa: PTH111  a Path would drop the ./ of ./~name
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL in it, or of a user who is not there
        return None


# -- Words -----------------------------------------------------------------------------------------


def _without_words(line: list[str], verbs: Mapping[str, Any]) -> list[str]:
    """Take `help VERB`, `train PATH` and their like for what they are here."""
    first, *rest = line
    if first in verbs or (existing(first) and not (rest and existing(rest[0]))):
        return line
    if first.lower() == "help":
        return [rest[0], "--help"] if rest and rest[0] in verbs else ["--help"]
    if first.lower() == "version":
        return ["--version"]
    if first.lower() not in WORDS:
        return line
    added = [text for text in WORDS[first.lower()] if text not in rest and "--multirun" not in rest]
    if first.lower() in ("sweep", "search") and not rest:
        raise CnnbenchError(
            f"{first} needs values to choose from",
            "cnnbench -m seed=0,1,2; or -m sweep=search 'optimizer.learning_rate=interval(1e-4,1e-1)'",
        )
    if rest and rest[0] in verbs:  # `run verify …`
        return rest
    if added and rest and _is_pictures(rest[0]):  # a folder comes first, wherever -m stands
        return [rest[0], *added, *rest[1:]]
    return [*added, *rest]


def is_run(path: Path) -> bool:
    return path.is_dir() and (runs.RunFolder(path).has_run or sweeps.Sweep.is_one(path))


def _is_pictures(text: str) -> bool:
    """Tell whether a text names a folder with sub-folders, and no run."""
    path = existing(text)
    try:
        return path is not None and path.is_dir() and not is_run(path) and holds_folders(path)
    except OSError:  # whoever reads the folder says what is wrong with it
        return False


def holds_folders(path: Path) -> bool:
    """Tell whether a folder has sub-folders, which may be classes of pictures."""
    return any(inner.is_dir() and not data.is_system_folder(inner.name) for inner in path.iterdir())


def _run_first(verb: str, rest: Sequence[str]) -> list[str]:
    """Put the run before the files where `predict photo.jpg RUN` was typed."""
    if verb in TAKE_FILES and rest and not is_run(place(rest[0], say=False)):
        found = [text for text in rest[1:] if not text.startswith("-") and is_run(place(text, say=False))]
        if len(found) == 1:
            return [found[0], *(text for text in rest if text != found[0])]
    return list(rest)


def _list_read(text: str) -> str:
    """Take `models` for `model`, and `cnn` for `model=cnn`."""
    groups = config.options()
    if text in groups or text.startswith("-") or "=" in text:
        return text
    if (one := text.lower().removesuffix("s")) in groups:
        return one
    places = [group for group, members in groups.items() if text in members and group != "experiment"]
    return f"{places[0]}={text}" if len(places) == 1 else text


def _keys_of(rest: Sequence[str]) -> list[str]:
    """Read `explain KEY …`, where the key has no value."""
    words = [text for text in rest if NAME.fullmatch(text)]
    read = _keys_read([text for text in rest if text not in words[:1]])
    if not words:
        return read
    named = _keys_read([f"{words[0]}={NO_VALUE}", *read])[0].partition("=")[0]
    return [named, *read]


def place(text: str, say: bool = True) -> Path:
    """Return the folder of a run or sweep by its path, a file in it, its name below `outputs`, or `latest`.

    A name is that of the folder, or the run's own where one run alone has it.

    Args:
        text: as typed.
        say: print which folder a name or `latest` is.

    Returns:
        the folder; the path as typed where there is none.

    Raises:
        UnclearRunError: several have that name.
    """
    path = existing(text)
    if path is not None:
        around = path.absolute().parents[:2] if path.is_file() else ()
        return next((config.from_here(folder) for folder in around if is_run(folder)), path)
    if not text or Path(text).name != text or "=" in text:
        return Path(os.path.expanduser(text))  # noqa: PTH111  a Path would complain of ~name
    made, inner = list_made()
    if text == LATEST:
        newest = sorted([*made, *inner], key=_begun)[-1:]
        found = [folder if folder in made else folder.parent for folder in newest]
    else:
        found = [folder for folder in (*made, *inner) if folder.name == text]
        if not found and not text.startswith("-"):  # every run is read for this, so not for a flag
            found = [folder for folder in (*made, *inner) if _own_name(folder) == text]
    if len(found) > 1:
        kind = "folders" if found[0].name == text else "runs"
        raise UnclearRunError(f"{len(found)} {kind} have the name {text}", text, _newest(found))
    if found and say:
        reporting.stderr().print(f"{text}: {found[0]}", markup=False, highlight=False)
    return found[0] if found else Path(text)


def list_made() -> tuple[list[Path], list[Path]]:
    """Return the runs and sweeps in `outputs`, and the runs of those sweeps."""
    made = _below(OUTPUTS)
    return made, [run for folder in made if sweeps.Sweep.is_one(folder) for run in _below(folder)]


def made_place(text: str) -> Path:
    """Return the folder of a run or sweep; see `place`.

    Raises:
        UnclearRunError: several have that name, or none has, but as a part of its own.
    """
    return _made(text, lambda folder: True)


def _made(text: str, is_wanted: Callable[[Path], bool]) -> Path:
    folder = place(text)
    if existing(text) or folder != Path(text) or Path(text).name != text:
        return folder
    near = [one for one in chain(*list_made()) if text.lower() in one.name.lower() and is_wanted(one)]
    if text and near:
        raise UnclearRunError(
            f"there is no run {text}, but {len(near)} with that in the name", text, _newest(near)
        )
    return folder


def run_place(text: str) -> Path:
    """Return the folder of one run; see `made_place`.

    Raises:
        UnclearRunError: it is a sweep.
    """
    folder = _made(text, lambda one: not sweeps.Sweep.is_one(one))
    if not sweeps.Sweep.is_one(folder):
        return folder
    found = runs.find_runs([folder])
    compared = analysis.compare(found)
    best = [
        (f"its best by {ranking.title}: ", ranking.by_rank[0].best_run.folder.path)
        for ranking in compared.rankings
    ]
    failed = [
        ("one that failed: ", record.folder.path) for record in compared.apart if record.status == runs.FAILED
    ]
    meant = [*best[: MOST_LINES - 1], *failed[:1]] or _newest([run.path for run in found])
    raise UnclearRunError(f"{folder} is a sweep, and one of its runs is wanted", text, meant)


def _newest(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    return [("", folder) for folder in sorted(folders, key=_begun, reverse=True)[:MOST_LINES]]


def _own_name(folder: Path) -> str | None:
    """Return the name that tables and pages show for a run; None for a sweep and for what cannot be read."""
    if sweeps.Sweep.is_one(folder):
        return None
    try:
        name = runs.RunFolder(folder).quick_config.get("name")
    except CnnbenchError:  # damaged: it is found by its folder
        return None
    return None if name is None else str(name)


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_run(path)] if folder.is_dir() else []


def _begun(folder: Path) -> tuple[int, str]:
    """Return when a run was begun, which no tag and no page that is written later changes."""
    if sweeps.Sweep.is_one(folder):
        return max(map(_begun, _below(folder)), default=(0, folder.name))
    file = folder / runs.CONFIG
    return file.stat().st_mtime_ns if file.is_file() else 0, folder.name


# -- A line of keys and values ---------------------------------------------------------------------


def _line(line: Sequence[str], verbs: Mapping[str, Any]) -> list[str]:
    """Read a line that makes runs: its flags, bare words and keys."""
    flags: dict[str, list[str]] = {}
    read = list(_flags_read(line, verbs, flags))
    folder = read[0] if read and existing(read[0]) else None
    rest = read[1:] if folder is not None else read
    return [*([folder] if folder is not None else []), *_keys_read(rest, flags)]


def _flags_read(line: Sequence[str], verbs: Mapping[str, Any], flags: dict[str, list[str]]) -> Iterator[str]:
    """Yield a line in which `--epochs 3` is `epochs=3`; keep in `flags` how it was typed."""
    waiting = list(line)
    while waiting:
        text = waiting.pop(0)
        if text in FLAGS_WITH_VALUE:
            yield text
            if waiting:
                yield waiting.pop(0)
            continue
        flag = FLAG.fullmatch(text)
        if flag is None or flag[1] in KNOWN_FLAGS or f"--{flag[1]}" in FLAGS_WITH_VALUE:
            yield text
            continue
        name, value, typed = flag[1].replace("-", "_"), flag[2], [text]
        if flag[1] in verbs:
            raise CnnbenchError(f"{text} is a verb here", shlex.join(["cnnbench", flag[1], *waiting]))
        if value is None and name in ("cpu", "gpu"):
            name, value = "device", name
        elif value is None and waiting and _is_value(waiting[0]):
            value = waiting.pop(0)
            typed.append(value)
        meant = f"{name}={'true' if value is None else value}"
        flags[meant] = typed
        yield meant


def _keys_read(line: Sequence[str], flags: Mapping[str, Sequence[str]] = NO_FLAGS) -> list[str]:
    """Return a line with the keys and options of this config for those of other tools.

    Args:
        line: of keys and values, words and flags.
        flags: how keys were typed that were flags: one that is no key stays the unknown flag that it is.
    """
    if all(text.startswith("-") for text in line):
        return list(line)
    groups = config.options(_config_dir(line))
    before = ("", *line)  # what stands before each; a flag's value is its own
    found = [
        piece
        for former, text in zip(before, line, strict=False)
        for piece in ([text] if former in FLAGS_WITH_VALUE else _words_read(text, groups))
    ]
    known = cache(lambda: _composed(found, groups))  # only where a key may be meant for another
    read: list[str] = []
    for text in found:
        pieces = _key_read(text, groups, known)
        key = text.partition("=")[0]
        is_flag = text in flags and pieces == [text]
        if is_flag and key not in (*groups, *config.run_keys()) and not config.has_key(known(), key):
            read += flags[text]
        else:
            read += pieces
    return read


def _config_dir(line: Sequence[str]) -> str | None:
    for text, following in pairwise(line):
        if text in ("--config-dir", "-cd"):
            return following if Path(following).is_dir() else None
    return None


def _words_read(text: str, groups: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Take a bare word for the one option of that name, or for the pictures or arrays that it names."""
    if ASSIGNMENT.fullmatch(text) or not NAME.fullmatch(text.strip("/").replace(".", "_") or "-"):
        return [text]
    if (own := _own_data(text)) is not None:
        return own
    places = [
        group for group in ("model", "dataset", "optimizer", "experiment") if text in groups.get(group, {})
    ]
    return [f"{places[0]}={text}"] if len(places) == 1 else [text]


def _own_data(text: str) -> list[str] | None:
    """Return what reads the folder of pictures, or the arrays, of that name; None where it is neither."""
    path = existing(text)
    if path is not None and not is_run(path):
        if data.holds_manifest(path):
            return ["dataset=manifest", _place_of_data("file", text)]
        if data.holds_arrays(path):
            return ["dataset=arrays", _place_of_data("file", text)]
    return ["dataset=image_folder", _place_of_data("root", text)] if _is_pictures(text) else None


def _place_of_data(key: str, text: str) -> str:
    plain = re.fullmatch(r"[\w./~-]+", text)
    return f"dataset.{key}={text}" if plain else config.override(f"dataset.{key}", text)


def _key_read(
    text: str, groups: Mapping[str, Mapping[str, str]], known: Callable[[], Mapping[str, Any]]
) -> list[str]:
    match = ASSIGNMENT.fullmatch(text)
    if match is None:
        return [text]
    sign, key, value = match.groups()
    if key in groups:
        return _option_read(sign, key, value, groups[key])
    if key.lower() in groups and not sign:
        return _option_read(sign, key.lower(), value, groups[key.lower()])
    if key == "device":
        return [_device_read(value)]
    parent, _, name = key.rpartition(".")
    is_ours = key in config.run_keys() or (parent and name not in SYNONYMS)
    if sign or "@" in key or "/" in key or is_ours or config.has_key(known(), key):
        return [text]
    meant = _name_read(key, value, known(), groups)
    if meant is None:
        return [text]
    if meant in groups:
        return _option_read("", meant, value, groups[meant])
    if meant == "dataset.root" and not config.has_key(known(), meant):
        return _own_data(value) or ["dataset=image_folder", f"{meant}={value}"]
    return [f"{meant}={value}"]


def _name_read(
    key: str, value: str, known: Mapping[str, Any], groups: Mapping[str, Mapping[str, str]]
) -> str | None:
    """Return the key that is meant by one that the config has not; None where none is."""
    name = key.rpartition(".")[2]
    if name in PLACES and value in groups["dataset"]:
        return "dataset"
    meant = [one for one in (SYNONYMS.get(name.lower(), ""),) if one in groups or config.has_key(known, one)]
    if name.lower() in (*PLACES, "root") and existing(value):
        meant = ["dataset.root"]
    leaves = [one for one in runs.flatten(known) if one.rpartition(".")[2] == name.lower()]
    found = meant or [one for one in leaves if not one.startswith("sweep.")]
    if len(found) == 1 and ("." not in key or meant):
        return found[0]
    if found:
        lines = ", ".join(f"{one}={value}" for one in found)
        raise CnnbenchError(
            f"there is no key {key}", f"type {lines}" if len(found) == 1 else f"one of {lines}"
        )
    return None


def _composed(line: Sequence[str], groups: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the config that the options of a line make, of several values the first."""
    chosen, other = [], []
    for text in line:
        match = ASSIGNMENT.fullmatch(text)
        if match is None:
            continue
        if match[2] == "plugins":
            other.append(text)
        elif match[2] in groups or match[2].lower() in groups:
            chosen += [one.partition(",")[0] for one in _key_read(text, groups, dict) if "[" not in one]
    try:
        composed = config.compose([*chosen, *other], _config_dir(line))
    except CnnbenchError:  # what is wrong there is said when the line itself is composed
        composed = config.compose([])
    return config.unresolved(composed)


def _option_read(sign: str, group: str, value: str, members: Mapping[str, str]) -> list[str]:
    """Take an option in other letters, or by the end of its name, for the one that is like it."""
    if group == "dataset" and value not in members and not sign and (own := _own_data(value)) is not None:
        return own
    if not re.fullmatch(r"[\w.,/-]+", value):
        return [f"{sign}{group}={value}"]
    return [f"{sign}{group}={','.join(_one_of(part, members) for part in value.split(','))}"]


def _one_of(name: str, members: Iterable[str]) -> str:
    names = list(members)
    if name in names or name.lower() in ("null", "none"):
        return name
    for plain in (_plain, lambda text: _plain(text.rpartition("/")[2])):
        alike = [one for one in names if plain(one) == plain(name)]
        if len(alike) == 1:
            return alike[0]
    return name


def _plain(text: str) -> str:
    return re.sub(r"[-_. ]", "", text.lower())


def _device_read(value: str) -> str:
    """Take `cuda`, `cuda:0` and `0` for `gpu`.

    Raises:
        CnnbenchError: another GPU than the first, which the environment chooses.
    """
    if value.lower() in ("auto", "cpu", "gpu"):
        return f"device={value.lower()}"
    if GPUS.fullmatch(value):
        return "device=gpu"
    if other := OTHER_GPU.fullmatch(value):
        raise CnnbenchError(
            f"device={value}: a run uses the GPUs that it sees",
            f"CUDA_VISIBLE_DEVICES={other[1]} cnnbench … device=gpu",
        )
    return f"device={value}"


def positive(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
