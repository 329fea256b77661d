"""Reading runs: what is no run is refused, unlike budgets stay apart, and a bundle holds all that the page needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from funduscope.compare.report import compare_runs
from funduscope.compare.run_folder import PARTS, CompareError, bundle, gather, learned_from, split_comparable
from funduscope.recipe import Recipe


def test_a_folder_that_is_no_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"has no recipe\.toml: expected the folder of a run"):
        gather([tmp_path])


def test_a_run_cannot_be_compared_with_itself(fabricate, tmp_path: Path) -> None:
    one = fabricate(tmp_path / "one")
    with pytest.raises(CompareError, match="twice"):
        gather([one, tmp_path / "." / "one"])


def test_runs_of_one_name_are_told_apart_by_their_folders(fabricate, tmp_path: Path) -> None:
    runs = gather([fabricate(tmp_path / "a" / "run"), fabricate(tmp_path / "b" / "run")])
    assert [run.name for run in runs] == ["a/run", "b/run"]
    runs = gather([fabricate(tmp_path / one) for one in ("x/fold0/run", "y/fold0/run", "z/other")])
    assert [run.name for run in runs] == ["x/fold0/run", "y/fold0/run", "other"]


def test_broken_json_names_the_run(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "one")
    (folder / "scores" / "test" / "scores.json").write_text("{", "utf-8")
    with pytest.raises(CompareError, match=r"one has a file that cannot be read"):
        gather([folder])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.toml", b"\xff"),
        ("recipe.toml", b"name = 3"),
        ("run.json", b"null"),
        ("run.json", b"[]"),
        ("run.json", b'{"environment": null}'),
        ("run.json", b'{"environment": "x"}'),
        ("run.json", b"[" * 100_000),
        ("journal.jsonl", b"3\n"),
        ("journal.jsonl", b'{"seconds": 1.0}\n{"seconds": "x"}\n'),
        ("journal.jsonl", b'{"weight grade": null}\n'),
        ("scores/cost.json", b"{}"),
        ("scores/cost.json", b"[1, 2]"),
        ("scores/test/scores.json", b"[]"),
        ("scores/test/scores.json", b'{"scores": {"idrid-B": 3}}'),
        ("scores/test/photos.jsonl", b"3\n"),
        ("scores/test/photos.jsonl", b'{"key": "a", "dataset": "b", "visit": "c", "grade": 2}\n'),
        ("scores/test/photos.jsonl", b'{"key": "a", "dataset": "b", "visit": "c", "EX mask": [1, 2]}\n'),
        ("scores/test/photos.jsonl", b'{"key": "a", "dataset": "b", "visit": "c", "EX pixels": [1, 2, 3]}\n'),
        ("scores/test/photos.jsonl", b'{"key": "a", "dataset": "b", "visit": "c", "false lesions": {"EX": 1}}\n'),
    ],
)
def test_a_damaged_file_is_named_with_its_folder(fabricate, tmp_path: Path, name: str, content: bytes) -> None:
    folder = fabricate(tmp_path / "one")
    (folder / name).write_bytes(content)
    with pytest.raises(CompareError, match=rf"one has a file that cannot be read, {name}: \S.*[^.]\.$"):
        gather([folder])


def test_the_place_in_a_damaged_file_is_named(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "one")
    (folder / "journal.jsonl").write_text('{"epoch": 1}\n{"epoch": 2, "seconds": "x"}\n', "utf-8")
    with pytest.raises(CompareError, match=r"journal\.jsonl: line 2: seconds: Input should be a valid number\."):
        gather([folder])
    (folder / "journal.jsonl").write_text('{"seconds": 1.0}\n', "utf-8")
    with pytest.raises(CompareError, match=r"journal\.jsonl: line 1: epoch: Field required"):
        gather([folder])


def test_half_a_line_of_a_killed_process_is_no_line(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "one")
    with (folder / "journal.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 5, "sec')
    assert len(gather([folder])[0].journal) == 4


def test_runs_of_another_budget_or_fold_stand_apart_with_the_reason(fabricate, tmp_path: Path) -> None:
    alike = [fabricate(tmp_path / name) for name in ("one", "two")]
    wider = fabricate(tmp_path / "wider", Recipe.load("plain", ["sampling.per_epoch=900", "training.epochs=4"]))
    other, every = fabricate(tmp_path / "other", fold=3), fabricate(tmp_path / "every", fold=None)
    side, reasons = split_comparable(gather([wider, *alike, other, every]))
    assert [run.name for run in side] == ["one", "two"]
    assert reasons == {
        "wider": "another budget: 3,600 samples in 4 epochs at 512 px, close 1024 px",
        "other": "test fold 3 instead of test fold 0",
        "every": "the official test instead of test fold 0",
    }


def test_other_epochs_or_another_close_view_are_another_budget(fabricate, recipe_of, tmp_path: Path) -> None:
    changes = (), ("training.epochs=2", "sampling.per_epoch=1800"), ("views.close_px=768",)
    runs = gather([fabricate(tmp_path / str(place), recipe_of("plain", *one)) for place, one in enumerate(changes)])
    assert [run.budget for run in runs] == [
        "3,600 samples in 4 epochs at 384 px",
        "3,600 samples in 2 epochs at 384 px",
        "3,600 samples in 4 epochs at 384 px, close 768 px",
    ]


def test_other_rates_are_another_budget_where_they_decide_how_much_is_seen(
    fabricate, recipe_of, tmp_path: Path
) -> None:
    seen = "sampling.per_epoch=0", "sampling.whole={idrid-B = 2}", "sampling.close={}"
    changes = seen, (*seen, "sampling.whole={idrid-B = 4, srahim = 0}"), (*seen, "sampling.photos=0.25")
    runs = gather([fabricate(tmp_path / str(place), recipe_of("plain", *one)) for place, one in enumerate(changes)])
    assert [run.budget for run in runs] == [
        "the samples of 2 × idrid-B whole in 4 epochs at 384 px",
        "the samples of 4 × idrid-B whole in 4 epochs at 384 px",
        "the samples of 2 × idrid-B whole, 25% of the photos in 4 epochs at 384 px",
    ]


def test_a_data_set_that_no_run_had_makes_no_other_budget(fabricate, recipe_of, tmp_path: Path) -> None:
    rates = "{idrid-B = 2}", "{idrid-B = 2, messidor2 = 2}"
    seen = [("sampling.per_epoch=0", f"sampling.whole={rate}", "sampling.close={}") for rate in rates]
    folders = [fabricate(tmp_path / str(place), recipe_of("plain", *one)) for place, one in enumerate(seen)]
    for folder in folders:
        about = json.loads((folder / "run.json").read_text("utf-8"))
        (folder / "run.json").write_text(json.dumps(about | {"photos": {"train": {"idrid-B": 9}}}), "utf-8")
    assert len({run.budget for run in gather(folders)}) == 1


def test_a_run_that_is_not_finished_stands_apart_and_alone_is_refused(fabricate, recipe_of, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name) for name in ("ended", "killed")]
    folders.append(fabricate(tmp_path / "stopped", recipe_of("plain", "training.patience=2")))
    lines = [{"epoch": epoch, "seconds": 1.0, "best": epoch == 1} for epoch in (1, 2, 3)]
    for folder in folders[1:]:
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    side, reasons = split_comparable(gather(folders))
    assert [run.name for run in side] == ["ended", "stopped"], "one that found nothing better for long is at its end"
    assert reasons == {"killed": "not finished: 3 of 4 epochs"}
    whole = json.loads((folders[1] / "run.json").read_text("utf-8")) | {"until": 3}
    (folders[1] / "run.json").write_text(json.dumps(whole), "utf-8")
    assert not split_comparable(gather(folders))[1], "a run that repeats another ends at the epoch that was kept of it"
    (folders[1] / "run.json").write_text(json.dumps(whole | {"until": 4}), "utf-8")
    with pytest.raises(CompareError, match=r"No run is finished \(killed not finished: 3 of 4 epochs\): continue with"):
        split_comparable(gather(folders[1:2]))
    lost = [*lines[1:], lines[-1] | {"epoch": 4}]
    (folders[1] / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lost), "utf-8")
    assert not split_comparable(gather(folders))[1], "epochs count, also where the journal has lost a line"


def test_a_run_whose_thresholds_are_not_fixed_is_not_finished(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run")
    (folder / "best.safetensors").write_bytes(b"weights")
    (run,) = gather([folder])
    assert run.unfinished == "not finished: no thresholds yet"
    (folder / "card.json").write_text("{}", "utf-8")
    assert not gather([folder])[0].unfinished


def test_a_training_in_stages_that_was_stopped_is_told_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "run" / "stages" / "lesions").mkdir(parents=True)
    with pytest.raises(CompareError, match="has not ended: the same command continues it"):
        gather([tmp_path / "run"])


def test_what_a_run_did_not_learn_is_not_among_its_answers(fabricate, tmp_path: Path) -> None:
    less = fabricate(tmp_path / "less", not_learned=["dme", "MA"])
    runs = [fabricate(tmp_path / "all"), fabricate(tmp_path / "fold1", fold=1), less]
    every, _, left = (run.answers for run in gather(runs))
    assert [name for name in every if name not in left] == ["DME", "MA"]
    page = compare_runs(runs[:2], tmp_path / "out").read_text("utf-8")
    assert "1 of the 2 runs has test fold 0" in page


def test_the_same_letter_means_the_same_photos(fabricate, tmp_path: Path) -> None:
    runs = gather([fabricate(tmp_path / name, data_fingerprint=name[0]) for name in ("aa", "ab", "ba")])
    assert learned_from(runs) == {"aa": "A", "ab": "A", "ba": "B"}


@pytest.mark.slow
def test_the_page_from_bundles_is_the_page_from_the_runs(fabricate, tmp_path: Path) -> None:
    runs = [fabricate(tmp_path / "runs" / name, seed=seed, parts=PARTS) for seed, name in enumerate(("one", "two"))]
    for run in runs:
        (run / "best.safetensors").write_bytes(b"0" * 400_000)
        (run / "card.json").write_text("{}", "utf-8")
        bundle(run, tmp_path / "kept" / run.name)
    kept = [tmp_path / "kept" / run.name for run in runs]
    pages = [compare_runs(folders, tmp_path / "out" / folders[0].parent.name).read_bytes() for folders in (runs, kept)]
    assert pages[0] == pages[1]
    for folder in kept:
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000
        assert not any(path.suffix == ".safetensors" for path in files)


def test_a_bundle_names_no_photo_and_no_patient(fabricate, tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run")
    assert "idrid-B/validation-3" in (run / "scores" / "validation" / "photos.jsonl").read_text("utf-8")
    bundle(run, tmp_path / "kept")
    for path in (tmp_path / "kept").rglob("*.json*"):
        assert "validation-" not in path.read_text("utf-8"), path
    row = json.loads((tmp_path / "kept" / "scores" / "test" / "photos.jsonl").read_text("utf-8").splitlines()[0])
    assert row["key"].startswith("#")
    assert row["visit"].startswith("#")


def test_a_bundle_replaces_the_one_before(fabricate, tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "stale.json").write_text("{}", "utf-8")
    bundle(run, tmp_path / "kept")
    assert not (tmp_path / "kept" / "stale.json").exists()
    assert gather([tmp_path / "kept"])[0].trees.keys() == {"validation", "test"}
    shutil.rmtree(run)
    bundle(tmp_path / "kept", tmp_path / "again")  # a bundle of a bundle holds as much
    first, second = (gather([tmp_path / name])[0] for name in ("kept", "again"))
    assert first.rows == second.rows


def test_what_a_training_scored_itself_is_not_compared(fabricate, tmp_path: Path) -> None:
    """There refused photos count as the worst answer; in what `compare` scores none is refused."""
    folder = fabricate(tmp_path / "one")
    scores = folder / "scores" / "validation" / "scores.json"
    tree = json.loads(scores.read_text("utf-8"))
    scores.write_text(json.dumps(tree | {"about": {"photos": "validation", "command": "funduscope train"}}), "utf-8")
    (run,) = gather([folder])
    assert "validation" not in run.trees
    assert not run.rows["validation"]
    assert run.rows["test"]
