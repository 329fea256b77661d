"""What every model offers to whoever asks: a `Predictor` is one network, an `Ensemble` several."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.imaging.read_ahead import read_ahead
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.quality.assessment import assess, not_gradable
from funduscope.quality.gradability import Quality

if TYPE_CHECKING:
    from PIL import Image

    Source = str | Path | bytes | Image.Image | np.ndarray | Photo

OnGrade = Callable[[Findings], None]
"""Receives the grade alone, before the close view runs. The close view takes several times as long."""


class Model(Protocol):
    """Answers for photos, one or a stream.

    card: of the whole model. sha256: of its file or files. refuses: whether a photo that cannot be graded, or that is
    no fundus photo, is refused. The refusal does not depend on the network, so networks are compared without it.
    """

    card: Card
    sha256: str
    refuses: bool

    def __call__(self, photo: Source, *, name: str | None = None, on_grade: OnGrade | None = None) -> Findings:
        """Findings of one photo: a path, bytes, a PIL image, an (H, W, 3) uint8 RGB array or a `Photo`.

        on_grade: called once with the grade alone, as soon as it is known. It is not called where the model gives no
        grade or has no close view. Raises `PhotoError` for what cannot be decoded or breaks a limit.
        """
        return self.answer(*self._framed(photo, name), on_grade=on_grade)

    def _framed(self, photo: Source, name: str | None = None) -> tuple[Photo, Frame]:
        """The photo, and its frame for `answer`."""
        opened = photo if isinstance(photo, Photo) else Photo.open(photo, name=name)
        return opened, frame(opened, self.card.close_px)

    def answer(self, photo: Photo, framed: Frame, *, on_grade: OnGrade | None = None) -> Findings:
        """Findings of a photo that was framed at `card.close_px`. on_grade: as in `__call__`."""
        reasons, quality = assess(framed, photo.pixels) if self.refuses else (not_gradable(framed), None)
        if reasons:
            return Findings(photo, framed.transform, self.card, self.sha256, reasons=reasons, quality=quality)
        return self.find(photo, framed, quality, on_grade)

    @abstractmethod
    def find(self, photo: Photo, framed: Frame, quality: Quality | None, on_grade: OnGrade | None) -> Findings:
        """Findings of a photo that is not refused. quality: as assessed, kept in the findings."""

    def stream(self, photos: Iterable[Source]) -> Iterator[Findings | Failure]:
        """One answer a photo, in order, in flat memory. A photo that cannot be read yields a `Failure`.

        The next photo is decoded and framed in a thread while this one is answered.
        """
        for _, opened in read_ahead(photos, self._opened):
            yield opened if isinstance(opened, Failure) else self.answer(*opened)

    def _opened(self, photo: Source) -> tuple[Photo, Frame] | Failure:
        try:
            return self._framed(photo)
        except PhotoError as error:
            name = Path(photo).name if isinstance(photo, str | Path) else "photo"
            return Failure(name, error.code, error.says)
