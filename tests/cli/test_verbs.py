"""The verbs around a model's life, wrong use, and what an error looks like."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from funduscope.cli.main import command_line
from funduscope.cli.terminal import shown
from funduscope.data.case import LabelError
from funduscope.evaluation.out_of_fold import plan
from funduscope.inference.loading import shipped_file
from funduscope.inference.runtime import ModelError
from funduscope.recipe import Recipe, builtin_recipes
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.version import __version__

Command = Callable[..., tuple[int, str, str]]
VERBS = [str(command.name or command.callback.__name__) for command in command_line.registered_commands]  # type: ignore[union-attr]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six photos of one's own, each of another eye, a table that grades them, and no folds."""
    lines = ["path,dr,patient"]
    (tmp_path / "data").mkdir()
    for number in range(6):
        Image.fromarray(draw_eye(number, width_px=430).pixels).save(tmp_path / "data" / f"eye{number}.png")
        lines.append(f"eye{number}.png,{number % 3},p{number}")
    file = tmp_path / "data" / "mine.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_version_names_the_terms_of_the_weights(command: Command):
    code, out, _ = command("--version")
    assert code == 0
    assert f"funduscope {__version__}" in out
    assert "research and education" in out
    terms = Path(out.split(": ")[-1].strip())
    assert terms.name == "LICENSE"
    assert terms.is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(command: Command, verb: str):
    code, out, err = command(verb, "--help")
    assert (code, err) == (0, "")
    assert f"Example: funduscope {verb}" in " ".join(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "eye.jpg", "--palette", "pink"],
        ["predict", "eye.jpg", "--threads", "-1"],
        ["predict", "eye.jpg", "--model", "gone.onnx"],
        ["predict", "eye.jpg", "--nothing"],
        ["predict", "eye.jpg", "--device", "tpu"],
        ["train", "plain", "--data", ".", "--run", "r", "--fold", "-1"],
        ["train", "no-such-recipe", "--data", ".", "--run", "r"],
        ["train", "plain", "--data", ".", "--run", "r", "--set", "epochs"],
        ["train", "plain", "--data", ".", "--run", "r", "--set", "training.epochs=-1"],
        ["train", "plain", "--data", ".", "--run", "r", "--set", "training.nothing=1"],
        ["train", "plain", "--run", "r"],
        ["train", "plain", "--data", ".", "--run", "r", "--like", "other"],
        ["evaluate", "--data", "."],
        ["evaluate", ".", "..", "--data", ".", "--fold", "0"],
        ["export", "gone"],
        ["recipes", "--show", "no-such-recipe"],
        ["doctor", "gone"],
        ["doctor", ".", "--model", "gone"],
        ["folds", ".", "--out", "f.csv", "--count", "1"],
        ["folds", "gone", "--out", "f.csv"],
        ["serve", "--deadline", "nan"],
        ["predict", "eye.jpg", "--model", "fast", "--model", "fast"],
        ["serve", "--deadline", "inf"],
        ["sing"],
    ],
)
def test_wrong_use_is_one_line_and_two(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("funduscope: ")
    assert " See `" not in err or re.search(r"[.?] See `funduscope.* --help`\.$", err.strip())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["serve", "app"])
def test_nothing_is_served_without_a_model(command: Command, tmp_path: Path, verb: str):
    (tmp_path / "run" / "stages").mkdir(parents=True)
    for name, says in (("run", "has not ended"), ("run/stages", "is no run folder")):
        code, out, err = command(verb, "--model", tmp_path / name, "--port", "0" if verb == "serve" else "8599")
        assert (code, out) == (1, "")
        assert says in err


def test_no_verb_is_cut_short_in_the_help(command: Command):
    assert "..." not in command("--help")[1].replace("[ARGS]...", "")


def test_a_traceback_only_with_debug(command: Command, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    arguments = ("predict", tmp_path / "eye.jpg", "--model", tmp_path / "model.onnx")
    code, out, err = command(*arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    code, _, err = command(*arguments, "--debug")
    assert code == 1
    assert "Traceback" in err


def test_recipes(command: Command):
    code, out, _ = command("recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(builtin_recipes())
    code, out, _ = command("recipes", "--show", "plain")
    assert (code, out) == (0, builtin_recipes()["plain"])


def test_a_model_counts_once_however_it_is_spelled(command: Command):
    shipped = shipped_file("fast")
    code, _, err = command("predict", "eye.jpg", "--model", "fast", "--model", shipped)
    assert code == 2
    assert "was given twice" in err


def test_spaces_of_a_path_stay_and_nothing_else_is_printed_that_a_terminal_acts_on():
    assert (
        shown("Open /my  results\u00a0here/a.html\n  now\x1b[0m") == "Open /my  results\u00a0here/a.html now\ufffd[0m"
    )


def test_a_recipe_is_shown_with_every_setting(command: Command):
    code, out, _ = command("recipes", "--show", "plain", "--full")
    assert (code, out) == (0, Recipe.load("plain").to_toml())
    assert "[balance]" in out
    assert Recipe.from_toml(out) == Recipe.load("plain")
    code, _, err = command("recipes", "--full")
    assert code == 2
    assert "--show" in err


def test_folds_are_written_once_and_read_back(command: Command, table: Path, tmp_path: Path):
    file = tmp_path / "data" / "folds.csv"
    code, out, _ = command("folds", table, "--out", file, "--count", 3)
    assert code == 0
    assert "6 photos in folds of " in out
    again = tmp_path / "again.csv"
    # the second time the folds come from the file that is next to the table by now, and are drawn anew all the same
    assert command("folds", table, "--out", again, "--count", 3)[0] == 0
    assert again.read_bytes() == file.read_bytes()
    code, _, err = command("folds", table, "--out", file)
    assert code == 2
    assert "is there already, and models may depend on it: name another file. See `" in err


def test_more_folds_than_visits_are_refused(command: Command, table: Path, tmp_path: Path):
    code, _, err = command("folds", table, "--out", tmp_path / "folds.csv", "--count", 9)
    assert code == 2
    assert "9 folds need as many visits or patients, and the photos are of 6" in err
    assert not (tmp_path / "folds.csv").exists()


def test_evaluate_prints_a_table_or_json(command: Command, tiny: Path, table: Path, tmp_path: Path):
    code, out, err = command("evaluate", tiny, "--data", table)
    assert (code, err) == (0, "")
    assert "6 photos" in out
    assert "kappa" in out
    assert "…" not in out, "no interval is cut"
    code, out, _ = command("evaluate", tiny, "--data", table, "--fold", 1, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["about"]["command"].endswith("--fold 1")
    assert found["about"]["models"][0]["folds"] == [1]
    assert sum(detail["photos"] for detail in found["details"].values()) < 6
    code, out, err = command("evaluate", tiny, "--data", table, "--fold", 7)
    assert (code, out) == (1, "")
    assert "No photo is in fold 7" in err


def test_evaluate_continues_and_leaves_nothing_of_it(
    command: Command, tiny: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "scores"
    with monkeypatch.context() as patched:
        patched.setattr("funduscope.evaluation.evaluate.summarize", stopped)
        assert command("evaluate", tiny, "--data", table, "--out", out)[2].endswith(
            "interrupted: the same command continues\n"
        )
    assert not (out / "scores.json").exists()
    code, _, err = command("evaluate", tiny, "--data", table, "--out", out)
    assert code == 0
    assert "continued: 6 of 6 photos were scored before" in err
    assert (out / "scores.json").is_file()
    assert not (out / ".unfinished").exists()


def test_evaluate_writes_scores_without_pictures_where_nothing_draws(
    command: Command, tiny: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = command("evaluate", tiny, "--data", table, "--out", tmp_path / "scores")
    assert code == 0
    assert "matplotlib" in err
    assert json.loads((tmp_path / "scores" / "scores.json").read_text("utf-8"))["about"]["models"][0]["name"] == "tiny"


def test_evaluate_writes_before_it_prints(
    command: Command, tiny: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A reader that closes the pipe does not cost the scores."""

    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("funduscope.cli.evaluate.print", closed, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command("evaluate", tiny, "--data", table, "--json", "--out", tmp_path / "scores")[0] == 1
    assert json.loads((tmp_path / "scores" / "scores.json").read_text("utf-8"))["about"]["command"]


def test_several_runs_are_scored_each_on_its_own_fold(command: Command, tiny: Path, table: Path, tmp_path: Path):
    runs = [tmp_path / f"fold{fold}" for fold in range(5)]
    for fold, run in enumerate(runs):
        run.mkdir()
        (run / "model.onnx").write_bytes(tiny.read_bytes())
        (run / "run.json").write_text(json.dumps({"fold": fold}))
    for models in (runs, [run / "model.onnx" for run in runs]):
        code, out, _ = command("evaluate", *models, "--data", table, "--json")
        assert code == 0
        found = json.loads(out)
        assert [model["folds"] for model in found["about"]["models"]] == [[0], [1], [2], [3], [4]]
        assert sum(detail["photos"] for detail in found["details"].values()) == 6
    code, _, err = command("evaluate", runs[0], runs[0], "--data", table)
    assert code == 1
    assert "one run for each fold" in err
    (runs[1] / "run.json").unlink()
    code, _, err = command("evaluate", *runs, "--data", table)
    assert code == 1
    assert "names no test fold" in err


def test_no_photo_is_scored_by_a_model_that_learned_from_it(table: Path, tmp_path: Path):
    from funduscope.data.sources import read_data

    cases = read_data([table])
    whole, _ = plan([tmp_path], cases, None)
    assert [case.key for case in whole[0][1]] == [case.key for case in cases]
    with pytest.raises(LabelError, match="No photo is in fold 9"):
        plan([tmp_path], cases, 9)
    with pytest.raises(ModelError, match="names no test fold"):
        plan([tmp_path, tmp_path], cases, None)


def test_a_comparison_tells_its_whole_command(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def make(*_: object, published: object, command: str, progress: object) -> str:
        told.append(command)
        return "done"

    monkeypatch.setattr("funduscope.compare.report.compare_runs", make)
    (tmp_path / "run").mkdir()
    options = ("--out", tmp_path / "out", "--data", tmp_path)
    assert command("compare", tmp_path / "run", *options)[0] == 0
    assert f"--data {tmp_path} --out {tmp_path / 'out'}" in told[0]


@pytest.mark.parametrize(
    ("name", "says"), [("default", "is a shipped model, not a run's folder"), ("nowhere", "is no folder")]
)
def test_what_is_no_run_cannot_be_compared(name: str, says: str, command: Command, tmp_path: Path) -> None:
    code, _, err = command("compare", name, "--out", tmp_path / "out")
    assert code == 2
    assert says in err


def test_photos_that_a_run_knows_are_scored_with_a_warning(command: Command, tiny: Path, table: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.onnx").write_bytes(tiny.read_bytes())
    told = {"fold": 0, "validation_fold": 1, "photos": {"train": {"table": 3}, "validation": {"table": 1}}}
    (run / "run.json").write_text(json.dumps(told))

    def asked(*arguments: object) -> tuple[str, dict]:
        code, out, err = command("evaluate", *arguments, "--data", table, "--json")
        assert code == 0
        return err, json.loads(out)["about"]["models"][0]

    err, made = asked(run, "--fold", 0)
    assert (err, made["learned from"], made["chosen on"]) == ("", 0, 0)
    err, made = asked(run, "--fold", 1)
    assert "chosen on 1 of these 1 photos, its validation fold" in err
    assert (made["learned from"], made["chosen on"]) == (0, 1)
    err, made = asked(run / "model.onnx", "--fold", 3)
    assert "learned from 1 of these 1 photos" in err
    err, made = asked(run)
    assert "learned from" in err
    assert made["learned from"] + made["chosen on"] in (4, 5), "all but the test fold"
    err, made = asked(tiny)
    assert (err, "learned from" in made) == ("", False), "nobody knows what it learned from"
    (run / "run.json").write_text(json.dumps(told | {"photos": {"train": {"idrid-B": 3}}}))
    err, made = asked(run)
    assert (err, made["learned from"]) == ("", 0), "another data set's photos are new to it"


def test_a_run_is_scored_by_its_own_folds(table: Path, tmp_path: Path):
    """The data set's were made anew since: its fold 0 holds photos that this run learned from."""
    from funduscope.data.folds import write_folds
    from funduscope.data.sources import read_data

    cases = [case.in_fold(place % 5) for place, case in enumerate(read_data([table]))]
    write_folds(cases, tmp_path / "folds.csv")
    mine = {case.key for case in cases if case.fold == 0}
    now = [case.in_fold((place + 1) % 5) for place, case in enumerate(cases)]
    assert {case.key for case in plan([tmp_path], now, 0)[0][0][1]} == mine


def test_runs_whose_own_folds_overlap_are_not_scored_together(table: Path, tmp_path: Path):
    """Photos were added between the trainings: some would be scored twice, others never."""
    from funduscope.data.folds import write_folds
    from funduscope.data.sources import read_data

    cases = [case.in_fold(place % 2) for place, case in enumerate(read_data([table]))]
    runs = [tmp_path / name for name in ("first", "second")]
    for fold, run in enumerate(runs):
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"fold": fold}))
        write_folds(cases, run / "folds.csv")
    parts, left = plan(runs, cases, None)
    assert [[case.fold for case in own] for _, own in parts] == [[0] * len(parts[0][1]), [1] * len(parts[1][1])]
    assert left == []
    write_folds([case.in_fold(1 - (case.fold or 0)) for case in cases], runs[1] / "folds.csv")
    with pytest.raises(ModelError, match="would be scored twice"):
        plan(runs, cases, None)
    write_folds([cases[0].in_fold(1), *(case.in_fold(2) for case in cases[1:])], runs[1] / "folds.csv")
    write_folds([case.in_fold(0 if place == 2 else 1) for place, case in enumerate(cases)], runs[0] / "folds.csv")
    parts, left = plan(runs, cases, None)
    assert {case.key for case in left} == {case.key for case in cases} - {cases[0].key, cases[2].key}


def test_photos_that_came_after_a_run_are_said_not_to_be_scored(
    command: Command, tiny: Path, table: Path, tmp_path: Path
):
    from funduscope.data.folds import write_folds
    from funduscope.data.sources import read_data

    cases = [case.in_fold(place % 5) for place, case in enumerate(read_data([table]))]
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.onnx").write_bytes(tiny.read_bytes())
    (run / "run.json").write_text(json.dumps({"fold": 0}))
    write_folds(cases, run / "folds.csv")
    assert "not scored" not in command("evaluate", run, "--data", table, "--fold", 0, "--json")[2]
    write_folds(cases[:-1], run / "folds.csv")
    err = command("evaluate", run, "--data", table, "--fold", 0, "--json")[2]
    assert f"not scored: 1 photo is in no test fold, such as {cases[-1].key}" in err


def test_train_hands_everything_on(command: Command, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    start = tmp_path / "start" / "best.safetensors"
    start.parent.mkdir()
    start.write_bytes(b"")
    seen: list[tuple] = []

    def run(recipe, cases, folder, fold, start, make_validation, watch, *, count):
        photos = len(list(watch.progress(cases, "Preparing", None)))
        assert count == "auto"
        seen.append((recipe.training.epochs, photos, folder, fold, start.init, start.teachers))
        return folder / "best.safetensors"

    # Stand-ins: what is tested is what they are given, and importing a training takes seconds.
    monkeypatch.setitem(sys.modules, "funduscope.training.stages", SimpleNamespace(run_recipe=run))
    monkeypatch.setitem(sys.modules, "funduscope.training.validation", SimpleNamespace(make_validation=None))
    options = ("--fold", 2, "--init", start.parent, "--set", "training.epochs=3", "--teacher", start)
    code, out, _ = command("train", "plain", "--data", table, "--run", tmp_path / "run", *options)
    assert code == 0
    assert "best.safetensors" in out
    assert seen == [(3, 6, tmp_path / "run", 2, (start,), (start,))]
    command("train", "plain", "--data", table, "--run", tmp_path / "run", "--init", "--init", start.parent)
    shipped, other = seen[-1][-2]
    assert (shipped.name, other) == ("funduscope.onnx", start)
    code, _, err = command("train", "plain", "--data", table, "--run", tmp_path / "run", "--init", tmp_path / "gone")
    assert code == 1
    assert "gone is not there: expected a run folder" in err


def test_export_prints_what_it_wrote(command: Command, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple] = []

    def export_run(run, data, *, device):
        seen.append((run, data, device))
        return [run / "model.onnx", run / "model-int8.onnx"]

    monkeypatch.setitem(sys.modules, "funduscope.export.run", SimpleNamespace(export_run=export_run))
    code, out, err = command("export", tmp_path, "--data", table)
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(tmp_path / "model.onnx"), str(tmp_path / "model-int8.onnx")]
    assert command("export", tmp_path, "--device", "cpu")[0] == 0
    assert seen == [(tmp_path, [table], "auto"), (tmp_path, None, "cpu")]


def test_what_needs_the_training_extra_says_so(
    command: Command, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.startswith(("funduscope.training", "funduscope.checkpoint"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = command("train", "plain", "--data", table, "--run", tmp_path / "run")
    assert (code, out) == (1, "")
    assert "pip install '.[train]' in the clone of funduscope" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("arguments", [["recipes", "--show", "plain"], ["--help"]])
def test_an_answer_that_a_full_disk_refuses_is_one_sentence(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "funduscope", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": ""})
    assert done.returncode == 1
    assert done.stderr.decode().startswith("funduscope: the disk is full")
    assert len(done.stderr.splitlines()) == 1


def test_folds_that_a_tables_own_column_overrides_are_said_not_to_count(
    command: Command, table: Path, tmp_path: Path
) -> None:
    head, *rows = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([f"{head},fold", *(f"{row},0" for row in rows)]), "utf-8")
    code, _, err = command("folds", table, "--out", table.with_name("folds.csv"), "--count", 3)
    assert code == 0
    assert "these folds do not count for 3 of the photos, such as table/eye0.png" in err
    assert "column fold" in err


@pytest.mark.parametrize("arguments", [("predict", "{photo}", "--json", "--again")])
def test_a_switch_that_would_do_nothing_is_refused(
    arguments: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    Image.fromarray(draw_eye(1, width_px=300).pixels).save(tmp_path / "eye.jpg")
    words = [word.format(photo=tmp_path / "eye.jpg") for word in arguments]
    code, _, err = command(*words)
    assert code == 2
    assert arguments[-1] in err


def test_a_run_in_a_folder_that_is_not_utf8_is_refused_before_anything_is_done(
    command: Command, tmp_path: Path
) -> None:
    """Nothing could be saved there after an epoch."""
    run = tmp_path / os.fsdecode(b"run-\xff")
    code, out, err = command("train", "plain", "--data", tmp_path, "--run", run, "--fold", "0")
    assert (code, out) == (1, "")
    assert "is not UTF-8: choose another folder" in err
    assert not run.exists()
