"""A recipe of two stages: each learns by itself, and both are one model, with a card, in one file."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import onnx
import pytest
import torch

from funduscope import checkpoint
from funduscope.checkpoint import STAGES
from funduscope.data.case import Case, Labels
from funduscope.data.folds import fold_key, read_folds, write_folds
from funduscope.evaluation.cost import measure
from funduscope.export.run import ExportError, export_run
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import ModelError, OnnxRuntime, TorchRuntime
from funduscope.inference.witnesses import Witness
from funduscope.network.joined import JoinedNetwork, build_model
from funduscope.recipe import Recipe, RecipeError
from funduscope.report.checkpoint_maps import CheckpointMaps
from funduscope.report.write import findings_schema
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.training import TrainingError, journal, train_network
from funduscope.training.distill import Teachers
from funduscope.training.initialization import Start, first_network
from funduscope.training.journal import draw_curves
from funduscope.training.stages import run_recipe
from funduscope.training.validation import make_validation
from funduscope.vocabulary import CODES

SMALL = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "views={whole_px=64, close_px=128, mirrored=true}",
    "sampling.whole={idrid-B = 1, idrid-A = 0.5}",
    "sampling.close={idrid-B = 0.5, idrid-A = 1.5}",
    "training={epochs=1, batch=2, workers=0, precision='float32', average_decay=0.9}",
    "stages.lesions.sampling={per_epoch=6}",
    "stages.lesions.training={epochs=2}",
    "stages.lesions.decoder={skip_channels=[8, 8, 8, 8], channels=[16, 8, 8]}",
    "stages.whole.sampling={per_epoch=16}",
    "stages.whole.training={epochs=1}",
    "stages.whole.decoder={skip_channels=[8, 8, 8, 8, 16], channels=[16, 16, 8, 8]}",
)
WITNESS = Witness(("EX strong", "MA count 0.5"), (0.0, 1.0), (1.0, 2.0), (0.5, 0.2), (-1.0, 0.0, 0.5, 1.0), (0.6, 0.4))


@pytest.fixture(scope="module")
def staged() -> Recipe:
    return Recipe.load("flagship", SMALL)


@pytest.fixture(scope="module")
def done(staged: Recipe, cases: list[Case], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of fold 0."""
    folder = tmp_path_factory.mktemp("stages") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNDUSCOPE_CACHE", str(cache))
        patch.setattr(journal, "draw_curves", draw_curves)
        run_recipe(staged, cases, folder, fold=0, make_validation=make_validation)
    return folder


def test_the_joined_weights_and_the_curves_of_each_stage_are_kept(done: Path) -> None:
    kept = sorted(path.name.split("-", 1)[1] for path in (done / "kept").iterdir())
    assert kept == ["best.safetensors", "lesions-curves.png", "whole-curves.png"]
    for path in (done / "kept").glob("*-curves.png"):
        assert path.read_bytes() == (done / STAGES / path.name.split("-")[1] / "curves.png").read_bytes()


def test_the_model_gives_what_its_parts_give(done: Path, cases: list[Case]) -> None:
    model = checkpoint.load(done / "best.safetensors").network()
    assert isinstance(model, JoinedNetwork)
    parts = {
        name: checkpoint.load(done / STAGES / name / "best.safetensors").network() for name in ("lesions", "whole")
    }
    image = torch.from_numpy(frame(Photo.open(cases[0].path), 64).image[None])
    with torch.inference_mode():
        whole, close = model(image), model(image, "close")
        torch.testing.assert_close(close.structures, parts["lesions"](image).structures)
        torch.testing.assert_close(whole.structures, parts["whole"](image).structures)
        torch.testing.assert_close(whole.classes["grade"], parts["whole"](image).classes["grade"])
    assert not close.classes
    findings = load(done)(cases[0].path)
    assert findings.codes == ("MA", "HE", "EX", "SE", "OD")
    assert findings.grade is not None


def test_the_run_says_what_was_learned(done: Path, staged: Recipe) -> None:
    about = json.loads((done / "run.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (done / "journal.jsonl").read_text("utf-8").splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [("lesions", 1), ("lesions", 2), ("whole", 3)]
    stages = [json.loads((done / STAGES / name / "run.json").read_text("utf-8")) for name in ("lesions", "whole")]
    assert about["samples"] == sum(stage["samples"] for stage in stages)
    card = json.loads((done / "card.json").read_text("utf-8"))
    assert card["own_close"]
    assert card["about"]["calibration"]["validation_photos"]
    assert (done / "validation" / "scores.json").is_file()
    assert Recipe.load(done / "recipe.toml").stage("whole").encoder.name == staged.encoder.name


@pytest.mark.usefixtures("use_cache")
def test_an_interrupted_run_goes_on_where_it_stopped(
    done: Path, staged: Recipe, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here between the stages, and the checkpoint of the first is damaged: its last epoch alone is learned again, and
    the model is the same."""
    learned: list[str] = []
    learn = train_network.learn

    def stopping(recipe: Recipe, *given: object, **named: object):
        learned.append(recipe.name)
        if learned == ["flagship lesions", "flagship whole"]:
            raise KeyboardInterrupt
        return learn(recipe, *given, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setitem(run_recipe.__globals__, "learn", stopping)
    began = Start(command="funduscope train flagship --fold 0")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(staged, cases, tmp_path, fold=0, start=began, make_validation=make_validation)
    with pytest.raises(ModelError, match="has not ended: the same command resumes it"):
        load(tmp_path)
    with pytest.raises(ExportError, match="has not ended: run the same command again"):
        export_run(tmp_path)
    last = tmp_path / STAGES / "lesions" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])  # the epoch before is there, and its last one is learned again
    run_recipe(staged, cases, tmp_path, fold=0, make_validation=make_validation)
    assert learned == ["flagship lesions", "flagship whole", "flagship lesions", "flagship whole"]
    ours, theirs = (checkpoint.load(folder / "best.safetensors") for folder in (tmp_path, done))
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in ours.tensors.items())
    before = (tmp_path / "best.safetensors").read_bytes()
    run_recipe(staged, cases, tmp_path, fold=0, make_validation=make_validation)
    assert (tmp_path / "best.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["command"] == began.command


@pytest.mark.usefixtures("use_cache")
def test_an_attempt_that_failed_before_any_stage_had_learned_leaves_nothing_to_the_next(
    staged: Recipe, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise folds that the data no longer have, or the thresholds of weights that did not fit, would be its own."""
    (tmp_path / "stages").mkdir()
    write_folds(cases[:-2], tmp_path / "folds.csv")
    (tmp_path / "first_card.json").write_text("{}", "utf-8")
    monkeypatch.setitem(run_recipe.__globals__, "learn", _stop)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(staged, cases, tmp_path, fold=0, make_validation=make_validation)
    assert {*read_folds(tmp_path / "folds.csv")} == {fold_key(case) for case in cases}
    assert not (tmp_path / "first_card.json").exists()


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("use_cache")
def test_stages_that_have_ended_are_those_of_this_run_or_none(done: Path, staged: Recipe, cases: list[Case]) -> None:
    """Otherwise a network that learned from photos would be said to have kept them apart."""
    before = (done / "run.json").read_bytes()
    with pytest.raises(TrainingError, match="another test fold: expected 0, got 2"):
        run_recipe(staged, cases, done, fold=2, make_validation=make_validation)
    dilated = Recipe.load("flagship", [*SMALL, "stages.whole.encoder={output_stride=16}"])
    with pytest.raises(TrainingError, match="another recipe"):
        run_recipe(dilated, cases, done, fold=0, make_validation=make_validation)
    fewer = [case for case in cases if case.fold in (0, 1) or case.dataset == "idrid-A"]
    with pytest.raises(TrainingError, match="other photos or labels"):
        run_recipe(staged, fewer, done, fold=0, make_validation=make_validation)
    assert (done / "run.json").read_bytes() == before


def test_a_stage_that_no_photo_teaches_is_named_with_the_ways_out(
    staged: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    bare = [replace(case, labels=replace(case.labels, masks={}, boxes={})) for case in cases]
    with pytest.raises(
        TrainingError,
        match=r"what stage lesions learns \(.*MA.*\), and no first .*: add labels",
    ):
        run_recipe(staged, bare, tmp_path, fold=0, make_validation=make_validation)
    lesions = [
        replace(case, labels=Labels(masks={"EX": case.labels.masks["EX"]}))
        for case in cases
        if "EX" in case.labels.masks
    ]
    with pytest.raises(TrainingError, match=r"shows what stage whole learns \(.*grade.*\)"):
        run_recipe(staged, lesions, tmp_path, fold=0, make_validation=make_validation)


@pytest.mark.usefixtures("use_cache")
def test_grades_alone_leave_the_lesions_of_the_first_weights_as_they_are(
    done: Path, staged: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    weights = tmp_path / "first" / "best.safetensors"
    first = checkpoint.load(done / "best.safetensors")
    fixed = {"thresholds": dict.fromkeys(CODES, 0.3), "scales": {"EX": (0.5, -1.0)}}
    weights.parent.mkdir()
    checkpoint.save(weights, first.recipe, {"weights": first.group("weights")}, first.card | fixed, first.progress)
    graded = [replace(case, labels=Labels(grade=case.labels.grade)) for case in cases if case.labels.grade is not None]
    run_recipe(staged, graded, tmp_path / "run", fold=0, start=Start((weights,)), make_validation=make_validation)
    made = checkpoint.load(tmp_path / "run" / "best.safetensors")
    same = {name: torch.equal(value, first.tensors[name]) for name, value in made.tensors.items()}
    assert all(equal for name, equal in same.items() if "parts.lesions" in name)
    assert not all(equal for name, equal in same.items() if "parts.whole" in name)
    assert made.card["thresholds"] == fixed["thresholds"]
    assert made.card["scales"]["EX"] == [0.5, -1.0]
    before = (tmp_path / "run" / "card.json").read_bytes()
    run_recipe(staged, graded, tmp_path / "run", fold=0, start=Start((weights,)), make_validation=make_validation)
    assert (tmp_path / "run" / "card.json").read_bytes() == before, "the same command continues, and finds all done"
    assert load(tmp_path / "run")(cases[0].path).codes == ("MA", "HE", "EX", "SE", "OD")

    shutil.rmtree(tmp_path / "run" / STAGES / "lesions")
    with pytest.raises(TrainingError, match="was begun with first weights, and stage lesions is not: name them again"):
        run_recipe(staged, graded, tmp_path / "run", fold=0, make_validation=make_validation)
    wider = Recipe.load(
        "flagship", [*SMALL, "stages.lesions.decoder={skip_channels=[8, 8, 8, 8], channels=[24, 8, 8]}"]
    )
    with pytest.raises(TrainingError, match=r"no first weights fill its network \(.*in part: decoder"):
        run_recipe(wider, graded, tmp_path / "wider", fold=0, start=Start((weights,)), make_validation=make_validation)


def test_both_networks_are_exported_to_one_file(done: Path, cases: list[Case]) -> None:
    with pytest.raises(ExportError, match="is one stage of a run: name the run"):
        export_run(done / STAGES / "whole")
    export_run(done)
    torch_model, onnx_model = Predictor(_torch(done)), load(done / "model.onnx")
    small = load(done / "model.int8.onnx")
    photo = Photo.open(cases[0].path)
    framed = frame(photo, 128)
    for image, view in ((framed.image, "close"), (cv2.resize(framed.image, (64, 64)), "whole")):
        ours, theirs, rounded = (one.runtime(image[None], view) for one in (onnx_model, torch_model, small))  # pyright: ignore
        assert ours.named().keys() == theirs.named().keys() == rounded.named().keys()
        for name, value in ours.named().items():
            np.testing.assert_allclose(value, theirs.named()[name], atol=2e-4)
    assert isinstance(onnx_model, Predictor)
    assert isinstance(onnx_model.runtime, OnnxRuntime)
    names, feeds = onnx_model.runtime.request(framed.image[None], "close")
    assert all(name.startswith("close_") for name in names)
    assert feeds["close_image"].shape[1:3] == (128, 128)
    assert feeds["image"].shape[1:3] == (32, 32), "the whole view's network would be computed on the close view"
    assert onnx_model(photo).codes == ("MA", "HE", "EX", "SE", "OD")
    largest = [0, 0]  # of the whole view's weights, and of the close one's
    for one in onnx.load(str(done / "model.int8.onnx")).graph.initializer:
        if one.data_type == onnx.TensorProto.INT8:
            place = int(one.name.split("/")[0])
            largest[place] = max(largest[place], np.abs(onnx.numpy_helper.to_array(one).astype(int)).max())
    assert largest[1] <= 64, "sums of two products could overflow 16 bits"
    assert largest[0] > 64, "the grades' network lost a bit that it needs"


def _torch(done: Path) -> TorchRuntime:
    made = load(done / "best.safetensors")
    assert isinstance(made, Predictor)
    assert isinstance(made.runtime, TorchRuntime)
    return made.runtime


def test_a_programs_own_torch_stays_as_it_is_and_decides_nothing(
    done: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its draws, its precision, and the folder that it has gone to since."""
    monkeypatch.chdir(done.parent)
    torch.manual_seed(0)
    model = load(Path(done.name) / "best.safetensors")
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == drawn
    assert isinstance(model, Predictor)
    assert model.without_structures().folder == model.folder == done
    photo = Photo.open(cases[0].path)
    exact, before = model(photo, force=True).to_dict(), torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("medium")
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: model(photo, force=True).to_dict(), range(8)))
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == [exact] * 8


def test_findings_carry_both_witnesses(done: Path, cases: list[Case]) -> None:
    runtime = _torch(done)
    witnessed = Predictor(runtime, replace(runtime.card, witnesses={"grade": WITNESS.to_tree()}))
    alone, both = Predictor(runtime)(cases[0].path), witnessed(cases[0].path)
    assert "witnesses" not in alone.to_dict()
    said = both.to_dict()["witnesses"]
    jsonschema.Draft202012Validator(findings_schema()).validate(both.to_dict())
    assert said["photo"]["grade"] == alone.to_dict()["probabilities"]
    assert sum(said["lesions"]["grade"]) == pytest.approx(1, abs=1e-3)
    assert both.to_dict()["probabilities"] != alone.to_dict()["probabilities"]
    assert both.grade_probs is not None
    assert both.grade_probs.sum() == pytest.approx(1)


@pytest.mark.usefixtures("use_cache")
def test_a_joined_model_starts_and_teaches_others(
    done: Path, staged: Recipe, tiny: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    weights = done / "best.safetensors"
    first = first_network(staged.stage("lesions"), tmp_path, [weights])
    part = checkpoint.load(done / STAGES / "lesions" / "best.safetensors").group("weights")
    assert not first.note
    assert all(torch.equal(value, part[name]) for name, value in first.network.state_dict().items())
    teachers = Teachers([checkpoint.load(weights)], tiny)
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert teachers(image).classes.keys() == {"grade", "dme"}
    assert teachers(image, torch.tensor([False])).structures.keys() == {"MA", "HE", "EX", "SE"}


def test_its_answers_are_explained_and_its_work_is_counted(done: Path, cases: list[Case]) -> None:
    model = load(done / "best.safetensors")
    assert isinstance(model, Predictor)
    assert isinstance(model.runtime, TorchRuntime)
    findings = model(cases[0].path)
    network = model.runtime.network
    assert isinstance(network, JoinedNetwork)
    shown = CheckpointMaps(network, model.card).explanation(findings, "referable")
    assert shown is not None
    assert shown.exact
    cost = measure(network, checkpoint.load(done / "best.safetensors").recipe)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    assert cost.views_px == (64, 128)


@pytest.mark.usefixtures("use_cache")
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ("stages.whole.training={batch=64}", TrainingError, "fewer than 64 samples"),
        ("stages.whole.decoder={skip_channels=[], channels=[8, 8, 8, 8, 8, 8]}", RecipeError, "channels"),
    ],
)
def test_what_is_wrong_with_a_later_stage_is_said_before_the_first_is_trained(
    change: str, error: type[Exception], says: str, cases: list[Case], tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        run_recipe(Recipe.load("flagship", [*SMALL, change]), cases, tmp_path, fold=0, make_validation=make_validation)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_stage_changes_one_rate_of_a_data_set_and_keeps_the_others(staged: Recipe) -> None:
    changed = Recipe.load("flagship", [*SMALL, "stages.lesions.sampling.close.idrid-A=8"])
    assert changed.stage("lesions").sampling.close == staged.sampling.close | {"idrid-A": 8}
    assert changed.stage("whole").sampling.close == staged.sampling.close


def test_a_data_set_that_one_stage_alone_draws_is_learned_from(staged: Recipe) -> None:
    """Its photos fix the card, too."""
    own = ("stages.lesions.sampling.close.mine=3", "stages.whole.sampling.whole.yours=2")
    recipe = Recipe.load("flagship", [*SMALL, *own])
    assert recipe.sampling.close.get("mine") is None
    assert recipe.all_sampling.close["mine"] == 3
    assert {"mine", "yours"} <= recipe.all_sampling.datasets()
    assert staged.all_sampling.datasets() == staged.sampling.datasets()


def test_a_name_that_torch_has_taken_is_refused_before_anything_is_trained(cases: list[Case], tmp_path: Path) -> None:
    parts = Recipe.load("flagship", SMALL).model_dump(mode="json")
    parts["stages"]["train"] = parts["stages"].pop("whole")
    with pytest.raises(TrainingError, match="stage name train is an attribute"):
        run_recipe(Recipe.model_validate(parts), cases, tmp_path / "run", fold=0)
    assert not (tmp_path / "run").exists()


def test_both_views_may_be_of_one_size(staged: Recipe) -> None:
    """Lesions then still come from the network that learned them."""
    recipe = Recipe.load("flagship", [*SMALL, "views={whole_px=64, close_px=64}"])
    card = Card.of(recipe)
    predictor = Predictor(TorchRuntime(build_model(recipe).eval(), card))
    eye = draw_eye(0, width_px=400)
    assert len(predictor(eye.pixels, force=True).frame_probs) == len(CODES)


def test_experts_of_a_stage_are_named_in_the_card_and_counted() -> None:
    changes = ["stages.whole.experts={kind='mixture', keep='top_k', count=3, width=8}"]
    recipe = Recipe.load("flagship", [*SMALL, *changes])
    model = build_model(recipe).eval()
    found = Predictor(TorchRuntime(model, Card.of(recipe)))(draw_eye(0, width_px=400).pixels, force=True)
    assert found.gates.keys() == {"all"}
    work = measure(model, recipe).photo
    assert work.dense_experts == pytest.approx(3 * work.experts)


def test_stages_that_do_not_fit_are_refused(staged: Recipe) -> None:
    for change, says in (
        (["stages.whole.tasks={structures=['OD', 'EX']}"], "each once"),
        (["stages.lesions.views={close_px=256}"], "other views"),
        (["stages.lesions.training={epoch=2}"], "epoch"),
        (["stages.lesions.network={}"], "not a section"),
        (['stages."a.b"={}'], "lower-case letters"),
        (["views.close=[]"], "one view"),
        (["views.close=['MA', 'HE', 'EX', 'SE', 'OD']"], "one view a stage"),
        (
            [
                "stages.lesions.tasks={grade=false, dme=false, structures=['MA', 'HE', 'EX'], landmarks=[]}",
                "stages.whole.tasks={structures=['OD', 'SE']}",
            ],
            "whole reads SE from the close view",
        ),
    ):
        with pytest.raises(RecipeError, match=says):
            Recipe.load("flagship", [*SMALL, *change])
    assert isinstance(build_model(staged), JoinedNetwork)


@pytest.mark.usefixtures("use_cache")
def test_a_stage_whose_tasks_no_teacher_knows_learns_from_labels_alone(
    done: Path, staged: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesions = done / STAGES / "lesions" / "best.safetensors"
    teacher = Start(teachers=(lesions,))
    run_recipe(staged, cases, tmp_path / "run", fold=0, start=teacher, make_validation=make_validation)
    assert "note: stage whole learns from labels alone. No teacher can teach anything" in capsys.readouterr().err
    abouts = [json.loads((tmp_path / "run" / part / "run.json").read_text("utf-8")) for part in ("", *_folders(staged))]
    assert [len(about["teachers"]) for about in abouts] == [1, 1, 0]
    run_recipe(staged, cases, tmp_path / "run", fold=0, start=teacher, make_validation=make_validation)

    knows = checkpoint.load(lesions)
    nothing = Card.of(knows.recipe).without([*CODES]).to_dict()
    checkpoint.save(tmp_path / "nothing.safetensors", knows.recipe, {"weights": knows.group("weights")}, nothing, {})
    with pytest.raises(TrainingError, match=r"Stage lesions: No teacher can .* Stage whole: No teacher can"):
        run_recipe(staged, cases, tmp_path / "none", fold=0, start=Start(teachers=(tmp_path / "nothing.safetensors",)))


def _folders(recipe: Recipe) -> list[str]:
    return [f"{STAGES}/{name}" for name in recipe.stages]
