"""The models that ship: what each answers of the demo photo."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import funduscope
from funduscope.data.case import Case, Labels
from funduscope.evaluation.out_of_fold import by_card
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.loading import SHIPPED, absolute
from funduscope.inference.runtime import OnnxRuntime
from funduscope.vocabulary import LESIONS

DEMO = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()


DISC_XY, FOVEA_XY = (900, 1067), (1810, 1240)
"""Read off the photo by eye, in pixels; the disc is some 350 px wide."""


@pytest.fixture(scope="module", params=["default", "fast"])
def found(request: pytest.FixtureRequest) -> Findings:
    return funduscope.load(request.param)(DEMO)


def test_it_sees_retinopathy_with_every_lesion_of_the_photo(found: Findings) -> None:
    """By the data set's own word the eye has diabetic retinopathy; dots, blots and hard exudates are plain to see."""
    assert found.grade is not None
    assert found.grade >= 2
    assert found.dme is not None
    for code in ("HE", "EX"):
        assert found.mask(code).any(), code
    for code in LESIONS:
        assert found.mask(code).shape == (found.photo.height, found.photo.width)


def test_disc_and_fovea_are_where_they_are_seen(found: Findings) -> None:
    for point, truth, most in ((found.disc_xy, DISC_XY, 80), (found.fovea_xy, FOVEA_XY, 120)):
        assert point is not None
        assert np.hypot(point[0] - truth[0], point[1] - truth[1]) < most
    rows, columns = np.nonzero(found.mask("OD"))
    assert np.hypot(columns.mean() - DISC_XY[0], rows.mean() - DISC_XY[1]) < 80


def test_a_model_with_witnesses_tells_what_each_says(found: Findings) -> None:
    tree = found.to_dict()
    if not found.card.witnesses:
        assert found.witness_probs == {}
        return
    for witness in ("photo", "lesions"):
        for task in ("grade", "dme"):
            assert sum(tree["witnesses"][witness][task]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["default", "fast"])
def test_products_of_bytes_do_not_overflow_on_any_processor(name: str) -> None:
    """Without optimizations ONNX Runtime computes an INT8 file in float32: no processor's instructions count there.

    Where sums of products overflow, a logit of `fast` is off by 0.14 in the mean of four views, otherwise by 0.02.
    """
    runtime = funduscope.load(name).runtime
    assert isinstance(runtime, OnnxRuntime)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    file = resources.files("funduscope") / "models" / f"{SHIPPED[name]}.onnx"
    exact = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    view = frame(Photo.open(DEMO), runtime.card.whole_px).image
    _, feeds = runtime.request(np.stack([view, view[::-1], view[:, ::-1], view[::-1, ::-1]]), "whole")
    (logits,) = exact.run(["grade"], feeds)
    (own,) = runtime.session.run(["grade"], feeds)
    assert np.abs((np.asarray(own) - np.asarray(logits)).mean(axis=0)).max() < 0.06


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_is_printed_with_its_name(name: str) -> None:
    model = funduscope.load(name)
    assert repr(model) == f"<Predictor {model.card.name} {model.sha256[:12]}>"


@pytest.mark.slow
def test_it_says_of_which_photos_it_may_have_learned(tmp_path: Path) -> None:
    """By its card: `default` of any photo of its data sets, `fast` of those that are not of the fold it left out."""
    (tmp_path / "eye.jpg").write_bytes(DEMO)
    own = Case.of("table", tmp_path / "eye.jpg", Labels(grade=2))
    theirs = [replace(own, dataset="srahim", fold=fold) for fold in (0, 1, None)]
    for name, count in (("default", 3), ("fast", 2)):
        model = funduscope.load(name)
        assert by_card(model, [own]) is None
        assert f"{count} of these 4 photos" in str(by_card(model, [own, *theirs]))
    with pytest.warns(UserWarning, match="learned from photos of srahim"):
        funduscope.evaluate("fast", theirs[1:2])
    with pytest.warns(UserWarning, match="learned from photos of srahim"):  # `default`, of a photo that `fast` left out
        funduscope.evaluate(funduscope.load(["fast", "default"]), [theirs[0]])


def test_it_is_scored_on_the_device_that_was_asked_for(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a GPU")
    with pytest.raises(funduscope.ModelError, match="cuda was asked for"):
        funduscope.evaluate("fast", [Case.of("table", tmp_path / "eye.jpg", Labels(grade=2))], device="cuda")


def test_a_link_to_a_model_stays_a_link_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that loads anew takes what the link leads to by then."""
    (tmp_path / "v1.onnx").write_bytes(b"")
    (tmp_path / "current.onnx").symlink_to("v1.onnx")
    monkeypatch.chdir(tmp_path)
    assert absolute("current.onnx") == str(tmp_path / "current.onnx")
    assert absolute("fast") == "fast"
