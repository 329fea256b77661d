"""A photo in, findings out: what is refused, what stays the same however the photo is stored, and flat memory."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import onnx
import psutil
import pytest
from PIL import Image

from funduscope.i18n.errors import PhotoError
from funduscope.i18n.messages import message
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import ModelError, OnnxRuntime, Outputs
from funduscope.quality.gradability import Quality
from funduscope.report.write import findings_schema, to_json
from funduscope.testing.drawn_eyes import STYLES, DrawnEye, draw_eye

pytestmark = pytest.mark.usefixtures("takes_anything")

EXIF_ORIENTATION = 0x0112
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""How an upright picture lies in a file whose EXIF orientation says so."""


PAINT = Card(name="paint", structures=("EX", "OD"), whole_px=128, close_px=256)


class SeesPaint:
    """A runtime that finds violet paint, as a structure and as a landmark, and grades by how much there is."""

    sha256 = "0" * 64

    def __init__(self, card: Card = PAINT) -> None:
        self.card = card
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        self.sizes.append(images.shape)
        picture = images[0].astype(np.float32)
        share = np.clip((picture[..., 2] - picture[..., :2].max(axis=2)) / 60, 0, 1)
        cells = share.reshape(64, share.shape[0] // 64, 64, -1).mean(axis=(1, 3))
        logits = 16 * cells - 8
        return Outputs(
            classes={
                "grade": np.array([[0, 0, 1 + share.mean(), 0, 0]], np.float32),
                "dme": np.array([[0, share.mean(), 1]], np.float32),
            },
            structures=np.stack([logits, logits])[None],
            landmarks=np.stack([12 * cells, np.roll(12 * cells, 24, axis=1)])[None],
        )


@pytest.fixture
def model() -> Predictor:
    return Predictor(SeesPaint())


@pytest.fixture(scope="module")
def painted() -> DrawnEye:
    eye = draw_eye(3, grade=2, width_px=640)
    eye.pixels[eye.masks["OD"]] = (180, 60, 250)
    return eye


def test_findings_of_a_photo(model, painted):
    found = model(painted.pixels, name="eye.png")
    assert found.gradable_ok
    assert found.grade == 2
    assert found.dme == 2
    assert found.to_dict()["photo"]["name"] == "eye.png"
    truth = painted.masks["OD"]
    assert (found.mask("OD") & truth).sum() / (found.mask("OD") | truth).sum() > 0.9
    assert found.disc_xy == pytest.approx(painted.disc_xy, abs=3)
    jsonschema.Draft202012Validator(findings_schema()).validate(found.to_dict())


@pytest.mark.parametrize("style", sorted(STYLES))
def test_the_disc_is_found_wherever_the_eye_lies(model, style):
    eye = draw_eye(5, grade=0, width_px=640, style=STYLES[style])
    eye.pixels[eye.masks["OD"]] = (180, 60, 250)
    found = model(eye.pixels)
    assert found.gradable_ok, found.reasons
    assert found.disc_xy == pytest.approx(eye.disc_xy, abs=5)


@pytest.mark.parametrize("shift", [(0, 0), (17, 0), (0, 23), (31, 40)])
def test_findings_move_with_the_photo(model, painted, shift):
    right, down = shift
    moved = np.pad(painted.pixels, ((down, 40 - down), (right, 40 - right), (0, 0)), mode="edge")
    x, y = model(moved).disc_xy
    assert (x - right, y - down) == pytest.approx(painted.disc_xy, abs=3)


def test_the_close_view_is_looked_at_only_where_it_is_needed(painted):
    runtime = SeesPaint()
    Predictor(runtime)(painted.pixels)
    assert runtime.sizes == [(1, 128, 128, 3), (1, 256, 256, 3)]
    runtime = SeesPaint(replace(PAINT, close=()))
    Predictor(runtime)(painted.pixels)
    assert runtime.sizes == [(1, 128, 128, 3)]


def test_the_grade_is_told_before_lesions_are_sought(painted):
    runtime, seen = SeesPaint(), []

    def glance(findings: Findings) -> None:
        seen.append((findings, len(runtime.sizes)))

    found = Predictor(runtime)(painted.pixels, on_grade=glance)
    (first, looks) = seen.pop()
    assert not seen
    assert looks == 1, "the close view comes after"
    assert first.grade == found.grade
    assert first.grade_probs == pytest.approx(found.grade_probs)
    told = first.to_dict()
    jsonschema.validate(told, findings_schema())
    assert [told[key] for key in ("lesions", "dme", "rules")] == [None] * 3, "nobody has looked yet"
    assert not [one for one in told["warnings"] if one["code"].endswith("_NOT_FOUND")], "nor sought disc and fovea"
    Predictor(runtime, replace(PAINT, close=()))(painted.pixels, on_grade=glance)
    assert not seen, "where nothing is left to wait for, the answer itself is as soon"


def test_orientation_in_the_metadata_changes_nothing(model, painted, tmp_path):
    told = {}
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        path = tmp_path / f"eye{orientation}.png"
        Image.fromarray(np.ascontiguousarray(turn(painted.pixels))).save(path, exif=exif)
        found = model(path)
        assert found.mask("OD").shape == painted.pixels.shape[:2]
        told[orientation] = found.to_dict()
    for orientation, one in told.items():
        assert one["photo"]["width"] == 640, orientation
        for landmark in ("optic_disc", "fovea"):
            for axis in ("x_px", "y_px"):
                assert one["landmarks"][landmark][axis] == pytest.approx(told[1]["landmarks"][landmark][axis], abs=0.5)
        assert one["lesions"] == told[1]["lesions"]
        assert one["probabilities"] == told[1]["probabilities"]


def nothing(value: int | tuple[int, int, int]) -> np.ndarray:
    return np.full((400, 600, 3), value, np.uint8)


@pytest.mark.parametrize("value", [0, 255, 127, (180, 80, 40), (0, 0, 255)])
def test_a_picture_of_nothing_gets_no_grade(shared_example, model, value):
    found = model(nothing(value))
    told = found.to_dict()
    assert not found.gradable_ok
    assert found.grade is None
    assert found.codes == ()
    assert told["gradable"]["reasons"]
    jsonschema.Draft202012Validator(findings_schema()).validate(told)
    for key, example in shared_example.items():
        # The example's other keys are of machinery that does not exist yet.
        if key in told and key not in ("photo", "image", "model", "gradable", "warnings"):
            assert told[key] == example, key
    assert set(told) <= {*shared_example, "headline"}
    assert model.runtime.sizes == []


@pytest.fixture
def shared_example() -> dict:
    """What a refused photo says, as the design's own example has it."""
    empty = ("predicted_grade", "grade_name", "confidence", "probabilities", "grade_set", "dme", "referable")
    empty += ("landmarks", "laterality", "lesions", "rules", "advice", "training_distance")
    head = {"schema": "funduscope-findings/1", "photo": {}, "image": "", "model": {}, "gradable": {}}
    return head | dict.fromkeys(empty) | {"evidence": [], "warnings": [], "not_a_medical_device": True}


def test_the_example_of_a_refused_photo_is_the_designs(shared, shared_example):
    file = shared.parent / "findings.ungradable.example.json"
    if not file.is_file():
        pytest.skip("the example is not here")
    example = json.loads(file.read_text("utf-8"))
    assert set(example) == set(shared_example)
    for key, value in shared_example.items():
        if key not in ("photo", "image", "model", "gradable", "warnings"):
            assert example[key] == value


@pytest.mark.parametrize(("gain", "code"), [(0.05, "TOO_DARK"), (40.0, "TOO_BRIGHT")])
def test_a_field_without_light_or_full_of_it_is_refused(model, gain, code):
    field = np.zeros((400, 600, 3), np.float32)
    yy, xx = np.mgrid[:400, :600]
    field[(xx - 300) ** 2 + (yy - 200) ** 2 < 180**2] = (170, 150, 130)
    found = model(np.clip(field * gain, 0, 255).astype(np.uint8))
    assert not found.gradable_ok
    assert found.grade is None
    assert found.reasons[0].code in (code, "NOT_FUNDUS")


def test_a_picture_of_two_eyes_gets_no_answer_that_could_be_of_either(model, painted):
    both = np.hstack([painted.pixels, painted.pixels[:, ::-1]])
    found = model(both).to_dict()
    assert [reason["code"] for reason in found["gradable"]["reasons"]] == ["SEVERAL_PHOTOS"]
    assert found["predicted_grade"] is None
    assert found["headline"]["trust"]["code"] == "TRUST_SEVERAL_PHOTOS"


def test_a_refused_photo_is_answered_where_a_person_insists(model, painted, monkeypatch):
    plain = model(painted.pixels).to_dict()
    refusal = (message("NOT_FUNDUS"),), None
    monkeypatch.setattr("funduscope.inference.model.assess", lambda framed, pixels: refusal)
    refused, forced = model(painted.pixels), model(painted.pixels, force=True)
    assert (refused.gradable_ok, refused.grade, refused.quality_advice) == (False, None, "refuse")
    assert (forced.gradable_ok, forced.quality_advice) == (True, "refuse")
    said = forced.to_dict()
    assert (said["predicted_grade"], said["lesions"]) == (plain["predicted_grade"], plain["lesions"])
    assert [reason["code"] for reason in said["gradable"]["reasons"]] == ["NOT_FUNDUS"]
    assert said["headline"]["trust"]["code"] == "TRUST_FORCED"
    assert "TRUST_FORCED" in [warning["code"] for warning in said["warnings"]]
    (streamed,) = model.stream([painted.pixels], force=True)
    assert streamed.to_dict() == said
    early = []
    model(painted.pixels, on_grade=early.append, force=True)
    assert [one.quality_advice for one in early] == ["refuse"] * len(early)


def test_force_changes_nothing_of_a_photo_that_is_graded(model, painted):
    assert model(painted.pixels, force=True).to_dict() == model(painted.pixels).to_dict()


def test_a_poor_photo_is_answered_and_to_be_taken_again(model, painted, monkeypatch):
    poor = Quality(0.07, (message("OUT_OF_FOCUS"),), "retake")
    monkeypatch.setattr("funduscope.inference.model.assess", lambda framed, pixels: ((), poor))
    said = model(painted.pixels).to_dict()
    assert said["gradable"]["ok"]
    assert said["gradable"]["advice"] == "retake"
    assert [reason["code"] for reason in said["gradable"]["reasons"]] == ["OUT_OF_FOCUS"]
    assert said["headline"]["trust"]["code"] == "TRUST_RETAKE"
    assert "OUT_OF_FOCUS" not in [warning["code"] for warning in said["warnings"]]


def test_the_same_photo_gives_the_same_bytes(painted):
    first, second = (to_json(Predictor(SeesPaint())(painted.pixels).to_dict()) for _ in range(2))
    assert first == second


def test_a_stream_goes_on_after_a_bad_photo(model, painted, tmp_path):
    good, empty, text = tmp_path / "good.png", tmp_path / "empty.jpg", tmp_path / "text.jpg"
    Image.fromarray(painted.pixels).save(good)
    empty.write_bytes(b"")
    text.write_text("no picture")
    answers = list(model.stream([good, empty, text, tmp_path / "missing.jpg", good]))
    assert [type(answer) for answer in answers] == [Findings, Failure, Failure, Failure, Findings]
    codes = [answer.code for answer in answers if isinstance(answer, Failure)]
    assert codes == ["E_EMPTY", "E_FORMAT", "E_NOT_FOUND"]
    assert answers[1].to_dict()["photo"] == {"name": "empty.jpg"}
    assert set(answers[1].to_dict()["error"]) == {"code", "says"}
    with pytest.raises(PhotoError):
        model(empty)


@pytest.mark.parametrize(
    "single",
    [
        "eye.jpg",
        Path("eye.jpg"),
        b"",
        bytearray(9),
        memoryview(b"photo"),
        np.zeros((9, 9, 3), np.uint8),
        Image.new("RGB", (9, 9)),
    ],
)
def test_a_stream_of_a_single_photo_is_refused_where_it_is_asked_for(model: Any, single: Any) -> None:
    with pytest.raises(TypeError, match="give a list of it"):
        model.stream(single)


@pytest.mark.parametrize("kind", ["array", "image"])
def test_a_stream_may_come_from_a_buffer_that_is_used_again(
    model: Any, painted: DrawnEye, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a frame grabber's: the next photo overwrites the one that is read ahead."""
    eyes = [np.ascontiguousarray(np.roll(painted.pixels, shift, axis=1)) for shift in range(4)]
    opened = Photo.open

    def open_late(source: Any, **named: Any) -> Photo:
        time.sleep(0.05)
        return opened(source, **named)

    monkeypatch.setattr(Photo, "open", open_late)

    def grab() -> Iterator[Any]:
        buffer, image = np.empty_like(eyes[0]), Image.new("RGB", eyes[0].shape[1::-1])
        for eye in eyes:
            buffer[:] = eye
            image.paste(Image.fromarray(eye))
            yield buffer if kind == "array" else image

    answers = list(model.stream(grab()))
    assert [one.photo.sha256 for one in answers] == [opened(eye).sha256 for eye in eyes]


def test_a_stream_takes_paths_as_a_table_gives_them(model: Any, tmp_path: Path) -> None:
    (answer,) = model.stream(np.array([str(tmp_path / "missing.jpg")], object))
    assert answer.code == "E_NOT_FOUND"


def test_a_photo_is_named_as_it_is_asked_for(model: Any, painted: Any) -> None:
    assert model(Photo.open(painted.pixels, name="a.jpg"), name="left.jpg").photo.name == "left.jpg"


def test_a_stream_reads_every_frame_of_a_dicom_file(model, painted, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM needs the extra `dicom`")
    from tests.cli.test_predict_dicom import write_dicom

    two, one = tmp_path / "two.dcm", tmp_path / "one.png"
    write_dicom(two, np.stack([painted.pixels, painted.pixels[:, ::-1]]), "L")
    Image.fromarray(painted.pixels).save(one)
    answers = list(model.stream([two, one, two.read_bytes()]))
    names = ["two_frame1.dcm", "two_frame2.dcm", "one.png", "photo_frame1", "photo_frame2"]
    assert [answer.photo.name for answer in answers] == names
    assert answers[1].photo.sha256 == answers[4].photo.sha256 != answers[0].photo.sha256
    alone = list(model.stream([two, one], frames=False))
    assert [getattr(answer, "code", "") for answer in alone] == ["E_MULTIPAGE", ""], "one answer a source"
    two.write_bytes(two.read_bytes()[: -painted.pixels.size - 10])  # the second frame, and ten bytes of the first
    assert [(one.photo_name, one.code) for one in model.stream([two])] == [
        ("two_frame1.dcm", "E_TRUNCATED"),
        ("two_frame2.dcm", "E_TRUNCATED"),
    ]


@pytest.mark.slow
def test_memory_stays_flat_over_many_photos(model, painted, tmp_path):
    path = tmp_path / "eye.png"
    Image.fromarray(painted.pixels).save(path, compress_level=1)
    process = psutil.Process()

    def look(times: int) -> int:
        for answer in model.stream([path] * times):
            assert isinstance(answer, Findings)
            answer.to_dict()
        gc.collect()
        return process.memory_info().rss

    taken = [look(15), *(look(30) for _ in range(3))]
    # One photo's pixels and masks are 2 MB: were they kept, each round would take sixty. A heap may grow once.
    assert min(later - earlier for earlier, later in pairwise(taken)) < 20e6


def test_a_model_with_an_operator_of_somebody_s_own_is_refused(tmp_path: Path) -> None:
    from tests.fuzz import fuzz_seeds

    made = onnx.load_from_string(fuzz_seeds.model_with(fuzz_seeds.cards()[0]))
    made.graph.node[0].op_type, made.graph.node[0].domain = "RunsAnything", "somebody"
    made.opset_import.append(onnx.helper.make_opsetid("somebody", 1))
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(ModelError) as raised:
        OnnxRuntime(tmp_path / "model.onnx")
    assert raised.value.code == "E_MODEL"


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path, content):
    path: Path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx") as raised:
        OnnxRuntime(path)
    assert raised.value.code == "E_MODEL"


def test_a_card_reads_back_equal():
    card = replace(Card(), name="a", structures=("EX",), thresholds={"EX": 0.3}, about={"fold": 0})
    assert Card.from_json(card.to_json()) == card


WAYS = (slice(None), slice(None, None, -1))


class Lopsided(SeesPaint):
    """Answers differently for a mirrored picture: what lies left counts for the grade, what lies right does not."""

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        found = super().__call__(images)
        left = images[0][:, : images.shape[2] // 2].astype(np.float32)
        blue = (left[..., 2] > left[..., 0] + 40).mean()
        return replace(found, classes={"grade": np.array([[0, 0, 40 * blue, 0, 0]], np.float32)})


def test_a_mirrored_model_says_the_same_of_an_eye_and_its_mirror_image() -> None:
    pixels = np.array(draw_eye(3, width_px=450).pixels)
    cv2.circle(pixels, (160, 150), 20, (180, 60, 250), -1)
    runtime = Lopsided()
    turned = np.ascontiguousarray(pixels[:, ::-1])
    once = [Predictor(runtime)(image).grade_probs for image in (pixels, turned)]
    assert np.abs(once[0] - once[1]).max() > 0.05
    mirrored = Predictor(runtime, replace(PAINT, mirrored=True))
    found = [mirrored(image) for image in (pixels, turned)]
    assert found[0].grade_probs == pytest.approx(found[1].grade_probs, abs=1e-3)
    for one, x_px in zip(found, (160, 290), strict=True):
        assert one.disc_xy == pytest.approx((x_px, 150), abs=4), "maps are turned back"
