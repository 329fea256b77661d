"""One network as a function of a photo: its views, the forward passes, and what the logits mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform, Frame
from funduscope.imaging.photo import Photo
from funduscope.inference.anatomy import Point
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.landmarks import find_landmarks
from funduscope.inference.model import Assessed, Model, OnGrade
from funduscope.inference.ood import Reference, ood_score
from funduscope.inference.runtime import ModelError, Outputs, Runtime, plane_of, softmax
from funduscope.inference.strips import run_in_strips
from funduscope.inference.witnesses import MAX_LOGIT, LesionFeatures, Witness, features_of_maps
from funduscope.quality.gradability import Quality
from funduscope.vocabulary import CLASSES, LESIONS, View


class Views(NamedTuple):
    """The outputs of a photo's two views, each a batch of one; the same object where the model has no close view."""

    whole: Outputs
    close: Outputs

    def without_lesions_at(self, marks: np.ndarray, card: Card) -> Views:
        """The same views with no lesion where the photo's text and marks were painted over.

        marks: (n, n) bool over the frame.
        """
        lesions = [code for code in card.outlined if code in LESIONS]
        if self.close is self.whole:
            whole = _without_lesions_at(self.whole, marks, lesions, card)
            return Views(whole, whole)

        of_whole = [code for code in lesions if code not in card.close]
        of_close = [code for code in lesions if code in card.close]
        whole = _without_lesions_at(self.whole, marks, of_whole, card)
        return Views(whole, _without_lesions_at(self.close, marks, of_close, card))


class Predictor(Model):
    """One network with its card.

    runtime: turns images into logits. card: the runtime's own where none is given. refuses, batch: see `Model`. folder:
    that the model was loaded from, such as a run's; None for the shipped model, and for one that was made otherwise.
    """

    folder: Path | None = None

    def __init__(self, runtime: Runtime, card: Card | None = None, *, refuses: bool = True, batch: int = 1) -> None:
        self.runtime = runtime
        self.card = card or runtime.card
        self._tasks = self.card.photo_tasks
        self._outlines = bool(self.card.outlined)
        self.sha256 = runtime.sha256
        self.refuses, self.batch = refuses, batch

    def without_structures(self) -> Predictor:
        """The same network for grade, edema risk and landmarks alone: the close view, most of the work, never runs.

        Of a model whose answers rest on the lesions too, these are the whole view's own ones, for which
        `card.referable_threshold` was not fixed.
        """
        card = replace(self.card, structures=(), close=())
        other = Predictor(self.runtime, card, refuses=self.refuses, batch=self.batch)
        other.folder = self.folder
        return other

    def find(self, photo: Photo, framed: Frame, quality: Quality | None, on_grade: OnGrade | None) -> Findings:
        """See `Model.find`."""
        whole = self.whole_view(framed.image)
        if on_grade is not None and "grade" in whole.classes and self.has_close_view:
            probs = {"grade": class_probabilities(whole, "grade", self.card)}
            on_grade(self._early(photo, framed, quality, probs))
        return replace(self.run(photo, framed, whole)[0], quality=quality)

    def find_all(self, photos: Sequence[Assessed]) -> Iterator[Findings]:
        """See `Model.find_all`: the whole views in one pass, the close views photo by photo."""
        wholes = self.whole_views([one.framed.image for one in photos])
        for one, whole in zip(photos, wholes, strict=True):
            yield replace(self.run(one.photo, one.framed, whole)[0], quality=one.quality)

    def run(self, photo: Photo, framed: Frame, whole: Outputs | None = None) -> tuple[Findings, Views]:
        """Findings of a framed photo, whatever its quality, and the outputs that they were made of.

        framed: at `card.close_px`. whole: the outputs of the whole view, where it ran before.
        """
        views = self.forward_views(framed.image, whole)
        return interpret(photo, framed, views, self.card, self.sha256), views

    def forward_views(self, image: np.ndarray, whole: Outputs | None = None) -> Views:
        """The outputs of both views of a frame (close_px, close_px, 3) uint8. whole: as in `run`."""
        whole = whole or self.whole_view(image)
        return Views(whole, run_in_strips(self._run_close, image) if self.has_close_view else whole)

    @property
    def has_close_view(self) -> bool:
        """Whether any structure is read from a close view of its own: see `Card.closeups`."""
        return bool(self.card.closeups)

    def whole_view(self, image: np.ndarray) -> Outputs:
        """The outputs of the whole view of a frame (close_px, close_px, 3) uint8. See `whole_views`."""
        return self.whole_views([image])[0]

    def whole_views(self, images: Sequence[np.ndarray]) -> list[Outputs]:
        """The outputs of the whole views of frames (close_px, close_px, 3) uint8, all in one batch; of each a batch of
        one.

        The view also runs mirrored where the card says so: left and right eyes are each other's mirror images.
        """
        if not images:
            return []
        card = self.card
        if card.whole_px < card.close_px:
            size = (card.whole_px, card.whole_px)
            images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
        views = np.stack(images)
        return self._with_mirror(views).each(len(images))

    def _with_mirror(self, images: np.ndarray) -> Outputs:
        """The outputs of views and, where the card says so, of their mirror images, as their mean."""
        outputs = self._run(images)
        return outputs.mean_with(self._run(images[:, :, ::-1]).mirrored()) if self.card.mirrored else outputs

    def _run_close(self, image: np.ndarray) -> Outputs:
        return self._run(image[None], "close")

    def _run(self, images: np.ndarray, view: View = "whole") -> Outputs:
        """The outputs of images (B, H, W, 3), of photo tasks those that the card names.

        Raises `ModelError` for NaN and infinity, which would read as grade 0.
        """
        outputs = self.runtime(images, view).only(self._tasks)
        if not all(np.isfinite(value).all() for value in outputs.named().values()):
            raise ModelError("E_MODEL", "The model's answer is not finite: its file is damaged or was badly trained.")
        self._check_fit(outputs)
        return outputs

    def _check_fit(self, outputs: Outputs) -> None:
        """Raises `ModelError` if the model does not give what its card names: every photo would fail."""
        card = self.card
        found = {name: value.shape[1] for name, value in outputs.named().items()}
        named = {task: len(CLASSES[task]) for task in self._tasks}
        if not card.own_close:  # planes that a card does not name are not read
            planes = {"structures": len(card.structures), "landmarks": len(card.landmarks)}
            named |= {name: count for name, count in planes.items() if count}
        if card.distance is not None and "features" in found:
            named["features"] = len(Reference.from_tree(card.distance).mean)
        needed = {"structures"} if self._outlines and not card.own_close else set()
        for name, count in named.items():
            if found.get(name, 0 if name in needed else count) != count:
                says = f"The model gives {found.get(name, 0)} planes or classes of {name}, its card names {count}"
                raise ModelError("E_MODEL", f"{says}: fetch it again, or export it again.")


def interpret(photo: Photo, framed: Frame, views: Views, card: Card, model_sha256: str) -> Findings:
    """Logits of one photo's two views to findings."""
    if framed.marks is not None:
        views = views.without_lesions_at(framed.marks, card)
    whole, close = views
    landmarks = find_landmarks(whole, card, framed.transform)
    points = {name: found.xy for name, found in landmarks.items()}
    of_photo = {task: class_probabilities(whole, task, card) for task in whole.classes}
    features = lesion_features(views, card, points, framed.transform) if card.witnesses else {}
    witnesses = {task: Witness.of_tree(tree) for task, tree in card.witnesses.items() if features}
    of_lesions = {task: witness.probabilities(features) for task, witness in witnesses.items()}
    probs = of_photo | {
        task: witness.joint(softmax(whole.classes[task][0]), of_lesions[task]) for task, witness in witnesses.items()
    }
    return Findings(
        photo,
        framed.transform,
        card,
        model_sha256,
        class_probs=probs,
        witness_probs={"photo": of_photo, "lesions": of_lesions} if of_lesions else {},
        by_lesions=tuple(of_lesions),
        disc_xy=landmarks["optic_disc"].xy if "optic_disc" in landmarks else None,
        fovea_xy=landmarks["fovea"].xy if "fovea" in landmarks else None,
        estimated=tuple(name for name, landmark in landmarks.items() if landmark.estimated),
        frame_probs={
            code: frame_probability((close if code in card.close else whole).structures, card, code)
            * grade_factor(probs.get("grade"), card.lowest_grades.get(code, 0))
            for code in card.outlined
        },
        gates={} if whole.gates is None else dict(zip(card.routers, map(tuple, whole.gates[0].tolist()), strict=True)),
        cams=calibrated_cams(whole, card, {task: witness.shares[0] for task, witness in witnesses.items()}),
        training_distance=ood_score(None if whole.features is None else whole.features[0], card.distance),
        has_marks=framed.marks is not None,
    )


def _without_lesions_at(outputs: Outputs, marks: np.ndarray, codes: Sequence[str], card: Card) -> Outputs:
    """The outputs of one view without these lesions at the marks (n, n) bool."""
    if outputs.structures is None or not codes:
        return outputs
    structures = outputs.structures.copy()
    size = structures.shape[:1:-1]
    covered = cv2.resize(marks.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    for code in codes:
        structures[0, plane_of(code, card)][covered] = -MAX_LOGIT
    return replace(outputs, structures=structures)


def class_probabilities(whole: Outputs, task: str, card: Card) -> np.ndarray:
    """Calibrated probabilities (G,) of a photo task's classes, from the outputs of one photo."""
    return softmax(whole.classes[task][0] / card.temperatures[task])


def grade_factor(grade_probs: np.ndarray | None, lowest_grade: int) -> np.float32:
    """P(grade >= lowest). A lesion that makes a grade by its presence is no likelier than that grade."""
    if grade_probs is None or lowest_grade == 0:
        return np.float32(1)
    return np.float32(min(1.0, grade_probs[lowest_grade:].sum()))  # in float32, the sum may exceed 1 by a rounding


def lesion_features(
    views: Views, card: Card, points: Mapping[str, Point | None], transform: CropTransform
) -> LesionFeatures:
    """What was found of each lesion, in numbers; none if a lesion that the model outlines was not sought."""
    maps: dict[str, np.ndarray] = {}
    for code in (code for code in card.outlined if code in LESIONS):
        planes = (views.close if code in card.close else views.whole).structures
        if planes is None:
            return {}
        maps[code] = planes[0, plane_of(code, card)]
    return features_of_maps(maps, points.get("optic_disc"), points.get("fovea"), transform) if maps else {}


def frame_probability(logits: np.ndarray | None, card: Card, code: str) -> np.ndarray:
    """(S, S) float32: a structure's plane of (1, L, h, w) logits at its view's full size, as probabilities."""
    assert logits is not None
    side = card.close_px if code in card.close else card.whole_px
    full = cv2.resize(logits[0, plane_of(code, card)], (side, side), interpolation=cv2.INTER_LINEAR)
    if code in card.scales:
        slope, shift = card.scales[code]
        full = np.float32(slope) * full + np.float32(shift)
    # Beyond 30 a probability is 0 or 1 in float32; unclipped, exp overflows and warns.
    return 1 / (1 + np.exp(-np.clip(full, -30, 30)))


def calibrated_cams(
    whole: Outputs, card: Card, shares: Mapping[str, float] = MappingProxyType({})
) -> dict[str, np.ndarray]:
    """Task to class activation maps (C, n, n) of the calibrated logits; only tasks for which the model has maps.

    shares: by task the exponent of the photo's answer, where the lesions' is the other witness.
    """
    return {task: plane[0] * shares.get(task, 1 / card.temperatures[task]) for task, plane in whole.cams.items()}
