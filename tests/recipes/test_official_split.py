"""As in the challenge: learn from the official training photos, be scored on the official test, by its measures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from funduscope.cli.main import main
from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan, make_clean_folds, with_official_split
from funduscope.evaluation import cost
from funduscope.testing.drawn_eyes import write_idrid

PlanOf = Callable[[list[Case], Path], SplitPlan]
PUBLISHED = Path(__file__).parents[2] / "results" / "three-trainings.toml"
TINY = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "encoder.output_stride=32",
    "decoder.channels=[16]",
    "views.whole_px=64",
    "views.close_px=64",
    "sampling.per_epoch=12",
    "training.epochs=1",
    "training.batch=3",
    "training.workers=0",
    "training.precision=float32",
)


@pytest.fixture(scope="module")
def idrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn eyes in IDRiD's layout, with training and test folders and without folds."""
    folder, test = tmp_path_factory.mktemp("official") / "idrid", tmp_path_factory.mktemp("drawn") / "idrid"
    write_idrid(folder, graded=20, masked=10, width_px=400)
    write_idrid(test, graded=6, masked=4, width_px=400, seed=7)
    (folder / "folds.csv").unlink()
    for source in (path for path in test.rglob("IDRiD*") if path.is_file()):
        _take(source, test, folder)
    for source in test.rglob("*IDRiD_*Labels.csv"):
        _take(source, test, folder)
    for source in test.rglob("*Markups.csv"):
        _take(source, test, folder)
    return folder


def _take(source: Path, test: Path, folder: Path) -> None:
    """Copies a file of a training split into the test split of another folder."""
    place = str(source.relative_to(test)).replace("a. Training Set", "b. Testing Set").replace("Training", "Testing")
    target = folder / place.replace("a. IDRiD", "b. IDRiD")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@pytest.mark.slow
def test_a_published_recipe_goes_the_challenges_way(
    idrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    run = tmp_path / "mine"
    command = ["train", "published/moe_deeplab", "--data", str(idrid), "--run", str(run), "--official-split"]
    assert main([*command, *(part for change in TINY for part in ("--set", change))]) == 0
    about = json.loads((run / "run.json").read_text())
    assert "published/moe_deeplab" in about["command"]
    assert "--official-split" in about["command"]
    assert about["photos"]["validation"] == {"idrid-A": 2, "idrid-B": 5}, "a fifth of the visits selects"
    assert "test" not in about["photos"] or not about["photos"]["test"]
    capsys.readouterr()
    scored = tmp_path / "scored"
    assert main(["evaluate", str(run), "--data", str(idrid), "--official-test", "--json", "--out", str(scored)]) == 0
    out = capsys.readouterr()
    scores = json.loads(out.out)
    written = json.loads((scored / "challenge.json").read_text("utf-8"))
    assert written["challenge"] == scores["challenge"]
    assert written["about"]["models"], "whose measures they are"
    assert scores["details"]["idrid-B"]["photos"] == 6
    assert scores["details"]["idrid-A"]["photos"] == 4
    assert "learned" not in out.err
    assert list(scores["challenge"]) == [
        "1: MA, area under precision over recall",
        "1: HE, area under precision over recall",
        "1: SE, area under precision over recall",
        "1: EX, area under precision over recall",
        "2: grade and edema risk both right, share",
        "3: optic disc, Jaccard index",
    ]
    both = scores["scores"]["idrid-B"]["DR and DME"]["accuracy"]
    assert scores["challenge"]["2: grade and edema risk both right, share"] == both
    tested = SplitPlan.of_run(run, read_data([idrid])).test
    assert len(tested) == 10, "compare shows the same photos next to what the authors published"
    assert {case.split for case in tested} == {"test"}
    timed = cost.Prediction(1.5, 400.0, 0.5, 90.0, 3, "eye.jpg", "a processor, 2 cores")
    monkeypatch.setattr(cost, "measure_predictions", lambda models, **_: [timed] * len(models))
    measure = cost.measure
    monkeypatch.setattr(
        cost, "measure", lambda network, recipe, photos, sizes: measure(network, recipe, photos[:1], sizes)
    )
    compared = tmp_path / "compared"
    options = ["--data", str(idrid), "--published", str(PUBLISHED), "--out", str(compared)]
    assert main(["compare", str(run), *options]) == 0
    page = (compared / "compare.html").read_text("utf-8")
    assert "official test" in page
    assert f"{both['value']:.3f}" in page, "of the official test photos"
    assert "counted from the authors" in page, "the multiply-adds were not published"
    assert "not to be trusted: one mask of the release" in page


@pytest.mark.parametrize(
    "plan_of",
    [
        lambda cases, run: SplitPlan.of(cases),
        lambda cases, run: SplitPlan.of(cases, 0),
        lambda cases, run: SplitPlan.for_new_run(cases, None),
        lambda cases, run: SplitPlan.for_new_run(with_official_split(cases), None),
        lambda cases, run: SplitPlan.of_run(run, cases),
    ],
    ids=[
        "resumed",
        "resumed with a fold",
        "train",
        "train --official-split",
        "export, doctor, compare",
    ],
)
def test_no_plan_of_what_learns_has_a_photo_of_the_official_test(plan_of: PlanOf, idrid: Path, tmp_path: Path) -> None:
    plan = plan_of(read_data([idrid]), tmp_path)
    assert plan.train
    assert {case.split for case in (*plan.train, *plan.validation)} == {"train"}


def test_folds_give_the_official_test_none(idrid: Path, tmp_path: Path) -> None:
    assert main(["folds", str(idrid), "--out", str(tmp_path / "folds.csv")]) == 0
    placed = SplitPlan.of(make_clean_folds(read_data([idrid]), workers=1)).cases
    assert {case.split for case in placed if case.fold is not None} == {"train"}
    rows = (tmp_path / "folds.csv").read_text("utf-8").splitlines()[1:]
    assert len(rows) == sum(case.fold is not None for case in placed)


def test_a_training_of_official_test_photos_alone_is_refused(
    idrid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "idrid"
    shutil.copytree(idrid, alone)
    for photo in [path for path in alone.rglob("*.jpg") if "a. Training Set" in path.parts]:
        photo.unlink()
    run = ["--run", str(tmp_path / "run")]
    assert main(["train", "published/resnet_grader", "--data", str(alone), *run]) != 0
    err = capsys.readouterr().err
    assert "No photo is left to train on" in err, err


def test_what_cannot_be_is_refused(idrid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "published/resnet_grader", "--run", str(tmp_path / "run"), "--official-split"]
    assert main([*train, "--data", str(idrid), "--fold", "0"]) == 2
    assert "leave it out" in capsys.readouterr().err
    photo = next(idrid.rglob("*.jpg"))
    (tmp_path / "own.csv").write_text(f"path,dr\n{photo},1\n")
    assert main([*train, "--data", str(tmp_path / "own.csv")]) != 0
    assert "No photo is in an official training split" in capsys.readouterr().err
