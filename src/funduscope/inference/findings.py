"""What was found in one photo, in the photo's own pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from funduscope.i18n.messages import Message, message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.anatomy import Anatomy, Point, disc_diameter_px, is_upside_down, landmark_warnings, uncut
from funduscope.inference.card import Card
from funduscope.inference.conformal import grade_set
from funduscope.inference.headline import headline
from funduscope.inference.objects import (
    MAX_OBJECTS_LISTED,
    MIN_PPM,
    Components,
    LesionObject,
    by_quadrant,
    nearest_fovea_dd,
)
from funduscope.inference.one_lesion import MISTAKEN, NEVER_IN_DISC, outside_disc, resolve
from funduscope.inference.ood import FAR_PERCENTILE, OodScore
from funduscope.inference.rules import (
    HARDLY_VISIBLE,
    Advice,
    Checked,
    ModelAnswer,
    advise,
    advise_nothing,
    check,
    support,
)
from funduscope.inference.seen_field import UnusualField, unusual_field
from funduscope.inference.stated import is_usual_field, retina_pixel_mm, stated_warnings
from funduscope.inference.table_row import table_row
from funduscope.quality.gradability import Quality, QualityAdvice
from funduscope.quality.image_measures import has_color
from funduscope.vocabulary import FURTHER_TASKS, GRADES, LESIONS, REFERABLE_FROM

SCHEMA = "funduscope-findings/1"

MIN_FIELD_PX = 350  # of a field of view; in narrower ones fewer microaneurysms are found (docs/log.md, 2026-11-27)


@dataclass(frozen=True)
class Failure:
    """A photo that could not be read. code: see docs/errors.md; says: the reason as a sentence."""

    photo_name: str
    code: str
    says: str

    def to_dict(self) -> dict[str, Any]:
        """As one object of `predict --json`."""
        return {"photo": {"name": self.photo_name}, "error": {"code": self.code, "says": self.says}}


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything the model answers about one photo. Masks and probabilities at native size are computed on demand.

    grade, dme, probabilities and the rest are None if the photo is not gradable or the model has no such task.
    class_probs: by photo task the calibrated probabilities of its classes. reasons: why it cannot be graded. forced:
    whether a person insisted on an answer. quality: None if it was not assessed. estimated: landmarks that were not
    clearly visible and were located from the other one. frame_probs: per structure (S, S) float32 over the frame.
    witness_probs: for "photo" and for "lesions" the probabilities by photo task that each alone gives. by_lesions: the
    photo tasks whose answer rests on the lesions too. gates: of a model with experts, the shares of each router. cams:
    task to class activation maps (C, n, n), see `explain`. training_distance: None if the card has no reference.
    has_marks: whether text or marks were painted over in the frame that the model saw.
    """

    photo: Photo
    transform: CropTransform
    card: Card
    model_sha256: str
    reasons: tuple[Message, ...] = ()
    forced: bool = False
    quality: Quality | None = None
    class_probs: dict[str, np.ndarray] = field(default_factory=dict)
    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    estimated: tuple[str, ...] = ()
    frame_probs: dict[str, np.ndarray] = field(default_factory=dict)
    witness_probs: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    by_lesions: tuple[str, ...] = ()
    gates: dict[str, tuple[float, ...]] = field(default_factory=dict)
    cams: dict[str, np.ndarray] = field(default_factory=dict)
    training_distance: OodScore | None = None
    by_hand: frozenset[str] = frozenset()
    """The structures that a person outlined."""

    is_partial: bool = False
    """Whether the grade alone is known yet, so that nothing can be said of a referral."""

    has_marks: bool = False
    # Not handed on by `replace`: another card has other thresholds, so other masks.
    _masks: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _given: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _objects: dict[str, tuple[LesionObject, ...]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for named in (self.class_probs, *self.witness_probs.values(), self.frame_probs, self.cams, self._masks):
            for array in named.values():
                array.setflags(write=False)  # masks, objects and files are made of it later

    def __setstate__(self, state: dict[str, Any]) -> None:
        """After pickle and copy, which give arrays that can be written."""
        self.__dict__.update(state)
        self.__post_init__()

    def with_masks(
        self, masks: Mapping[str, np.ndarray], objects: Mapping[str, tuple[LesionObject, ...]] | None = None
    ) -> Findings:
        """The findings with copies of these masks, (H, W) bool by structure, and those given before, in place of those
        at the thresholds. objects: their components, if known, with distances to these findings' landmarks.
        Raises `ValueError` for a structure that was not segmented and for another shape than the photo's.
        """
        for code, mask in masks.items():
            if code not in self.codes or mask.shape != self.photo.pixels.shape[:2]:
                raise ValueError(f"got a mask of {code}, {mask.shape}; expected {self.codes} in the photo's (H, W)")
        found = replace(self)
        found._given.update(self._given | {code: np.array(mask, dtype=bool) for code, mask in masks.items()})
        found._masks.update(found._given)
        found._objects.update(objects or {})
        return found

    def __repr__(self) -> str:
        said = [f"{task} {self.answer(task)}" for task in self.class_probs]
        said += [f"masks of {', '.join(self.codes)}"] if self.codes else []
        said += [f"refused, {', '.join(reason.code for reason in self.reasons)}"] if not self.gradable_ok else []
        return f"<Findings of {self.photo.name}: {', '.join(said) or 'no answer'}>"

    @property
    def gradable_ok(self) -> bool:
        """Whether the photo was graded: it can be, or a person insisted."""
        return self.forced or not self.reasons

    @property
    def quality_advice(self) -> QualityAdvice:
        """What to do with the photo. "refuse" and graded: graded only because a person insisted, not to be trusted."""
        if self.reasons:
            return "refuse"
        return "grade" if self.quality is None else self.quality.advice

    @property
    def is_hardly_visible(self) -> bool:
        """Whether the photo shows so little that no referral rests on it, also if a person insisted on an answer."""
        if self.quality is None:
            return False
        codes = {reason.code for reason in self.quality.reasons}
        return self.quality.advice == "refuse" or HARDLY_VISIBLE in codes

    @property
    def codes(self) -> tuple[str, ...]:
        """The structures that were segmented."""
        return tuple(self.frame_probs)

    def answer(self, task: str) -> int | None:
        """The most probable class of a photo task of the vocabulary; None if the model does not answer it, and of the
        edema risk in an unusual field of view."""
        probs = self.dme_probs if task == "dme" else self.class_probs.get(task)
        return None if probs is None else int(probs.argmax())

    @property
    def grade(self) -> int | None:
        """The most probable ICDR grade, 0-4."""
        return self.answer("grade")

    @property
    def dme(self) -> int | None:
        """The most probable macular edema risk, 0-2."""
        return self.answer("dme")

    @property
    def grade_probs(self) -> np.ndarray | None:
        """(5,) calibrated probabilities of the grades."""
        return self.class_probs.get("grade")

    @property
    def dme_probs(self) -> np.ndarray | None:
        """(3,) calibrated probabilities of the edema risks; None in an unusual field of view."""
        return None if self.has_unusual_field else self.class_probs.get("dme")

    @property
    def probabilities(self) -> tuple[float, ...] | None:
        """Calibrated, one a grade."""
        return None if self.grade_probs is None else tuple(float(p) for p in self.grade_probs)

    @property
    def grade_set(self) -> tuple[int, ...] | None:
        """The grades that cannot be excluded: nine in ten such sets contain the true one. See `conformal`.

        Ascending, without a gap, always with the most probable one. None if the card has no quantile.
        """
        if self.grade_probs is None or self.card.grade_quantile is None:
            return None
        return grade_set(self.grade_probs, self.card.grade_quantile)

    @property
    def referable_probability(self) -> float | None:
        """P(grade >= 2)."""
        return None if self.grade_probs is None else float(self.grade_probs[REFERABLE_FROM:].sum())

    @property
    def warnings(self) -> tuple[Message, ...]:
        """What a reader should know in addition to the answer."""
        forced = [message("TRUST_FORCED")] if self.forced else []
        sought = self.card.located if self.class_probs or self.frame_probs else ()
        rest = landmark_warnings(self.anatomy, sought, self.estimated)
        size_px = self.transform.size_px
        rest += stated_warnings(self.photo.stated, self.anatomy.laterality, self.disc_diameter_px, size_px)
        if self.training_distance is not None and self.training_distance.percentile > FAR_PERCENTILE:
            rest.append(message("FAR_FROM_TRAINING", {"percentile": int(self.training_distance.percentile)}))
        if self.has_marks:
            rest.append(message("BURNED_IN_MARKS"))
        if self.seen_field is not None:
            rest.append(message("FIELD_LOOKS_WIDE" if self.seen_field == "wide" else "FIELD_LOOKS_NARROW"))
        if self.transform.size_px < MIN_FIELD_PX and any(code in LESIONS for code in self.codes):
            rest.append(message("LOW_RESOLUTION", {"field_px": self.transform.size_px}))
        if self.gradable_ok and not has_color(self.photo.pixels, self.transform.bounds):
            rest.append(message("NO_COLOR"))
        if self.card.research_only:
            rest.append(message("RESEARCH_WEIGHTS"))
        return (*self.photo.notes, *forced, *rest)

    def probability(self, code: str) -> np.ndarray:
        """(H, W) float32 in [0, 1] at the photo's size. Raises `KeyError` for a structure that was not segmented."""
        return self.transform.map_to_photo(self._plane(code))

    def mask(self, code: str) -> np.ndarray:
        """(H, W) bool at the photo's size, read-only, without components below the smallest area."""
        if code not in self._masks:
            self._segment(code)
        self._masks[code].setflags(write=False)  # all callers and writers share this array
        return self._masks[code]

    def field_mask(self) -> np.ndarray:
        """(H, W) bool at the photo's size: inside the circle of the field of view, and inside the eye's photo where the
        picture holds more than that."""
        square = self.transform
        radius = square.size_px / 2
        x = np.arange(square.width_px) + 0.5 - square.left_px - radius
        y = np.arange(square.height_px) + 0.5 - square.top_px - radius
        inside = x**2 + y[:, None] ** 2 <= radius**2
        left, top, right, bottom = square.bounds
        inside[:top], inside[bottom:], inside[:, :left], inside[:, right:] = False, False, False, False
        return inside

    def _plane(self, code: str) -> np.ndarray:
        if not self.gradable_ok:
            raise KeyError(f"Nothing was segmented in {self.photo.name}: it was refused, as its headline says.")
        if code not in self.frame_probs:
            raise KeyError(f"The structure {code!r} was not segmented; these were: {', '.join(self.codes) or 'none'}.")
        return self.frame_probs[code]

    def _segment(self, code: str) -> None:
        """Make mask and objects of a structure together: both are the same components.

        The kind that it is mistaken for is made with it, because a thing that both outline is counted once.
        """
        self._plane(code)  # raises where there is none
        pair = next((pair for pair in MISTAKEN if code in pair), (code,))
        given = {name: Components.of(self._masks[name]) for name in pair if name in self._masks}
        outlined = {name: given.get(name) or self._possible(name) for name in pair if name in self.frame_probs}
        if len(outlined) == 2:
            first, second = outlined
            kept = resolve(outlined[first], outlined[second], self._plane(first), self._plane(second), self.transform)
            outlined = dict(zip(outlined, kept, strict=True))

        for name in outlined.keys() - given.keys():
            parts = outlined[name]
            self._masks[name] = parts.mask
            self._objects[name] = parts.objects(self._plane(name), self.transform, self.anatomy)

    def _possible(self, code: str) -> Components:
        """The outlines of a structure where it can be."""
        parts = self.outlines(code)
        if code in NEVER_IN_DISC and self.disc_diameter_px:
            parts = outside_disc(parts, self.mask("OD"))
        return parts

    def outlines(self, code: str) -> Components:
        """The outlines of a structure that are large enough, whatever else is outlined in their places."""
        plane, threshold = self._plane(code), self.card.thresholds[code]
        square = self.transform.size_px**2
        smallest = square * max(
            self.card.smallest_px2.get(code, 0.0) / self.card.close_px**2, 1e-6 * MIN_PPM.get(code, 0.0)
        )
        parts = Components.of(self.transform.mask_to_photo(plane, threshold))
        parts = parts.largest() if code == "OD" else parts.in_the_eye(self.photo.pixels, self.transform)  # one disc
        return parts.at_least(smallest)

    def objects(self, code: str) -> tuple[LesionObject, ...]:
        """The 8-connected components of the mask, largest first."""
        if code in self._masks and code not in self._objects:  # a mask corrected by hand
            parts = Components.of(self._masks[code])
            self._objects[code] = parts.objects(self._plane(code), self.transform, self.anatomy)
        if code not in self._objects:
            self._segment(code)
        return self._objects[code]

    def count(self, code: str) -> int:
        """Number of 8-connected components of the mask."""
        return len(self.objects(code))

    @property
    def anatomy(self) -> Anatomy:
        """Disc, fovea and what they imply."""
        return Anatomy(
            self.disc_xy,
            self.fovea_xy,
            self.disc_diameter_px,
            self.is_upside_down,
            bool(self.estimated),
            self.has_unusual_field,
        )

    @property
    def seen_field(self) -> UnusualField | None:
        """Whether the field of view seems wide or narrow, by disc and fovea."""
        if not self.gradable_ok or self.is_partial:
            return None
        disc_share = fovea_share = None
        if "OD" in self.frame_probs:
            area = np.count_nonzero(self.mask("OD"))
            disc_share = 2 * float(np.sqrt(area / np.pi)) / self.transform.size_px
        if self.disc_xy is not None and self.fovea_xy is not None:
            across, down = np.subtract(self.disc_xy, self.fovea_xy)
            fovea_share = float(np.hypot(across, down)) / self.transform.size_px
        return unusual_field(disc_share, fovea_share, is_estimated=bool(self.estimated))

    @property
    def has_unusual_field(self) -> bool:
        """Whether the field of view is far from those that models learn from, by what is seen or as the file states."""
        return not is_usual_field(self.photo.stated) or self.seen_field is not None

    @property
    def is_upside_down(self) -> bool:
        """Whether the photo seems to be upside down; False if a landmark was only estimated."""
        return not self.estimated and is_upside_down(self.disc_xy, self.fovea_xy, self.card.fovea_from_disc)

    @property
    def checked(self) -> Checked | None:
        """Grade and edema risk compared with what the lesions support; None if no lesion was segmented."""
        lesions = [code for code in self.codes if code in LESIONS]
        if not self.gradable_ok or not lesions:
            return None
        outlined = {code: self.objects(code) for code in lesions}
        return check(support(outlined, self.anatomy, self.by_hand), self.grade, self.dme)

    @property
    def advice(self) -> Advice | None:
        """Whether to refer, by the more careful of model and lesions; None if there is neither grade nor lesion."""
        checked = self.checked
        if self.is_partial or (checked is None and self.grade is None and self.dme is None):
            return None
        if self.is_hardly_visible:
            return advise_nothing()
        supported = support({}, self.anatomy) if checked is None else checked.supported
        grade_probs, dme_probs = self.grade_probs, self.dme_probs
        answer = ModelAnswer(
            None if grade_probs is None else grade_probs.tolist(),
            None if dme_probs is None else dme_probs.tolist(),
            self.card.referable_threshold,
        )
        return advise(supported, answer)

    @property
    def disc_diameter_px(self) -> float | None:
        """Diameter of the circle with the area of the disc mask; None without a mask, if it cannot be the disc, and in
        an unusual field of view, where distances in disc diameters do not hold."""
        if "OD" not in self.frame_probs or self.has_unusual_field:
            return None
        mask = self.mask("OD")
        diameter = disc_diameter_px(mask, self.disc_xy, self.fovea_xy, self.transform.bounds)
        return uncut(diameter, mask, self.transform, self.photo.pixels)

    @property
    def pixel_mm(self) -> float | None:
        """The side of a pixel on the retina by the file; None if it has none, or a wrong one."""
        return retina_pixel_mm(self.photo.stated, self.disc_diameter_px, self.transform.size_px)

    def to_dict(self) -> dict[str, Any]:
        """The content of findings.json; see report/findings.schema.json."""
        photo, checked, advice = self.photo, self.checked, self.advice
        reasons = self.reasons or (() if self.quality is None else self.quality.reasons)
        found = {
            "schema": SCHEMA,
            "photo": {"name": photo.name, "sha256": photo.sha256, "width": photo.width, "height": photo.height},
            "image": photo.name,
            "model": {"name": self.card.name, "version": self.card.version, "sha256": self.model_sha256},
            "gradable": {
                "ok": self.gradable_ok,
                "score": None if self.quality is None else _round(self.quality.score),
                "advice": self.quality_advice,
                "reasons": [note.to_dict() for note in reasons],
            },
            "predicted_grade": self.grade,
            "grade_name": GRADES[self.grade] if self.grade is not None else None,
            "confidence": _round(self.grade_probs.max()) if self.grade_probs is not None else None,
            "probabilities": [_round(p) for p in self.grade_probs] if self.grade_probs is not None else None,
            "grade_set": None if self.grade_set is None else list(self.grade_set),
            "dme": self._dme(),
            **({"witnesses": self._witnesses()} if self.witness_probs else {}),
            **({"tasks": self._further() or None} if self.card.tasks else {}),
            "referable": None if self.grade_probs is None or self.is_partial else self._referable(),
            "landmarks": self._landmarks() if self.gradable_ok else None,
            "laterality": self.anatomy.laterality if self.gradable_ok else None,
            # None also if the model segments no lesions: not examined differs from not present.
            "lesions": {code: self._lesion(code) for code in self.codes if code in LESIONS} or None,
            "rules": None if checked is None else checked.to_dict(),
            "evidence": [] if checked is None else [note.to_dict() for note in checked.evidence],
            "advice": None if advice is None else advice.to_dict(),
            "training_distance": None if self.training_distance is None else self.training_distance.to_dict(),
            "warnings": [message.to_dict() for message in self.warnings],
            **({"partial": True} if self.is_partial else {}),
            "not_a_medical_device": True,
        }
        return found | {"headline": headline(found)}

    def to_row(self) -> dict[str, str | int | float | bool | None]:
        """One row of a table: see `table_row`."""
        return table_row(self.to_dict(), [code for code in self.card.structures if code in LESIONS])

    def _landmarks(self) -> dict[str, Any]:
        landmarks, pixel_mm = self.anatomy.to_dict(), self.pixel_mm
        if pixel_mm and landmarks["optic_disc"] and self.disc_diameter_px:
            landmarks["optic_disc"]["diameter_mm"] = round(self.disc_diameter_px * pixel_mm, 3)
        return landmarks

    def _dme(self) -> dict[str, Any] | None:
        if self.dme_probs is None:
            return None
        return {
            "risk": self.dme,
            "confidence": _round(self.dme_probs.max()),
            "probabilities": [_round(p) for p in self.dme_probs],
        }

    def _witnesses(self) -> dict[str, dict[str, list[float]]]:
        hidden = {"dme"} if self.has_unusual_field else set[str]()
        return {
            name: {task: [_round(p) for p in probs] for task, probs in by_task.items() if task not in hidden}
            for name, by_task in self.witness_probs.items()
        }

    def _further(self) -> dict[str, dict[str, Any]]:
        """The answers of the further photo tasks by name."""
        return {
            task.name: {
                "class": int(probs.argmax()),
                "class_name": task.classes[int(probs.argmax())],
                "confidence": _round(probs.max()),
                "probabilities": [_round(p) for p in probs],
            }
            for task in FURTHER_TASKS
            if (probs := self.class_probs.get(task.name)) is not None
        }

    def _referable(self) -> dict[str, Any]:
        probability = self.referable_probability or 0.0
        threshold = self.card.referable_threshold
        return {"value": probability >= threshold, "probability": _round(probability), "threshold": _round(threshold)}

    def _lesion(self, code: str) -> dict[str, Any]:
        objects, anatomy = self.objects(code), self.anatomy
        area, nearest, pixel_mm = sum(one.area_px for one in objects), nearest_fovea_dd(objects), self.pixel_mm
        in_mm = {}
        if pixel_mm:
            disc_mm = (anatomy.disc_diameter_px or 0.0) * pixel_mm
            in_mm["area_mm2"] = round(area * pixel_mm**2, 4)
            in_mm["nearest_fovea_mm"] = None if nearest is None else round(nearest * disc_mm, 3)
        return {
            "present": area > 0,
            "threshold": _round(self.card.thresholds[code]),
            "count": len(objects),
            "area_px": area,
            "area_dd2": round(area / anatomy.disc_diameter_px**2, 5) if anatomy.disc_diameter_px else None,
            "nearest_fovea_dd": None if nearest is None else round(nearest, 3),
            **in_mm,
            "by_quadrant": by_quadrant(objects, anatomy),
            "objects": [one.to_dict() for one in objects[:MAX_OBJECTS_LISTED]],
        }


def _round(value: float) -> float:
    return round(float(value), 4)
