"""A run becomes ONNX only where its answers stay the same."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.data.case import ABSENT, Case, Labels
from funduscope.evaluation.parity import Parity, ParityError
from funduscope.export import onnx_file, quantization
from funduscope.export import run as export
from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.inference.loading import load, weights_of
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import OnnxRuntime, TorchRuntime
from funduscope.network.joined import build_model
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.settings import Sampling
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.training.initialization import first_network

TINY = [
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 16]",
    "decoder.channels=[16, 16, 8, 8]",
    "views.whole_px=64",
    "views.close_px=128",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an untrained network's best checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    recipe = Recipe.load("plain", TINY)
    torch.manual_seed(0)
    network = build(recipe)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # timm's last ones of a block begin with 0, as no trained ones are
            torch.nn.init.ones_(module.weight)
    card = Card.of(recipe).to_dict()
    checkpoint.save(folder / "best.safetensors", recipe, {"weights": network.state_dict()}, card, {"best_epoch": 1})
    (folder / "run.json").write_text(json.dumps({"fold": 0}))
    return folder


@pytest.fixture(scope="module")
def exported(run: Path) -> list[Path]:
    """What `export` writes without any data, after an export that was killed."""
    (run / ".export-killed").mkdir()
    (run / ".export-killed" / "model.onnx").touch()
    return export.export_run(run)


def test_everything_is_written_and_measured(run: Path, exported: list[Path]):
    assert [path.name for path in exported] == ["model.onnx", "model.int8.onnx", "export.json"]
    report = json.loads((run / "export.json").read_text())
    assert report["float32 against torch"]["most_difference"] <= export.MAX_DIFFERENCE
    assert report["float32 against torch"]["labels_equal"] == 1
    assert report["files"]["model.int8.onnx"]["bytes"] < report["files"]["model.onnx"]["bytes"]
    assert not list(run.glob(".export-*"))


def test_onnx_answers_like_torch_in_the_photos_pixels(run: Path, exported: list[Path]):
    held = checkpoint.load(run / "best.safetensors")
    eye = draw_eye(3, width_px=700).pixels
    of_torch = Predictor(TorchRuntime(held.network(), Card.from_dict(held.card)))(eye)
    of_onnx = load(run / "model.onnx")(eye)
    assert of_onnx.grade == of_torch.grade
    np.testing.assert_allclose(of_onnx.probabilities, of_torch.probabilities, atol=1e-3)  # pyright: ignore
    for code in of_torch.codes:
        assert np.abs(of_onnx.probability(code) - of_torch.probability(code)).max() < 1e-3


def test_int8_is_close(run: Path, exported: list[Path]):
    eye = draw_eye(4, width_px=700).pixels
    whole, small = load(run / "model.onnx")(eye), load(run / "model.int8.onnx")(eye)
    np.testing.assert_allclose(whole.probabilities, small.probabilities, atol=0.05)  # pyright: ignore


def test_what_stays_in_float32_reads_nothing_that_was_rounded(run: Path, exported: list[Path]):
    graph = onnx.load(run / "model.int8.onnx").graph
    makers = {name: node for node in graph.node for name in node.output}
    weights = {item.name for item in graph.initializer}
    plain = [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in weights]
    assert any("structures/conv" in name for name in plain), "the logits of the lesions were rounded"
    pool = next(node for node in graph.node if node.op_type == "MaxPool")
    assert makers[pool.input[0]].op_type == "Relu", "what is pooled was rounded before"


@pytest.mark.parametrize(("name", "off"), [("model.onnx", 1e-5), ("model.int8.onnx", 0.6 / 127)])
def test_an_exported_file_alone_rebuilds_the_model(name: str, off: float, run: Path, exported: list[Path]):
    before, after = checkpoint.load(run / "best.safetensors"), checkpoint.load(run / name)
    assert (after.recipe, after.card) == (before.recipe, before.card)
    restored = after.group("weights")
    for weight, value in before.group("weights").items():
        wrong = (restored[weight].float() - value.float()).abs().reshape(len(value) if value.ndim > 1 else 1, -1)
        limit = value.float().abs().reshape(wrong.shape).amax(1) * (off if value.ndim > 1 else 0)
        assert bool((wrong.amax(1) <= limit).all()), weight
    after.network()
    known = {item.key: item.value for item in onnx.load(run / name).metadata_props}
    matrices = {weight for weight, value in restored.items() if value.ndim > 1}
    assert matrices == json.loads(known["checkpoint"])["in graph"].keys(), "weights are there twice"


def test_an_exported_file_can_be_learned_on_from(run: Path, exported: list[Path]):
    assert weights_of(run / "model.int8.onnx") == run / "model.int8.onnx"
    first = first_network(checkpoint.load(run / "best.safetensors").recipe, run / "new", [run / "model.int8.onnx"])
    eye = torch.from_numpy(cv2.resize(draw_eye(5, width_px=700).pixels, (64, 64)))[None]
    with torch.inference_mode():
        given = checkpoint.load(run / "best.safetensors").network()(eye).classes["grade"]
        torch.testing.assert_close(first.network.eval()(eye).classes["grade"], given, atol=0.1, rtol=0)


def test_what_onnx_cannot_parse_on_a_full_disk_is_the_disks_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Its shape inference writes a file without noticing, and then finds it damaged."""
    free = 100

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free)

    monkeypatch.setattr(quantization.shutil, "disk_usage", usage)
    with pytest.raises(OSError, match="No space left"), quantization._noticing_a_full_disk(tmp_path, 101):
        raise RuntimeError("Wire format was corrupt")
    with pytest.raises(RuntimeError, match="Wire format"), quantization._noticing_a_full_disk(tmp_path, 100):
        raise RuntimeError("Wire format was corrupt")


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    """The same run before anything was exported."""
    for name in ("best.safetensors", "run.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    return tmp_path


def test_a_run_that_has_not_ended_is_not_exported_and_its_answers_come_with_a_warning(fresh, capsys):
    best = checkpoint.load(fresh / "best.safetensors")
    checkpoint.save(fresh / "best.safetensors", best.recipe, {"weights": best.group("weights")}, {}, {"best_epoch": 1})
    with pytest.raises(export.ExportError, match="has not ended"):
        export.export_run(fresh)
    assert load(fresh).card.thresholds
    assert "has not ended" in capsys.readouterr().err


@pytest.fixture
def bent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network is written with other grades than it has."""
    written = onnx_file.write_onnx

    def write_bent(network, card, path):
        with torch.no_grad():
            network.heads["grade"].linear.bias += torch.arange(5.0)
        try:
            return written(network, card, path)
        finally:
            with torch.no_grad():
                network.heads["grade"].linear.bias -= torch.arange(5.0)

    monkeypatch.setattr(onnx_file, "write_onnx", write_bent)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(export.ExportError, match="is no run folder: it holds no best"):
        export.export_run(tmp_path)


@pytest.mark.usefixtures("bent")
def test_a_model_that_came_out_otherwise_is_refused(fresh: Path):
    before = _content(fresh)
    with pytest.raises(export.ExportError, match="differs from torch"):
        export.export_run(fresh)
    assert _content(fresh) == before


@pytest.mark.slow
@pytest.mark.usefixtures("bent")
def test_photos_that_would_be_refused_are_compared_all_the_same(run: Path, fresh: Path, exported: list[Path]):
    """To a refusal both models answer nothing, which is no parity."""
    blurred = cv2.GaussianBlur(draw_eye(5, width_px=720).pixels, (0, 0), 25)
    assert not load(run / "model.onnx")(blurred).gradable_ok
    Image.fromarray(blurred).save(fresh / "blurred.png")
    cases = [
        Case(f"table/{fold}", "table", str(fold), fresh / "blurred.png", str(fold), Labels(), fold) for fold in (1, 2)
    ]
    with pytest.raises(export.ExportError, match="differs from torch"):
        export.export_run(fresh, cases)


def test_nothing_is_compared_on_photos_without_an_eye(run: Path, exported: list[Path]):
    predictor, eye = load(run / "model.onnx"), draw_eye(1, width_px=480).pixels
    black = np.zeros_like(eye)
    assert export.compare(predictor, predictor, [black, eye, black]).photos == 1
    with pytest.raises(ParityError, match="shows an eye"):
        export.compare(predictor, predictor, [black, black])


def test_an_export_that_breaks_off_leaves_the_accepted_one(
    fresh: Path, exported: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    for path in exported:
        (fresh / path.name).write_bytes(path.read_bytes())
    before = _content(fresh)
    monkeypatch.setattr(quantization, "quantize", full)
    with pytest.raises(OSError, match="No space"):
        export.export_run(fresh)
    assert _content(fresh) == before
    load(fresh)


def test_where_int8_is_refused_none_of_other_weights_stays(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_):
        raise export.ExportError("INT8 loses too much.")

    (fresh / "model.int8.onnx").write_bytes(b"of an earlier export")
    (fresh / "export.json").write_text(json.dumps({"files": {"model.onnx": {"sha256": "0" * 64}}}))
    monkeypatch.setattr(export, "_accept", refused)
    with pytest.raises(export.ExportError, match="was accepted and stays"):
        export.export_run(fresh)
    left = {"best.safetensors", "run.json", "model.onnx", "export.json"}
    assert _content(fresh).keys() == left
    load(fresh)


@pytest.mark.slow
def test_photos_that_cannot_be_read_are_named_and_others_taken(
    fresh: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(export, "CALIBRATION_PHOTOS", 40)
    monkeypatch.setattr(export, "CHECK_PHOTOS", 12)
    folder = tmp_path_factory.mktemp("photos")
    cases = []
    for number in range(20):
        path, fold = folder / f"{number}.png", 1 + number % 2  # 1 selects in a run that leaves out fold 0
        Image.fromarray(draw_eye(number, width_px=420).pixels).save(path)
        cases.append(Case(f"table/{number}", "table", str(number), path, str(number), Labels(grade=number % 5), fold))
    for number in (2, 3, 4):
        cases[number].path.write_bytes(b"")
    export.export_run(fresh, cases)
    report = json.loads((fresh / "export.json").read_text())
    assert report["float32 against torch"]["photos"] == 8  # of ten
    told = capsys.readouterr().err
    assert [number for number in range(20) if f"table/{number}:" in told] == [2, 3, 4]
    assert export.DEMO not in told
    for case in cases:
        case.path.write_bytes(b"")
    before = _content(fresh)
    with pytest.raises(export.ExportError, match="can be read"):
        export.export_run(fresh, cases)
    assert _content(fresh) == before


def test_the_demo_photo_in_place_of_given_photos_is_named(fresh: Path, capsys: pytest.CaptureFixture[str]):
    tested = Case("table/0", "table", "0", fresh / "0.png", "0", Labels(grade=1), fold=0)
    export.export_run(fresh, [tested])
    note = "checked on the demo photo, INT8 calibrated on the demo photo: of the 1 photos given, the run has 0 to be"
    assert note in capsys.readouterr().err


def test_each_view_is_calibrated_on_the_photos_that_most_of_its_samples_are_of():
    train = [Case(f"{name}/{n}", name, str(n), Path(name), str(n), Labels()) for name in ("a", "b") for n in range(10)]
    sampling = Sampling(whole={"a": 1.0, "b": 0.1}, close={"b": 2.0, "a": 0.2})
    assert {case.dataset for case in export._of_view("whole", sampling, train)} == {"a"}
    assert {case.dataset for case in export._of_view("close", sampling, train)} == {"b"}
    one_view = sampling.model_copy(update={"close": {}})
    assert {case.dataset for case in export._of_view("close", one_view, train)} == {"a"}


def test_int8_is_judged_by_labels_that_are_firm(monkeypatch: pytest.MonkeyPatch):
    """Grades, edema risks and outlines; doubtful grades where there is nothing else; votes not at all."""
    known = {
        "table": Labels(grade=2),
        "idrid-B": Labels(dme=0),
        "idrid-A": Labels(masks={"MA": ABSENT}),
        "eyepacs400": Labels(grade=0),
        "heimed": Labels(masks={"EX|SE": ABSENT}),
        "diaretdb1": Labels(experts={"MA": 4}),
    }
    cases = {name: Case(name, name, name, Path(name), name, labels) for name, labels in known.items()}
    judged: list[str] = []

    def scored(_: object, chosen: list[Case]) -> list[SimpleNamespace]:
        judged[:] = [case.dataset for case in chosen]
        return [SimpleNamespace(row={"refused": False}, refused=False)]

    monkeypatch.setattr(export, "score_stream", scored)
    monkeypatch.setattr(export, "summarize", lambda photos, repeats: SimpleNamespace(photos=photos, intervals={}))
    monkeypatch.setattr(export, "_equal_labels", lambda *_: (1.0, 1))
    small = SimpleNamespace(card=Card(structures=(), close=()))
    export._accept(small, None, list(cases.values()), [])  # pyright: ignore
    assert judged == ["table", "idrid-B", "idrid-A", "heimed"]
    export._accept(small, None, [cases["diaretdb1"], cases["eyepacs400"]], [])  # pyright: ignore
    assert judged == ["eyepacs400"]
    judged.clear()
    monkeypatch.setattr(export, "_check_parity", lambda *_: {"by": "parity"})
    assert export._accept(small, None, [cases["diaretdb1"]], []) == {"by": "parity"}  # pyright: ignore
    assert judged == []
    many = [replace(cases["table"], key=f"table/{n}") for n in range(100)]
    masked = [
        replace(cases["idrid-A"], key=f"idrid-A/{n}", labels=Labels(grade=2, masks={"MA": ABSENT})) for n in range(500)
    ]
    assert len(export._firm([*many, *masked])) == 600, "as many as are scored quickly are all taken"


@pytest.mark.parametrize(("graded", "equal", "accepted"), [(1, 0.0, False), (4, 0.75, False), (10, 0.9, True)])
def test_of_very_few_graded_photos_int8_may_change_none(
    monkeypatch: pytest.MonkeyPatch, graded: int, equal: float, accepted: bool
):
    case = Case("table/a", "table", "a", Path("a"), "a", Labels(grade=1))
    row = SimpleNamespace(row={"refused": False}, refused=False)
    monkeypatch.setattr(export, "score_stream", lambda *_: [row])
    monkeypatch.setattr(export, "summarize", lambda photos, repeats: SimpleNamespace(photos=photos, intervals={}))
    monkeypatch.setattr(export, "_equal_labels", lambda *_: (equal, graded))
    small = SimpleNamespace(card=Card(structures=(), close=()))
    with nullcontext() if accepted else pytest.raises(export.ExportError, match="labels equal"):
        export._accept(small, None, [case], [])  # pyright: ignore


def test_a_landmark_that_int8_alone_lacks_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "compare", lambda *_: Parity(3, 0.0, 1.0, most_landmark=math.inf))
    card = Card.of(Recipe.load("plain", TINY))
    model = Predictor(TorchRuntime(build(Recipe.load("plain", TINY)), card), refuses=False)
    with pytest.raises(export.ExportError, match=r"photo's width: one of the two gives none \(0\.02 allowed\)"):
        export._accept(model, model, [], [draw_eye(1, width_px=480).pixels])


def test_maps_that_no_outline_can_score_are_compared_by_parity():
    recipe = Recipe.load("plain", TINY)
    card, eye = Card.of(recipe), draw_eye(1, width_px=480)
    first, spoiled = build(recipe).eval(), build(recipe).eval()
    spoiled.load_state_dict(first.state_dict())
    with torch.no_grad():
        spoiled.heads["structures"].conv.bias.add_(3)  # pyright: ignore
    plain, small = (Predictor(TorchRuntime(network, card), refuses=False) for network in (first, spoiled))
    case = Case("table/a", "table", "a", Path("a"), "a", Labels(grade=1))
    row = SimpleNamespace(row={"refused": False, "grade": 1, "predicted_grade": 1}, refused=False)
    scores = SimpleNamespace(photos=[row], intervals={})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "score_stream", lambda *_: [row])
        patched.setattr(export, "summarize", lambda photos, repeats: scores)
        assert export._accept(plain, plain, [case], [eye.pixels])["parity"]["most_of_structure"] == 0
        with pytest.raises(export.ExportError, match="INT8 differs"):
            export._accept(small, plain, [case], [eye.pixels])


def test_landmarks_and_gates_are_compared_too():
    """Two networks that differ in one thing alone: the heat map of the fovea, or the gates."""
    recipe = Recipe.load("plain", [*TINY, "experts.kind=mixture", "experts.keep=all", "experts.width=8"])
    card = replace(Card.of(recipe), landmark_floor=0.0)  # of an untrained map, too, a point is reported
    eyes = [draw_eye(seed, width_px=480).pixels for seed in (1, 2)]
    torch.manual_seed(0)
    network = build(recipe).eval()
    with torch.no_grad():
        network.heads["landmarks"].conv.weight.mul_(30)  # pyright: ignore
    first = Predictor(TorchRuntime(network, card))
    same = export.compare(first, first, eyes)
    assert same.holds
    assert (same.photos, same.most_landmark, same.most_gate) == (2, 0, 0)
    answers = {name: first(eyes[0]).gates[name] for name in recipe.routers}
    assert all(answers.values())

    moved = build(recipe).eval()
    moved.load_state_dict(network.state_dict())
    with torch.no_grad():
        moved.heads["landmarks"].conv.weight.mul_(-1)  # pyright: ignore
    parity = export.compare(first, Predictor(TorchRuntime(moved, card)), eyes)
    assert parity.most_landmark > export.MAX_DIFFERENCE
    assert parity.most_difference == 0
    assert not parity.holds

    routed = build(recipe).eval()
    routed.load_state_dict(network.state_dict())
    with torch.no_grad():
        routed.shared.gates["all"].linear.bias.add_(torch.tensor([0.0, 0.5, 0.0]))  # pyright: ignore
    parity = export.compare(first, Predictor(TorchRuntime(routed, card)), eyes)
    assert parity.most_gate > 0.05
    assert not parity.holds


@pytest.mark.parametrize(
    ("tasks", "head"),
    [
        (["structures=['EX']", "landmarks=[]"], "structures"),
        (["structures=[]", "landmarks=['optic_disc','fovea']"], "landmarks"),
    ],
)
def test_int8_of_a_model_without_classes_is_judged_by_its_maps(tasks: list[str], head: str):
    recipe = Recipe.load("plain", [*TINY, "tasks.grade=false", "tasks.dme=false", *(f"tasks.{one}" for one in tasks)])
    card = replace(Card.of(recipe), landmark_floor=0.0)
    eyes = [draw_eye(seed, width_px=480).pixels for seed in (1, 2)]
    torch.manual_seed(0)
    network = build(recipe).eval()
    first = Predictor(TorchRuntime(network, card), refuses=False)
    assert export._accept(first, first, [], eyes)["labels_equal"] == 1
    spoiled = build(recipe).eval()
    spoiled.load_state_dict(network.state_dict())
    with torch.no_grad():
        spoiled.heads[head].conv.weight.mul_(-30)  # pyright: ignore
        spoiled.heads[head].conv.bias.add_(6)  # pyright: ignore
    with pytest.raises(export.ExportError, match=r"a (structure's mean|landmark's place)"):
        export._accept(Predictor(TorchRuntime(spoiled, card), refuses=False), first, [], eyes)


def test_activation_maps_are_compared_too():
    """The same answers with a map turned upside down, and without any."""
    recipe = Recipe.load("plain", TINY)
    card = Card.of(recipe)
    torch.manual_seed(0)
    plain = TorchRuntime(build(recipe).eval(), card)
    eyes = [draw_eye(1, width_px=480).pixels]

    class Changed:
        sha256 = plain.sha256

        def __init__(self, change) -> None:
            self.card, self.change = card, change

        def __call__(self, images, view="whole"):
            outputs = plain(images)
            changed = self.change({"dme": outputs.cams["dme"]})
            return replace(outputs, cams={"grade": outputs.cams["grade"]} | changed)

    same, turned, none = (
        export.compare(Predictor(plain), Predictor(Changed(change)), eyes)
        for change in (
            dict,
            lambda cams: {"dme": cams["dme"][..., ::-1, :]},
            lambda _: {},
        )
    )
    assert same.holds
    assert same.most_cam == 0
    assert turned.most_difference == 0
    assert turned.most_cam > export.MAX_DIFFERENCE
    assert not turned.holds
    assert not none.holds


def test_answers_that_are_no_numbers_are_not_the_same():
    """Of a model that, unlike a predictor, does not refuse to give them."""

    def model(chance: float) -> Any:
        probs = {"grade": np.array([chance, 0.5])}
        found = {"gradable_ok": True, "class_probs": probs, "codes": (), "gates": {}, "cams": {}}
        return lambda image: SimpleNamespace(**found, disc_xy=None, fovea_xy=None, answer=lambda task: 1)

    eyes = [np.zeros((4, 4, 3), np.uint8)] * 2
    assert export.compare(model(0.5), model(0.5), eyes).holds
    assert not export.compare(model(0.5), model(float("nan")), eyes).holds


STAGED = """
name = "staged"
about = "two networks with experts"

[encoder]
name = "test_resnet"
weights = "none"

[views]
whole_px = 64
close_px = 64
close = ["EX"]

[experts]
kind = "mixture"
keep = "top_k"
width = 8

[tasks]
structures = ["EX"]
landmarks = ["optic_disc"]

[stages.lesions.tasks]
grade = false
dme = false
structures = ["EX"]
landmarks = []

[stages.whole.tasks]
structures = []
"""


def test_several_networks_with_experts_are_one_file_in_float32_and_int8(tmp_path: Path):
    """Their experts stand in branches, which read tensors of the graph around them."""
    torch.manual_seed(0)
    recipe = Recipe.from_toml(STAGED)
    card, network = Card.of(recipe), build_model(recipe).eval()
    plain = Predictor(OnnxRuntime(write_onnx(network, card, tmp_path / "model.onnx")), refuses=False)
    eyes = [draw_eye(seed, width_px=400).pixels for seed in range(3)]
    assert export.compare(Predictor(TorchRuntime(network, card), refuses=False), plain, eyes).holds
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (1, 64, 64, 3), np.uint8) for _ in range(4)]
    small = quantization.quantize(tmp_path / "model.onnx", tmp_path / "small.onnx", images)
    parity = export.compare(Predictor(OnnxRuntime(small), refuses=False), plain, eyes)
    assert parity.labels_equal == 1
    assert parity.most_of_structure < export.MAX_DIFFERENT
