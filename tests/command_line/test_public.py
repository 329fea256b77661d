"""`import funduscope`: what it offers, what `load` takes, and that it costs next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import funduscope
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
        "import funduscope.cli, funduscope.options, funduscope.terminal",
        "from funduscope.cli import main; main(['--help'])",
        "from funduscope.cli import main; main(['predict', '--help'])",
        "from funduscope.cli import main; main(['--version'])",
    ],
)
def test_nothing_heavy_is_loaded(code: str):
    assert loaded_after(code) == set()


def test_predicting_as_json_loads_neither_torch_nor_what_draws(
    tiny: Path, save_eye: Callable[..., Path], tmp_path: Path
):
    photo = save_eye(tmp_path / "eye.jpg")
    arguments = ["predict", str(photo), "--model", str(tiny), "--json"]
    loaded = loaded_after(f"from funduscope.cli import main; assert main({arguments!r}) == 0")
    assert not loaded & {"torch", "matplotlib", "jinja2", "rich"}


def test_the_public_names():
    assert set(funduscope.__all__) <= set(dir(funduscope))
    assert all(getattr(funduscope, name) is not None for name in funduscope.__all__)
    import_module("funduscope.loading")  # a submodule that is imported must not hide the function
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


def test_models_that_are_none(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("no model")
    for model, says in (
        (tmp_path / "gone.onnx", "is not there"),
        (tmp_path, "neither model.onnx nor best.safetensors"),
        (tmp_path / "text.onnx", "no model that funduscope exported"),
        ([], "at least one model"),
    ):
        with pytest.raises(funduscope.ModelError, match=says) as caught:
            funduscope.load(model)
        assert caught.value.code == "E_MODEL"


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
    with pytest.raises(funduscope.ModelError, match=r"pip install 'funduscope\[train\]'"):
        funduscope.load(tmp_path)
