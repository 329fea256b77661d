"""Which fold a photo is in, and whether it may be learned from, selected on or tested: one `SplitPlan` answers.

A photo's fold is the one in the run's own `folds.csv`, otherwise the data set's own, otherwise a newly made one.
Photos of an official test get no fold, and neither they nor other photos of the same eyes are learned from. A photo
whose eye would be in two folds is left out and named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from funduscope.atomic import read_json
from funduscope.data.case import Case, LabelError
from funduscope.data.folds import make_folds
from funduscope.data.grouping import join_duplicates
from funduscope.data.run_folds import RunFolds
from funduscope.progress import Progress, no_progress


@dataclass(frozen=True)
class SplitPlan:
    """The photos with their folds, divided by what a run may do with them.

    cases: all photos. train: learned from. validation: the run's epoch and thresholds are selected on them. test: left
    alone. fold, validation_fold: those of test and validation, None if the run has none. crossing: photos that are
    left out of `cases`, since their eye is in two folds of other data sets.
    """

    cases: list[Case]
    train: list[Case]
    validation: list[Case]
    test: list[Case]
    fold: int | None = None
    validation_fold: int | None = None
    crossing: tuple[Case, ...] = ()

    @classmethod
    def of(cls, cases: Iterable[Case], fold: int | None = None, run: Path | None = None) -> SplitPlan:
        """Fold k tests, the next fold selects, the others train. Without a fold, nothing is tested and the first fold
        selects. run: the folder of a run whose own folds count."""
        assigned = _assign(list(cases), _folds_of(run))
        return cls._parted(assigned, fold, _next_fold(fold, {case.fold for case in assigned}))

    @classmethod
    def for_new_run(cls, cases: Sequence[Case], fold: int | None, progress: Progress = no_progress) -> SplitPlan:
        """As `of`; before folds are made, duplicates are looked for, so that none is in another fold than its photo."""
        joined, crossing = join_sets_without_folds(cases, progress=progress)
        return replace(cls.of(joined, fold), crossing=crossing)

    @classmethod
    def for_resumed_run(
        cls, cases: Sequence[Case], fold: int | None, run: Path, progress: Progress = no_progress
    ) -> SplitPlan:
        """As `of`, by the run's own folds. What `for_new_run` left out stays out: a data set of which the run lists no
        photo gets no folds before it is compared with the others again."""
        listed = _folds_of(run)
        joined: Sequence[Case] = cases if listed is None else _as_listed(cases, listed)
        crossing: tuple[Case, ...] = ()
        if _sets_without_folds(case for case in joined if case.split != "test"):
            joined, crossing = join_sets_without_folds(joined, progress=progress)
        return replace(cls.of(joined, fold, run), crossing=crossing)

    @classmethod
    def of_run(cls, run: Path, cases: Iterable[Case]) -> SplitPlan:
        """The plan that a run was trained by, for any photos: its test fold, and the fold that selected.

        A run without a test fold is tested on the photos of an official test, where they are given.

        Where its run.json does not name the selecting fold, it is the one that training chooses by the run's own folds.
        """
        about, listed = read_run_json(run), _folds_of(run)
        assigned = _assign(list(cases), listed)
        fold = about.get("fold")
        if "validation_fold" in about:
            selecting = about["validation_fold"]
        else:
            folds = {case.fold for case in assigned} if listed is None else {own for _, own in listed.places.values()}
            selecting = _next_fold(fold, folds)
        plan = cls._parted(assigned, fold, selecting)
        if fold is None:  # no run learns from photos of an official test
            plan = replace(plan, test=[case for case in assigned if case.split == "test"])
        return plan

    @classmethod
    def _parted(cls, cases: list[Case], fold: int | None, selecting: int | None) -> SplitPlan:
        placed, apart = [case for case in cases if case.fold is not None], _official_visits(cases)
        free = [case for case in placed if case.visit not in apart]
        return cls(
            cases,
            [case for case in free if case.fold not in (fold, selecting)],
            [case for case in free if case.fold == selecting],
            [case for case in placed if case.fold == fold],
            fold,
            selecting,
        )

    @property
    def unassigned(self) -> list[Case]:
        """The photos without a fold that should have one: others of their data set do, or their visit is in two."""
        apart = _official_visits(self.cases)
        return [case for case in self.cases if case.fold is None and case.visit not in apart]

    def warnings(self) -> list[str]:
        """A sentence for each reason why photos are neither learned from nor scored."""
        sentences = []
        if self.crossing:
            sentences.append(
                f"left out: {len(self.crossing)} photos of data sets without folds, such as {self.crossing[0].key}: "
                "their visits or eyes are in two folds of the other data sets. Mend those, or make folds over all "
                "data: `funduscope folds`."
            )
        if left := self.unassigned:
            sentences.append(
                f"left out: {len(left)} {'photo has' if len(left) == 1 else 'photos have'} no fold, such as "
                f"{left[0].key}, where others of the same data set have one: give every photo its fold, or none."
            )
        return sentences


def with_official_split(cases: Iterable[Case]) -> list[Case]:
    """The photos of data sets with an official split, such as IDRiD's; those of the test among them, which no run
    learns from. Raises `LabelError` if there is none."""
    found = [case for case in cases if case.split is not None]
    if not any(case.split == "train" for case in found):
        raise LabelError("No photo is in an official training split: expected IDRiD's folders, `a. Training Set`.")
    return found


def official_test(cases: Iterable[Case]) -> list[Case]:
    """The photos that their authors kept for the test. Raises `LabelError` if there is none."""
    found = [case for case in cases if case.split == "test"]
    if not found:
        raise LabelError("No photo is in an official test split: expected IDRiD's folders, `b. Testing Set`.")
    return found


def make_clean_folds(
    cases: Sequence[Case],
    count: int = 5,
    seed: int = 42,
    *,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> list[Case]:
    """The cases in `count` new folds; folds that they have are ignored.

    Visits of duplicates, found over all data sets, count as one. Photos of an official test, and others of the same
    eyes, get no fold. cache, workers: see `join_duplicates`.
    """
    joined = [case.in_fold(None) for case in join_duplicates(cases, cache=cache, workers=workers, progress=progress)]
    apart = _official_visits(joined)
    made = {case.key: case for case in make_folds([case for case in joined if case.visit not in apart], count, seed)}
    return [made.get(case.key, case) for case in joined]


def join_sets_without_folds(
    cases: Sequence[Case],
    *,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> tuple[list[Case], tuple[Case, ...]]:
    """The cases, and those left out of them. Photos of data sets without folds get the visits of their duplicates.

    Duplicates are looked for in every data set; a visit that has a fold keeps its name. A photo whose eye is in two
    folds is left out: in any fold, it would be learned while the eye is tested. Other photos of an eye of an official
    test lose their fold and get its visit. Where every data set brings folds and there is no official test, no photo
    is opened. cache, workers: see `join_duplicates`.
    """
    bare, official = _sets_without_folds(cases), {case.key for case in cases if case.split == "test"}
    if not bare and not official:
        return list(cases), ()
    counted = [case for case in cases if official or case.dataset in bare or case.fold is not None]
    among = bare | {case.dataset for case in cases if case.key in official}
    joined = join_duplicates(counted, among=among, cache=cache, workers=workers, progress=progress)
    group = {case.key: case.visit for case in joined}
    apart = {group[key] for key in official}
    visits: dict[str, set[str]] = defaultdict(set)
    folds: dict[str, set[int]] = defaultdict(set)
    for case in counted:
        if case.fold is not None:
            visits[group[case.key]].add(case.visit)
            folds[group[case.key]].add(case.fold)
    kept, crossing = [], []
    for case in cases:
        if official and group[case.key] in apart:
            kept.append(case.in_fold(None, group[case.key]))
        elif case.dataset not in bare:
            kept.append(case)
        elif len(folds[group[case.key]]) <= 1:
            kept.append(case.in_fold(None, min(visits[group[case.key]], default=group[case.key])))
        else:
            crossing.append(case)
    return kept, tuple(crossing)


def read_run_json(run: Path) -> dict[str, Any]:
    """A run's run.json; empty if there is none. Raises `DamagedFileError`."""
    path = run / "run.json"
    return read_json(path) if path.is_file() else {}


def _folds_of(run: Path | None) -> RunFolds | None:
    """A run's own folds; None if it has none."""
    file = None if run is None else run / "folds.csv"
    return RunFolds.read(file) if file is not None and file.is_file() else None


def _assign(cases: list[Case], listed: RunFolds | None) -> list[Case]:
    """The cases with folds wherever they can have one: as `listed`, otherwise as their data set says, otherwise made,
    for each data set of which no photo has a fold.

    Where folds are made, a photo whose visit has a fold in another data set gets that one; where the visit has two, it
    gets none.
    """
    if listed is not None:
        cases = _as_listed(cases, listed)
    cases = [case.in_fold(None) if case.split == "test" else case for case in cases]
    bare = _sets_without_folds(cases)
    folds: dict[str, set[int]] = defaultdict(set)
    for case in cases:
        if case.fold is not None:
            folds[case.visit].add(case.fold)
    apart = _official_visits(cases)
    open_cases = {case.key for case in cases if case.dataset in bare and case.visit not in apart}
    free = [case for case in cases if case.key in open_cases and case.visit not in folds]
    made = {case.key: case for case in make_folds(free)} if free else {}
    follow = {visit: min(there) if len(there) == 1 else None for visit, there in folds.items()}
    return [
        made.get(case.key, case.in_fold(follow.get(case.visit))) if case.key in open_cases else case for case in cases
    ]


def _as_listed(cases: Iterable[Case], listed: RunFolds) -> list[Case]:
    """The cases in the folds of a run, whatever their data set says by now: otherwise the run would be tested on photos
    that it learned from.

    A case that has a fold and that the run does not list goes with its visit, if the run lists others of it.
    """
    cases = list(cases)
    known, found = listed.of(cases), []
    for case in cases:
        followed = None if case.fold is None else known.visits.get(case.visit, case.fold)
        visit, fold = known.places.get(case.key, (case.visit, followed))
        found.append(case.in_fold(fold, visit))
    return found


def _sets_without_folds(cases: Iterable[Case]) -> set[str]:
    """The data sets of which no photo has a fold: those that folds are made for."""
    cases = list(cases)
    return {case.dataset for case in cases} - {case.dataset for case in cases if case.fold is not None}


def _official_visits(cases: Iterable[Case]) -> set[str]:
    """The visits of photos that their authors kept for the test."""
    return {case.visit for case in cases if case.split == "test"}


def _next_fold(fold: int | None, there: Iterable[int | None]) -> int | None:
    """The fold that selects: the next one after the test fold, the first one where nothing is tested. None where no
    photo is in a fold other than the tested one."""
    others = {other for other in there if other is not None and other != fold}
    return min((other for other in others if fold is None or other > fold), default=min(others, default=None))
