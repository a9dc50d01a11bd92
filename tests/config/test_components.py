"""Signatures read from the source are those of the imported thing."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import yaml

from cnnbench.config.signatures import UNKNOWN, public_names, signature
from cnnbench.errors import CnnbenchError

CONF = Path(__file__).parents[2] / "conf"


def targets_in(node: Any) -> set[str]:
    if isinstance(node, list):
        return {target for item in node for target in targets_in(item)}
    if not isinstance(node, dict):
        return set()
    inside = {target for value in node.values() for target in targets_in(value)}
    return inside | ({node["_target_"]} if "_target_" in node else set())


CONFIGURED = {
    target for path in CONF.rglob("*.yaml") for target in targets_in(yaml.safe_load(path.read_text()))
}
OTHERS = {
    "keras.losses.CategoricalCrossentropy",
    "keras.layers.Conv2D",
    "keras.layers.RandomFlip",
    "keras.regularizers.L2",
    "keras.optimizers.schedules.CosineDecay",
    "keras.optimizers.Lion",
    "keras.callbacks.TerminateOnNaN",
    "keras.applications.MobileNetV2",
    "keras.initializers.HeNormal",
    "sklearn.datasets.load_digits",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.model_selection.train_test_split",
}


def imported(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def keywords_of(thing: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Those that can be given by keyword, also of bases behind `**kwargs`; and whether there are more."""
    constructors = (
        [base.__init__ for base in thing.__mro__ if "__init__" in vars(base)]
        if inspect.isclass(thing)
        else [thing]
    )
    found: dict[str, inspect.Parameter] = {}
    for function in constructors:
        parameters = list(inspect.signature(inspect.unwrap(function)).parameters.values())
        for parameter in parameters[1 if inspect.isclass(thing) else 0 :]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
    return found, True


@pytest.mark.parametrize("target", sorted(CONFIGURED | OTHERS))
def test_the_keywords_are_those_of_the_imported_target(target: str) -> None:
    thing = imported(target)
    expected, is_open = keywords_of(thing)
    found = signature(target)
    if found.open:  # nobody can list them all: those that are found must at least exist
        assert set(found.parameters) <= set(expected) or is_open
    else:
        assert set(found.parameters) == set(expected)
    for name, parameter in found.parameters.items():
        if name in expected:
            assert parameter.required == (expected[name].default is inspect.Parameter.empty)
            if parameter.default is not UNKNOWN:
                assert parameter.default == expected[name].default


@pytest.mark.parametrize("target", sorted(CONFIGURED | OTHERS))
def test_the_path_is_where_the_target_is_defined(target: str) -> None:
    thing = inspect.unwrap(imported(target))
    assert signature(target).path == f"{thing.__module__}.{thing.__qualname__}"


@pytest.mark.parametrize(
    "target",
    ["keras.optimizers.Adam", "keras.optimizers.SGD", "keras.losses.Huber", "cnnbench.models.cnn.cnn"],
)
def test_a_typo_can_be_told_from_a_keyword(target: str) -> None:
    """Keras's optimizers take `**kwargs`, and refuse `lr` only when they are built."""
    assert not signature(target).open
    assert "lr" not in signature(target).parameters


def test_types_come_with_the_keywords() -> None:
    filters = signature("cnnbench.models.cnn.cnn").parameters
    assert "int" in str(filters["filters"].annotation)
    mode = signature("cnnbench.training.callbacks.BestCheckpoint").parameters["mode"]
    assert set(get_args(mode.annotation)) == {"min", "max"}


def test_nothing_is_imported_for_it(run_python: Any) -> None:
    code = """
import sys
from cnnbench.config.signatures import signature
print(signature("keras.optimizers.Adam").path, *({"keras", "tensorflow"} & set(sys.modules)))
"""
    outcome = run_python(code)
    assert (outcome.exit_code, outcome.out) == (0, "keras.src.optimizers.adam.Adam\n")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.thing", "there is no module 'nowhere'"),
        ("keras.optimizers.Adma", "has no function or class 'Adma'"),
        ("keras.optimizer.Adam", "has no function or class 'optimizer.Adam'"),
        ("keras.optimizers", "is a module"),
        ("keras", "is a module"),
        ("cnnbench.runs.metrics.TRAINED", "has no function or class 'TRAINED'"),
        ("cnnbench.training.callbacks.BestCheckpoint.on_epoch_end", "has no function or class"),
        ("__main__.thing", "there is no module '__main__'"),
        ("math.sqrt", "there is no module 'math'"),
        ("", "there is no module ''"),
        (".keras", "there is no module ''"),
        ("keras..layers", "is a module"),
    ],
)
def test_what_is_missing_is_named(target: str, message: str) -> None:
    with pytest.raises(CnnbenchError) as caught:
        signature(target)
    assert message in caught.value.message


def test_an_alias_leads_to_where_the_thing_really_is() -> None:
    assert signature("keras.src.utils.file_utils.shutil.rmtree").path == "shutil.rmtree"
    assert signature("keras.optimizers.schedules.ExponentialDecay").path.startswith("keras.src.")


def test_names_for_a_suggestion() -> None:
    assert "Adam" in public_names("keras.optimizers.Adma")
    assert "cnn" in public_names("cnnbench.models.cnn.cn")
    assert public_names("nowhere.thing") == []


# ---------------------------------------------------------------- packages of all shapes


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`write("pack/__init__.py", source)` below a folder on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_module(name: str, source: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    yield write_module
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("shape_")]:
        del sys.modules[name]


def test_relative_imports_aliases_and_branches_are_followed(write: Any) -> None:
    write(
        "shape_a/__init__.py",
        "from .rooms import build as make\nfrom .rooms.deep import *\nfrom . import rooms as r\n",
    )
    write("shape_a/rooms/__init__.py", "from ..common import base\nfrom .deep import build\n")
    write("shape_a/rooms/deep.py", "def build(units: int, *, rate: float = 0.5): ...\n")
    write(
        "shape_a/common.py",
        "try:\n    def base(a): ...\nexcept ImportError:\n    def base(b): ...\n"
        "if True:\n    import shape_a.rooms.deep as other\n",
    )
    for target in ("shape_a.make", "shape_a.r.build", "shape_a.rooms.build", "shape_a.common.other.build"):
        found = signature(target)
        assert found.path == "shape_a.rooms.deep.build"
        assert list(found.parameters) == ["units", "rate"]
        assert found.parameters["units"].annotation is int
        assert found.parameters["units"].required
        assert found.parameters["rate"].default == 0.5
    assert list(signature("shape_a.r.base").parameters) == ["a"]


def test_keywords_of_bases_are_added_while_a_class_takes_more(write: Any) -> None:
    write(
        "shape_b.py",
        "import shape_c as c\n"
        "class Open(c.Base):\n    def __init__(self, own=1, **kwargs): ...\n"
        "class Shut(c.Base):\n    def __init__(self, own=1): ...\n"
        "class Bare(c.Base): ...\n"
        "class Unknown(c.made()):\n    def __init__(self, own=1, **kwargs): ...\n"
        "def function(own, **kwargs): ...\n",
    )
    write("shape_c.py", "class Base:\n    def __init__(self, name, own=2): ...\ndef made(): return Base\n")
    assert {k: p.default for k, p in signature("shape_b.Open").parameters.items()} == {
        "name": UNKNOWN,
        "own": 1,
    }
    assert list(signature("shape_b.Shut").parameters) == ["own"]
    assert list(signature("shape_b.Bare").parameters) == ["name", "own"]
    assert [
        signature(f"shape_b.{name}").open for name in ("Open", "Shut", "Bare", "Unknown", "function")
    ] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_annotations_with_aliases_are_understood_and_others_are_unknown(write: Any) -> None:
    write(
        "shape_d.py",
        "from __future__ import annotations\n"
        "from typing import Annotated, Literal\n"
        "from pydantic import Field\n"
        "import shape_e, numpy\n"
        "from shape_e import Mode\n"
        "Positive = Annotated[int, Field(ge=1)]\n"
        "def build(n: Positive, mode: Mode, far: shape_e.Thing, arr: numpy.ndarray, no: None, x=f()): ...\n",
    )
    write("shape_e.py", "from typing import Literal\nMode = Literal['a', 'b']\nclass Thing: ...\n")
    found = signature("shape_d.build").parameters
    assert get_args(found["n"].annotation)[0] is int
    assert found["mode"].annotation == Literal["a", "b"]
    for name in ("far", "arr", "no"):
        assert found[name].annotation is UNKNOWN
    assert found["x"].default is UNKNOWN
    assert not found["x"].required


def test_a_loop_of_imports_is_noticed(write: Any) -> None:
    write("shape_f.py", "from shape_g import thing\n")
    write("shape_g.py", "from shape_f import thing\n")
    with pytest.raises(CnnbenchError, match="leads back to itself"):
        signature("shape_f.thing")


@pytest.mark.parametrize(
    "source",
    [
        "class build(Other): ...\nclass Other(build): ...\n",
        "from shape_i import build\nclass build(build): ...\n",
    ],
)
def test_what_refers_to_itself_takes_keywords_that_nobody_can_list(source: str, write: Any) -> None:
    write("shape_h.py", source)
    write("shape_i.py", "class build:\n    def __init__(self, own): ...\n")
    assert signature("shape_h.build").open


def test_a_type_that_refers_to_itself_is_unknown(write: Any) -> None:
    write("shape_k.py", "from __future__ import annotations\nT = list[T]\ndef build(x: T): ...\n")
    assert signature("shape_k.build").parameters["x"].annotation is UNKNOWN


def test_a_syntax_error_is_named_with_its_line(write: Any) -> None:
    write("shape_j.py", "x = 1\ndef build(:\n")
    with pytest.raises(CnnbenchError) as caught:
        signature("shape_j.build")
    assert "shape_j.py, line 2" in caught.value.message
