"""What a page and a sheet are made of: findings.json's content of a drawn eye, and PDFs read as a person reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.i18n.messages import message
from funduscope.inference.anatomy import Anatomy
from funduscope.inference.headline import headline
from funduscope.inference.rules import Advice, support

LESIONS = {"MA": 4, "HE": 3, "EX": 2, "SE": 0}


def told(**changes: Any) -> dict[str, Any]:
    """findings.json's content of an eye of grade 2 and edema risk 2, with the changes named."""
    near = message("DME_2_NEAR_FOVEA", {"distance_dd": 0.31}).to_dict()
    found = {
        "schema": "funduscope-findings/1",
        "photo": {"name": "eye.jpg", "sha256": "ab" * 32, "width": 1440, "height": 956},
        "model": {"name": "a-model", "version": "1.2.3", "sha256": "cd" * 32},
        "gradable": {"ok": True, "score": 0.97, "advice": "grade", "reasons": []},
        "predicted_grade": 2,
        "grade_name": "Moderate",
        "confidence": 0.71,
        "probabilities": [0.03, 0.08, 0.71, 0.15, 0.03],
        "grade_set": [2, 3],
        "dme": {"risk": 2, "confidence": 0.83, "probabilities": [0.09, 0.08, 0.83]},
        "referable": {"value": True, "probability": 0.89, "threshold": 0.38},
        "laterality": "right",
        "lesions": {code: _lesion(count) for code, count in LESIONS.items()},
        "rules": {"grade_range": [2, 3], "agrees": True, "dme_risk": 2, "dme_range": [2, 2], "dme_agrees": True},
        "evidence": [message("ICDR_2_BEYOND_MA", {"at_least": 2, "kinds": ["HE", "EX"]}).to_dict(), near],
        "advice": {
            "refer": True,
            "urgency": "urgent",
            "by_grade": "soon",
            "by_dme": "urgent",
            "because": [message("GRADE_REFERABLE", {"grade": 2}).to_dict(), near],
        },
        "warnings": [message("RESEARCH_WEIGHTS").to_dict()],
    }
    found |= changes
    return {"headline": headline(found)} | found


def healthy(**changes: Any) -> dict[str, Any]:
    """The same of an eye in which nothing was found."""
    nothing = {
        "predicted_grade": 0,
        "dme": {"risk": 0, "confidence": 0.9, "probabilities": [0.9, 0.06, 0.04]},
        "referable": {"value": False, "probability": 0.05, "threshold": 0.38},
        "lesions": {code: _lesion(0) for code in LESIONS},
        "rules": {"grade_range": [0, 0], "agrees": True, "dme_risk": 0, "dme_range": [0, 0], "dme_agrees": True},
        "evidence": [one.to_dict() for one in support(dict.fromkeys(LESIONS, ()), Anatomy()).because],
        "advice": Advice("routine", "routine", (message("NOTHING_REFERABLE"),)).to_dict(),
    }
    return told(**nothing | changes)


def not_gradable(code: str = "TOO_DARK") -> dict[str, Any]:
    """The same of a photo that cannot be graded."""
    empty = ("predicted_grade", "grade_name", "confidence", "probabilities", "grade_set", "dme", "referable")
    rest = ("laterality", "lesions", "rules", "advice")
    gradable = {"ok": False, "score": None, "advice": "refuse", "reasons": [message(code).to_dict()]}
    return told(**dict.fromkeys((*empty, *rest)), evidence=[], gradable=gradable)


def _lesion(count: int) -> dict[str, Any]:
    return {
        "present": count > 0,
        "threshold": 0.5,
        "count": count,
        "area_px": 1234 * count,
        "area_dd2": 0.012 * count,
        "nearest_fovea_dd": 0.31 if count else None,
    }


@pytest.fixture
def jpeg() -> bytes:
    """A picture of an eye, roughly."""
    pixels = np.zeros((478, 720, 3), np.uint8)
    cv2.circle(pixels, (360, 239), 230, (40, 80, 160), -1)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture
def pages() -> Callable[[bytes], list[str]]:
    """The text of each page of a PDF as it is copied out of a reader: lines joined."""
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")

    def read(data: bytes) -> list[str]:
        document = pdfium.PdfDocument(data)
        return [" ".join(page.get_textpage().get_text_range().split()) for page in document]

    return read


@pytest.fixture
def ink() -> Callable[[bytes], np.ndarray]:
    """The first page as a picture, (h, w) uint8, 72 dots an inch."""
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")

    def draw(data: bytes) -> np.ndarray:
        return np.asarray(pdfium.PdfDocument(data)[0].render(scale=1, grayscale=True).to_numpy()).squeeze()

    return draw
