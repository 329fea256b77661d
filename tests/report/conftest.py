"""A stand-in for `Findings`: what overlay, report and writer ask of one, without a model behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import Anatomy
from funduscope.inference.card import Card
from funduscope.inference.headline import headline
from funduscope.inference.objects import Components, LesionObject, by_quadrant, nearest_fovea_dd
from funduscope.inference.rules import ModelAnswer, advise, check, support
from funduscope.vocabulary import CODES, GRADES, LESIONS, structure

SHA = "0123456789abcdef" * 4
GRADE_PROBS = [0.03, 0.08, 0.71, 0.15, 0.03]
DME_PROBS = [0.09, 0.08, 0.83]


@dataclass
class StandIn:
    """Findings with masks that are given instead of predicted."""

    pixels: np.ndarray
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = "eye.jpg"
    gradable_ok: bool = True
    reason: str = "The photo is out of focus: focus again and retake it."
    warning: str = "The model's weights are for research and education."
    codes: tuple[str, ...] = CODES
    disc_xy: tuple[float, float] | None = (210.0, 150.0)
    fovea_xy: tuple[float, float] | None = (130.0, 160.0)
    card: Card = field(default_factory=Card)

    @property
    def photo(self) -> SimpleNamespace:
        height, width = self.pixels.shape[:2]
        return SimpleNamespace(pixels=self.pixels, name=self.name, sha256=SHA, width=width, height=height)

    def mask(self, code: str) -> np.ndarray:
        return self.masks.get(code, np.zeros(self.pixels.shape[:2], bool))

    def probability(self, code: str) -> np.ndarray:
        return self.mask(code).astype(np.float32) * np.float32(0.9)

    def to_dict(self) -> dict[str, Any]:
        height, width = self.pixels.shape[:2]
        head = {
            "schema": "funduscope-findings/1",
            "photo": {"name": self.name, "sha256": SHA, "width": width, "height": height},
            "image": self.name,
            "model": {"name": "stand-in", "version": "0.1.0", "sha256": SHA},
            "gradable": {
                "ok": self.gradable_ok,
                "score": None,
                "advice": "grade" if self.gradable_ok else "refuse",
                "reasons": [],
            },
        }
        tail = {
            "warnings": [{"code": "RESEARCH_WEIGHTS", "values": {}, "says": self.warning}],
            "not_a_medical_device": True,
        }
        if not self.gradable_ok:
            head["gradable"]["reasons"] = [{"code": "OUT_OF_FOCUS", "values": {}, "says": self.reason}]
            empty = ("predicted_grade", "grade_name", "confidence", "probabilities", "dme", "referable", "landmarks")
            rest = ("laterality", "lesions", "rules", "advice")
            found = head | dict.fromkeys((*empty, *rest)) | {"evidence": []} | tail
        else:
            found = head | self._answer() | tail
        return found | {"headline": headline(found)}

    @property
    def anatomy(self) -> Anatomy:
        return Anatomy(self.disc_xy, self.fovea_xy, 40.0)

    def objects(self, code: str) -> tuple[LesionObject, ...]:
        height, width = self.pixels.shape[:2]
        transform = CropTransform(0, 0, width, width, width, height)
        return Components.of(self.mask(code)).objects(np.full((width, width), 0.9, np.float32), transform, self.anatomy)

    def _answer(self) -> dict[str, Any]:
        sought = {code: self.objects(code) for code in self.codes if code in LESIONS}
        checked = check(support(sought, self.anatomy), 2, 2)
        return {
            "predicted_grade": 2,
            "grade_name": GRADES[2],
            "confidence": 0.71,
            "probabilities": GRADE_PROBS,
            "dme": {"risk": 2, "confidence": 0.83, "probabilities": DME_PROBS},
            "referable": {"value": True, "probability": 0.89, "threshold": 0.38},
            "landmarks": {
                "optic_disc": self.disc_xy and {"x_px": self.disc_xy[0], "y_px": self.disc_xy[1], "diameter_px": 40.0},
                "fovea": self.fovea_xy and {"x_px": self.fovea_xy[0], "y_px": self.fovea_xy[1]},
            },
            "laterality": self.anatomy.laterality,
            "lesions": {code: self._lesion(code) for code in self.codes if code in LESIONS},
            "rules": checked.to_dict(),
            "evidence": [message.to_dict() for message in checked.evidence],
            "advice": advise(checked.supported, ModelAnswer(GRADE_PROBS, DME_PROBS, 0.38)).to_dict(),
        }

    def _lesion(self, code: str) -> dict[str, Any]:
        objects, area = self.objects(code), int(self.mask(code).sum())
        return {
            "present": area > 0,
            "threshold": 0.5,
            "count": len(objects),
            "area_px": area,
            "area_dd2": round(area / 1600, 4),
            "nearest_fovea_dd": nearest_fovea_dd(objects),
            "by_quadrant": by_quadrant(objects, self.anatomy),
            "objects": [one.to_dict() for one in objects],
        }


def draw_eye(width: int = 300, height: int = 220) -> np.ndarray:
    """A reddish disc on black with a bright spot: (height, width, 3) uint8."""
    pixels = np.zeros((height, width, 3), np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), round(height * 0.48), (150, 70, 35), -1)
    cv2.circle(pixels, (round(width * 0.7), round(height * 0.68)), round(height * 0.09), (235, 190, 120), -1)
    return pixels


def drawn_findings(**changes: Any) -> StandIn:
    """A drawn eye with a lesion of each kind and a disc."""
    pixels = draw_eye()
    masks = {code: np.zeros(pixels.shape[:2], np.uint8) for code in CODES}
    cv2.circle(masks["MA"], (90, 100), 2, 1, -1)
    cv2.circle(masks["MA"], (100, 60), 2, 1, -1)
    cv2.circle(masks["HE"], (120, 60), 12, 1, -1)
    cv2.circle(masks["EX"], (150, 170), 10, 1, -1)
    cv2.circle(masks["SE"], (180, 60), 10, 1, -1)
    cv2.circle(masks["OD"], (210, 150), 20, 1, -1)
    return StandIn(pixels, {code: mask.astype(bool) for code, mask in masks.items()}, **changes)


@pytest.fixture
def drawn_eye():
    """The function that makes drawn findings, with the changes named."""
    return drawn_findings


@pytest.fixture
def colors() -> dict[str, tuple[int, int, int]]:
    """The standard palette by code."""
    return {code: structure(code).color for code in CODES}
