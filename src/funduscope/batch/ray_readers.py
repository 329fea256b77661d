"""Reads photos on the machines of a Ray cluster: a Ray Data dataset of them, mapped over actors that have the model.

Each actor keeps a process that reads (batch/readers.py), so a photo that ends its process neither ends the actor nor is
tried without end. What an actor or a whole machine was reading when it died, Ray has another actor read again.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import ray
import ray.data
from ray.exceptions import RayError

from funduscope.batch.archives import ArchiveEntry
from funduscope.batch.photo_list import open_list
from funduscope.batch.reader import ReadingSettings
from funduscope.batch.readers import Job, read_all
from funduscope.batch.results import Result
from funduscope.i18n.errors import CodedError
from funduscope.inference.loading import absolute
from funduscope.version import __version__

SLICE: Final = 100_000
"""Photos of one dataset; the next follows it, so that their list never has to fit into memory."""

_BLOCKS: Final = 1_000
_MAX_IN_BLOCK: Final = 8  # photos that go to an actor together, and are read again if it dies
_CONNECT_S: Final = 10.0
_MAX_ACTORS: Final = 100_000  # as many as the cluster has processors for


class PhotoReader:
    """An actor: answers for blocks of photos. source: as for `open_list`, on storage that every machine has."""

    def __init__(self, source: Path, settings: ReadingSettings) -> None:
        self._photos = open_list(source)
        self._job: Job | None = None
        self._answers = read_all(self._jobs(), 1, settings)

    def __call__(self, block: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        answers = []
        for place, start, size in zip(block["place"], block["start"], block["size_bytes"], strict=True):
            entry = None if start < 0 else ArchiveEntry(str(place), int(start), int(size))
            self._job = str(place), partial(self._photos.content, str(place), entry)
            try:
                answers.append([asdict(one) for one in next(self._answers)[1]])
            except CodedError as error:  # as an answer: an error would be raised as one of Ray's, wrapped twice
                answers.append({"code": error.code, "says": error.says})
                self._answers = iter(lambda error=error: _raise(error), None)
        places = [str(place) for place in block["place"]]
        return {"place": places, "answer": list(map(json.dumps, answers)), "version": [__version__] * len(places)}

    def _jobs(self) -> Iterator[Job]:
        """The photo to be read now: `read_all` takes one each time that it is asked for an answer."""
        while self._job is not None:
            yield self._job


def _raise(error: CodedError) -> Any:
    raise error


def read_with_ray(
    waiting: Iterable[tuple[str, ArchiveEntry | None]],
    source: Path,
    address: str,
    settings: ReadingSettings,
    model_sha256: str,
) -> Iterator[tuple[str, list[Result]]]:
    """Each photo's place with what became of it, in the order in which they are finished.

    address: of the cluster, as for `ray.init`: "auto", or host and port. Raises `CodedError` if no cluster answers,
    if a machine has another model than `model_sha256` or another version, or none.
    """
    if settings.device != "cpu":
        raise CodedError("E_CONFIG", "a Ray cluster reads on processors only: leave out --device")
    photos = iter(waiting)
    model = tuple(map(absolute, settings.model))
    files = settings.files.absolute() if settings.files else None
    settings = replace(settings, model=model, files=files)
    with _connected(address):
        while rows := [_row(place, entry) for place, entry in islice(photos, SLICE)]:
            # Paths of a table begin in its own folder, even if it is a link.
            for row in _answered(rows, source.absolute(), settings).iter_rows():
                answer = json.loads(row["answer"])
                if isinstance(answer, dict):
                    raise CodedError(answer["code"], f"a machine of the cluster says: {answer['says']}")
                results = [Result(**one) for one in answer]
                _check(row["version"], results, model_sha256)
                yield row["place"], results


def _answered(rows: list[dict[str, Any]], source: Path, settings: ReadingSettings) -> ray.data.Dataset:
    size = min(_MAX_IN_BLOCK, -(-len(rows) // _BLOCKS))
    return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
        PhotoReader,
        fn_constructor_args=(source, settings),
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=_MAX_ACTORS),
        num_cpus=max(1, settings.threads),
    )


def _row(place: str, entry: ArchiveEntry | None) -> dict[str, Any]:
    return {"place": place, "start": entry.start if entry else -1, "size_bytes": entry.size_bytes if entry else -1}


def _check(version: str, results: Iterable[Result], model_sha256: str) -> None:
    """That this answer is one of this version and model: each machine has its own installation."""
    if version != __version__:
        says = f"a machine of the cluster has funduscope {version}, this one {__version__}"
        raise CodedError("E_CONFIG", f"{says}: install the same on all")
    other = {one.found["model"]["sha256"] for one in results if one.found} - {model_sha256}
    if other:
        raise CodedError("E_CONFIG", f"a machine of the cluster has another model: its sha256 is {other.pop()}")


@contextmanager
def _connected(address: str) -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's own words on the terminal, as https://github.com/ray-project/ray/issues/53727; what fails is raised anyway.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        if ":" in address:  # Ray itself would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise CodedError("E_NOT_FOUND", f"no Ray cluster of this version at {address}: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # says that the bars are off
    try:
        yield
    except RayError as error:
        raise CodedError("E_INTERNAL", f"the Ray cluster failed: {error}") from error
    finally:
        ray.shutdown()
