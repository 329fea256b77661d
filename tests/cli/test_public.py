"""`import funduscope`: what it offers, what `load` takes, and that it costs next to nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.cli.conftest import CARD, write_model

import funduscope
from funduscope.inference import loading
from funduscope.recipe import Recipe

HEAVY = ("torch", "cv2", "matplotlib", "onnxruntime", "numpy", "PIL", "rich", "jinja2")


def loaded_after(code: str) -> set[str]:
    """Which heavy modules a fresh Python has loaded after it ran the code."""
    script = f"{code}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.strip().splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize(
    "code",
    [
        "import funduscope; funduscope.__version__; dir(funduscope)",
        "import funduscope.training; dir(funduscope.training)",
        "import funduscope.cli.main, funduscope.cli.options, funduscope.cli.terminal",
        "from funduscope.cli.main import main; main(['--help'])",
        "from funduscope.cli.main import main; main(['predict', '--help'])",
        "from funduscope.cli.main import main; main(['--version'])",
    ],
)
def test_nothing_heavy_is_loaded(code: str):
    assert loaded_after(code) == set()


def test_the_face_loads_torch_only_to_train():
    names = "Ensemble, Recipe, Run, Scores, check_data, compare_runs, evaluate, load, read_data, save, show, train"
    assert not loaded_after(f"from funduscope import {names}") & {"torch", "matplotlib", "onnxruntime"}


def test_predicting_as_json_loads_neither_torch_nor_what_draws(
    tiny: Path, save_eye: Callable[..., Path], tmp_path: Path
):
    photo = save_eye(tmp_path / "eye.jpg")
    arguments = ["predict", str(photo), "--model", str(tiny), "--json"]
    loaded = loaded_after(f"from funduscope.cli.main import main; assert main({arguments!r}) == 0")
    assert not loaded & {"torch", "matplotlib", "jinja2", "rich", "PIL", "pydantic"}


def test_the_public_names():
    assert set(funduscope.__all__) <= set(dir(funduscope))
    assert all(getattr(funduscope, name) is not None for name in funduscope.__all__)
    import_module("funduscope.inference.loading")  # a submodule that is imported must not hide the function
    assert callable(funduscope.load)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = funduscope.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_one_photo_in_every_form(tiny: Path, eye: np.ndarray, tmp_path: Path):
    model = funduscope.load(tiny)
    path = tmp_path / "eye.png"
    Image.fromarray(eye).save(path)
    forms = [path, str(path), path.read_bytes(), Image.open(path), eye, funduscope.Photo.open(path)]
    findings = [model(form) for form in forms]
    assert len({one.probabilities for one in findings}) == 1
    assert findings[0].mask("EX").shape == eye.shape[:2]
    assert findings[0].probability("EX").dtype == np.float32


def test_a_stream_is_ordered_and_survives_bad_photos(tiny: Path, save_eye: Callable[..., Path], tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    paths = [save_eye(tmp_path / "a.jpg"), tmp_path / "bad.jpg", save_eye(tmp_path / "b.jpg")]
    for model in (funduscope.load(tiny), funduscope.load([tiny, tiny])):
        said = list(model.stream(paths))
        assert [type(one) for one in said] == [funduscope.Findings, funduscope.Failure, funduscope.Findings]
        assert isinstance(said[1], funduscope.Failure)
        assert (said[1].photo_name, said[1].code) == ("bad.jpg", "E_FORMAT")
    with pytest.raises(funduscope.PhotoError):
        funduscope.load(tiny)(tmp_path / "bad.jpg")


def test_an_ensemble_is_the_mean_of_its_members(
    tiny: Path, make_model: Callable[..., Path], eye: np.ndarray, tmp_path: Path
):
    card = replace(funduscope.load(tiny).card, thresholds={**funduscope.load(tiny).card.thresholds, "EX": 0.9})
    other = make_model(tmp_path / "other.onnx", card, seed=3)
    members, joined = [funduscope.load(tiny), funduscope.load(other)], funduscope.load([tiny, other])
    each, both = [member(eye) for member in members], joined(eye)
    mean = np.mean([one.probability("EX") for one in each], axis=0)
    np.testing.assert_allclose(both.probability("EX"), mean, atol=1e-6)
    assert both.probabilities == pytest.approx(np.mean([one.probabilities for one in each], axis=0))
    assert joined.card.thresholds["EX"] == pytest.approx(0.7)
    # As many models of one kind are that model.
    assert funduscope.load([tiny, tiny])(eye).probabilities == pytest.approx(each[0].probabilities)
    assert isinstance(funduscope.load([tiny]), funduscope.Predictor)


def test_the_shipped_models_have_names():
    models = [funduscope.load(name) for name in (None, "default", "fast")]
    assert models[0].sha256 == models[1].sha256 != models[2].sha256
    assert funduscope.load(["default", "default"]).card.name == models[0].card.name
    assert funduscope.load(["default", "fast"]).card.name == f"{models[0].card.name} + {models[2].card.name}"


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_model_that_is_not_there_is_named_with_what_is_expected(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, verb: str
):
    if verb == "predict":
        code, _, err = command("predict", tmp_path, "--model", "quick")
    else:
        code, _, err = command("evaluate", "quick", "--data", tmp_path)
    assert code == 2
    assert "'quick' is not there: expected default, fast, an ONNX file or a run folder" in " ".join(err.split())


def test_a_device_that_is_not_there_is_said(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    import onnxruntime

    with pytest.raises(funduscope.ModelError, match="expected auto, cpu, cuda") as caught:
        funduscope.load(tiny, device="tpu")  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "E_CONFIG"
    assert funduscope.load(tiny, device="cpu").runtime.session.get_providers() == ["CPUExecutionProvider"]  # pyright: ignore
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(funduscope.ModelError, match="onnxruntime-gpu"):
            funduscope.load(tiny, device="cuda")
        # The package for cards on a machine without any: its sessions fall back to the processor.
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
            assert funduscope.load(tiny, device="auto").card.name == "tiny"
        with (
            pytest.warns(UserWarning, match="CUDAExecutionProvider"),
            pytest.raises(funduscope.ModelError, match="could not start on a GPU"),
        ):
            funduscope.load(tiny, device="cuda")


def test_a_card_answers_as_the_processor_does(tiny: Path, eye: np.ndarray):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has no card here: it needs onnxruntime-gpu and a CUDA device")
    on_gpu, plain = (funduscope.load(tiny, device=device)(eye) for device in ("cuda", "cpu"))
    assert on_gpu.probabilities == pytest.approx(plain.probabilities, abs=1e-3)


def test_models_that_are_none(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("no model")
    write_model(tmp_path / "two.onnx", replace(CARD, own_close=True))
    for model, says in (
        (tmp_path / "gone.onnx", "is not there"),
        (tmp_path, "neither model.onnx nor best.safetensors"),
        (tmp_path / "text.onnx", "no model that funduscope exported"),
        (tmp_path / "two.onnx", "two networks, the file has one"),
        ([], "at least one model"),
    ):
        with pytest.raises(funduscope.ModelError, match=says) as caught:
            funduscope.load(model)
        assert caught.value.code == "E_MODEL"


def damaged(model: Path) -> bytes:
    """The model's bytes with one bit flipped in a weight."""
    data = bytearray(model.read_bytes())
    weights = max((item.raw_data for item in onnx.load(model).graph.initializer), key=len)
    data[data.index(weights) + 2] ^= 1
    return bytes(data)


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_an_exported_model_that_was_damaged_is_not_loaded(tiny: Path, tmp_path: Path, eye: np.ndarray, name: str):
    (tmp_path / name).write_bytes(damaged(tiny))
    answer = funduscope.load(tmp_path / name)(eye)
    assert sum(answer.probabilities or ()) == pytest.approx(1), "nothing else would notice it"
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    (tmp_path / "export.json").write_text(json.dumps({"files": {name: {"sha256": digest}}}))
    with pytest.raises(funduscope.ModelError, match="damaged or was replaced") as caught:
        funduscope.load(tmp_path / name)
    assert caught.value.code == "E_HASH"
    (tmp_path / name).write_bytes(tiny.read_bytes())
    assert funduscope.load(tmp_path / name).card.name == "tiny"


@pytest.mark.parametrize("text", ["", "[]", '{"files": null}', '{"files": {"other.onnx": {"sha256": "0"}}}'])
def test_a_report_that_does_not_name_the_model_says_nothing_of_it(tiny: Path, tmp_path: Path, text: str):
    (tmp_path / "model.onnx").write_bytes(tiny.read_bytes())
    (tmp_path / "export.json").write_text(text)
    assert funduscope.load(tmp_path).card.name == "tiny"


@pytest.mark.parametrize(("name", "stem"), [(None, "funduscope"), ("fast", "funduscope-fast")])
def test_a_shipped_model_is_the_one_that_was_measured(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, stem: str
):
    """Whole, where there are no scores, where they are its own, and where they stand for it; never another one."""
    folder, digest = tmp_path / "models", hashlib.sha256(tiny.read_bytes()).hexdigest()
    folder.mkdir()
    (folder / f"{stem}.onnx").write_bytes(tiny.read_bytes())
    monkeypatch.setattr(loading, "_MODELS", tmp_path / "models")
    assert funduscope.load(name).card.name == "tiny"
    beside = folder / f"{stem}.scores.json"
    for about in ({"models": [{"sha256": digest}]}, {"models": [{"sha256": "0" * 64}], "stands for": digest}):
        beside.write_text(json.dumps({"about": about}))
        (folder / f"{stem}.onnx").write_bytes(tiny.read_bytes())
        assert funduscope.load(name).card.name == "tiny"
        (folder / f"{stem}.onnx").write_bytes(damaged(tiny))
        with pytest.raises(funduscope.ModelError) as caught:
            funduscope.load(name)
        assert caught.value.code == "E_HASH"
    assert funduscope.load(folder / f"{stem}.onnx").card.name == "tiny", "by its path, as whoever measures it does"


def test_a_run_folder_prefers_what_was_exported(tiny: Path, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(tiny.read_bytes())
    (tmp_path / "best.safetensors").write_bytes(b"not read")
    assert funduscope.load(tmp_path).card.name == "tiny"


def test_a_checkpoint_answers_through_torch(eye: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    from funduscope import checkpoint
    from funduscope.network.network import build

    recipe = Recipe.model_validate(
        {
            "name": "small",
            "encoder": {"name": "test_resnet", "weights": "none"},
            "decoder": {"skip_channels": [4, 4, 4, 8, 8], "channels": [8, 8, 4, 4]},
            "views": {"whole_px": 64, "close_px": 128},
        }
    )
    checkpoint.save(tmp_path / "best.safetensors", recipe, {"weights": build(recipe).state_dict()}, {}, {})
    model = funduscope.load(tmp_path)
    assert model.card.name == "small"
    assert sum(model(eye).probabilities or ()) == pytest.approx(1, abs=1e-5)
    assert len(model.runtime.sha256) == 64
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(funduscope.ModelError, match=r"pip install '\.\[train\]' in the clone of funduscope"):
        funduscope.load(tmp_path)
