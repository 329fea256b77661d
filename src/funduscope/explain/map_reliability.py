"""How far an explanation can be believed: what was measured of a model's maps, kept with the package.

`research/explanations.py --write` and `research/filled_lesions.py --write` write the file; nothing in it is written
by hand. Of a model that was not measured nothing is known, and whoever shows its maps says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from funduscope.explain.class_activation import Explanation, Target
from funduscope.i18n.errors import Message
from funduscope.i18n.messages import message

FILE: Final = "explanations.json"


@dataclass(frozen=True)
class Score:
    """A mean over photos with its 95 % interval over visits; low and high None where nothing can be said."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MapReliability:
    """What is known of a model's exact map of one target.

    photos: with lesions outlined by hand, not learned from. hits: in so many of them the map's highest place is on a
    lesion. share: of the map that lies on lesions, beside area, the lesions' own share of the eye. center, lesion_map:
    `hits` and `share` of a blob in the middle and of the model's own lesion map. alike: rank correlation with the map
    of random weights. passes: whether that is below the bar.
    """

    photos: int
    hits: int
    share: Score
    area: float
    center: tuple[int, float]
    lesion_map: tuple[int, float]
    alike: Score
    passes: bool


@dataclass(frozen=True)
class Filling:
    """What is known of filling lesions in.

    lesions, control: how much P(referable) fell where all lesions outlined by hand were filled, and where regions of
    the same shapes elsewhere were.
    """

    photos: int
    lesions: Score
    control: Score


def map_reliability(model_sha256: str, target: Target) -> MapReliability | None:
    """What was measured of that model's map; None where nothing was."""
    held = _of(model_sha256).get("maps", {}).get(target)
    if held is None:
        return None
    return MapReliability(
        photos=held["photos"],
        hits=held["hits"],
        share=Score(*held["share"]),
        area=held["area"],
        center=tuple(held["center"]),
        lesion_map=tuple(held["lesion_map"]),
        alike=Score(*held["alike"]),
        passes=held["passes"],
    )


def filling(model_sha256: str) -> Filling | None:
    """What was measured of that model's answers to filled photos; None where nothing was."""
    held = _of(model_sha256).get("filling")
    return None if held is None else Filling(held["photos"], Score(*held["lesions"]), Score(*held["control"]))


def may_be_shown(model_sha256: str, target: Target) -> bool:
    """False where the map failed the check against random weights: then it shows the photo, not the model."""
    known = map_reliability(model_sha256, target)
    return known is None or known.passes


def map_messages(asked: Explanation, model_sha256: str) -> tuple[Message, ...]:
    """What has to be said beside a map: what it shows, and how far that can be believed."""
    codes = {"referable": "EXPLAINS_REFERABLE", "edema": "EXPLAINS_EDEMA"}
    shows = [message(codes[asked.target], {"chance": round(asked.chance, 4)})] if asked.target in codes else []
    if asked.in_part:
        shows.append(message("EXPLAINS_IN_PART"))
    if not asked.exact:  # what was measured is of exact maps
        return (*shows, message("MAP_BY_GRADIENTS"), message("MAP_NOT_MEASURED"))
    known = map_reliability(model_sha256, asked.target)
    if known is None:
        return (*shows, message("MAP_NOT_MEASURED"))
    alike = {"alike": known.alike.value}
    if not known.passes:
        return (message("MAP_FAILED", alike),)
    hits = {"photos": known.photos, "hits": known.hits, "center": known.center[0], "lesion_map": known.lesion_map[0]}
    share = {"share": known.share.value, "area": known.area}
    return (*shows, message("MAP_MEASURED", hits), message("MAP_SHARE", share), message("MAP_DEPENDS", alike))


def filling_message(model_sha256: str) -> Message:
    """What has to be said beside "what would change this grade"."""
    known = filling(model_sha256)
    if known is None:
        return message("FILLING_NOT_MEASURED")
    values = {"photos": known.photos, "lesions": known.lesions.value, "control": known.control.value}
    return message("FILLING_MEASURED", values)


def _of(model_sha256: str) -> Mapping[str, Any]:
    return _table()["models"].get(model_sha256, {})


@cache
def _table() -> Mapping[str, Any]:
    file = resources.files("funduscope").joinpath("models", FILE)
    return json.loads(file.read_text("utf-8")) if file.is_file() else {"models": {}}
