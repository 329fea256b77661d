"""The model as a function of a photo: open, frame, look twice, interpret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from funduscope.i18n.messages import message
from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.photo import Message, Photo, PhotoError
from funduscope.inference.findings import Failure, Findings, grade_probabilities, interpret
from funduscope.inference.runtime import ModelError, Outputs, Runtime
from funduscope.inference.strips import run_in_strips
from funduscope.quality.fundus import measure_all, shipped
from funduscope.quality.gradability import Quality, judge
from funduscope.quality.image_measures import small_frame

if TYPE_CHECKING:
    from PIL import Image

    Source = str | Path | bytes | Image.Image | np.ndarray | Photo

OnGrade = Callable[[Findings], None]
"""Is given what the whole view alone settles, the grade, before the close view is looked at."""


class Predictor:
    """Answers for photos, one or a stream.

    runtime: what turns images into logits, with its card. refuses: whether a photo that cannot be graded, or that shows
    something else, is refused; that is judged without the model, so models are compared without it.
    """

    def __init__(self, runtime: Runtime, *, refuses: bool = True) -> None:
        self.runtime = runtime
        self.refuses = refuses
        self.card = runtime.card

    def __call__(self, photo: Source, *, name: str | None = None, on_grade: OnGrade | None = None) -> Findings:
        """Findings of one photo: a path, bytes, a PIL image, an (H, W, 3) uint8 RGB array or a `Photo`.

        on_grade: called with the grade and nothing else, as soon as it is known; lesions take several times as long.
        Not called where there is no grade, or nothing more to wait for. Raises `PhotoError` for what cannot be decoded
        or breaks a limit.
        """
        opened = photo if isinstance(photo, Photo) else Photo.open(photo, name=name)
        return self.answer(opened, frame(opened, self.card.close_px), on_grade=on_grade)

    def answer(self, photo: Photo, framed: Frame, *, on_grade: OnGrade | None = None) -> Findings:
        """Findings of a photo that was framed before, at `card.close_px`. on_grade: as above."""
        reasons, quality = examine(framed, photo.pixels) if self.refuses else (not_gradable(framed), None)
        if reasons:
            return Findings(photo, framed.transform, self.card, self.runtime.sha256, reasons=reasons, quality=quality)
        digest = self.runtime.sha256

        def seen(whole: Outputs) -> None:
            if on_grade is not None and whole.grade is not None:
                probs = grade_probabilities(whole.grade, self.card)
                on_grade(Findings(photo, framed.transform, self.card, digest, quality=quality, grade_probs=probs))

        found = interpret(photo, framed, *self.forward_views(framed.image, seen), self.card, digest)
        return replace(found, quality=quality)

    def forward_views(
        self, image: np.ndarray, seen: Callable[[Outputs], None] = lambda whole: None
    ) -> tuple[Outputs, Outputs]:
        """(close_px, close_px, 3) uint8 to the outputs of the whole and of the close view.

        seen: is given the whole view's before the close view is looked at; a model that seeks nothing there is not run
        on it. The whole view is also looked at mirrored and upside down, where the card says so: left and right eyes
        are each other's mirror images, and a lesion counts as much above the fovea as below.
        """
        card = self.card
        size = (card.whole_px, card.whole_px)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if card.whole_px < card.close_px else image
        whole = self._with_mirror(small)
        if card.upside_down:
            turned = whole.mean_with(self._with_mirror(small[::-1]).upside_down())
            whole = replace(turned, structures=whole.structures, landmarks=whole.landmarks)
        needs_close = any(code in card.close for code in card.structures) and image.shape[0] != card.whole_px
        if not needs_close:
            return whole, whole
        seen(whole)
        return whole, run_in_strips(self._run, image)

    def _with_mirror(self, image: np.ndarray) -> Outputs:
        """The outputs of a whole view and, where the card says so, of its mirror image, as their mean."""
        seen = self._run(image)
        return seen.mean_with(self._run(image[:, ::-1]).mirrored()) if self.card.mirrored else seen

    def _run(self, image: np.ndarray) -> Outputs:
        """The outputs of one picture; a model that answers with NaN or infinity must not look like one of grade 0."""
        outputs = self.runtime(image[None])
        if not all(np.isfinite(value).all() for value in vars(outputs).values() if value is not None):
            raise ModelError("E_MODEL", "The model's answer is not finite: its file is damaged or was badly trained.")
        return outputs

    def stream(self, photos: Iterable[Source]) -> Iterator[Findings | Failure]:
        """One answer a photo, in order, in flat memory; a photo that cannot be read yields a `Failure`."""
        for photo in photos:
            try:
                yield self(photo)
            except PhotoError as error:
                named = Path(photo).name if isinstance(photo, str | Path) else "photo"
                yield Failure(named, error.code, error.says)


def examine(framed: Frame, pixels: np.ndarray) -> tuple[tuple[Message, ...], Quality | None]:
    """Why a photo (H, W, 3) uint8 that was framed is refused, and how well it can be graded.

    No reason where it is answered; no quality where no eye is to be seen, or something else than one.
    """
    reasons = not_gradable(framed)
    if framed.field_of_view is None:
        return reasons, None
    measures = measure_all(pixels, small_frame(framed, pixels))
    quality, shown = judge(measures), shipped().classify(measures)
    if reasons:
        return reasons, quality
    if shown == "other":
        return (message("NOT_FUNDUS"),), None
    if shown == "unlike":  # perhaps only because it was badly taken: then what to do about it is told, too
        return (message("NOT_FUNDUS"), *quality.reasons), quality
    return quality.reasons if quality.refused else (), quality


def not_gradable(framed: Frame) -> tuple[Message, ...]:
    """Reasons to refuse that need no learning: no eye in the picture, or nothing to see in it."""
    if framed.field_of_view is None:
        return (message("NOT_FUNDUS"),)
    side = framed.transform.side_px
    middle = framed.image[side // 4 : side * 3 // 4, side // 4 : side * 3 // 4]
    red, green, blue = cv2.split(middle)  # cv2 takes a tenth of the time that numpy does over three colors
    if cv2.mean(cv2.max(cv2.max(red, green), blue))[0] < 12:
        return (message("TOO_DARK"),)
    if cv2.mean(cv2.min(cv2.min(red, green), blue))[0] > 243:
        return (message("TOO_BRIGHT"),)
    if cv2.meanStdDev(middle)[1].max() < 1.5:
        return (message("NO_DETAIL"),)
    return ()
