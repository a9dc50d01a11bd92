"""Files of weights from elsewhere: what is in them is read, and nothing that they ask for is done."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch_files as made

from cnnbench.errors import CnnbenchError
from cnnbench.models import weights

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


class Evil:
    """What a pickle would call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_is_read_in_both_formats_of_torch(legacy: bool, tmp_path: Path) -> None:
    arrays = {"a.weight": MATRIX, "b.weight": MATRIX.T, "n": np.array(7), "half": np.float16([0.5, -2])}
    found = weights.read(made.write_state(tmp_path / "w.pth", arrays, legacy))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_bfloat16_parts_of_a_storage_and_the_dictionary_of_a_training_are_read(tmp_path: Path) -> None:
    upper = (MATRIX.view("<u4") >> 16).astype("<u2")
    state = made.dictionary(
        {
            "module.a": made.tensor(upper, "0"),
            "module.row": made.tensor(upper, "0", shape=[3], strides=[1], offset=3),
        }
    )
    whole = made.dictionary({"epoch": made.number(3), "state_dict": state})
    found = weights.read(made.write_zip(tmp_path / "w.pt", whole, {"0": upper}))
    np.testing.assert_array_equal(found["a"], MATRIX)
    np.testing.assert_array_equal(found["row"], MATRIX[1])


def test_torch_itself_writes_what_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth"
        torch.save(layer.state_dict(), path, _use_new_zipfile_serialization=not legacy)
        found = weights.read(path)
        for name, value in layer.state_dict().items():
            np.testing.assert_array_equal(found[name], value.numpy())
        torch.save(layer, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CnnbenchError, match=r"it wants torch\.nn\.modules.*state_dict"):
            weights.read(path)


@pytest.mark.parametrize("write", [made.write_legacy, made.write_zip])
@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Evil(os.system, "touch hit"), f"it wants {os.system.__module__}.system"),
        (Evil(eval, "open('hit', 'w')"), "it wants __builtin__.eval"),
        (Evil(Path.touch, Path("hit")), "it wants __builtin__.getattr"),
        (print, "it wants __builtin__.print"),
    ],
    ids=["system", "eval", "method", "a name alone"],
)
def test_what_a_pickle_would_call_is_named_and_not_called(
    write: Callable[..., Path], wanted: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = made.dictionary({"a": made.tensor(MATRIX, "0"), "b": made.pickled(wanted)})
    with pytest.raises(CnnbenchError, match="is refused") as refused:
        weights.read(write(tmp_path / "evil.pth", state, {"0": MATRIX}))
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert not (tmp_path / "hit").exists()


STORAGE = b"(" + made.text("storage") + b"ctorch\nFloatStorage\n" + made.text("0") + made.text("cpu")
CASES: dict[str, tuple[bytes, str]] = {
    "beyond": (made.tensor(MATRIX, "0", shape=[2, 3], strides=[4, 1]), "reaches beyond"),
    "offset": (made.tensor(MATRIX, "0", offset=1), "reaches beyond"),
    "before": (made.tensor(MATRIX, "0", offset=-1), "no whole number"),
    "backwards": (made.tensor(MATRIX, "0", strides=[-3, 1], offset=3), "no whole number"),
    "repeated": (made.tensor(MATRIX, "0", shape=[2**30, 2**30], strides=[0, 0]), "reaches beyond"),
    "longer": (made.tensor(MATRIX, "0", length=2**30), "(needs|is not as long)"),
    "shapes": (made.tensor(MATRIX, "0", shape=[6]), "1 sizes and 2 strides"),
    "elsewhere": (made.tensor(MATRIX, "7"), "(cannot be read|belongs to no tensor)"),
    "outside": (made.text("/etc/passwd") + b"Q", "outside the file"),
    "instruction": (b"(lp0\n", "no dictionary of arrays needs the instruction"),
    "extension": (b"\x82\x01", "the instruction EXT1"),
    "call of a tensor": (made.tensor(MATRIX, "0") + b")R", "no function of torch's tensors"),
    "attribute": (made.tensor(MATRIX, "0") + b"}b", "sets attributes"),
    "nothing to take": (b"R", "(cannot be read|refused)"),
    "no such memory": (b"j\xff\xff\xff\x7f", "cannot be read"),
    "endless text": (b"X\xff\xff\xff\x7f", "cannot be read"),
}


@pytest.mark.parametrize("write", [made.write_legacy, made.write_zip])
@pytest.mark.parametrize(("value", "said"), CASES.values(), ids=CASES)
def test_a_file_that_lies_is_refused_in_one_line_and_takes_no_memory(
    write: Callable[..., Path], value: bytes, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "lies.pth", made.dictionary({"a": value}), {"0": MATRIX})
    tracemalloc.start()
    with pytest.raises(CnnbenchError, match=said) as refused:
        weights.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_damaged_wherever_it_ends(legacy: bool, tmp_path: Path) -> None:
    whole = made.write_state(tmp_path / "w.pth", {"a": MATRIX, "b": MATRIX}, legacy).read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "part.pth").write_bytes(whole[:end])
        with pytest.raises(CnnbenchError, match=r"(cannot be read|is refused)"):
            weights.read(tmp_path / "part.pth")


def test_a_damaged_archive_is_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", a=MATRIX, b=np.arange(200.0).reshape(20, 10))
    whole, path = (tmp_path / "w.npz").read_bytes(), tmp_path / "damaged.npz"
    refused = 0
    for place in range(len(whole)):
        for bits in (0x01, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
            try:
                weights.read(path)  # a date in an archive may be any
            except CnnbenchError as error:
                refused += "\n" not in error.message
    assert refused > len(whole)


def test_names_twice_values_that_are_no_numbers_and_foreign_parts_are_refused(tmp_path: Path) -> None:
    twice = made.dictionary([("a", made.tensor(MATRIX, "0"))] * 2)
    with pytest.raises(CnnbenchError, match="'a' twice"):
        weights.read(made.write_zip(tmp_path / "twice.pth", twice, {"0": MATRIX}))
    with pytest.raises(CnnbenchError, match="'a' holds values that are not finite"):
        weights.read(made.write_state(tmp_path / "nan.pth", {"a": np.float32([1, np.nan])}))
    one = made.dictionary({"a": made.tensor(MATRIX, "0")})
    with pytest.warns(UserWarning, match="Duplicate"):
        path = made.write_zip(tmp_path / "two.pth", one, {"0": MATRIX}, [("archive/data/0", b"x")])
    with pytest.raises(CnnbenchError, match="two files of one name"):
        weights.read(path)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))
    with pytest.raises(CnnbenchError, match="compressed"):
        weights.read(tmp_path / "bomb.pth")


def test_arrays_of_numpy_are_read_without_pickles(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", a=MATRIX, b=MATRIX.T)
    found = weights.read(tmp_path / "w.npz")
    np.testing.assert_array_equal(found["b"], MATRIX.T)
    np.savez(tmp_path / "evil.npz", a=np.array([Evil(os.system, "touch hit")], dtype=object))
    with pytest.raises(CnnbenchError, match="'a' is a pickle"):
        weights.read(tmp_path / "evil.npz")
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CnnbenchError, match="has not the"):
        weights.read(tmp_path / "lies.npz")


def safetensors(path: Path, header: str, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)
    return path


def test_safetensors_are_read_and_lies_in_them_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    path = safetensors(tmp_path / "w.safetensors", json.dumps({"a": entry}), MATRIX.tobytes())
    np.testing.assert_array_equal(weights.read(path)["a"], MATRIX)
    lies = {
        "beyond": json.dumps({"a": {**entry, "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}),
        "part": json.dumps({"a": {**entry, "shape": [2, 2]}}),
        "no JSON": "{",
        "twice": f'{{"a": {json.dumps(entry)}, "a": {json.dumps(entry)}}}',
    }
    for header in lies.values():
        with pytest.raises(CnnbenchError, match=r"(cannot be read|is refused)"):
            weights.read(safetensors(tmp_path / "lies.safetensors", header, MATRIX.tobytes()))
    (tmp_path / "long.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(CnnbenchError, match="claims to be larger"):
        weights.read(tmp_path / "long.safetensors")


def test_other_files_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="no file of weights"):
        weights.read(tmp_path / "w.bin")
    with pytest.raises(CnnbenchError, match="is no file"):
        weights.read(tmp_path / "nowhere.pth")
