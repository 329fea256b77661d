"""How many files of inference a photo passes through on its way to findings: few enough to follow by reading."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import funduscope
from funduscope.inference import findings as room
from funduscope.testing.drawn_eyes import draw_eye

ROOM = str(Path(room.__file__).parent)
WALK = {
    *("model.py", "predictor.py", "runtime.py", "strips.py"),  # a framed photo to logits
    *("landmarks.py", "ood.py", "findings.py"),  # logits to findings
    *("witnesses.py", "anatomy.py", "card.py"),  # what the lesions alone say of grade and edema risk
}


def test_a_photo_passes_through_ten_files_of_inference() -> None:
    model, eye = funduscope.load(threads=1), draw_eye(3, width_px=720).pixels
    files: set[str] = set()

    def trace(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and str(path.parent) == ROOM:
            files.add(path.name)

    sys.setprofile(trace)
    try:
        found = model(eye)
    finally:
        sys.setprofile(None)
    assert found.gradable_ok
    assert files == WALK
    assert len(files) <= 10
