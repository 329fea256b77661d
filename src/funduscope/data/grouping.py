"""Visits of duplicates made one, so that no fold parts them: duplicates are found by what the photos show.

A data set's own visits are only as good as its names, which do not show that one photo has two names, or that one eye
was photographed on two days. Descriptors of photos are kept in the cache, so no photo is opened twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from funduscope.data.case import Case
from funduscope.data.prepare import default_cache
from funduscope.duplicates.cache import PhotoCache, StoredDescriptors, state_of
from funduscope.duplicates.descriptor import describe
from funduscope.duplicates.search import FEW, compare
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.process_pool import run_jobs
from funduscope.progress import Progress, no_progress


def join_duplicates(
    cases: Sequence[Case],
    *,
    among: Collection[str] | None = None,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> list[Case]:
    """The cases with the visits of duplicates made one; a photo that cannot be opened keeps its visit.

    among: data sets; only duplicates of which one is in them count. cache: the folder of descriptors, by default the
    user's cache folder. workers: number of processes; with 0, this process does the work.
    """
    keys: dict[str, list[str]] = {}
    for case in cases:
        keys.setdefault(str(case.path.absolute()), []).append(case.key)
    photos = None if among is None else {str(case.path.absolute()) for case in cases if case.dataset in among}
    descriptors = _descriptors(sorted(keys), cache or default_cache(), workers, progress)
    pairs = [(first, key) for first, *others in keys.values() for key in others]  # cases of one file
    pairs += [(keys[pair.first][0], keys[pair.second][0]) for pair in compare(descriptors, workers, progress, photos)]
    return grouped(cases, pairs)


def grouped(cases: Iterable[Case], pairs: Iterable[tuple[str, str]]) -> list[Case]:
    """The cases with the visits of each pair made one, under the first of their names. Folds stay as they are.

    pairs: of `Case.key`; pairs with other keys are ignored.
    """
    cases = list(cases)
    visit_of = {case.key: case.visit for case in cases}
    leads = {case.visit: case.visit for case in cases}  # a key that stands twice may have two

    def lead(visit: str) -> str:
        while leads[visit] != visit:
            leads[visit] = leads[leads[visit]]
            visit = leads[visit]
        return visit

    for first, second in pairs:
        if first in visit_of and second in visit_of:
            one, other = sorted((lead(visit_of[first]), lead(visit_of[second])))
            leads[other] = one
    return [case.in_fold(case.fold, lead(case.visit)) for case in cases]


def _descriptors(photos: Sequence[str], folder: Path, workers: int, progress: Progress) -> StoredDescriptors:
    """A descriptor of each photo that can be opened, from the cache or made now."""
    cache = PhotoCache(folder / "duplicates")
    states = {photo: state_of(Path(photo)) for photo in photos}  # before they are read: they may be written meanwhile
    digests = {photo: cache.read(photo, "sha256", state) for photo, state in states.items()}
    new = [photo for photo, digest in digests.items() if digest is None]

    workers = workers if len(new) > FEW else 0
    for photo, parts in progress(run_jobs(_describe, new, workers), "Looking for duplicates", len(new)):
        if parts is not None:  # otherwise its process died, as memory ran out, say: it is tried again the next time
            cache.write(photo, states[photo], parts)
            digests[photo] = parts["sha256"]
    return StoredDescriptors(cache, {photo: digest.decode() for photo, digest in digests.items() if digest})


def _describe(photo: str) -> dict[str, bytes | None]:
    """The SHA-256 of a photo's file and its descriptor; if it cannot be opened, neither."""
    try:
        opened = Photo.open(photo)
    except PhotoError:
        return {"sha256": b"", "descriptor": None}
    return {"sha256": opened.sha256.encode(), "descriptor": describe(opened).to_bytes()}
