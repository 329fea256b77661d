"""Which expert took which photo, as a picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from funduscope.data.case import Case, Labels
from funduscope.evaluation.plots import draw_all
from funduscope.evaluation.scores import PhotoScore, summarize


def _photo(index: int, gates: dict[str, list[float]], grade: int | None) -> PhotoScore:
    case = Case(f"set/{index}", "set", str(index), Path(f"{index}.png"), str(index), Labels(grade=grade))
    row = {"grade": grade, "predicted_grade": grade, "grade_probs": None}
    return PhotoScore(case, refused=False, row={"gates": gates} if grade is None else row | {"gates": gates})


def test_photos_by_expert_are_drawn_where_a_model_has_experts(tmp_path: Path) -> None:
    photos = [
        _photo(i, {"grade": [float(i % 2), float(1 - i % 2)], "EX": [0.5, 0.5]}, None if i == 3 else i % 3)
        for i in range(8)
    ]
    drawn = draw_all(summarize(photos, repeats=1), tmp_path)
    assert "set_experts.png" in [path.name for path in drawn]
    with Image.open(tmp_path / "set_experts.png") as picture:
        assert picture.width > 300
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
    assert len(colors) > 20


def test_photos_of_runs_whose_experts_differ_are_drawn_for_the_first_run(tmp_path: Path) -> None:
    gates = [{"grade": [0.5, 0.5]}] * 4 + [{"lesions": [1.0]}, {"grade": [0.2, 0.3, 0.5]}]
    photos = [_photo(index, one, 1) for index, one in enumerate(gates)]
    assert "set_experts.png" in [path.name for path in draw_all(summarize(photos, repeats=1), tmp_path)]


def test_no_such_picture_without_experts(tmp_path: Path) -> None:
    photos = [PhotoScore(_photo(0, {}, None).case, refused=False, row={})]
    assert draw_all(summarize(photos, repeats=1), tmp_path) == []
