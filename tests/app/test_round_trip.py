"""What is corrected on the page is exported, examined by the doctor without an error, and read by a training."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from funduscope.app.edits import apply_edit
from funduscope.app.reviewed import Corrections, mark_complete
from funduscope.app.saving_view import make_zip, restore_corrections
from funduscope.app.session import Entry, OpenPhoto, Session
from funduscope.app.viewer_data import viewer_data
from funduscope.data.sources import read_data
from funduscope.doctor.examine import check_data
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.testing.drawn_eyes import draw_eye

NAMES = ("Meier, Anna.jpg", "Meier, Anna.png", "OD {x}.jpg")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Three photos, two of one name, in which a person deleted, relabeled and painted lesions and gave a grade."""
    made, opened = Session(), {}
    for number, name in enumerate(NAMES):
        eye = draw_eye(number + 3, grade=2, width_px=700)
        data = cv2.imencode(Path(name).suffix, eye.pixels[..., ::-1])[1].tobytes()
        photo = Photo.open(data, name=name)
        transform = frame(photo, 1024).transform
        planes = {code: transform.map_to_frame(mask) * np.float32(0.9) for code, mask in eye.masks.items()}
        findings = Findings(photo, transform, Card(), "0" * 64, frame_probs=planes, disc_xy=eye.disc_xy)
        key = photo.sha256
        opened[key] = OpenPhoto(findings, b"")
        made.add(Entry(key, name, data, findings.to_dict(), b"", b""), opened[key])
        lesions = viewer_data(findings, "standard", Corrections())["lesions"]
        first = {"code": lesions[0]["code"], "points": [lesions[0]["pixel"]]}
        other = "HE" if first["code"] != "HE" else "EX"
        now = apply_edit(findings, Corrections(), {"what": "relabel", "to": other, **first})
        spot = {"what": "brush", "code": "SE", "points": [[300, 300], [320, 310]], "radius": 6}
        now = apply_edit(made.shown(key, opened[key]), now, spot)
        complete = now.complete | {first["code"], other, "OD"}  # SE stays open
        made.history(key).step(mark_complete(findings, Corrections(grade=number, dme=1, masks=now.masks), complete))
    monkeypatch.setattr("funduscope.app.saving_view.open_photo", lambda _, key: opened[key])
    return made


@pytest.mark.parametrize("named", [False, True])
def test_page_doctor_and_training_agree(session: Session, tmp_path: Path, *, named: bool) -> None:
    saved = make_zip(session, session.corrected, named=named)
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "corrections"
    stems = sorted(path.stem for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    if named:
        assert [stem.startswith(("Meier", "OD")) for stem in stems] == [True] * 3
        assert len({stem.casefold() for stem in stems}) == 3, "photos of one name get files of their own"
    else:
        assert stems == ["IDRiD_001", "IDRiD_002", "IDRiD_003"]
        assert b"Meier" not in saved
    for given in (folder, folder / "labels.csv"):
        report = check_data(given, cache=tmp_path / "cache", workers=0)
        assert [one.says for one in report.findings if one.severity == "error"] == []
        assert report.photos == 3
    cases = read_data([folder / "labels.csv"])
    assert sorted(case.labels.grade or 0 for case in cases) == [0, 1, 2]
    for case in cases:
        assert "OD" in case.labels.masks
        assert "SE" not in case.labels.masks, "a kind that was not called complete is no label"
    fresh = Session()
    fresh.entries.update(session.entries)
    restore_corrections(fresh, saved, "corrections.zip")
    for key in session.corrected:
        assert fresh.history(key).now == session.history(key).now
