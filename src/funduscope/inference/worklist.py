"""What a worklist says of an eye and of a patient: refer, examine, take the photo again, have a person grade, or none.

An eye's grade is the higher of the model's and of what the outlined lesions support, over all of its photos; so is its
macular edema risk. A model may answer one of them alone, or outline lesions only. An eye with no photo that can be read
and graded stays open, since no answer of the other eye speaks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from funduscope.inference.rules import with_rules

State = Literal["urgent", "soon", "examine", "retake", "person", "routine"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""From who must be seen first.

urgent, soon: to be referred.
examine: nothing referable was found, but an eye was photographed again and no photo of it can be graded.
retake: nothing referable was found, but an eye has no photo that can be graded.
person: nothing referable was found, but a person should grade every photo of an eye that can be graded.
routine: nothing referable was found in any eye.
"""

EYES: Final = ("right", "left")
"""The eyes of a patient. Photos of which nobody knows the eye have a third name."""

ATTEMPTS: Final = 2
"""After so many photos of an eye that cannot be graded, another one is not expected to be better."""

_NO_RETINA: Final = frozenset({"NOT_FUNDUS", "UNSURE_FUNDUS"})
"""Reasons of a picture that may be of the outside of an eye."""

_TO_RETAKE: Final = frozenset({"RETAKE_OR_EXAMINE", "NO_REFERRAL_RETAKE"})
_FOR_A_PERSON: Final = frozenset({"NO_REFERRAL_PERSON", "REFERRAL_OPEN"})

Found = Mapping[str, Any]
"""As in findings.json."""


@dataclass(frozen=True)
class PhotoAnswer:
    """What one photo says of its eye."""

    photo: Any
    """What the caller knows the photo by."""

    state: State
    """Of this photo alone; never "examine"."""

    grade: int | None = None
    risk: int | None = None

    chance: float | None = None
    """Of a grade that is referred."""

    is_answered: bool = False
    """Whether the model said anything of grade, edema risk or lesions."""

    is_graded: bool = False
    """Whether the photo need not be taken again."""

    shows_retina: bool = False
    """Whether it is a photo of the back of the eye, though perhaps a poor one."""

    @property
    def order(self) -> tuple[float, ...]:
        """By which the worst of several photos is the least."""
        return order(self.state, self.grade, self.risk, self.chance)


def order(state: State, grade: int | None, risk: int | None, chance: float | None) -> tuple[float, ...]:
    """A sort key, least for who must be seen first: the state, then grade, edema risk and chance of referral."""
    return STATES.index(state), -(grade or 0), -(risk or 0), -(chance or 0.0)


def answer_of(photo: Any, found: Found | None) -> PhotoAnswer:
    """What a photo says of its eye; of one that could not be opened, only that it is to be taken again.

    photo: what the caller knows it by. found: None of a photo that could not be opened.
    """
    if found is None:
        return PhotoAnswer(photo, "retake")
    gradable = found.get("gradable") or {}
    codes = {reason["code"] for reason in gradable.get("reasons") or ()}
    shows_retina = not codes & _NO_RETINA

    advice = found.get("advice")
    if advice is None:
        return PhotoAnswer(photo, "retake", shows_retina=shows_retina)

    referral = ((found.get("headline") or {}).get("referral") or {}).get("code")
    is_graded = gradable.get("advice") not in ("refuse", "retake") and referral not in _TO_RETAKE
    is_forced = gradable.get("advice") == "refuse"

    state: State = "routine"
    if advice["refer"] and not is_forced:  # what was forced is shown, but refers nobody
        state = advice["urgency"] if shows_retina else "soon"
    elif not is_graded:
        state = "retake"
    elif referral in _FOR_A_PERSON:
        state = "person"
    grade, risk = with_rules(found)
    chance = (found.get("referable") or {}).get("probability")
    return PhotoAnswer(
        photo,
        state,
        grade,
        risk,
        chance,
        is_answered=True,
        is_graded=is_graded,
        shows_retina=shows_retina,
    )


def reasons_of(found: Found, answer: PhotoAnswer) -> list[Mapping[str, Any]]:
    """The messages of findings.json that say why a photo has its state, and why it is to be taken again."""
    reasons: list[Mapping[str, Any]] = []
    if not answer.is_graded:
        reasons += reasons_to_retake(found)
    if answer.state == "person":
        reasons += _headlines(found)
    elif answer.state != "retake":
        reasons += found["advice"]["because"]
    return reasons


def reasons_to_retake(found: Found) -> list[Mapping[str, Any]]:
    """The messages of findings.json that say why a photo is to be taken again."""
    reasons: list[Mapping[str, Any]] = list((found.get("gradable") or {}).get("reasons") or ())
    reasons += [note for note in found.get("warnings") or () if note["code"] == "FOVEA_NOT_FOUND"]
    return reasons or _headlines(found)


def _headlines(found: Found) -> list[Mapping[str, Any]]:
    parts = found.get("headline") or {}
    return [part for name in ("trust", "referral") if (part := parts.get(name))]


@dataclass(frozen=True)
class Eye:
    """The photos of one eye, by what each of them says."""

    answers: Sequence[PhotoAnswer] = ()

    @property
    def is_graded(self) -> bool:
        """Whether a photo of the eye can be read and graded."""
        return any(answer.is_graded for answer in self.answers)

    @property
    def is_believed(self) -> bool:
        """Whether the model may grade one of its photos alone."""
        return any(answer.is_graded and answer.state != "person" for answer in self.answers)

    @property
    def can_be_retaken(self) -> bool:
        """Whether the eye was not yet photographed in vain as often as makes sense."""
        return sum(answer.shows_retina and not answer.is_graded for answer in self.answers) < ATTEMPTS

    @property
    def decisive(self) -> PhotoAnswer | None:
        """The answer that must be seen to first; None if the model answered no photo of the eye."""
        return decisive(self.answers)

    @property
    def referral(self) -> State:
        """ "urgent", "soon" or "routine", by the model's answers alone."""
        return "routine" if self.decisive is None else _referral(self.decisive)

    @property
    def grade(self) -> int | None:
        """The worst grade of its photos; None if nothing tells."""
        return max((answer.grade for answer in self.answers if answer.grade is not None), default=None)

    @property
    def risk(self) -> int | None:
        """The worst macular edema risk of its photos; None if nothing tells."""
        return max((answer.risk for answer in self.answers if answer.risk is not None), default=None)


def decisive(answers: Iterable[PhotoAnswer]) -> PhotoAnswer | None:
    """The answer that must be seen to first; None if the model answered none of the photos."""
    answered = [answer for answer in answers if answer.is_answered]
    return min(answered, key=_worst, default=None)


def _referral(answer: PhotoAnswer) -> State:
    return answer.state if answer.state in ("urgent", "soon") else "routine"


def _worst(answer: PhotoAnswer) -> tuple[float, ...]:
    """A sort key in which a photo to be taken again is no worse than another without a referral."""
    return order(_referral(answer), answer.grade, answer.risk, answer.chance)


def open_eyes(eyes: Mapping[str, Eye]) -> dict[str, State]:
    """The eyes that no answer speaks for, by name: "examine", "retake" or "person".

    eyes: the photos of a patient, by `EYES` and any name for photos of an unknown eye, which hide nothing where both
    eyes have good ones.
    """
    are_both_graded = all(eyes.get(name, Eye()).is_graded for name in EYES)
    are_both_believed = all(eyes.get(name, Eye()).is_believed for name in EYES)

    states: dict[str, State] = {}
    for name, eye in eyes.items():
        if not eye.answers:
            continue
        if not eye.is_graded and not are_both_graded:
            # Photos of an unknown eye may be of two eyes.
            states[name] = "retake" if eye.can_be_retaken or name not in EYES else "examine"
        elif eye.is_graded and not eye.is_believed and not are_both_believed:
            states[name] = "person"
    return states


def patient_state(eyes: Mapping[str, Eye]) -> State:
    """The state of a patient: that of the eye that must be seen to first."""
    states: list[State] = [*open_eyes(eyes).values(), *(eye.referral for eye in eyes.values())]
    return min(states, key=STATES.index)


def is_referred(state: State) -> bool | None:
    """Whether a patient of this state is to be referred; None where an eye is open."""
    return {"urgent": True, "soon": True, "routine": False}.get(state)
