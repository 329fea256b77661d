"""A run knows the photos that it learned from wherever a table lists them, and no others of the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from funduscope.data.case import Case
from funduscope.data.folds import make_folds, read_folds
from funduscope.data.run_folds import RunFolds
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.out_of_fold import seen_before
from funduscope.training import TrainingError
from funduscope.training.leakage import check_unseen


def _clinic(folder: Path, seed: int, photos: str = "photos") -> list[Case]:
    """Ten files of one clinic, which only their bytes tell from another's, and their table."""
    (folder / photos).mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (300, 300), (9 * number, seed, 0)).save(folder / photos / f"{number}.png")
    return _listed(folder / "photos.csv", [f"{photos}/{number}.png" for number in range(10)])


def _listed(table: Path, images: list[str]) -> list[Case]:
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("path,dr\n" + "".join(f"{image},{number % 5}\n" for number, image in enumerate(images)))
    return read_data([table])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with test fold 0 that learned from a clinic's photos."""
    folder = tmp_path / "run"
    folder.mkdir()
    cases = make_folds(_clinic(tmp_path / "clinic", seed=1))
    RunFolds.write(cases, folder / "folds.csv")
    about = {"fold": 0, "validation_fold": 1, "photos": {"train": {"table": 6}}}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "best.safetensors").touch()
    assert len(read_folds(folder / "folds.csv")) == 10, "what reads a data set's folds reads a run's"
    return folder


def _counts(run: Path, cases: list[Case]) -> tuple[int, int]:
    seen = seen_before(run, cases)
    assert seen is not None
    return seen.learned, seen.chosen


def test_photos_are_known_by_their_bytes_where_another_table_lists_them(run: Path, tmp_path: Path) -> None:
    same = read_data([tmp_path / "clinic" / "photos.csv"])
    above = _listed(tmp_path / "photos.csv", [f"clinic/photos/{number}.png" for number in range(10)])
    assert _counts(run, same) == _counts(run, above) == (6, 2)
    tested = {case.path.name for case in SplitPlan.of_run(run, same).test}
    assert {case.path.name for case in SplitPlan.of_run(run, above).test} == tested
    learned = [case for case in above if case.path.name not in tested]
    with pytest.raises(TrainingError, match="learned from, or was chosen on, 8 of the 8"):
        check_unseen(run / "best.safetensors", learned)


def test_another_clinic_may_have_photos_of_the_same_names(run: Path, tmp_path: Path) -> None:
    other = _clinic(tmp_path / "other", seed=2)
    assert _counts(run, other) == (0, 0)
    check_unseen(run / "best.safetensors", other)


def test_names_count_of_photos_that_were_saved_anew_among_others(run: Path, tmp_path: Path) -> None:
    for number in range(9):
        Image.new("RGB", (300, 300), (0, 0, number)).save(tmp_path / "clinic" / "photos" / f"{number}.png")
    assert _counts(run, read_data([tmp_path / "clinic" / "photos.csv"])) == (6, 2)


def test_without_digests_names_count(run: Path, tmp_path: Path) -> None:
    lines = (run / "folds.csv").read_text().splitlines()
    (run / "folds.csv").write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in lines))
    assert _counts(run, _clinic(tmp_path / "other", seed=2)) == (6, 2)
