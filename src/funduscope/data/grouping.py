"""Folds that no eye crosses: visits whole, and those of photos that show one eye made one, found by content.

A data set's own visits are only as good as its names: one photo under two names, or one eye on two days, is told by
neither. What was seen of a photo is kept in the cache, so that it is not looked at twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Final

from funduscope.data.case import Case
from funduscope.data.folds import bare_sets, is_official_test, make_folds
from funduscope.data.prepare import default_cache
from funduscope.duplicates.descriptor import describe
from funduscope.duplicates.process_pool import run_jobs
from funduscope.duplicates.search import FEW, Progress, compare
from funduscope.duplicates.store import Store, StoredDescriptors, key_of, state_of
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo

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

    Twins are looked for over all data sets together. What they have of folds is not read. Photos of an official test
    split get none, nor do those of the same eyes.
    """
    joined = [case.in_fold(None) for case in join_duplicates(cases, cache=cache, workers=workers, progress=progress)]
    apart = {case.visit for case in joined if is_official_test(case)}
    made = {case.key: case for case in make_folds([case for case in joined if case.visit not in apart], count, seed)}
    return [made.get(case.key, case) for case in joined]


def join_duplicates(
    cases: Sequence[Case],
    *,
    cache: Path | None = None,
    workers: int = _WORKERS,
    progress: Progress = lambda items, words, total: items,
) -> list[Case]:
    """The cases with the visits of twins made one; a photo that cannot be opened keeps its visit.

    cache: the folder of what is kept, by default the user's cache folder. workers: processes; 0 works in this one.
    """
    return grouped(cases, _pairs(cases, None, cache or default_cache(), workers, progress))


def join_bare(
    cases: Sequence[Case],
    *,
    cache: Path | None = None,
    workers: int = _WORKERS,
    progress: Progress = lambda items, words, total: items,
) -> list[Case]:
    """The cases, those of data sets without folds under the visits of their twins, so that `folds.placed` parts none.

    Twins are looked for in every data set; a visit that others have placed keeps its name, and its fold. A photo that
    shows an eye of two folds is left out: whichever it went into, it would be learned beside a test photo. Where every
    data set brings folds, no photo is looked at.
    """
    bare = bare_sets(cases)
    if not bare:
        return list(cases)
    counted = [case for case in cases if case.dataset in bare or case.fold is not None]
    asked = {str(case.path.absolute()) for case in counted if case.dataset in bare}
    joined = grouped(counted, _pairs(counted, asked, cache or default_cache(), workers, progress))
    group = {case.key: case.visit for case in joined}
    visits: dict[str, set[str]] = defaultdict(set)
    folds: dict[str, set[int]] = defaultdict(set)
    for case in counted:
        if case.fold is not None:
            visits[group[case.key]].add(case.visit)
            folds[group[case.key]].add(case.fold)
    kept = []
    for case in cases:
        if case.dataset not in bare:
            kept.append(case)
        elif len(folds[group[case.key]]) <= 1:
            kept.append(case.in_fold(None, min(visits[group[case.key]], default=group[case.key])))
    return kept


def _pairs(
    cases: Sequence[Case], asked: Container[str] | None, cache: Path, workers: int, progress: Progress
) -> list[tuple[str, str]]:
    """The keys of cases of one file or of twins. asked: paths; only twins of which one is among them."""
    keys: dict[str, list[str]] = {}
    for case in cases:
        keys.setdefault(str(case.path.absolute()), []).append(case.key)
    descriptors = _sketched(sorted(keys), cache, workers, progress)
    pairs = compare(descriptors, workers, progress, asked)
    sharing = [(held[0], key) for held in keys.values() for key in held[1:]]  # two cases of one file
    return sharing + [(keys[pair.first][0], keys[pair.second][0]) for pair in pairs]


def _sketched(photos: Sequence[str], cache: Path, workers: int, progress: Progress) -> StoredDescriptors:
    """A sketch of each photo that can be opened, from the store or made now."""
    folder = cache / "twins"
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "photos.sqlite")
    seen = store.seen()
    unseen = [photo for photo in photos if seen.get(key_of(photo)) != state_of(Path(photo))]
    workers = workers if len(unseen) > FEW else 0
    for photo, made in progress(run_jobs(_sketch, unseen, workers), "Looking for twins", len(unseen)):
        digest, data = made or ("", None)
        store.keep_photo(photo, state_of(Path(photo)), digest, "", (None, data))
    there = store.with_descriptor()
    return StoredDescriptors(store, [photo for photo in photos if key_of(photo) in there])


def _sketch(photo: str) -> tuple[str, bytes | None]:
    """The sha256 of a photo's file and its sketch; None where it cannot be opened."""
    try:
        opened = Photo.open(photo)
    except PhotoError:
        return "", None
    return opened.sha256, describe(opened).to_bytes()


def grouped(cases: Iterable[Case], pairs: Iterable[tuple[str, str]]) -> list[Case]:
    """The cases with the visits of twins made one, named as the first of them, so that no fold parts them.

    pairs: of `Case.key`; those of other keys say nothing. Folds stay as they were: make them anew where visits were
    joined over two (`folds.make_folds`).
    """
    held = list(cases)
    visit_of = {case.key: case.visit for case in held}
    leads = {visit: visit for visit in visit_of.values()}

    def lead(visit: str) -> str:
        while leads[visit] != visit:
            leads[visit] = leads[leads[visit]]
            visit = leads[visit]
        return visit

    for first, second in pairs:
        if first in visit_of and second in visit_of:
            one, other = sorted((lead(visit_of[first]), lead(visit_of[second])))
            leads[other] = one
    return [case.in_fold(case.fold, lead(case.visit)) for case in held]
