"""What every model offers to whoever asks: a `Predictor` is one network, an `Ensemble` several."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from funduscope.i18n.errors import PhotoError
from funduscope.i18n.messages import Message
from funduscope.imaging.framing import Frame, frame
from funduscope.imaging.photo import Photo, open_each
from funduscope.imaging.read_ahead import read_ahead
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.quality.assessment import assess, not_gradable
from funduscope.quality.gradability import Quality

if TYPE_CHECKING:
    from PIL import Image

    Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Photo

OnGrade = Callable[[Findings], None]
"""Receives the grade alone, before the close view runs. The close view takes several times as long."""


class Assessed(NamedTuple):
    """A photo that is ready for a network.

    reasons: why it cannot be graded, if it cannot. quality: None if not assessed. forced: it is graded all the same.
    """

    photo: Photo
    framed: Frame
    reasons: tuple[Message, ...]
    quality: Quality | None
    forced: bool = False

    @property
    def is_refused(self) -> bool:
        return bool(self.reasons) and not self.forced

    def marked(self, found: Findings) -> Findings:
        """Its findings, marked as forced if they are."""
        return replace(found, reasons=self.reasons, forced=True) if self.forced else found


class Model(Protocol):
    """Answers for photos, one or a stream.

    card: of the whole model. sha256: of its file or files. refuses: whether a photo that cannot be graded, or that is
    no fundus photo, is refused. The refusal does not depend on the network, so networks are compared without it. batch:
    photos of a stream that are answered together; so many more are decoded ahead, and kept in memory.
    """

    card: Card
    sha256: str
    refuses: bool
    batch: int = 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.card.name} {self.sha256[:12]}>"

    def __call__(
        self, photo: Source, *, name: str | None = None, on_grade: OnGrade | None = None, force: bool = False
    ) -> Findings:
        """Findings of one photo: a path, bytes, a PIL image, an (H, W, 3) uint8 RGB array or a `Photo`.

        name: in place of the photo's own. on_grade: called once with the grade alone, as soon as it is known. It is not
        called where the model gives no grade or has no close view. force: also a photo that cannot be graded, or that
        is no fundus photo, is answered; the answer is marked as not to be trusted. Raises `PhotoError` for what cannot
        be decoded or breaks a limit.
        """
        return self.answer(*self._framed(photo, name), on_grade=on_grade, force=force)

    def _framed(self, photo: Source, name: str | None = None) -> tuple[Photo, Frame]:
        """The photo, and its frame for `answer`."""
        if not isinstance(photo, Photo):
            photo = Photo.open(photo, name=name)
        elif name:
            photo = replace(photo, name=name)
        return photo, frame(photo, self.card.close_px)

    def answer(self, photo: Photo, framed: Frame, *, on_grade: OnGrade | None = None, force: bool = False) -> Findings:
        """Findings of a photo that was framed at `card.close_px`. on_grade, force: as in `__call__`."""
        one = self._assessed(photo, framed, force)
        if one.is_refused:
            return self._refused(one)
        early = on_grade if on_grade is None or not one.forced else lambda found: on_grade(one.marked(found))
        return one.marked(self.find(photo, framed, one.quality, early))

    def _assessed(self, photo: Photo, framed: Frame, force: bool) -> Assessed:
        reasons, quality = assess(framed, photo.pixels) if self.refuses else (not_gradable(framed), None)
        return Assessed(photo, framed, reasons, quality, forced=force and bool(reasons))

    def _refused(self, one: Assessed) -> Findings:
        transform = one.framed.transform
        return Findings(one.photo, transform, self.card, self.sha256, reasons=one.reasons, quality=one.quality)

    def _early(
        self, photo: Photo, framed: Frame, quality: Quality | None, class_probs: dict[str, np.ndarray]
    ) -> Findings:
        """What `find` passes to its `on_grade`."""
        card = replace(self.card, landmarks=())  # they are not sought yet
        return Findings(
            photo, framed.transform, card, self.sha256, quality=quality, class_probs=class_probs, is_partial=True
        )

    @abstractmethod
    def find(self, photo: Photo, framed: Frame, quality: Quality | None, on_grade: OnGrade | None) -> Findings:
        """Findings of a photo that is not refused. quality: as assessed, kept in the findings."""

    def find_all(self, photos: Sequence[Assessed]) -> Iterator[Findings]:
        """Findings of photos that are not refused, in order. For models that are faster for several."""
        return (self.find(one.photo, one.framed, one.quality, None) for one in photos)

    def stream(
        self, photos: Iterable[Source], *, force: bool = False, frames: bool = True
    ) -> Iterator[Findings | Failure]:
        """One answer a photo, in order, in flat memory. A photo that cannot be read yields a `Failure`.

        force: as in `__call__`. frames: of a DICOM file with several frames each is a photo of its own; otherwise such
        a file yields a `Failure`, so that every source has one answer.

        The next photos, `batch` of them, are decoded, framed and assessed in threads while the present ones are
        answered: `batch` + 1 are taken before the first answer, so call the model itself where photos come one by one.
        Arrays and images in memory may be used again for the next photo. Raises `TypeError` for a single photo.
        """
        one_file = isinstance(photos, str | bytes | bytearray | memoryview)
        is_one = photos.ndim in (2, 3) if isinstance(photos, np.ndarray) else one_file
        if is_one or not isinstance(photos, Iterable):
            raise TypeError(f"stream takes several photos, and got one ({type(photos).__name__}): give a list of it")
        return self._stream(photos, force, frames)

    def _stream(self, photos: Iterable[Source], force: bool, frames: bool) -> Iterator[Findings | Failure]:
        own = map(_own, photos)
        files = read_ahead(own, lambda photo: self._opened(photo, force, frames), self.batch)
        opened = (one for _, of_file in files for one in of_file)
        while group := list(itertools.islice(opened, self.batch)):
            found = self.find_all([one for one in group if isinstance(one, Assessed) and not one.is_refused])
            for one in group:
                if isinstance(one, Failure):
                    yield one
                else:
                    yield self._refused(one) if one.is_refused else one.marked(next(found))

    def _opened(self, photo: Source, force: bool, frames: bool) -> Iterator[Assessed | Failure]:
        """The photos of a source. The first is read here, the further frames of a DICOM file as they are asked for."""
        every = self._photos(photo, force, frames)
        first = next(every)
        return itertools.chain([first], every)

    def _photos(self, photo: Source, force: bool, frames: bool) -> Iterator[Assessed | Failure]:
        name = Path(photo).name if isinstance(photo, str | os.PathLike) else "photo"
        is_file = isinstance(photo, str | os.PathLike | bytes)
        for own, one in open_each(photo) if frames and is_file else [(name, photo)]:
            try:
                if isinstance(one, Exception):
                    raise one
                yield self._assessed(*self._framed(one), force)
            except PhotoError as error:
                yield Failure(own, error.code, error.says)


def _own(source: Source) -> Source:
    """A source that a thread can open later: what lies in memory is copied, since its owner may overwrite it."""
    if isinstance(source, np.ndarray):
        return source.copy()
    if isinstance(source, str | bytes | os.PathLike | Photo):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    from PIL import Image, ImageFile  # imported by whoever gives such an image

    in_memory = isinstance(source, Image.Image) and not isinstance(source, ImageFile.ImageFile)
    return source.copy() if in_memory else source


def identity(model: Model) -> dict[str, str]:
    """How results name a model: its name, its version and its SHA-256."""
    return {"name": model.card.name, "version": model.card.version, "sha256": model.sha256}
