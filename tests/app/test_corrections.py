"""Corrections: edits and undo, labels that a training reads, and files that are refused."""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from funduscope.app.edits import apply_edit
from funduscope.app.export_labels import LabeledPhoto, as_zip, into_folder
from funduscope.app.import_labels import read_zip
from funduscope.app.reviewed import (
    Corrections,
    History,
    apply_corrections,
    mark_complete,
    mask_from_png,
    mask_to_png,
)
from funduscope.app.viewer_data import contours_of, viewer_data
from funduscope.data import table
from funduscope.data.case import LabelError
from funduscope.data.readers import idrid
from funduscope.data.sources import read_data
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.vocabulary import CODES

SIDE = 400


def _findings() -> Findings:
    """A gray square with three microaneurysms, a ring of exudate and a disc, all with high probability."""
    planes = {code: np.zeros((SIDE, SIDE), np.float32) for code in CODES}
    for x in (50, 100, 150):
        planes["MA"][60:64, x : x + 4] = 0.9
    planes["MA"][200:204, 300:304] = 0.4
    planes["EX"][250:290, 250:290] = 0.8
    planes["EX"][260:280, 260:280] = 0
    planes["OD"][180:220, 20:60] = 0.95
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    pixels[::7] = 120
    photo = Photo.open(pixels, name="eye.jpg")
    transform = CropTransform(0, 0, SIDE, SIDE, SIDE, SIDE)
    card = Card(whole_px=SIDE, close_px=SIDE)
    grades = np.array([0.05, 0.05, 0.8, 0.05, 0.05])
    risks = np.array([0.1, 0.1, 0.8])
    return Findings(
        photo,
        transform,
        card,
        "0" * 64,
        class_probs={"grade": grades, "dme": risks},
        disc_xy=(40.0, 200.0),
        fovea_xy=(200.0, 200.0),
        frame_probs=planes,
    )


def test_edits_and_undo() -> None:
    findings, history = _findings(), History()
    history.step(apply_edit(findings, history.now, {"what": "delete", "code": "MA", "points": [[51.5, 61.0]]}))
    assert apply_corrections(findings, {}, history.now).count("MA") == 2
    shown = apply_corrections(findings, {}, history.now)
    history.step(apply_edit(shown, history.now, {"what": "draw", "code": "MA", "points": [[300, 100]], "radius": 3}))
    assert apply_corrections(findings, {}, history.now).mask("MA")[100, 300]
    ring = [[310, 310], [340, 310], [340, 340], [310, 340]]
    history.step(apply_edit(shown, history.now, {"what": "draw", "code": "SE", "points": ring}))
    assert history.now.unfinished == {"MA", "SE"}, "no kind is complete because something in it was corrected"
    assert apply_corrections(findings, {}, history.now).count("SE") == 1
    last = history.now
    history.undo()
    history.undo()
    assert apply_corrections(findings, {}, history.now).count("MA") == 2
    history.redo()
    history.redo()
    history.redo()
    assert history.now == last
    for _ in range(3):
        history.undo()
    assert history.now.is_empty
    history.step(Corrections(grade=1))
    history.redo()
    assert history.now == Corrections(grade=1), "a new step ends what could be redone"
    history.undo()
    assert apply_corrections(findings, {}, history.now) is findings


def test_a_relabeled_lesion_changes_its_kind_and_nothing_else() -> None:
    findings = _findings()
    edit = {"what": "relabel", "code": "MA", "to": "HE", "points": [[51.5, 61.0]]}
    stated = apply_edit(findings, Corrections(), edit)
    shown = apply_corrections(findings, {}, stated)
    assert (shown.count("MA"), shown.count("HE")) == (2, 1)
    assert np.array_equal(shown.mask("MA") | shown.mask("HE"), findings.mask("MA"))
    assert stated.unfinished == {"MA", "HE"}
    for other in ("OD", "MA", "XX", None):
        assert apply_edit(findings, Corrections(), edit | {"to": other}) == Corrections()


@pytest.mark.parametrize(("diameter", "pixels"), [(1, 1), (3, 9), (5, 21), (7, 37)])
def test_a_small_brush_paints_no_more_than_it_says(diameter: int, pixels: int) -> None:
    findings = _findings()
    dot = {"what": "brush", "code": "HE", "points": [[300, 300]], "radius": diameter / 2}
    painted = apply_corrections(findings, {}, apply_edit(findings, Corrections(), dot)).mask("HE")
    rows, columns = np.nonzero(painted & ~findings.mask("HE"))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (diameter, diameter, pixels)


def test_brush_and_eraser_have_the_stated_size() -> None:
    findings = _findings()
    line = {"code": "HE", "points": [[200, 300], [260, 300]], "radius": 6}
    stated = apply_edit(findings, Corrections(), {"what": "brush", **line})
    painted = apply_corrections(findings, {}, stated).mask("HE")
    rows, columns = np.nonzero(painted)
    assert np.ptp(rows) + 1 == pytest.approx(12, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(60 + 12, abs=2)
    shown = apply_corrections(findings, {}, stated)
    half = apply_edit(shown, stated, {"what": "erase", "code": "HE", "points": [[245, 300]], "radius": 20})
    left = apply_corrections(findings, {}, half).mask("HE")
    assert left[300, 210]
    assert not left[300, 250]
    nothing = {"what": "erase", "code": "HE", "points": [[10, 10]], "radius": 4}
    assert apply_edit(shown, stated, nothing) == stated, "where nothing changes there is no step"


def test_rules_follow_what_was_corrected_and_the_model_s_grade_does_not() -> None:
    findings = _findings()
    assert findings.to_dict()["rules"]["grade_range"] == [2, 3]
    empty = Corrections().with_mask("EX", np.zeros((SIDE, SIDE), bool), "drawn")
    found = apply_corrections(findings, {}, empty).to_dict()
    assert found["rules"]["grade_range"] == [1, 1]
    assert found["rules"]["dme_risk"] == 0
    assert found["predicted_grade"] == 2
    moved = apply_edit(findings, Corrections(), {"what": "fovea", "points": [[190.0, 235.0]]})
    nearer = apply_corrections(findings, {}, moved).to_dict()["lesions"]["EX"]["nearest_fovea_dd"]
    assert nearer < findings.to_dict()["lesions"]["EX"]["nearest_fovea_dd"]


def test_a_landmark_placed_by_hand_is_no_longer_called_estimated() -> None:
    findings = replace(_findings(), estimated=("optic_disc", "fovea"))

    def warned(stated: Corrections) -> list[str]:
        warnings = apply_corrections(findings, {}, stated).to_dict()["warnings"]
        return [one["code"] for one in warnings if one["code"].endswith("ESTIMATED")]

    assert warned(Corrections()) == ["OPTIC_DISC_ESTIMATED", "FOVEA_ESTIMATED"]
    fovea = apply_edit(findings, Corrections(), {"what": "fovea", "points": [[210.0, 205.0]]})
    assert warned(fovea) == ["OPTIC_DISC_ESTIMATED"]
    both = apply_edit(findings, fovea, {"what": "optic_disc", "points": [[41.0, 199.0]]})
    assert warned(both) == []
    drawn = Corrections().with_mask("MA", np.zeros((SIDE, SIDE), bool), "drawn")
    assert warned(drawn) == ["OPTIC_DISC_ESTIMATED", "FOVEA_ESTIMATED"], "no person placed them"


def test_a_threshold_moves_one_kind_and_no_corrected_one() -> None:
    findings = _findings()
    shown = apply_corrections(findings, {"MA": 0.3}, Corrections())
    assert (findings.count("MA"), shown.count("MA"), shown.count("EX")) == (3, 4, 1)
    fixed = Corrections().with_mask("MA", findings.mask("MA"), "drawn")
    assert apply_corrections(findings, {"MA": 0.3}, fixed).count("MA") == 3
    assert findings.card.thresholds["MA"] == 0.5, "the model's own card stays"


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"what": "delete", "code": "XX", "points": [[1, 1]]},
        {"what": "delete", "code": "MA", "points": [[390, 390]]},
        {"what": "draw", "code": "MA", "points": "many"},
        {"what": "draw", "code": "MA", "points": [[float("nan"), 1]]},
        {"what": "draw", "code": "MA", "points": [[1, 2, 3]]},
        {"what": "draw", "code": "MA", "points": [[10**400, 1]]},
        {"what": "draw", "code": "MA", "points": [[1, 1]] * 10_000},
        {"what": "fovea", "points": []},
        {"what": "grade", "points": [[1, 1]]},
    ],
)
def test_an_invalid_edit_changes_nothing(edit: dict) -> None:
    assert apply_edit(_findings(), Corrections(), edit) == Corrections()


def test_every_lesion_has_its_own_outline() -> None:
    findings = _findings()
    for code in ("MA", "EX"):
        for one, rings in zip(findings.objects(code), contours_of(findings, code), strict=True):
            points = np.concatenate(rings).reshape(-1, 2) + 0.5
            assert np.hypot(*(points - (one.x_px, one.y_px)).T).max() < 40
    assert len(contours_of(findings, "EX")[0]) == 2, "the gap's edge belongs to the ring"
    drawn = viewer_data(findings, "safe", Corrections())
    assert [row["id"] for row in drawn["lesions"]] == ["MA-0", "MA-1", "MA-2", "EX-0"]
    assert drawn["circle_px"] == pytest.approx(findings.disc_diameter_px, abs=0.1)
    assert json.dumps(drawn)


def _labeled() -> LabeledPhoto:
    findings = _findings()
    stated = apply_edit(findings, Corrections(), {"what": "delete", "code": "MA", "points": [[51.5, 61.0]]})
    stated = mark_complete(findings, replace(stated, grade=1, fovea_xy=(201.5, 199.0)), frozenset({"MA", "HE"}))
    shown = apply_corrections(findings, {}, stated)
    return LabeledPhoto(
        findings.photo, stated, {code: shown.mask(code) for code in shown.codes if code in stated.complete}
    )


def test_only_complete_structures_become_labels(tmp_path: Path) -> None:
    folder = into_folder([_labeled(), _labeled()], tmp_path / "mine")
    first, second = idrid.read(folder)
    assert {code: mask.is_absent for code, mask in first.labels.masks.items()} == {"MA": False, "HE": True}
    assert first.labels.masks["MA"].load(SIDE, SIDE).sum() == 32
    assert first.name != second.name
    case = table.read(folder / "labels.csv")[0]
    assert (case.labels.grade, case.labels.dme) == (1, None)
    assert case.labels.fovea_xy == (201.5, 199.0)
    assert case.labels.disc_xy is None
    assert {code: mask.is_absent for code, mask in case.labels.masks.items()} == {"MA": False, "HE": True}
    for given in (folder, folder / "labels.csv"):
        assert len(read_data([given])) == 2, "what `train --data` reads"
    with pytest.raises(LabelError, match="not empty"):
        into_folder([_labeled()], folder)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_leaves_no_partial_folder(is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, write, written = tmp_path / "mine", Path.write_bytes, []
    if is_there:
        place.mkdir()

    def fills_up(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.raises(OSError, match="No space"):
        into_folder([_labeled()], place)
    assert place.exists() == is_there
    monkeypatch.undo()
    assert len(idrid.read(into_folder([_labeled()], place))) == 1
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_corrections_count_as_saved_only_after_the_file_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("streamlit", reason="the page needs the extra `app`")
    from funduscope.app import saving_view
    from funduscope.app.session import Entry, OpenPhoto, Session

    session, findings = Session(), _findings()
    session.add(Entry("a", "eye.jpg", b"", findings.to_dict(), b"", b""), OpenPhoto(findings, b""))
    session.history("a").step(Corrections(grade=1))
    make_zip = saving_view.as_zip

    def breaks(labeled: Iterable[LabeledPhoto], folder: str, first: int) -> bytes:
        make_zip(labeled, folder, first)
        raise MemoryError

    monkeypatch.setattr(saving_view, "as_zip", breaks)
    with pytest.raises(MemoryError):
        saving_view.make_zip(session, session.corrected)
    assert session.unsaved
    monkeypatch.undo()
    assert saving_view.make_zip(session, session.corrected)
    assert not session.unsaved


def test_corrections_of_another_size_are_refused() -> None:
    pytest.importorskip("streamlit", reason="the page needs the extra `app`")
    from funduscope.app.saving_view import restore_corrections
    from funduscope.app.session import Entry, Session

    labeled, session, found = _labeled(), Session(), _findings().to_dict()
    found["photo"] |= {"width": SIDE + 20}
    session.add(Entry(labeled.photo.sha256, "eye.jpg", b"", found, b"", b""), None)
    assert restore_corrections(session, as_zip([labeled]), "corrections.zip") is None
    assert not session.histories
    assert [one.code for one in session.refused] == ["E_LABELS"]


def test_saved_corrections_are_restored_unchanged() -> None:
    labeled = _labeled()
    one = next(iter(read_zip(as_zip([labeled]))))
    assert one.corrections == labeled.corrections
    assert one.sha256 == labeled.photo.sha256
    assert np.array_equal(Photo.open(one.data).pixels, labeled.photo.pixels)
    assert np.array_equal(mask_from_png(mask_to_png(labeled.masks["MA"])), labeled.masks["MA"])


def test_a_complete_mask_stays_as_it_was_shown() -> None:
    findings = _findings()
    stated = mark_complete(apply_corrections(findings, {"MA": 0.3}, Corrections()), Corrections(), frozenset({"MA"}))
    assert apply_corrections(findings, {}, stated).count("MA") == 4, "against another threshold"
    assert not stated.by_hand, "and nobody drew it"
    labeled = LabeledPhoto(findings.photo, stated, {"MA": apply_corrections(findings, {}, stated).mask("MA")})
    again = next(read_zip(as_zip([labeled]))).corrections
    assert again == stated
    later = replace(findings, frame_probs={**findings.frame_probs, "MA": np.zeros((SIDE, SIDE), np.float32)})
    assert apply_corrections(later, {}, again).count("MA") == 4, "against another model"
    reset = mark_complete(findings, stated, frozenset())
    assert reset == Corrections()


def test_a_drawn_but_incomplete_mask_is_no_label_and_is_restored() -> None:
    findings = _findings()
    drawn = apply_edit(findings, Corrections(), {"what": "delete", "code": "MA", "points": [[51.5, 61.0]]})
    again = next(read_zip(as_zip([LabeledPhoto(findings.photo, drawn, {})]))).corrections
    assert again == drawn
    assert apply_corrections(findings, {}, again).count("MA") == 2


def test_a_drawn_disc_replaces_the_model_s() -> None:
    findings = _findings()
    ring = [[100, 180], [140, 180], [140, 220], [100, 220]]
    stated = apply_edit(findings, Corrections(), {"what": "draw", "code": "OD", "points": ring})
    shown = apply_corrections(findings, {}, stated)
    assert shown.mask("OD")[200, 120]
    assert not shown.mask("OD")[200, 40]
    assert shown.disc_xy == pytest.approx((120, 200), abs=1), "the center goes with it"
    placed = apply_corrections(findings, {}, replace(stated, disc_xy=(118.0, 201.0)))
    assert placed.disc_xy == (118.0, 201.0)
    dot = {"what": "draw", "code": "OD", "points": [[300, 300]], "radius": 3}
    assert apply_edit(findings, Corrections(), dot) == Corrections(), "a dot is no disc"


def test_a_file_s_own_name_is_not_saved() -> None:
    labeled = replace(_labeled(), photo=Photo.open(np.full((SIDE, SIDE, 3), 90, np.uint8), name="Meier, Anna.jpg"))
    saved = as_zip([labeled])
    assert b"Meier" not in saved
    assert next(read_zip(saved)).name == "IDRiD_001.png"


def _with_manifest(change: object) -> bytes:
    """A saved file with a changed manifest."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(as_zip([_labeled()]))) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("corrections.json"):
                manifest = json.loads(data)
                manifest["photos"][0] |= change  # pyright: ignore
                data = json.dumps(manifest).encode()
            new.writestr(info.filename, data)
    return file.getvalue()


def _bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corrections.json", b" " * 40_000_000)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        _bomb(),
        _with_manifest({"grade": 9}),
        _with_manifest({"grade": True}),
        _with_manifest({"path": "../../etc/passwd"}),
        _with_manifest({"width": 10**6, "height": 10**6}),
        _with_manifest({"fovea_xy": [1e9, 0]}),
        _with_manifest({"masks": {"MA": "labels.csv"}}),
        _with_manifest({"width": SIDE - 1}),
        _with_manifest({"width": SIDE - 1, "height": SIDE - 1, "masks": {}, "corrected": [], "fovea_xy": None}),
        _with_manifest({"path": "labels.csv"}),
        _with_manifest({"looked_at": ["HE"], "unfinished": {"MA": "bm9uZQ=="}}),
    ],
)
def test_any_other_file_is_refused(data: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        list(read_zip(data))
    assert caught.value.code == "E_LABELS"
