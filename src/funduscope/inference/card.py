"""What a model declares about itself: its views, and the numbers that turn its logits into answers.

The card is stored inside the ONNX file and the checkpoint. Its numbers were fixed on validation photos.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from funduscope.version import __version__
from funduscope.vocabulary import CLASSES, CODES, FURTHER_TASKS, LANDMARKS, LESIONS

if TYPE_CHECKING:  # pydantic costs a tenth of a second that using a model does not need
    from funduscope.recipe import Recipe

FoveaOffset = tuple[float, float, float, float]
"""Horizontal distance of the fovea from the disc, either way, and its standard deviation; the same of the vertical one,
downward. In shares of the frame's side."""


_RETIRED: Final = ("dme_evidence", "upside_down")


@dataclass(frozen=True)
class Card:
    """grade, dme, tasks: what the model classifies photos for; `tasks` names the vocabulary's further photo tasks. One
    that training had no label of is not among them, and its logits are not read.
    structures, landmarks: the order of the model's planes. not_learned: those of which training had no positive
    example; their planes are not read, since they could only say that nothing is there. whole_px, close_px, close,
    mirrored: see `settings.Views`.

    temperatures: divisors of the photo tasks' logits. scales: by structure slope and shift of its logits, which make
    probabilities of them (training/fit_scale.py); a structure without them has its plain ones. thresholds: of
    probability, per structure. smallest_px2: mask components below this area, in pixels of the close frame, are
    removed. lowest_grades: a structure's probability is multiplied by that of this grade or above, because no lesion is
    likelier than the grade it makes. referable_threshold: of P(grade >= 2). grade_quantile: of conformal sets
    (`conformal`), None if none was fixed. landmark_floor: the share of a landmark's map that must lie around its peak
    for the landmark to count as found. distance: features of the training photos (`ood.Reference` as a tree), None if
    the model gives no features or there were too few photos. fovea_from_disc: see `inference/landmarks.py`; None: each
    landmark is located by itself. witnesses: by photo task what the lesions say of it, and their share in the answer
    (`witnesses.Witness` as a tree). own_close: the close view has a network of its own, whose planes are those of
    `close` alone. routers: names of the rows of the model's gates, where it has experts. research_only: whether the
    terms of any data set that taught it keep it to research and education.
    """

    name: str = "untitled"
    version: str = "0"
    grade: bool = True
    dme: bool = True
    tasks: tuple[str, ...] = ()
    structures: tuple[str, ...] = CODES
    not_learned: tuple[str, ...] = ()
    landmarks: tuple[str, ...] = LANDMARKS
    whole_px: int = 512
    close_px: int = 1024
    close: tuple[str, ...] = LESIONS
    mirrored: bool = False
    temperatures: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLASSES, 1.0))
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CODES, 0.5))
    smallest_px2: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CODES, 0.0))
    lowest_grades: dict[str, int] = field(default_factory=dict)
    referable_threshold: float = 0.5
    grade_quantile: float | None = None
    landmark_floor: float = 0.3
    fovea_from_disc: FoveaOffset | None = None
    distance: dict[str, Any] | None = None
    witnesses: dict[str, dict[str, Any]] = field(default_factory=dict)
    own_close: bool = False
    routers: tuple[str, ...] = ()
    research_only: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe) -> Card:
        """The card of a recipe's model before anything is fixed on validation photos."""
        tasks, views = recipe.tasks, recipe.views
        return cls(
            name=recipe.name,
            version=__version__,
            grade=tasks.grade,
            dme=tasks.dme,
            tasks=tuple(task.name for task in FURTHER_TASKS if task.name in tasks.photo_tasks),
            structures=tasks.structures,
            landmarks=tasks.landmarks,
            whole_px=views.whole_px,
            close_px=views.close_px,
            close=views.close,
            mirrored=views.mirrored,
            routers=recipe.routers,
            own_close=bool(recipe.stages),
        )

    def without(self, names: Collection[str]) -> Card:
        """The card of a model whose training had no example of these structures, landmarks and photo tasks."""
        return replace(
            self,
            grade=self.grade and "grade" not in names,
            dme=self.dme and "dme" not in names,
            tasks=tuple(task for task in self.tasks if task not in names),
            not_learned=tuple(n for n in (*self.structures, *self.landmarks) if n in names or n in self.not_learned),
            witnesses={
                task: tree
                for task, tree in self.witnesses.items()
                if task not in names and not {number.split()[0] for number in tree["numbers"]} & {*names}
            },
        )

    @property
    def outlined(self) -> tuple[str, ...]:
        """The structures that the model outlines: those of its planes that it learned."""
        return tuple(code for code in self.structures if code not in self.not_learned)

    @property
    def closeups(self) -> tuple[str, ...]:
        """The structures that are read from a close view that is finer than the whole one, or has its own network."""
        is_own = self.own_close or self.close_px != self.whole_px
        return tuple(code for code in self.outlined if code in self.close and is_own)

    @property
    def located(self) -> tuple[str, ...]:
        """The landmarks that the model locates: those of its planes that it learned."""
        return tuple(name for name in self.landmarks if name not in self.not_learned)

    @property
    def photo_tasks(self) -> tuple[str, ...]:
        """The names of all photo tasks that the model answers, in the vocabulary's order."""
        wanted = {"grade": self.grade, "dme": self.dme} | dict.fromkeys(self.tasks, True)
        return tuple(task for task in CLASSES if wanted.get(task))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back equal. `tasks` and `scales` are there only if they name any."""
        return {name: value for name, value in asdict(self).items() if name not in ("tasks", "scales") or value}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Card:
        """Raises `TypeError`, `KeyError` or `ValueError` if the tree is no card, or a value of it cannot be used."""
        tuples = {name: tuple(tree[name]) for name in ("structures", "landmarks", "close")}
        optional = ("tasks", "not_learned", "routers", "fovea_from_disc")
        tuples |= {name: tuple(tree[name]) for name in optional if tree.get(name) is not None}
        scales = {code: tuple(scale) for code, scale in dict(tree.get("scales") or {}).items()}
        for name in _RETIRED:
            if tree.get(name) not in (None, False):
                raise ValueError(f"{name} is of an older model format: train and export the model again")
        kept = {name: value for name, value in tree.items() if name not in _RETIRED}
        if unknown := kept.keys() - {one.name for one in fields(cls)}:
            newer = f"funduscope {tree.get('version')} wrote it and knows {min(unknown)}, this is {__version__}"
            raise ValueError(f"{newer}: update funduscope")
        card = cls(**{**kept, **tuples, "scales": scales})
        _check(card)
        return card

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back equal."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Raises as `from_dict` does, `ValueError` also for what is no JSON."""
        return cls.from_dict(json.loads(text))


def _check(card: Card) -> None:
    """Raises `ValueError` naming the first value that no photo could be answered with."""
    for name, is_right in _RULES.items():
        if not is_right(getattr(card, name)):
            raise ValueError(f"{name} cannot be used")
    for name, keys in (("temperatures", card.photo_tasks), ("thresholds", card.outlined)):
        if missing := [key for key in keys if key not in getattr(card, name)]:
            raise ValueError(f"{name} has no value for {missing[0]}")
    if unknown := {*card.witnesses}.difference(card.photo_tasks):
        raise ValueError(f"witnesses has {min(unknown)}, which the model does not answer")


def _number(value: Any) -> bool:
    """Whether a value is a finite number; a whole one that no float has is none: numpy would keep it as an object."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**53
    return isinstance(value, float) and math.isfinite(value)


def _by_name(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(is_right(one) for one in value.values())


def _names(known: Collection[str] | None = None) -> Callable[[Any], bool]:
    """Whether a tuple has texts alone, each once; known: the only ones that it may have."""

    def is_right(value: Any) -> bool:
        if not isinstance(value, tuple) or not all(isinstance(one, str) for one in value):
            return False
        return len({*value}) == len(value) and (known is None or {*value} <= {*known})

    return is_right


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _MIN_PX <= value <= _MAX_PX


def _one_of_type(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _row(value: Any, count: int | None = None) -> bool:
    """Whether a value is a list of finite numbers; count: how many."""
    return isinstance(value, list | tuple) and all(map(_number, value)) and count in (None, len(value))


def _are_witnesses(trees: Any) -> bool:
    """Whether each task's tree has what `witnesses.Witness` computes with: rows of one length, and no spread of 0."""
    return isinstance(trees, Mapping) and all(_is_witness(tree, CLASSES.get(task)) for task, tree in trees.items())


def _is_witness(tree: Any, classes: Collection[str] | None) -> bool:
    if classes is None or not isinstance(tree, Mapping) or not isinstance(tree.get("numbers"), list | tuple):
        return False
    rows = dict.fromkeys(("center", "spread", "weights"), len(tree["numbers"]))
    rows |= {"cuts": len(classes) - 1, "shares": 2}
    return (
        {*tree} == {"numbers", *rows}
        and all(isinstance(name, str) for name in tree["numbers"])
        and all(_row(tree[name], count) for name, count in rows.items())
        and all(spread > 0 for spread in tree["spread"])
    )


_MIN_PX, _MAX_PX = 16, 8192
_is_text, _is_flag, _is_object = _one_of_type(str), _one_of_type(bool), _one_of_type(dict)
_RULES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "version"), _is_text),
    **dict.fromkeys(("grade", "dme", "mirrored", "own_close", "research_only"), _is_flag),
    **dict.fromkeys(("structures", "close"), _names(CODES)),
    "not_learned": _names((*CODES, *LANDMARKS)),
    **dict.fromkeys(("tasks", "routers"), _names()),  # further tasks may be of another vocabulary
    "landmarks": _names(LANDMARKS),
    **dict.fromkeys(("whole_px", "close_px"), _is_side),
    "temperatures": _by_name(lambda value: _number(value) and value > 0),
    "scales": _by_name(lambda scale: _row(scale, 2)),
    **dict.fromkeys(("thresholds", "smallest_px2"), _by_name(_number)),
    "lowest_grades": _by_name(lambda value: isinstance(value, int) and 0 <= value < len(CLASSES["grade"])),
    **dict.fromkeys(("referable_threshold", "landmark_floor"), _number),
    "grade_quantile": lambda value: value is None or _number(value),
    "fovea_from_disc": lambda value: value is None or (_row(value, 4) and min(value[0], *value[1::2]) > 0),
    "distance": _one_of_type(dict, type(None)),
    "witnesses": _are_witnesses,
    "about": _is_object,
}
"""By field whether a value can be used."""
