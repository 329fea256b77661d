"""Every verb that writes, on a disk that is really full or read-only: one sentence, nothing half-written, and the next
run continues. The disk is a small one in a namespace of mounts, so that the kernel refuses and not a test's hook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.batch.test_run import tables
from tests.cli.full_disk import __file__ as SCRIPT

from funduscope.cli.main import main
from funduscope.testing.drawn_eyes import write_idrid

pytestmark = pytest.mark.slow

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
RECIPE = (
    'name = "small"\n'
    "[encoder]\nname = 'test_resnet'\nweights = 'none'\n"
    "[decoder]\nskip_channels = [8, 8, 8, 8, 16]\nchannels = [16, 16, 8, 8]\n"
    "[views]\nwhole_px = 64\nclose_px = 128\n"
    "[sampling]\nwhole = {idrid-B = 1}\nclose = {idrid-A = 1}\n"
    "[training]\nepochs = 1\nbatch = 2\nworkers = 0\nprecision = 'float32'\n"
)
FULL = "the disk is full: free some space"
READ_ONLY = ("the disk can only be read: name a folder that can be written", "the folder may not be written: name one")
"""The second from SQLite, which does not say why it cannot make a file."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """By verb what it did on the disk."""
    folder = tmp_path_factory.mktemp("disks")
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a namespace of mounts (unshare)")
    data, photos, disk = folder / "idrid", folder / "photos", folder / "disk"
    write_idrid(data, graded=10, masked=5, width_px=400)
    photos.mkdir()
    disk.mkdir()
    for place, path in enumerate(sorted(data.rglob("*.jpg"))[:3]):
        shutil.copy(path, photos / f"eye{place}.jpg")
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE)
    train = ["train", recipe, "--data", data, "--fold", "0", "--processes", "1", "--run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    whole, batch = folder / "run", ["batch", photos, "--model", tiny, "--processes", "1", "--files", "--out"]
    cases = [
        _case("folds", ["folds", data, "--out", "{disk}/folds.csv"], [0]),
        _case("doctor", ["doctor", data, "--out", "{disk}/out", "--workers", "0"], [0]),
        _case("evaluate", ["evaluate", tiny, "--data", data, "--out", "{disk}/out"], [0, 8]),
        _case("batch", [*batch, "{disk}/out"], [0, 100, 400]) | {"kept": ("out", str(folder / "tables"))},
        _case("predict", ["predict", photos, "--out", "{disk}/out", "--model", tiny], [0, 40]),
        _case("train", [*train, "{disk}/run"], [0, 300, 3000]) | {"kept": ("run", str(whole))},
        _case("export", ["export", "{disk}/given"], [0, 300], whole),
    ]
    specification = folder / "cases.json"
    specification.write_text(json.dumps(cases))
    command = [*NAMESPACE, sys.executable, SCRIPT, str(disk), str(specification)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment | {"FUNDUSCOPE_CACHE": f"{disk}/cache"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: one for line in done.stdout.splitlines() for name, one in json.loads(line).items()}
    assert main([*map(str, batch), str(folder / "undisturbed")]) == 0
    found["batch"]["tables"] = [tables(folder / name) for name in ("tables", "undisturbed")]
    return found


def _case(name: str, arguments: list[Any], free_kb: list[int], given: Path | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "arguments": [str(one) for one in arguments],
        "free_kb": free_kb,
        "given": given and str(given),
    }


VERBS = ("folds", "doctor", "evaluate", "batch", "predict", "train", "export")


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(verb: str, answers: dict[str, Any]) -> None:
    runs = answers[verb]["full"]
    assert runs[0]["code"] == 1, runs[0]
    for run in runs:
        assert not run["damaged"]
        assert "Traceback" not in run["err"]
        if run["code"]:
            assert len(run["says"]) == 1, run
            assert FULL in run["says"][0]


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_disk_is_one_sentence(verb: str, answers: dict[str, Any]) -> None:
    run = answers[verb]["read-only"]
    assert run["code"] == 1
    assert len(run["says"]) == 1, run
    assert any(words in run["says"][0] for words in READ_ONLY)


@pytest.mark.parametrize("verb", VERBS)
def test_the_next_run_goes_on_and_ends(verb: str, answers: dict[str, Any]) -> None:
    run = answers[verb]["room"]
    assert run["code"] == 0 or verb == "doctor", run  # which ends with 1 where it finds errors in the data
    says = [line for line in run["says"] if not (verb == "evaluate" and "continued: " in line)]
    assert (says, run["damaged"]) == ([], []), run
    expected: dict[str, Callable[[str], bool]] = {
        "train": lambda name: name == "run/best.safetensors",
        "export": lambda name: name == "given/model.onnx",
        "predict": lambda name: name.endswith("findings.json"),
    }
    is_result = expected.get(verb, lambda name: not name.startswith("cache"))
    assert any(map(is_result, answers[verb]["files"]))


def test_a_batch_that_met_a_full_disk_has_the_tables_of_an_undisturbed_one(answers: dict[str, Any]) -> None:
    stopped, undisturbed = answers["batch"]["tables"]
    assert answers["batch"]["full"][-1]["code"] == 1, "the disk was full while photos were read"
    assert stopped == undisturbed
