"""What a run refuses, leaves out, and does again where it was stopped at its end."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.atomic import DamagedFileError
from funduscope.data.case import Case, Labels, Mask
from funduscope.data.folds import apply_folds, read_folds, share_of
from funduscope.data.masks import read_mask
from funduscope.data.prepare import read_prepared
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.out_of_fold import EARLIER, by_card, seen_before
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import summarize
from funduscope.inference.loading import load
from funduscope.network.network import Network, build
from funduscope.progress import no_progress
from funduscope.recipe import Recipe, RecipeError
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.training import TrainingError, journal, validation
from funduscope.training.initialization import (
    START,
    Start,
    first_network,
)
from funduscope.training.journal import draw_curves
from funduscope.training.leakage import check_unseen, warn_of_earlier, warn_of_learned
from funduscope.training.samples import drawn, drop_unusable_masks, prepared, warn_unsampled, warn_untaught
from funduscope.training.train_network import split, train_network
from funduscope.training.validation import make_validation


@pytest.fixture(scope="module")
def short(changes: list[str]) -> Recipe:
    return Recipe.load("plain", [*changes, "training.epochs=1", "training.workers=0"])


@pytest.fixture(scope="module")
def done(short: Recipe, cases: list[Case], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, scored and kept."""
    folder = tmp_path_factory.mktemp("done")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUNDUSCOPE_CACHE", str(cache))
        patch.setattr(journal, "draw_curves", draw_curves)
        train_network(short, cases, folder, fold=0)
    return folder


def _turned(cases: list[Case]) -> list[Case]:
    """The same photos, each in the fold after its own."""
    return [replace(case, fold=None if case.fold is None else (case.fold + 1) % 5) for case in cases]


def test_a_run_ends_with_scores_dated_weights_and_dated_curves(done: Path) -> None:
    assert json.loads((done / "validation" / "scores.json").read_text())["scores"]["idrid-B"]["DR"]
    kept = sorted(path.name for path in (done / "kept").iterdir())
    assert [name.split("-", 1)[1] for name in kept] == ["best.safetensors", "curves.png", "final.safetensors"]
    for name in kept[:2]:
        assert (done / "kept" / name).read_bytes() == (done / name.split("-", 1)[1]).read_bytes()
    lines = [json.loads(line) for line in (done / "journal.jsonl").read_text().splitlines()]
    assert json.loads((done / "run.json").read_text())["samples"] == sum(line["samples"] for line in lines) > 0


def test_a_run_says_how_it_came_about_and_names_nobodys_folders(done: Path, tmp_path: Path) -> None:
    text = (done / "run.json").read_text("utf-8")
    about = json.loads(text)
    assert about["command"] == "train('plain', fold=0)", "whoever calls says it, else the call itself"
    assert about["precision"] == "float32"
    assert about["environment"]["device"].split(" ")[0] in ("cpu", "cuda")
    assert about["environment"]["packages"]["torch"]
    assert about["training_peak_mb"] > 50
    assert str(done.parent) not in text


def test_the_journal_has_the_loss_of_every_structure(done: Path) -> None:
    line = json.loads((done / "journal.jsonl").read_text("utf-8").splitlines()[-1])
    each = {name.removeprefix("loss dense "): value for name, value in line.items() if name.startswith("loss dense ")}
    assert {"MA", "HE", "EX", "SE", "OD"} <= set(each)
    assert min(each.values()) <= line["loss dense"] <= max(each.values())


@pytest.mark.usefixtures("use_cache")
def test_what_was_stopped_at_its_end_is_ended(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    shutil.rmtree(folder / "kept")
    shutil.rmtree(folder / "validation")
    (folder / "card.json").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(validation, "draw_all", _stop)  # the pictures of the validation photos
        with pytest.raises(KeyboardInterrupt):
            train_network(short, cases, folder, fold=0)
    assert (folder / "card.json").is_file()
    assert not (folder / "validation" / "scores.json").exists(), "with the scores the run counts as finished"
    train_network(short, cases, folder, fold=0)
    assert (folder / "validation" / "scores.json").is_file()
    assert len(list((folder / "kept").iterdir())) == 3


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("use_cache")
def test_a_run_does_not_go_on_with_other_labels_or_teachers(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    before = (folder / "run.json").read_bytes()
    other = [replace(case, labels=replace(case.labels, grade=4)) if case.labels.grade else case for case in cases]
    with pytest.raises(TrainingError, match="other photos or labels"):
        train_network(short, other, folder, fold=0)
    with pytest.raises(TrainingError, match=f"other teachers: expected none, got {done.name}"):
        train_network(short, cases, folder, fold=0, start=Start(teachers=(done / "best.safetensors",)))
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.usefixtures("use_cache")
def test_a_run_goes_on_with_its_own_folds(done: Path, short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    """Its data set's may have been made anew since: the photos that it learned from are still those."""
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    train_network(short, _turned(cases), folder, fold=0)
    assert (folder / "folds.csv").read_text("utf-8") == (done / "folds.csv").read_text("utf-8")
    told, before = (json.loads((place / "run.json").read_text("utf-8")) for place in (folder, done))
    assert told["data_fingerprint"] == before["data_fingerprint"]


@pytest.mark.usefixtures("use_cache")
def test_folds_of_a_training_that_never_began_are_not_kept(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "folds.csv"):
        shutil.copyfile(done / name, folder / name)
    turned = _turned(cases)
    train_network(short, turned, folder, fold=0)
    assert (folder / "folds.csv").read_text("utf-8") != (done / "folds.csv").read_text("utf-8")
    assert apply_folds([case.in_fold(None) for case in turned], read_folds(folder / "folds.csv")) == turned


@pytest.mark.parametrize("name", ["folds.csv", "recipe.toml"])
def test_a_file_that_no_training_wrote_is_not_replaced(
    name: str, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    (tmp_path / name).write_text("# mine\n", "utf-8")
    with pytest.raises(TrainingError, match=rf"has a {name} that no training wrote"):
        train_network(short, cases, tmp_path, fold=0)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == "# mine\n"


@pytest.mark.usefixtures("use_cache")
def test_a_training_that_diverged_says_so(short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    def broken(*_: object) -> Callable[[Network], dict[str, float]]:
        validate = make_validation(short, [case for case in cases if case.fold == 1])

        def diverged(network: Network) -> dict[str, float]:
            with torch.no_grad():
                for weights in network.parameters():
                    weights.fill_(torch.nan)
            return validate(network)

        return diverged

    with pytest.raises(TrainingError, match=r"the training diverged; lower training\.learning_rate"):
        train_network(short, cases, tmp_path, fold=0, make_validation=broken)


@pytest.mark.usefixtures("use_cache")
def test_photos_that_no_fold_can_take_are_named(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    some = [case for case in cases if case.dataset == "idrid-B"][:4]
    first, second = (next(case for case in some if case.fold == fold) for fold in sorted({c.fold for c in some})[:2])  # pyright: ignore
    own = [replace(case, key=f"own/{case.name}", dataset="own", visit="own", fold=None) for case in (first, second)]
    late = replace(some[0], key="idrid-B/train/late", name="late", visit="late", fold=None)
    with pytest.raises(TrainingError, match="No photo is in fold 9"):
        train_network(short, [*some, *own, late], tmp_path, fold=9)
    printed = capsys.readouterr().err
    assert f"2 photos of data sets without folds, such as {own[0].key}" in printed
    assert "1 photo has no fold, such as idrid-B/train/late" in printed


@pytest.mark.usefixtures("use_cache")
def test_weights_that_know_a_photo_of_the_test_fold_are_refused(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """By photo: the same number of another folds.csv is another fold. What has no run is warned of."""
    best = done / "best.safetensors"
    turned = _turned(cases)
    for start in (Start((best,)), Start(teachers=(best,))):
        with pytest.raises(TrainingError, match=r"learned from, or was chosen on, \d+ of the \d+ photos"):
            train_network(short, turned, tmp_path / "run", fold=0, start=start)
    assert not (tmp_path / "run" / "best.safetensors").exists()
    learned = next(case for case in cases if case.fold == 3)
    with pytest.raises(TrainingError, match=r"1 of the 1 photos .* such as own/x"):
        check_unseen(best, [replace(learned, key="own/x", dataset="own", name="x", fold=0)])
    for start in (Start((best,)), START):  # what it began with stays, where it continues
        train_network(short, turned, tmp_path / "same", fold=1, start=start)
        told = json.loads((tmp_path / "same" / "run.json").read_text("utf-8"))["init"]
        assert told == {"name": done.name, "sha256": hashlib.sha256(best.read_bytes()).hexdigest()}
    ended = tmp_path / "same" / "best.safetensors"
    taught = checkpoint.load(best, ()).card["about"]["trained on"]
    assert checkpoint.load(ended, ()).card["about"][EARLIER] == [taught], "one generation further, too"
    capsys.readouterr()
    warn_of_earlier(ended, [case for case in cases if case.fold == 0])
    assert capsys.readouterr().err == "", "the first weights left this fold out"
    warn_of_earlier(ended, [case for case in cases if case.fold == 3])
    assert "warning: what same began with or was taught by was trained on" in capsys.readouterr().err
    alone = tmp_path / "weights.safetensors"
    shutil.copyfile(best, alone)
    train_network(short, cases, tmp_path / "alone", fold=0, start=Start((alone,)))
    said = capsys.readouterr().err
    assert "warning: weights.safetensors has no run.json and folds.csv next to it" in said
    assert "fold 0 left out" in said


def test_a_model_outside_its_run_is_asked_by_its_card(done: Path, cases: list[Case], tmp_path: Path) -> None:
    shutil.copyfile(done / "best.safetensors", tmp_path / "alone.safetensors")
    learned = [case for case in cases if case.fold == 3]
    assert by_card(load(done), learned) is None, "its run says it"
    said = by_card(load(tmp_path / "alone.safetensors"), learned)
    assert said is not None
    assert f"{len(learned)} of these {len(learned)} photos may be among them" in said
    assert by_card(load(tmp_path / "alone.safetensors"), [case for case in cases if case.fold == 0]) is None


@pytest.mark.usefixtures("use_cache")
@pytest.mark.parametrize("is_there", [True, False])
def test_one_unreadable_photo_is_said_and_left_out_several_are_an_error(
    is_there: bool, short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A damaged one, or a link to what is not there."""
    graded = [case for case in cases if case.dataset == "idrid-B" and case.fold in (2, 3, 4)]
    bad = tmp_path / "bad.jpg"
    if is_there:
        bad.write_bytes(graded[0].path.read_bytes()[:500])
    broken = [replace(case, path=bad) if case.key == graded[0].key else case for case in cases]
    train_network(short, broken, tmp_path / "one", fold=0)
    assert f"left out: {graded[0].key}" in capsys.readouterr().err
    assert json.loads((tmp_path / "one" / "run.json").read_text())["unreadable"] == [graded[0].key]
    keys = {case.key for case in graded[:3]}
    broken = [replace(case, path=bad) if case.key in keys else case for case in cases]
    with pytest.raises(TrainingError, match="photos cannot be read, such as"):
        train_network(short, broken, tmp_path / "three", fold=0)


@pytest.mark.usefixtures("use_cache")
def test_photos_that_are_drawn_instead_of_an_unreadable_one_are_prepared(
    short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    """A rate below 1 draws some of the photos; which ones depends on how many stand before them in the list."""
    rare = short.model_copy(
        update={"sampling": short.sampling.model_copy(update={"whole": {"idrid-B": 0.3}, "close": {}})}
    )
    graded = [case for case in cases if case.dataset == "idrid-B"]
    before = drawn(rare, graded)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(before[0].path.read_bytes()[:500])
    broken = [replace(case, path=bad) if case == before[0] else case for case in graded]
    train, files = prepared(rare, broken, lambda items, words, total: items)
    assert [case.key for case in train] == [case.key for case in graded if case != before[0]]
    now = {case.key for case in drawn(rare, train)}
    assert now - {case.key for case in before}, "others are drawn now"
    assert now <= files.keys()


def test_photos_of_which_nothing_is_known_are_said(short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    bare = [replace(case, labels=Labels(quality="good")) for case in cases]
    with pytest.raises(TrainingError, match="has a label that this recipe learns from"):
        train_network(short, bare, tmp_path / "run", fold=0)


@pytest.mark.usefixtures("use_cache")
def test_an_epoch_without_a_step_is_refused_before_anything_is_written(
    short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    large = short.model_copy(update={"training": short.training.model_copy(update={"batch": 4096})})
    with pytest.raises(TrainingError, match="An epoch has fewer than 4096 samples"):
        train_network(large, cases, tmp_path / "run", fold=0)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.usefixtures("use_cache")
def test_widths_that_do_not_fit_the_encoder_are_a_wrong_recipe(
    changes: list[str], cases: list[Case], tmp_path: Path
) -> None:
    recipe = Recipe.load("plain", [*changes, "encoder.name=test_convnext"])
    with pytest.raises(RecipeError, match="The encoder has 4 levels"):
        train_network(recipe, cases, tmp_path / "run", fold=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["views.close=[]"], "there is one view"),
        (["views.whole_px=2048"], "more than close_px"),
        (["experts.kind=per_task", "heads.hidden=[8]", "tasks.structures=[]"], "atrous branches"),
        (["experts.kind=per_task", "decoder.kind=deeplab", "decoder.channels=[8]"], "heads.hidden"),
        (["experts.top_k=9"], "more than the 3 experts"),
        (["loss.focus={XX = 3.0}"], "known are"),
        (["decoder.kind=deeplab"], "one width"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.load("plain", change)


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_the_mean_of_two_runs_weights_gets_a_card_and_learns_nothing(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    train_network(short, cases, tmp_path / "more", fold=0, start=Start((done / "best.safetensors",)))
    both = (done / "best.safetensors", tmp_path / "more" / "best.safetensors")
    still = short.model_copy(update={"training": short.training.model_copy(update={"epochs": 0})})
    best = train_network(still, cases, tmp_path / "mean", fold=0, start=Start(both))
    first, second, mean = (checkpoint.load(path).group("weights") for path in (*both, best))
    moved = [name for name in mean if first[name].is_floating_point() and not torch.equal(first[name], second[name])]
    assert moved
    for name in moved:
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)
    assert json.loads((tmp_path / "mean" / "card.json").read_text("utf-8"))["about"]["calibration"]
    assert (tmp_path / "mean" / "validation" / "scores.json").is_file()
    about = json.loads((tmp_path / "mean" / "run.json").read_text("utf-8"))
    assert about["init"]["name"] == f"{done.name} + more"
    assert about["samples"] == 0
    assert "train" not in about["photos"], "none taught it anything"
    with pytest.raises(RecipeError, match="no weights to start from"):
        train_network(still, cases, tmp_path / "none", fold=0)
    given = checkpoint.load(best)
    alone = Recipe.from_toml(given.recipe.to_toml(), ["tasks.witnesses=false"])
    checkpoint.save(tmp_path / "alone.safetensors", alone, {"weights": given.group("weights")}, {}, {})
    assert first_network(still, tmp_path / "both", [best, tmp_path / "alone.safetensors"]).note == ""
    other = Recipe.load("unet34", ["encoder.weights=none", "training.epochs=0"])
    checkpoint.save(tmp_path / "other.safetensors", other, {"weights": build(other).state_dict()}, {}, {})
    with pytest.raises(TrainingError, match="has another network than"):
        train_network(still, cases, tmp_path / "odd", fold=0, start=Start((both[0], tmp_path / "other.safetensors")))


@pytest.mark.usefixtures("use_cache")
def test_a_finished_mean_is_left_as_it_is(done: Path, short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    """The same command again keeps its card, and what was exported of it."""
    still = short.model_copy(update={"training": short.training.model_copy(update={"epochs": 0})})
    for _ in range(2):
        best = train_network(still, cases, tmp_path / "mean", fold=0, start=Start((done / "best.safetensors",)))
        (tmp_path / "mean" / "model.onnx").write_bytes(b"exported")
    assert checkpoint.load(best).card["about"]["calibration"]
    assert (tmp_path / "mean" / "model.onnx").is_file()
    assert len((tmp_path / "mean" / "journal.jsonl").read_text("utf-8").splitlines()) == 1


@pytest.mark.usefixtures("use_cache")
def test_an_official_test_photo_is_never_learned_from(short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    graded = next(case for case in cases if case.dataset == "idrid-B")
    place = {"key": "idrid-B/test/IDRiD_900", "name": "IDRiD_900", "visit": "official", "fold": None, "split": "test"}
    Image.fromarray(draw_eye(900, width_px=400).pixels).save(tmp_path / "another.png")
    official = replace(graded, **place, path=tmp_path / "another.png")
    train_network(short, [*cases, official], tmp_path / "all")
    about = json.loads((tmp_path / "all" / "run.json").read_text("utf-8"))
    counts = [about["photos"][part]["idrid-B"] for part in ("train", "validation")]
    assert sum(counts) == sum(case.dataset == "idrid-B" for case in cases)


@pytest.mark.usefixtures("use_cache")
def test_weights_that_know_the_validation_photos_are_warned_of(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_network(short, cases, tmp_path / "same", fold=0, start=Start((done / "best.safetensors",)))
    assert "that this run chooses its epoch" not in capsys.readouterr().err
    learned = [case for case in cases if case.fold == 3]
    warn_of_learned(done / "best.safetensors", learned)
    assert f"learned from {len(learned)} of the {len(learned)} photos" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["none", "mixture", "per_task", "heads"])
def test_a_network_knows_all_that_its_own_weights_learned(kind: str, short: Recipe, tmp_path: Path) -> None:
    hidden = ["heads.hidden=[8]"] if kind == "per_task" else []
    changes = [*hidden, f"experts.kind={kind}", "decoder.kind=deeplab", "decoder.channels=[8]", "tasks.landmarks=[]"]
    recipe = Recipe.from_toml(short.to_toml(), [*changes, "views.close=[]", "views.close_px=64"])
    path = _saved(recipe, tmp_path)
    assert first_network(recipe, tmp_path / "run", [path]).known == {*recipe.tasks.structures, "grade", "dme"}


@pytest.mark.usefixtures("use_cache")
def test_a_run_that_lost_patience_says_how_many_samples_it_drew(
    short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    recipe = Recipe.from_toml(short.to_toml(), ["training.epochs=5", "training.patience=1", "training.workers=0"])
    scores = iter([0.5, 0.4])
    train_network(recipe, cases, tmp_path, fold=0, make_validation=lambda *_: lambda _: {"selection": next(scores)})
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    about = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert about["samples"] == sum(line["samples"] for line in lines)


def test_first_weights_go_wherever_they_fit_and_the_rest_starts_fresh(short: Recipe, tmp_path: Path) -> None:
    """A head with other structures keeps the rows of those that it shares, whatever their order."""
    few = Recipe.from_toml(short.to_toml(), ["tasks.structures=['OD', 'MA']", "tasks.dme=false"])
    path = tmp_path / "weights.safetensors"
    given = build(few).state_dict()
    checkpoint.save(path, few, {"weights": given}, {"not_learned": ["OD"]}, {})
    same = first_network(few, tmp_path / "run", [path])
    assert (same.note, same.known) == ("", {"MA", "grade", "optic_disc", "fovea"})
    first = first_network(short, tmp_path / "run", [path])
    assert first.recipe == short, "the network is the recipe's"
    assert first.known == same.known, "what was never learned is not known"
    assert first.note == (
        "note: weights.safetensors gave encoder, decoder, grade, structure MA, structure OD, optic disc, fovea; "
        "fresh: dme, structure HE, structure EX, structure SE."
    )
    assert first_network(few, tmp_path / "run", [_saved(short, tmp_path)]).note.endswith(
        "not taken: dme, structure HE, structure EX, structure SE."
    )
    found = first.network.state_dict()
    for name, rows in (("weight", (1, 0)), ("bias", (1, 0))):
        planes = found[f"heads.structures.conv.{name}"][[0, 4]]
        torch.testing.assert_close(planes, given[f"heads.structures.conv.{name}"][list(rows)], rtol=0, atol=0)
    for name, value in given.items():
        if not name.startswith("heads.structures"):
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def _saved(recipe: Recipe, folder: Path) -> Path:
    """Untrained weights."""
    path = folder / "untrained.safetensors"
    checkpoint.save(path, recipe, {"weights": build(recipe).state_dict()}, {}, {})
    return path


def test_first_weights_of_another_encoder_are_refused(short: Recipe, tmp_path: Path) -> None:
    path = _saved(short, tmp_path)
    other = Recipe.from_toml(short.to_toml(), ["encoder.name=resnet18"])
    with pytest.raises(TrainingError, match=r"has the encoder test_resnet, .*--set encoder\.name=test_resnet"):
        first_network(other, tmp_path / "run", [path])


@pytest.mark.usefixtures("use_cache")
def test_an_answer_that_nothing_teaches_chooses_no_epoch(short: Recipe, cases: list[Case], tmp_path: Path) -> None:
    """The validation photos have labels that the training photos lack."""
    taught = [case if case.fold == 1 else case.without({"grade", "fovea", "EX"}) for case in cases]
    train_network(short, taught, tmp_path, fold=0, make_validation=make_validation)
    (line, *_) = map(json.loads, (tmp_path / "journal.jsonl").read_text("utf-8").splitlines())
    validated = " ".join(name for name in line if name.startswith("validation "))
    assert not any(word in validated for word in ("DR", "fovea", "EX"))
    assert all(word in validated for word in ("DME", "disc center", "HE"))


def test_a_misspelled_data_set_is_named(short: Recipe, cases: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    warn_unsampled(short, cases)
    assert "meant" not in capsys.readouterr().err
    warn_unsampled(Recipe.from_toml(short.to_toml(), ["sampling.whole={idridB = 1}"]), cases)
    assert "sampling.whole names idridB, which was not given: was idrid-B meant?" in capsys.readouterr().err
    clinics = ["sampling.whole={hospital-a = 1, hospital-b = 1}"]
    given = [replace(case, dataset="hospital-a") for case in cases]
    warn_unsampled(Recipe.from_toml(short.to_toml(), clinics), given)
    assert "meant" not in capsys.readouterr().err, "of two clinics one was not given"
    both = ["sampling.whole={idrid-B = 1, idrid-b = 1}"]
    warn_unsampled(Recipe.from_toml(short.to_toml(), both), cases)
    assert "names idrid-b, which was not given: was idrid-B meant?" in capsys.readouterr().err
    warn_unsampled(Recipe.from_toml(short.to_toml(), ["sampling.whole={idrid-A = 1}"]), [cases[0]])
    assert "meant" not in capsys.readouterr().err, "another data set of a similar name"


@pytest.mark.usefixtures("use_cache")
def test_a_landmark_that_no_photo_marks_is_not_answered_and_not_missed(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bare = [replace(case, labels=replace(case.labels, fovea_xy=None)) for case in cases]
    best = train_network(short, bare, tmp_path / "run", fold=0)
    assert "no training photo shows the center of the fovea" in capsys.readouterr().err
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert (card["landmarks"], card["not_learned"]) == (["optic_disc", "fovea"], ["fovea"])
    model = load(best)
    assert model.card.located == ("optic_disc",)
    found = model(cases[0].path).to_dict()
    assert found["landmarks"]["fovea"] is None
    assert "FOVEA_NOT_FOUND" not in [one["code"] for one in found["warnings"]]
    scores = summarize(list(score_stream(model, [case for case in cases if case.labels.fovea_xy])), repeats=1)
    assert "fovea" not in {key.question.subject for key in scores.intervals}


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_structure_without_an_example_is_not_answered_and_never_denied(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The grades say where it is not, and that alone is learned. A later training that has one starts from there."""
    bare = [
        replace(case, labels=replace(case.labels, masks={c: m for c, m in case.labels.masks.items() if c != "SE"}))
        for case in cases
    ]
    best = train_network(short, bare, tmp_path / "run", fold=0)
    assert "no training photo shows SE" in capsys.readouterr().err
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert (card["structures"], card["not_learned"]) == (["MA", "HE", "EX", "SE", "OD"], ["SE"])
    found = load(best)(cases[0].path).to_dict()
    assert found["lesions"] is None or [*found["lesions"]] == ["MA", "HE", "EX"]
    masked = [case for case in cases if case.dataset == "idrid-A"]
    scores = summarize(list(score_stream(load(best), masked)), repeats=1)
    assert {key.question.subject for key in scores.intervals} & {"HE", "SE"} == {"HE"}
    train_network(short, bare, tmp_path / "next", fold=0, start=Start((best,)))
    assert json.loads((tmp_path / "next" / "card.json").read_text("utf-8"))["not_learned"] == ["SE"]
    train_network(short, cases, tmp_path / "full", fold=0, start=Start((best,)))
    assert json.loads((tmp_path / "full" / "card.json").read_text("utf-8"))["not_learned"] == []


@pytest.mark.slow
@pytest.mark.usefixtures("use_cache")
def test_a_photo_task_without_a_label_is_not_answered(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Its head would answer by its first weights. A later training that has labels starts from there."""
    bare = [replace(case, labels=replace(case.labels, dme=None)) for case in cases]
    best = train_network(short, bare, tmp_path / "run", fold=0)
    assert "no training photo shows dme: the model's answers leave that out" in capsys.readouterr().err
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert (card["grade"], card["dme"]) == (True, False)
    graded = [case for case in cases if case.dataset == "idrid-B"]
    assert load(best)(graded[0].path).to_dict()["dme"] is None
    scores = summarize(list(score_stream(load(best), graded)), repeats=1)
    assert {key.question.subject for key in scores.intervals} & {"DR", "DME"} == {"DR"}
    train_network(short, bare, tmp_path / "next", fold=0, start=Start((best,)))
    assert json.loads((tmp_path / "next" / "card.json").read_text("utf-8"))["dme"] is False
    train_network(short, cases, tmp_path / "full", fold=0, start=Start((best,)))
    assert json.loads((tmp_path / "full" / "card.json").read_text("utf-8"))["dme"] is True


@pytest.mark.usefixtures("use_cache")
def test_the_card_follows_the_terms_of_what_taught_the_model(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    """IDRiD's allow every use. One photo that was learned from, or first weights, with stricter ones do not."""

    def card(folder: Path) -> dict:
        return json.loads((folder / "card.json").read_text("utf-8"))

    assert card(done)["research_only"] is False
    one = next(case for case in cases if case.dataset == "idrid-A" and case.fold == 3)
    strict = [replace(case, research_only=case.key == one.key) for case in cases]
    best = train_network(short, strict, tmp_path / "strict", fold=0)
    assert card(best.parent)["research_only"] is True
    train_network(short, cases, tmp_path / "next", fold=0, start=Start((best,)))
    assert card(tmp_path / "next")["research_only"] is True


@pytest.mark.usefixtures("use_cache")
def test_a_data_set_that_the_recipe_does_not_name_comes_with_the_setting_to_type(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own = [replace(case, key=f"clinic/{case.name}", dataset="clinic") for case in cases if case.dataset == "idrid-A"]
    settings = "--set sampling.whole.clinic=1 --set sampling.close.clinic=1"
    with pytest.raises(TrainingError, match=settings):
        train_network(short, own, tmp_path / "alone", fold=0)
    both = [*[case for case in cases if case.dataset == "idrid-B"], *own]
    train_network(short, both, tmp_path / "without", fold=0)
    assert f"nothing from photos of clinic (3). To change that: {settings}" in capsys.readouterr().err
    typed = Recipe.from_toml(short.to_toml(), settings.replace("--set ", "").split())
    train_network(typed, both, tmp_path / "with", fold=0)
    assert "nothing from photos" not in capsys.readouterr().err
    assert json.loads((tmp_path / "with" / "run.json").read_text("utf-8"))["photos"]["train"]["clinic"] == 3


@pytest.mark.usefixtures("use_cache")
def test_a_run_does_not_go_on_from_other_first_weights(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    with pytest.raises(TrainingError, match=f"other first weights: expected none, got {done.name}"):
        train_network(short, cases, folder, fold=0, start=Start((done / "best.safetensors",)))


@pytest.mark.usefixtures("use_cache")
def test_one_mask_that_cannot_be_used_is_left_out_alone_and_several_are_an_error(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.full((20, 20), 255, np.uint8))
    masked = [case for case in cases if case.dataset == "idrid-A"]
    bad = [
        replace(case, labels=replace(case.labels, masks={**case.labels.masks, "EX": Mask((small,), read_mask)}))
        for case in masked
    ]
    kept, files = prepared(short, [bad[0], *masked[1:]], lambda items, words, total: items)
    assert [case.key for case in kept] == [case.key for case in masked]
    assert f"left out: {masked[0].key}, EX alone: The mask small.png" in capsys.readouterr().err
    assert {"MA", "HE"} <= read_prepared(files[masked[0].key]).coverage.keys()
    with pytest.raises(TrainingError, match="2 of 5 photos have masks that cannot be used, such as idrid-A"):
        prepared(short, [*bad[:2], *masked[2:]], lambda items, words, total: items)


def test_a_validation_photo_loses_the_mask_that_cannot_be_used_before_the_first_epoch(
    cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    masked = next(case for case in cases if case.dataset == "idrid-A")
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.full((20, 20), 255, np.uint8))
    bad = replace(masked, labels=replace(masked.labels, masks={"EX": Mask((small,), read_mask)}))
    gone = replace(masked, path=tmp_path / "gone.jpg")
    without = replace(bad, labels=replace(bad.labels, masks={}))
    assert drop_unusable_masks([masked, bad, gone]) == [masked, without, gone]
    assert f"left out: {masked.key}, EX alone: The mask small.png is 20x20 px" in capsys.readouterr().err


def test_what_cannot_be_used_is_named_by_the_first_stage_alone(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.full((20, 20), 255, np.uint8))
    masks = {"EX": Mask((small,), read_mask)}
    bad = [replace(case, labels=replace(case.labels, masks=masks)) if case.fold == 1 else case for case in cases]
    first = split(bad, tmp_path, 0, False, short, no_progress)
    assert capsys.readouterr().err.count("EX alone") == len(first.validation) > 0
    again = split(first.cases, tmp_path, 0, False, short, no_progress)
    assert capsys.readouterr().err == ""
    assert (again.train, again.validation) == (first.train, first.validation)


def test_a_mask_of_a_dicom_validation_photo_is_checked_as_any_other(
    cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    from tests.cli.test_predict_dicom import write_dicom

    pixels = draw_eye(3, width_px=400).pixels
    write_dicom(tmp_path / "eye.dcm", pixels[None], "R")
    for name, shape in (("right", pixels.shape[:2]), ("wrong", (20, 20))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full(shape, 255, np.uint8))
    masks = {"EX": Mask((tmp_path / "right.png",), read_mask), "MA": Mask((tmp_path / "wrong.png",), read_mask)}
    photo = replace(cases[0], path=tmp_path / "eye.dcm", labels=Labels(masks=masks))
    assert drop_unusable_masks([photo])[0].labels.masks.keys() == {"EX"}
    assert "MA alone: The mask wrong.png is 20x20 px" in capsys.readouterr().err


@pytest.mark.usefixtures("use_cache")
def test_a_damaged_last_checkpoint_costs_one_epoch(
    changes: list[str], cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe = Recipe.load("plain", [*changes, "training.epochs=2", "training.workers=0"])
    train_network(recipe, cases, tmp_path / "run", fold=0)
    last = tmp_path / "run" / "last.safetensors"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    train_network(recipe, cases, tmp_path / "run", fold=0)
    assert "continues from the checkpoint before it, after epoch 1" in capsys.readouterr().err
    weights = checkpoint.load(last).group("weights")
    last.write_bytes(whole)
    for name, value in checkpoint.load(last).group("weights").items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)


@pytest.mark.usefixtures("use_cache")
def test_what_is_lost_or_damaged_in_a_finished_run_is_named_and_nothing_is_learned_for_it(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    about, best = folder / "run.json", folder / "best.safetensors"
    kept = about.read_bytes()

    def again(fold: int = 0) -> None:
        train_network(short, cases, folder, fold=fold)

    about.unlink()
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        again(2)
    about.write_bytes(kept[:-20])
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged .*: restore it from a backup"):
        again()
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged"):
        SplitPlan.of_run(folder, cases)
    about.write_bytes(kept)
    folds, listed = folder / "folds.csv", (folder / "folds.csv").read_bytes()
    folds.write_bytes(listed[: len(listed) // 2])
    with pytest.raises(DamagedFileError, match=r"folds\.csv is damaged \(its end is missing\): restore it"):
        again()
    with pytest.raises(DamagedFileError, match=r"folds\.csv is damaged"):
        seen_before(folder, cases)
    folds.write_bytes(listed)
    best.write_bytes(best.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"best\.safetensors cannot be used: .* To continue, copy .*kept/.* there"):
        again()


@pytest.mark.usefixtures("use_cache")
def test_exports_of_a_finished_run_stay_though_the_dated_copies_are_gone(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    shutil.rmtree(folder / "kept")
    (folder / "model.onnx").write_bytes(b"exported")
    train_network(short, cases, folder, fold=0)
    assert (folder / "model.onnx").read_bytes() == b"exported"
    assert list((folder / "kept").glob("*-best.safetensors"))


def test_answers_of_the_first_weights_that_no_photo_teaches_are_named(
    short: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_untaught(short, {"OD"}, {"OD", "grade", "fovea"})
    assert (
        "no training photo shows grade, the center of the fovea: the first weights give these answers"
        in capsys.readouterr().err
    )
    warn_untaught(short, {"OD"}, {"OD"})
    warn_untaught(short, set(), {"grade"})  # nothing is learned that could spoil it
    assert not capsys.readouterr().err


def test_a_share_of_the_photos_is_whole_visits_of_every_set_and_holds_the_smaller_share(cases: list[Case]) -> None:
    many = [
        replace(case, key=f"{case.key}-{i}-{eye}", visit=f"{case.visit}-{i}")
        for case in cases
        for i in range(12)
        for eye in "lr"
    ]
    shares = {share: {case.key for case in share_of(many, share)} for share in (0.25, 0.5, 1.0)}
    assert shares[0.25] < shares[0.5] < shares[1.0] == {case.key for case in many}
    for share in (0.25, 0.5):
        for dataset in {case.dataset for case in many}:
            mine = [case for case in many if case.dataset == dataset]
            kept = [case for case in mine if case.key in shares[share]]
            assert len(kept) == pytest.approx(share * len(mine), abs=3)
            visits = {case.visit for case in kept}
            assert all(case in kept for case in mine if case.visit in visits)


@pytest.mark.usefixtures("use_cache")
def test_first_weights_are_known_only_where_their_whole_way_is_there(done: Path, short: Recipe, tmp_path: Path) -> None:
    weights = done / "best.safetensors"
    every = first_network(short, tmp_path, [weights]).known
    assert {"grade", "dme", "EX", "OD", "fovea"} <= every
    other = first_network(Recipe.from_toml(short.to_toml(), ["decoder.kind=unetplusplus"]), tmp_path, [weights])
    assert "in part: decoder" in other.note
    assert other.known == {"grade", "dme"}, "heads of lesions after a decoder that learned nothing"


@pytest.mark.usefixtures("use_cache")
def test_a_fine_tuning_that_goes_on_without_naming_its_first_weights_keeps_what_their_card_fixed(
    done: Path, short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = checkpoint.load(done / "best.safetensors")
    card = first.card | {"thresholds": dict.fromkeys(first.card["thresholds"], 0.31)}
    checkpoint.save(tmp_path / "w.safetensors", first.recipe, {"weights": first.group("weights")}, card, first.progress)
    graded = [replace(case, labels=Labels(grade=case.labels.grade)) for case in cases if case.labels.grade is not None]
    folder = tmp_path / "run"
    train_network(short, graded, folder, fold=0, start=Start((tmp_path / "w.safetensors",)))
    thresholds = json.loads((folder / "card.json").read_text("utf-8"))["thresholds"]
    assert thresholds["EX"] == 0.31
    last = checkpoint.load(folder / "last.safetensors")
    checkpoint.save(folder / "best.safetensors", last.recipe, {"weights": last.group("weights")}, {}, last.progress)
    (folder / "card.json").unlink()
    began = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "journal.jsonl").write_text("")
    train_network(short, graded, folder, fold=0)
    assert "journal.jsonl has lost lines of epochs" in capsys.readouterr().err
    assert json.loads((folder / "card.json").read_text("utf-8"))["thresholds"] == thresholds
    about = json.loads((folder / "run.json").read_text("utf-8"))
    assert "init=" in about["command"]
    assert (about["command"], about["init"]) == (began["command"], began["init"])


@pytest.mark.usefixtures("use_cache")
def test_a_run_that_ended_before_its_recipe_was_written_begins_anew(
    short: Recipe, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, data: bytes) -> None:
        raise OSError(f"no room for {path.name}")

    monkeypatch.setitem(train_network.__globals__, "write_atomically", write)
    with pytest.raises(OSError, match=r"no room for recipe\.toml"):
        train_network(short, cases, tmp_path, fold=0)
    (tmp_path / ".recipe.toml.0a1b2c3d.partial").touch()
    monkeypatch.undo()
    assert train_network(short, cases, tmp_path, fold=0).is_file()
    assert not [*tmp_path.glob(".*.partial")]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(Labels(laterality="left"), id="nothing"),
        pytest.param(Labels(boxes={"OD": ((20.0, 20.0, 60.0, 60.0),)}), id="boxes"),
        pytest.param(Labels(classes={"dme": frozenset({1, 2})}), id="constraint"),
    ],
)
@pytest.mark.usefixtures("use_cache")
def test_a_validation_fold_without_photos_to_judge_is_told_of(
    short: Recipe, cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: Labels
) -> None:
    others = [replace(case, labels=labels) for case in cases if case.fold == 1]
    train_network(
        short,
        [*(case for case in cases if case.fold != 1), *others],
        tmp_path / "run",
        fold=0,
        make_validation=make_validation,
    )
    assert "warning: no validation photo has a class, a point or a mask" in capsys.readouterr().err
    about = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))["about"]
    assert "selection" not in about
    assert about["epoch"] == short.training.epochs  # the last one
