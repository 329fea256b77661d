"""Twins of many photos by several processes: candidates once, proofs shared out, and no pair compared twice.

What came of a pair is kept in the photos' store, by the bytes of both photos: a run that was killed goes on, and one
that follows on a change of labels compares nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from funduscope.duplicates.candidates import Candidate, candidates, steps
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.pairs import _identical as identical
from funduscope.duplicates.pairs import _Search as Search
from funduscope.duplicates.process_pool import run_jobs
from funduscope.duplicates.registration import Registration
from funduscope.duplicates.store import Store, StoredDescriptors, key_of, pair_key

Progress = Callable[[Iterable[Any], str, int | None], Iterable[Any]]
"""Items, words and their number in, the same items out: what shows a progress bar."""


def no_progress(items: Iterable[Any], words: str, total: int | None) -> Iterable[Any]:
    """The items as they are: a `Progress` that shows nothing."""
    return items


CHUNK: Final = 200
"""Pairs that are proved in one go: neighbors in the list share a photo, which is then made ready once."""

FEW: Final = 60
"""So few photos are compared in this process: others would take longer to start."""

_TICKS: Final = 1000

Chunk = tuple[Path, str, tuple[tuple[Candidate, bytes], ...]]
"""The store's file, a word for this run, and pairs, each with what it is kept under."""


def compare(
    descriptors: StoredDescriptors,
    workers: int = 2,
    progress: Progress = no_progress,
    asked: Container[str] | None = None,
) -> list[DuplicatePair]:
    """Every proved pair of photos, by name, sorted. asked: names; only pairs of which one is among them."""
    found = _Found({(twin.first, twin.second): twin for twin in identical(descriptors)}, asked)
    bar = _Bar(progress, "Comparing photos")
    chunks = _unknown(descriptors, found, bar)
    for (*_, pairs), proved in run_jobs(prove, chunks, workers if len(descriptors) > FEW else 0):
        if proved is not None:
            rows = zip(pairs, proved, strict=True)
            descriptors.store.keep_compared((key, None if twin is None else _as_json(twin)) for (_, key), twin in rows)
            for pair in proved:
                found.take(pair)
    bar.to(1.0)
    return [found.twins[names] for names in sorted(found.twins)]


def _unknown(descriptors: StoredDescriptors, found: _Found, bar: _Bar) -> Iterator[Chunk]:
    """Chunks of pairs of which nothing is known yet; what is known goes to `found` on the way."""
    store, run = descriptors.store, uuid4().hex
    digests = store.with_descriptor()
    same, lists = frozenset(found.twins), steps(len(descriptors))
    for number, pairs in enumerate(candidates(descriptors)):
        for start in range(0, len(pairs), CHUNK):
            bar.to((number + start / len(pairs)) / lists)
            some = [pair for pair in pairs[start : start + CHUNK] if found.asks(pair.first, pair.second)]
            held = [pair for pair in some if (pair.first, pair.second) not in same]
            keys = [pair_key(digests[key_of(one.first)], digests[key_of(one.second)], one.mirrored) for one in held]
            left = []
            for pair, key, (known, told) in zip(held, keys, store.compared(keys), strict=True):
                if not known:
                    left.append((pair, key))
                elif told is not None:
                    found.take(_named(told, pair))
            if left:
                yield store.file, run, tuple(left)


def prove(chunk: Chunk) -> list[DuplicatePair | None]:
    """Each pair's twin, or None; run in processes of its own."""
    file, run, pairs = chunk
    search = _search(file, run)
    return [search.proved(pair) for pair, _ in pairs]


@lru_cache(maxsize=1)
def _search(file: Path, _run: str) -> Search:
    """What a process keeps between chunks of one run: photos may be others under their names in the next."""
    return Search(StoredDescriptors(Store(file), ()))


class _Found:
    """Twins by their names; of a pair that is one upright and in a mirror, the better. asked: see `compare`."""

    def __init__(self, pairs: dict[tuple[str, str], DuplicatePair], asked: Container[str] | None = None) -> None:
        self.asked = asked
        self.twins = {pair: twin for pair, twin in pairs.items() if self.asks(*pair)}

    def asks(self, first: str, second: str) -> bool:
        return self.asked is None or first in self.asked or second in self.asked

    def take(self, pair: DuplicatePair | None) -> None:
        if pair is None:
            return
        held = self.twins.get((pair.first, pair.second))
        if held is None or held.registration.score < pair.registration.score:
            self.twins[pair.first, pair.second] = pair


class _Bar:
    """Turns "such a share is done" into a progress over items."""

    def __init__(self, progress: Progress, words: str) -> None:
        self._items = iter(progress(range(_TICKS), words, _TICKS))
        self._at = 0

    def to(self, share: float) -> None:
        while self._at < share * _TICKS:
            next(self._items, None)
            self._at += 1
        if share == 1.0:
            next(self._items, None)  # past the last one: the bar goes


def _as_json(pair: DuplicatePair) -> str:
    fit = {**asdict(pair.registration), "matrix": pair.registration.matrix.tolist()}
    return json.dumps({"kind": pair.kind, "registration": fit, "evidence": pair.evidence}, default=float)


def _named(told: str, pair: Candidate) -> DuplicatePair:
    """A stored twin under the names that its photos have now."""
    held: dict[str, Any] = json.loads(told)
    fit = held["registration"] | {"matrix": np.array(held["registration"]["matrix"])}
    return DuplicatePair(pair.first, pair.second, held["kind"], Registration(**fit), held["evidence"])
