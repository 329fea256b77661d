"""Folds that no eye crosses: visits whole, and those of photos that show one eye made one, found by content.

A data set's own visits are only as good as its names: one photo under two names, or one eye on two days, is told by
neither. What was seen of a photo is kept in the cache, so that it is not looked at twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from funduscope.data.case import Case
from funduscope.data.comparing import FEW, Progress, compare
from funduscope.data.crew import shared_out
from funduscope.data.folds import make_folds
from funduscope.data.prepare import default_cache
from funduscope.data.sketch import sketch
from funduscope.data.store import Store, StoredSketches, key_of, state_of
from funduscope.data.twins import grouped
from funduscope.errors import PhotoError
from funduscope.photo import Photo

_WORKERS: Final = 2


def clean_folds(
    cases: Sequence[Case],
    count: int = 5,
    seed: int = 42,
    *,
    cache: Path | None = None,
    workers: int = _WORKERS,
    progress: Progress = lambda items, words, total: items,
) -> list[Case]:
    """The cases in `count` folds anew: by visit, visits of twins made one, grades spread evenly over the folds.

    Twins are looked for over all data sets together. What they have of folds is not read.
    """
    return make_folds(join_twins(cases, cache=cache, workers=workers, progress=progress), count, seed)


def join_twins(
    cases: Sequence[Case],
    *,
    cache: Path | None = None,
    workers: int = _WORKERS,
    progress: Progress = lambda items, words, total: items,
) -> list[Case]:
    """The cases with the visits of twins made one; a photo that cannot be opened keeps its visit.

    cache: the folder of what is kept, by default the user's cache folder. workers: processes; 0 works in this one.
    """
    keys: dict[str, list[str]] = {}
    for case in cases:
        keys.setdefault(str(case.path.absolute()), []).append(case.key)
    sketches = _sketched(sorted(keys), cache or default_cache(), workers, progress)
    twins = compare(sketches, workers, progress)
    sharing = [(held[0], key) for held in keys.values() for key in held[1:]]  # two cases of one file
    pairs = sharing + [(keys[twin.first][0], keys[twin.second][0]) for twin in twins]
    return grouped(cases, pairs)


def join_bare(cases: Sequence[Case], progress: Progress = lambda items, words, total: items) -> list[Case]:
    """The cases, in data sets that bring no folds with the visits of twins made one: `folds.placed` then parts none."""
    bare = {case.dataset for case in cases} - {case.dataset for case in cases if case.fold is not None}
    joined = join_twins([case for case in cases if case.dataset in bare], progress=progress) if bare else []
    visits = {case.key: case.visit for case in joined}
    return [case.in_fold(case.fold, visits.get(case.key, case.visit)) for case in cases]


def _sketched(photos: Sequence[str], cache: Path, workers: int, progress: Progress) -> StoredSketches:
    """A sketch of each photo that can be opened, from the store or made now."""
    folder = cache / "twins"
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "photos.sqlite")
    seen = store.seen()
    unseen = [photo for photo in photos if seen.get(key_of(photo)) != state_of(Path(photo))]
    workers = workers if len(unseen) > FEW else 0
    for photo, made in progress(shared_out(_sketch, unseen, workers), "Looking for twins", len(unseen)):
        digest, data = made or ("", None)
        store.keep_photo(photo, state_of(Path(photo)), digest, "", (None, data))
    there = store.with_sketch()
    return StoredSketches(store, [photo for photo in photos if key_of(photo) in there])


def _sketch(photo: str) -> tuple[str, bytes | None]:
    """The sha256 of a photo's file and its sketch; None where it cannot be opened."""
    try:
        opened = Photo.open(photo)
    except PhotoError:
        return "", None
    return opened.sha256, sketch(opened).to_bytes()
