"""Keeps the scores of an evaluation's photos until all are scored, so that it can be stopped and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.atomic import remove_unfinished, replacing
from funduscope.data.case import ABSENT, Case
from funduscope.data.fingerprint import fingerprint
from funduscope.data.prepare import reader_id
from funduscope.evaluation.score_key import Question
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import PhotoScore
from funduscope.inference.model import Model
from funduscope.inference.urgency import urgency_sha256
from funduscope.metrics import State

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_UNREADABLE: Final = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged file may raise; RuntimeError for bits by which it seems encrypted, or packed in an unknown way."""


class KeptScores:
    """Scores of photos in a folder, a file for each photo and model.

    A file is used again if the model, the photo, its labels, the table of urgency and the code are the same.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._paths: set[Path] = set()

    def resume(self, model: Model, cases: Sequence[Case]) -> tuple[int, Iterator[PhotoScore]]:
        """The number of photos whose scores are kept, and the scores of all: kept ones are read, the others are made
        and, unless the disk refuses, kept."""
        paths = [self._path(model, case) for case in cases]
        kept = [_read(path, case) for path, case in zip(paths, cases, strict=True)]
        return sum(one is not None for one in kept), self._stream(model, cases, paths, kept)

    def _stream(
        self, model: Model, cases: Sequence[Case], paths: Sequence[Path], kept: Sequence[PhotoScore | None]
    ) -> Iterator[PhotoScore]:
        scored = score_stream(model, [case for case, one in zip(cases, kept, strict=True) if one is None])
        for path, one in zip(paths, kept, strict=True):
            if one is not None:
                yield one
                continue
            photo = next(scored)
            if not {"error", "not scored"} & photo.row.keys():  # an unreadable file may be readable next time
                with suppress(OSError):
                    _write(photo, path)
            yield photo

    def remove(self) -> None:
        """Removes what was found or kept; a folder of which nothing else is left, too."""
        with suppress(OSError):
            for path in self._paths:
                path.unlink(missing_ok=True)
            remove_unfinished(self.folder, self._paths)
            self.folder.rmdir()

    def _path(self, model: Model, case: Case) -> Path:
        about = f"{model.sha256} {model.refuses} {model.card.to_json()} {urgency_sha256()} {_code_sha256()}"
        path = self.folder / f"{_key(case, about)}.npz"
        self._paths.add(path)
        return path


def _key(case: Case, about: str) -> str:
    """A hash of everything that the photo's score depends on. about: the model and the code."""
    labels = case.labels
    digest = hashlib.sha256(f"{about} {case.dataset} {fingerprint([case])}".encode())
    for mask in [mask for _, mask in sorted(labels.masks.items())] + [labels.negatives or ABSENT]:
        digest.update(reader_id(mask.read).encode())
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read(path: Path, case: Case) -> PhotoScore | None:
    """The score in a file of `_write`; None if there is none, or if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays["about"].tobytes())
        states, decisions = (
            {
                Question.parse(name): _state(arrays, f"{kind} {index} ", of)
                for index, (name, of) in enumerate(about[kind])
            }
            for kind in ("states", "decisions")
        )
        marks = {name.removeprefix("mark "): value for name, value in arrays.items() if name.startswith("mark ")}
        return PhotoScore(case, about["refused"], states, decisions, about["row"], marks)
    except _UNREADABLE:
        return None


def _state(arrays: dict[str, np.ndarray], start: str, name: str) -> Any:
    """The state of that class whose fields' names begin with `start`."""
    kinds = {kind.__name__: kind for kind in State.__subclasses__()}
    fields = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
    return kinds[name](**{key: value if value.ndim else value.item() for key, value in fields.items()})


@cache
def _code_sha256() -> str:
    """A hash of the package's code, and of the tables by which photos are refused."""
    digest = hashlib.sha256()
    for path in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.glob("models/*.json")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
