"""Duplicates among many photos: candidates are found once, several processes prove them, no pair is compared twice.

The result of each pair is kept in the photos' cache under the bytes of both photos. So a run that was killed continues
where it stopped, and a run after a change of labels compares nothing again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Set
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from funduscope.duplicates.cache import PairCache, PhotoCache, StoredDescriptors, pair_key
from funduscope.duplicates.candidates import Candidate, candidates, steps
from funduscope.duplicates.pairs import DuplicatePair, PairSearch, identical_pairs
from funduscope.duplicates.registration import Registration
from funduscope.process_pool import run_jobs
from funduscope.progress import Progress, no_progress

CHUNK: Final = 200
"""Pairs of one job: neighbors in the list share a photo, which is then prepared once."""

FEW: Final = 60
"""Up to this number of photos, this process compares them: starting others would take longer."""

_TICKS: Final = 1000
_log = logging.getLogger(__name__)

Pairs = tuple[tuple[Candidate, str], ...]
Chunk = tuple[Path, str, Pairs]
"""The cache's folder, an identifier of this run, and pairs, each with its key in the cache."""


def compare(
    descriptors: StoredDescriptors,
    workers: int = 2,
    progress: Progress = no_progress,
    among: Set[str] | None = None,
) -> list[DuplicatePair]:
    """Every proved pair of photos, by name, sorted. among: names; only pairs of which one is among them.

    Of photos with the very same pixels, each is paired with the first of them only.
    """
    found = [pair for pair in identical_pairs(descriptors) if among is None or {pair.first, pair.second} & among]
    bar = _Bar(progress, "Comparing photos")
    results = PairCache(descriptors.cache.folder)
    chunks = _unknown(descriptors, results, found, among, bar)
    for pairs, proved in _proved(chunks, workers if len(descriptors) > FEW else 0):
        rows = zip(pairs, proved, strict=True)
        results.write({key: None if pair is None else _as_json(pair) for (_, key), pair in rows})
        found += filter(None, proved)
    bar.to(1.0)
    # Of a pair that is proved upright and mirrored, the better comes last and stays; of equal ones, the first.
    found.sort(key=lambda pair: pair.registration.score, reverse=True)
    best = {(pair.first, pair.second): pair for pair in found[::-1]}
    return [best[names] for names in sorted(best)]


def _unknown(
    descriptors: StoredDescriptors,
    results: PairCache,
    found: list[DuplicatePair],
    among: Set[str] | None,
    bar: _Bar,
) -> Iterator[Chunk]:
    """Chunks of pairs that were not compared yet; the results of those that were go to `found` on the way."""
    run, digests = uuid4().hex, descriptors.digests
    same, lists = {(pair.first, pair.second) for pair in found}, steps(len(descriptors))
    for number, pairs in enumerate(candidates(descriptors)):
        for start in range(0, len(pairs), CHUNK):
            bar.to((number + start / len(pairs)) / lists)
            some = [
                pair
                for pair in pairs[start : start + CHUNK]
                if (pair.first, pair.second) not in same and (among is None or {pair.first, pair.second} & among)
            ]
            unknown = []
            for pair in some:
                key = pair_key(digests[pair.first], digests[pair.second], pair.mirrored)
                if key not in results.results:
                    unknown.append((pair, key))
                elif (result := results.results[key]) is not None:
                    found.append(_from_json(result, pair))
            if unknown:
                yield descriptors.cache.folder, run, tuple(unknown)


def _proved(chunks: Iterator[Chunk], workers: int) -> Iterator[tuple[Pairs, list[DuplicatePair | None]]]:
    """The pairs of each chunk with their proofs. Those of a chunk that ended its process twice are tried one by one."""
    for chunk, proved in run_jobs(prove, chunks, workers):
        if proved is not None:
            yield chunk[2], proved
            continue
        folder, run, pairs = chunk
        for (*_, single), alone in run_jobs(prove, [(folder, run, (pair,)) for pair in pairs], 1):
            if alone is None:
                _log.warning("Two photos were not compared: comparing them ended its process twice.")
            else:
                yield single, alone


def prove(chunk: Chunk) -> list[DuplicatePair | None]:
    """Each pair with its proof, or None; runs in other processes."""
    folder, run, pairs = chunk
    search = _search(folder, run)
    return [search.proved(pair) for pair, _ in pairs]


@lru_cache(maxsize=1)
def _search(folder: Path, _run: str) -> PairSearch:
    """What a process keeps between chunks of one run: in the next run, other photos may have the same names."""
    return PairSearch(StoredDescriptors(PhotoCache(folder), {}))


class _Bar:
    """Shows the share of work that is done by a `Progress` over items."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._items = iter(progress(range(_TICKS), label, _TICKS))
        self._at = 0

    def to(self, share: float) -> None:
        while self._at < share * _TICKS:
            next(self._items, None)
            self._at += 1
        if share == 1.0:
            next(self._items, None)  # past the last one, which ends the bar


def _as_json(pair: DuplicatePair) -> str:
    fit = {**asdict(pair.registration), "matrix": pair.registration.matrix.tolist()}
    return json.dumps({"kind": pair.kind, "registration": fit, "evidence": pair.evidence}, default=float)


def _from_json(text: str, pair: Candidate) -> DuplicatePair:
    """A stored pair under the names that its photos have now."""
    stored: dict[str, Any] = json.loads(text)
    fit = stored["registration"] | {"matrix": np.array(stored["registration"]["matrix"])}
    return DuplicatePair(pair.first, pair.second, stored["kind"], Registration(**fit), stored["evidence"])
