"""A checkpoint rebuilds its model alone, is never half written, and is refused where it is anything else."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from funduscope import checkpoint
from funduscope.checkpoint import FORMAT, CheckpointError
from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.network.network import Network, build
from funduscope.recipe import Recipe

RECIPE = Recipe.from_toml(
    'name = "small"\n',
    [
        "encoder.name=resnet18",
        "encoder.weights=none",
        "decoder.skip_channels=[8, 8, 8, 8, 16]",
        "decoder.channels=[16, 16, 8, 8]",
        'tasks.structures=["EX", "OD"]',
    ],
)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    """Weights that no fresh network has, statistics included."""
    torch.manual_seed(3)
    built = build(RECIPE)
    built.train()(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    return built.eval()


@pytest.fixture(scope="module")
def good(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as training writes it."""
    path = tmp_path_factory.mktemp("good") / "best.safetensors"
    groups = {"weights": network.state_dict(), "raw": {"x": torch.arange(3)}}
    checkpoint.save(path, RECIPE, groups, {"name": "small"}, {"epoch": 4, "best_score": 0.5})
    return path


def _parts(path: Path) -> tuple[Tensors, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def test_a_file_rebuilds_its_model_alone(good: Path, network: Network) -> None:
    held = checkpoint.load(good)
    assert (held.recipe, held.card, held.progress) == (RECIPE, {"name": "small"}, {"epoch": 4, "best_score": 0.5})
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    rebuilt = held.network()
    assert not rebuilt.training
    with torch.inference_mode():
        for name, value in network(images).named().items():
            assert torch.equal(rebuilt(images).named()[name], value), name


def test_only_the_groups_that_are_asked_for_are_read(good: Path) -> None:
    assert all(name.startswith("weights/") for name in checkpoint.load(good).tensors)
    held = checkpoint.load(good, ("raw",))
    assert held.tensors.keys() == {"raw/x"}
    assert torch.equal(held.group("raw")["x"], torch.arange(3))


def test_who_may_read_a_file_is_what_the_umask_says(tmp_path: Path, network: Network) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "x.safetensors", RECIPE, {"weights": network.state_dict()}, {}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o640


def test_tensors_that_share_memory_and_lie_otherwise_are_kept_whole(tmp_path: Path, network: Network) -> None:
    state = network.to(memory_format=torch.channels_last).state_dict()  # pyright: ignore[reportCallIssue]
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, RECIPE, {"weights": state, "again": state}, {}, {})
    held = checkpoint.load(path, ("weights", "again"))
    for group in ("weights", "again"):
        assert all(torch.equal(value, state[name]) for name, value in held.group(group).items())


@pytest.mark.parametrize("fails_in", ["save_file", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(
    fails_in: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(good.read_bytes())

    def full(*arguments: Any) -> None:
        if fails_in == "save_file":
            Path(arguments[1]).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((checkpoint, "save_file") if fails_in == "save_file" else (os, "fsync")), full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, RECIPE, {"weights": {}}, {}, {"epoch": 5})
    assert checkpoint.load(path).progress["epoch"] == 4
    monkeypatch.undo()
    checkpoint.save(path, RECIPE, {"weights": {}}, {}, {"epoch": 5})
    assert checkpoint.load(path).progress["epoch"] == 5
    assert sorted(tmp_path.iterdir()) == [path], "the half was overwritten and moved"


def _header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


class _Runs:
    """What a pickle does when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


FLOATS = {"dtype": "F32", "shape": [2]}
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x00",
    "eight bytes": bytes(8),
    "header of a terabyte": (2**40).to_bytes(8, "little") + b"{}",
    "header of all bits": b"\xff" * 64,
    "header longer than the file": (500).to_bytes(8, "little") + b"{}",
    "no JSON": _header(b"{not json}"),
    "no UTF-8": _header(b"\xff\xfe\xfd\xfc"),
    "JSON but a list": _header([1, 2]),
    "deep JSON": _header(b"[" * 100_000),
    "overlap": _header({"a": FLOATS | {"data_offsets": [0, 8]}, "b": FLOATS | {"data_offsets": [4, 12]}}, bytes(12)),
    "beyond the end": _header({"a": FLOATS | {"data_offsets": [0, 8]}}, bytes(4)),
    "backwards": _header({"a": FLOATS | {"data_offsets": [8, 0]}}, bytes(8)),
    "more shape than bytes": _header({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 8]}}, bytes(8)),
    "negative shape": _header({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
    "shape that overflows": _header({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    "unknown type": _header({"a": {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "trailing bytes": _header({"a": FLOATS | {"data_offsets": [0, 8]}}, bytes(64)),
    "no metadata": _header({"a": FLOATS | {"data_offsets": [0, 8]}}, bytes(8)),
    "another format": _header({"__metadata__": {"format": "pt"}, "a": FLOATS | {"data_offsets": [0, 8]}}, bytes(8)),
    "a text": b"<!DOCTYPE html><html>Sign in to download</html>",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.code == "E_WEIGHTS"
    assert "model.safetensors" in caught.value.says
    assert str(tmp_path) not in caught.value.says.replace(str(path), "")


def test_one_changed_byte_is_noticed(good: Path, tmp_path: Path) -> None:
    """safetensors has no checksums: a wrong weight would be loaded, and answer."""
    path = tmp_path / "changed.safetensors"
    data = bytearray(good.read_bytes())
    header = int.from_bytes(data[:8], "little")
    told = json.loads(data[8 : 8 + header])
    places = [entry["data_offsets"] for name, entry in told.items() if name.startswith("weights/")]
    data[8 + header + max(places)[0]] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"changed\.safetensors is damaged") as caught:
        checkpoint.load(path)
    assert caught.value.code == "E_HASH"


@pytest.fixture(scope="module")
def exported(network: Network, good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that holds its checkpoint."""
    path = write_onnx(network, Card.of(RECIPE), tmp_path_factory.mktemp("exported") / "model.onnx")
    checkpoint.embed(path, checkpoint.load(good))
    return path


def test_an_onnx_file_rebuilds_its_model_alone(exported: Path, network: Network) -> None:
    held = checkpoint.load(exported)
    assert (held.recipe, held.card) == (RECIPE, json.loads(Card.of(RECIPE).to_json()))
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        for name, value in network.eval()(images).named().items():
            torch.testing.assert_close(held.network()(images).named()[name], value, atol=1e-4, rtol=1e-4)


def test_a_matrix_that_is_not_in_the_graph_is_kept_beside_it(exported: Path, good: Path, tmp_path: Path) -> None:
    """In float16, or as it is where float16 has no room for it."""
    held = checkpoint.load(good)
    extra = {"weights/large": torch.tensor([[1e6, 2.0]]), "weights/small": torch.tensor([[1.5, -0.25]])}
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.read_bytes())
    checkpoint.embed(path, checkpoint.Checkpoint(held.recipe, held.card, {}, held.tensors | extra))
    found = checkpoint.load(path).tensors
    assert all(torch.equal(found[name], value) for name, value in extra.items())


@pytest.mark.parametrize("how", ["weight", "beside", "recipe", "card", "none", "a text"])
def test_a_changed_onnx_file_is_refused(how: str, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    file = onnx.load(str(exported))
    known = {item.key: item.value for item in file.metadata_props}
    told = json.loads(known["checkpoint"])
    if how == "weight":
        found = next(item for item in file.graph.initializer if item.name in told["in graph"].values())
        values = numpy_helper.to_array(found).copy()
        values.flat[0] += 1
        found.CopyFrom(numpy_helper.from_array(values, found.name))
    elif how == "none":
        del known["checkpoint"]
    elif how == "card":
        known["card"] = "[]"
    else:
        known["checkpoint"] = json.dumps(
            told | {"recipe": "name ="} if how == "recipe" else told | {"beside it": "AAA="}
        )
    onnx.helper.set_model_props(file, known)
    onnx.save(file, str(path))
    if how == "a text":
        path.write_text("<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match=r"model\.onnx") as caught:
        checkpoint.load(path)
    assert caught.value.code == {"weight": "E_HASH", "card": "E_CONFIG"}.get(how, "E_WEIGHTS")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_killed_while_it_writes_the_old_file_is_loaded(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / checkpoint.LAST
    path.write_bytes(good.read_bytes())
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(checkpoint, "save_file", lambda _, file, __: (file.write_bytes(b"half"), _die()))
            checkpoint.save(path, RECIPE, {"weights": {}}, {}, {"epoch": 5})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2, "the half is there, under another name"
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.progress["epoch"] == 4
    checkpoint.save(path, RECIPE, {"weights": {}}, {}, {"epoch": 5})
    assert list(tmp_path.iterdir()) == [path]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_the_checkpoint_before_a_damaged_one_is_used_said_and_kept(
    damage: Callable[[bytes], bytes], good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, previous = tmp_path / checkpoint.LAST, tmp_path / checkpoint.PREVIOUS
    last.write_bytes(good.read_bytes())
    checkpoint.keep_previous(tmp_path)
    checkpoint.save(last, RECIPE, {"weights": {"x": torch.zeros(9)}}, {}, {"epoch": 5})
    last.write_bytes(damage(last.read_bytes()))
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.progress["epoch"] == 4
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "continues from the checkpoint before it, after epoch 4" in said
    checkpoint.keep_previous(tmp_path)  # as before the next one is written: the damaged one must not take its place
    assert [checkpoint.load(path).progress["epoch"] for path in (last, previous)] == [4, 4]
    previous.unlink()
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(CheckpointError, match=r"last\.safetensors .* No checkpoint before it can be read: restore /"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_cut_file_is_refused(part: float, good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "cut.safetensors")
    assert caught.value.code == "E_WEIGHTS"


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            checkpoint.load(path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_pickle_is_refused_and_nothing_in_it_runs(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "was here"
    path = tmp_path / name
    for write in (lambda: path.write_bytes(pickle.dumps(_Runs(marker))), lambda: torch.save(_Runs(marker), path)):
        write()
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert caught.value.code == "E_WEIGHTS"
    assert not marker.exists()


def _changed(good: Path, tmp_path: Path, tensors: Tensors | None = None, **metadata: str | None) -> Path:
    """The good file with other tensors or other words (None: left out)."""
    held, words = _parts(good)
    del words["digests"]
    words |= {key: value for key, value in metadata.items() if value is not None}
    for key in [key for key, value in metadata.items() if value is None]:
        del words[key]
    path = tmp_path / "changed.safetensors"
    save_file(held if tensors is None else tensors, path, words)
    return path


@pytest.mark.parametrize("how", ["missing", "extra", "shape", "int64", "bool", "complex64", "NaN", "infinite", "empty"])
def test_weights_that_do_not_fit_are_refused_by_name(how: str, good: Path, tmp_path: Path) -> None:
    tensors, _ = _parts(good)
    name = "weights/heads.grade.linear.weight"
    if how == "missing":
        del tensors[name]
    elif how == "extra":
        name = "weights/heads.vessels.weight"
        tensors[name] = torch.zeros(2)
    elif how == "shape":
        tensors[name] = torch.zeros(4, 512)
    elif how in ("int64", "bool", "complex64"):
        tensors[name] = tensors[name].to(getattr(torch, how))
    elif how == "empty":
        tensors = {}
    else:
        tensors[name][2, 7] = float("nan" if how == "NaN" else "inf")
    held = checkpoint.load(_changed(good, tmp_path, tensors))
    with pytest.raises(CheckpointError) as caught:
        held.network()
    assert caught.value.code == "E_WEIGHTS"
    if how != "empty":
        assert name.removeprefix("weights/") in caught.value.says
    if how == "int64":
        assert "torch.int64, not torch.float32" in caught.value.says
    if how == "shape":
        assert "(4, 512)" in caught.value.says
        assert "(5, 512)" in caught.value.says


@pytest.mark.parametrize(
    "words",
    [
        {"recipe": None},
        {"recipe": "name = "},
        {"recipe": 'name = "x"\n[training]\nepochs = -1\n'},
        {"card": None},
        {"card": "{"},
        {"progress": "no JSON"},
    ],
)
def test_a_file_without_a_usable_recipe_is_refused(words: dict[str, str | None], good: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(_changed(good, tmp_path, **words))
    assert caught.value.code == "E_CONFIG"


@pytest.mark.parametrize(
    "change", ["encoder.name=hf-hub:somebody/model", "encoder.name=nothing", "decoder.channels=[8, 8, 8, 8, 8]"]
)
def test_a_recipe_that_describes_no_network_is_refused_and_nothing_is_fetched(
    change: str, good: Path, tmp_path: Path
) -> None:
    changes = [change] + ["decoder.skip_channels=[8, 8, 8, 8, 8, 8]"] * change.startswith("decoder")
    recipe = Recipe.from_toml(RECIPE.to_toml(), changes)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(_changed(good, tmp_path, recipe=recipe.to_toml())).network()
    assert caught.value.code == "E_CONFIG"


def test_another_recipes_weights_are_refused(good: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_toml(RECIPE.to_toml(), ['tasks.structures=["EX", "OD", "MA"]'])
    with pytest.raises(CheckpointError, match="do not fit the recipe"):
        checkpoint.load(_changed(good, tmp_path, recipe=recipe.to_toml())).network()


def test_the_format_is_part_of_the_file(good: Path, tmp_path: Path) -> None:
    assert _parts(good)[1]["format"] == FORMAT
    with pytest.raises(CheckpointError, match="checkpoint/2"):
        checkpoint.load(_changed(good, tmp_path, format="funduscope-checkpoint/2"))


def test_a_disk_without_rights_takes_a_checkpoint(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refuse)
    checkpoint.save(tmp_path / "best.safetensors", RECIPE, {"weights": network.state_dict()}, {}, {})
    assert checkpoint.load(tmp_path / "best.safetensors").recipe == RECIPE
