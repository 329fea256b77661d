"""Each photo's results have a folder of their own, and a later run finds them there."""

from __future__ import annotations

import json
from pathlib import Path

from funduscope.report.result_places import ResultPlaces, source_of


def _results(place: Path, path: Path, sha256: str) -> None:
    place.mkdir(parents=True)
    (place / "findings.json").write_text(json.dumps({"photo": {"sha256": sha256}}))
    (place / "settings.json").write_text(json.dumps({"source": source_of(path, path.name)}))


def test_frames_whose_names_are_cut_to_one_do_not_share_a_folder(tmp_path: Path) -> None:
    path, places = tmp_path / f"{'1.2.276.' * 12}right.dcm", ResultPlaces(tmp_path / "out")
    names = [f"{path.stem}_frame{number}.dcm" for number in (1, 2)]
    first, second = (places.take(name, path, "same file") for name in names)
    assert first != second
    again = ResultPlaces(tmp_path / "out")
    assert [again.take(name, path, "same file") for name in names] == [first, second]


def test_a_photo_keeps_its_folder_when_the_other_of_its_name_is_gone(tmp_path: Path) -> None:
    out, paths = tmp_path / "out", [tmp_path / "A" / "eye.jpg", tmp_path / "B" / "eye.jpg"]
    places = ResultPlaces(out)
    taken = [places.take("eye.jpg", path, path.parent.name) for path in paths]
    _results(taken[1], paths[1], "B")
    assert taken[0] == out / "eye"
    assert ResultPlaces(out).earlier("eye.jpg", paths[1], "B") == taken[1]
    assert ResultPlaces(out).take("eye.jpg", paths[0], "A") == out / "eye"


def test_a_frame_and_a_file_of_its_name_do_not_share_a_folder(tmp_path: Path) -> None:
    places = ResultPlaces(tmp_path / "out")
    frame = places.take("eye_frame1.dcm", tmp_path / "eye.dcm", "two frames")
    alone = places.take("eye_frame1.dcm", tmp_path / "eye_frame1.dcm", "one photo")
    assert frame != alone
