"""Keeps the scores of an evaluation's photos until all are scored, so that it can be stopped and resumed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.atomic import replacing
from funduscope.data.case import Case
from funduscope.data.fingerprint import fingerprint
from funduscope.data.prepare import content_of
from funduscope.evaluation.score_key import Question
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import PhotoScore
from funduscope.inference.model import Model
from funduscope.metrics import State

_SCORED_BY: Final = ("data", "evaluation", "imaging", "inference", "metrics", "quality")
"""Folders of the package on which a photo's score depends."""


class KeptScores:
    """The scores of a model's photos in a folder, a file each.

    A file is used again if the model, the photo, its labels and the code are the same. kept: photos that have one.
    """

    def __init__(self, folder: Path, model: Model, cases: Sequence[Case]) -> None:
        self._folder, self._model, self._cases = folder, model, cases
        about = f"{model.sha256} {model.card.to_json()} {_code()}"
        self._paths = [folder / f"{_key(case, about)}.npz" for case in cases]
        self._is_kept = [zipfile.is_zipfile(path) for path in self._paths]
        self.kept = sum(self._is_kept)

    def stream(self) -> Iterator[PhotoScore]:
        """As `score_stream`: kept scores are read, the others are made and, unless the disk refuses, kept."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        photos = list(zip(self._cases, self._paths, self._is_kept, strict=True))
        scored = score_stream(self._model, [case for case, _, is_kept in photos if not is_kept])
        for case, path, is_kept in photos:
            if is_kept:
                yield _read(path, case)
                continue
            photo = next(scored)
            if "error" not in photo.row:  # next time it may be readable
                with suppress(OSError):
                    _write(photo, path)
            yield photo


def _key(case: Case, about: str) -> str:
    """A hash of everything that the photo's score depends on. about: the model and the code."""
    digest = hashlib.sha256(f"{about} {case.dataset} {fingerprint([case])}".encode())
    for path in case.labels.negatives.paths if case.labels.negatives else ():
        digest.update(content_of(path))
    return digest.hexdigest()[:32]


def _write(photo: PhotoScore, path: Path) -> None:
    """Writes all of a photo's score but its case."""
    arrays = {f"mark {code}": mark for code, mark in photo.marks.items()}
    about: dict[str, Any] = {"refused": photo.refused, "row": photo.row}
    for kind in ("states", "decisions"):
        states: dict[Question, State] = getattr(photo, kind)
        about[kind] = [(question.name, type(state).__name__) for question, state in states.items()]
        for index, state in enumerate(states.values()):
            arrays |= {f"{kind} {index} {name}": np.asarray(value) for name, value in vars(state).items()}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read(path: Path, case: Case) -> PhotoScore:
    """The score in a file of `_write`."""
    kinds = {kind.__name__: kind for kind in State.__subclasses__()}
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())

        def state(kind: str, index: int, name: str) -> Any:
            start = f"{kind} {index} "
            values = {key.removeprefix(start): file[key] for key in file.files if key.startswith(start)}
            return kinds[name](**{key: value if value.ndim else value.item() for key, value in values.items()})

        states, decisions = (
            {Question.named(name): state(kind, index, of) for index, (name, of) in enumerate(about[kind])}
            for kind in ("states", "decisions")
        )
        marks = {key.removeprefix("mark "): file[key] for key in file.files if key.startswith("mark ")}
        return PhotoScore(case, about["refused"], states, decisions, about["row"], marks)


@cache
def _code() -> str:
    """A hash of the package's code that scores a photo."""
    digest = hashlib.sha256()
    for folder in _SCORED_BY:
        for file in sorted(resources.files("funduscope").joinpath(folder).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
