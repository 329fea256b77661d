"""What a person corrects in one photo, and the findings of the photo with these corrections.

Corrected masks are stored as pixels, not as strokes, so that a later model cannot change them. Grades and probabilities
stay the model's own. The advice follows a grade or a risk that a person gave, by the rule of the patient leaflet, so
that table, page and leaflet give the same advice.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

import numpy as np
from PIL import Image

from funduscope.data.case import Point
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.inference.headline import headline
from funduscope.inference.rules import advice_after
from funduscope.vocabulary import CODES, FURTHER_TASKS

MAX_STEPS: Final = 100
MAX_NAME_LENGTH: Final = 80
"""Characters of the name of who corrects."""

Edit = Literal["deleted", "drawn", "painted", "erased", "moved_from", "moved_to"]
EDITS: Final[tuple[Edit, ...]] = get_args(Edit)
"""What a person does to the outlines of a kind: to a lesion, drawn ones included; or a stroke of brush or eraser; or a
lesion that was given another kind, of the former kind and of the new one."""


@dataclass(frozen=True)
class Corrections:
    """What a person stated about one photo.

    grade 0-4, dme 0-2, disc_xy and fovea_xy in photo pixels: None if the person gave none. classes: by name the
    class of each further photo task that the person gave. masks: structure code to the whole (H, W) mask as a one-bit
    PNG. complete: structures whose masks the person calls complete; only these become labels. confirmed: structures
    whose mask is the model's, copied when it was called complete.
    """

    grade: int | None = None
    dme: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    masks: Mapping[str, bytes] = field(default_factory=dict)
    complete: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()

    edits: Mapping[str, Mapping[Edit, int]] = field(default_factory=dict)
    """How often the person did what, by structure code. Files of earlier versions do not say it."""

    graders: tuple[str, ...] = field(default=(), compare=False)
    """Who corrected, in their order, as they named themselves."""

    at: datetime | None = field(default=None, compare=False)
    """When it was corrected last."""

    def label(self, task: str) -> int | None:
        """The class that the person gave for a photo task of the vocabulary; None without one."""
        own = {"grade": self.grade, "dme": self.dme}
        return own[task] if task in own else self.classes.get(task)

    @property
    def by_hand(self) -> frozenset[str]:
        """The structures in which a person drew or deleted something."""
        return frozenset(self.masks) - self.confirmed

    @property
    def unfinished(self) -> frozenset[str]:
        """The structures that were corrected and not called complete: no labels yet."""
        return self.by_hand - self.complete

    @property
    def is_empty(self) -> bool:
        """Whether the person stated nothing."""
        return self == Corrections()

    @property
    def outline_key(self) -> tuple[Any, ...]:
        """A hashable key of everything that changes outlines or landmarks."""
        return self.disc_xy, self.fovea_xy, tuple(sorted(self.masks.items()))

    def with_mask(self, code: str, mask: np.ndarray, edit: Edit) -> Corrections:
        """A copy with this (H, W) bool mask, made by an edit; whether the structure is complete stays."""
        counts = {**self.edits.get(code, {})}
        counts[edit] = counts.get(edit, 0) + 1
        return replace(
            self,
            masks={**self.masks, code: mask_to_png(mask)},
            confirmed=self.confirmed - {code},
            edits={**self.edits, code: counts},
        )

    def named(self, grader: str) -> Corrections:
        """A copy that names who corrected; none is named where the person gave no name."""
        if not grader or grader in self.graders:
            return self
        return replace(self, graders=(*self.graders, grader))


def merged(base: Corrections, ours: Corrections, theirs: Corrections) -> Corrections:
    """Two persons' or sessions' corrections of one photo as one: ours wherever they changed since `base`."""

    def newer(name: str) -> Any:
        own = getattr(ours, name)
        return getattr(theirs, name) if own == getattr(base, name) else own

    def of_code(one: Corrections, code: str) -> tuple[Any, ...]:
        return one.masks.get(code), code in one.complete, code in one.confirmed

    tasks, codes = {*ours.classes, *theirs.classes}, {*ours.masks, *theirs.masks, *ours.complete, *theirs.complete}
    source = {code: theirs if of_code(ours, code) == of_code(base, code) else ours for code in codes}
    stated = {
        task: (theirs if ours.classes.get(task) == base.classes.get(task) else ours).classes.get(task) for task in tasks
    }
    return Corrections(
        **{name: newer(name) for name in ("grade", "dme", "disc_xy", "fovea_xy")},
        classes={task: label for task, label in stated.items() if label is not None},
        masks={code: one.masks[code] for code, one in sorted(source.items()) if code in one.masks},
        complete=frozenset(code for code, one in source.items() if code in one.complete),
        confirmed=frozenset(code for code, one in source.items() if code in one.confirmed),
        edits={code: one.edits[code] for code, one in sorted(source.items()) if code in one.edits},
        graders=tuple(dict.fromkeys((*theirs.graders, *ours.graders))),
        at=max((at for at in (ours.at, theirs.at) if at is not None), default=None),
    )


@dataclass
class History:
    """The current corrections of one photo, and the states that undo and redo go to.

    from_file: the last corrections that were read from a file and replaced others. from_draft: those that were restored
    from this machine's draft.
    """

    now: Corrections = field(default_factory=Corrections)
    before: list[Corrections] = field(default_factory=list)
    undone: list[Corrections] = field(default_factory=list)
    from_file: Corrections | None = None
    from_draft: Corrections | None = None

    def step(self, after: Corrections) -> None:
        """Makes `after` the current state; nothing happens where it equals the current one."""
        if after != self.now:
            self.before = [*self.before, self.now][-MAX_STEPS:]
            self.now, self.undone = after, []

    def restore(self, saved: Corrections) -> None:
        """Takes corrections from a file: as a step that can be undone where the photo already has some."""
        if not self.now.is_empty and saved != self.now:
            self.from_file = saved
        if self.before or not self.now.is_empty:
            self.step(saved)
        else:
            self.now, self.undone = saved, []

    @property
    def is_replaced(self) -> bool:
        """Whether the current corrections came from a file and replaced others."""
        return self.from_file is not None and self.now == self.from_file

    def continue_draft(self, draft: Corrections) -> None:
        """Takes the corrections of a draft, as a step that can be undone."""
        self.from_draft = draft
        self.step(draft)

    @property
    def is_draft(self) -> bool:
        """Whether the current corrections are those that were restored from a draft."""
        return self.from_draft is not None and self.now == self.from_draft

    def name_grader(self, grader: str) -> None:
        """Names who made the current corrections and those that undo and redo go to."""
        self.now = self.now.named(grader)
        self.before = [earlier.named(grader) for earlier in self.before]
        self.undone = [later.named(grader) for later in self.undone]

    def undo(self) -> None:
        """Goes back one step, if there is one."""
        if self.before:
            self.undone.append(self.now)
            self.now = self.before.pop()

    def redo(self) -> None:
        """Takes the step again that was undone last, if there is one."""
        if self.undone:
            self.before.append(self.now)
            self.now = self.undone.pop()


def mask_to_png(mask: np.ndarray) -> bytes:
    """An (H, W) bool mask as a one-bit PNG: a few kilobytes for millions of pixels."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, dtype=bool)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def mask_from_png(data: bytes) -> np.ndarray:
    """The (H, W) bool mask that `mask_to_png` wrote."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.array(image.convert("1"), dtype=bool)


def apply_corrections(findings: Findings, thresholds: Mapping[str, float], corrections: Corrections) -> Findings:
    """The findings with other thresholds and a person's masks and landmarks; lesions, rules and advice follow.

    thresholds: structure code to probability, for the structures whose threshold was moved. A landmark that a person
    placed is no longer marked as estimated. Masks that do not change are reused.
    """
    card = findings.card
    moved = {code: value for code, value in thresholds.items() if card.thresholds.get(code) != value}
    drawn = corrections.masks.keys() & set(findings.codes)
    if not moved and not drawn and corrections.disc_xy is None and corrections.fovea_xy is None:
        return findings
    same = [code for code in findings.codes if code not in moved and code not in drawn]
    masks = {code: findings.mask(code) for code in same}
    masks |= {code: mask_from_png(corrections.masks[code]) for code in drawn}
    disc_xy = corrections.disc_xy or (_centroid(masks["OD"]) if "OD" in drawn else None)
    by_person = {"optic_disc": disc_xy, "fovea": corrections.fovea_xy}
    anatomy_stays = "OD" in same and not any(by_person.values())
    shown = replace(
        findings,
        card=replace(card, thresholds={**card.thresholds, **moved}),
        disc_xy=disc_xy or findings.disc_xy,
        fovea_xy=corrections.fovea_xy or findings.fovea_xy,
        estimated=tuple(name for name in findings.estimated if by_person.get(name) is None),
        by_hand=corrections.by_hand & set(findings.codes),
    )
    return shown.with_masks(masks, {code: findings.objects(code) for code in same} if anatomy_stays else {})


def _centroid(mask: np.ndarray) -> tuple[float, float] | None:
    """The mean pixel of a drawn disc, in photo pixels; None for an empty mask."""
    rows, columns = np.nonzero(mask)
    return (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5) if rows.size else None


def mark_complete(shown: Findings, corrections: Corrections, codes: frozenset[str]) -> Corrections:
    """The corrections with exactly these structures called complete.

    A newly complete mask is copied as it is shown, so that no later threshold or model changes it. A structure that is
    no longer complete gets the model's mask back; a mask that was drawn stays.
    """
    added = {code for code in codes - corrections.complete if code in shown.codes and code not in corrections.masks}
    removed = corrections.confirmed - codes
    masks = {code: data for code, data in corrections.masks.items() if code not in removed}
    masks |= {code: mask_to_png(shown.mask(code)) for code in added}
    return replace(corrections, masks=masks, complete=codes, confirmed=(corrections.confirmed - removed) | added)


def without_objects(findings: Findings) -> dict[str, Any]:
    """The content of findings.json without the list of single lesions, which is most of it."""
    found = findings.to_dict()
    for lesion in (found["lesions"] or {}).values():
        lesion["objects"] = []
    return found


def with_advice(found: Mapping[str, Any], corrections: Corrections) -> dict[str, Any]:
    """The findings with the advice and the headline that follow from the person's grade and risk.

    found: as in findings.json, with the corrected outlines. Where the person gave no grade or risk, the model's counts.
    """
    found = dict(found)
    if found["lesions"] is not None:  # no threshold applies to what a person outlined
        found["lesions"] = {
            code: lesion | {"threshold": None} if code in corrections.by_hand else lesion
            for code, lesion in found["lesions"].items()
        }
    if corrections.grade is None and corrections.dme is None:
        return found | {"headline": headline(found)}
    found["advice"] = advice_after(found, corrections.grade, corrections.dme)
    return found | {"headline": headline(found, grade=corrections.grade, dme=corrections.dme)}


def grade_name(grade: int, words: Words) -> str:
    """The grade's number and name."""
    return f"{grade} {words(f'grade.{grade}')}"


def describe(corrections: Corrections, words: Words) -> str:
    """Who corrected, when, and what, in one line for page and PDF; empty without corrections."""
    if corrections.is_empty:
        return ""
    head = words("correct.yours")
    if corrections.at is not None:
        values = {"who": ", ".join(corrections.graders), "when": corrections.at.strftime("%Y-%m-%d %H:%M %Z")}
        head = words("correct.record" if corrections.graders else "correct.record_unnamed", values)
    return f"{head} {_changes(corrections, words)}"


def _changes(corrections: Corrections, words: Words) -> str:
    """What was corrected."""
    by_hand = [code for code in CODES if code in corrections.by_hand]
    confirmed = [code for code in CODES if code in corrections.complete - corrections.by_hand]
    stated = {
        words("grade.title"): "" if corrections.grade is None else grade_name(corrections.grade, words),
        words("dme.title"): "" if corrections.dme is None else str(corrections.dme),
        **{
            words.task(task): words.photo_class(task, corrections.classes[task.name])
            for task in FURTHER_TASKS
            if task.name in corrections.classes
        },
        words("correct.by_hand"): ", ".join(_edited(code, corrections, words) for code in by_hand),
        words("correct.confirmed"): ", ".join(words.structure(code) for code in confirmed),
    }
    parts = [f"{name}: {text}" for name, text in stated.items() if text]
    landmarks = (("optic_disc", corrections.disc_xy), ("fovea", corrections.fovea_xy))
    return "; ".join([*parts, *(words(f"correct.{name}") for name, xy in landmarks if xy)])


def _edited(code: str, corrections: Corrections, words: Words) -> str:
    """The name of a structure, with what was done to its outlines."""
    counts = corrections.edits.get(code, {})
    done = [words(f"edit.{edit}", {"count": counts[edit]}) for edit in EDITS if edit in counts]
    return f"{words.structure(code)} ({', '.join(done)})" if done else words.structure(code)
