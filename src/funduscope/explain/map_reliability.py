"""The measured reliability of a model's explanation maps, shipped with the package.

`research/explanations.py --write` and `research/filled_lesions.py --write` write the file; nothing in it is written
by hand. The maps of a model that was not measured are shown with a sentence that says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from funduscope.explain.class_activation import Explanation, Target
from funduscope.i18n.messages import Message, message

FILE: Final = "explanations.json"


@dataclass(frozen=True)
class Score:
    """A mean over photos with its 95 % interval over visits; low and high None where there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MapReliability:
    """The reliability of a model's exact map of one target.

    photos: number of photos with lesions outlined by hand that the model did not learn from. hits: in how many of them
    the map's highest place is on a lesion. share: of the map that lies on lesions. area: the lesions' share of the eye,
    for comparison. center, lesion_map: `hits` and `share` of a blob in the center and of the model's own lesion map.
    alike: rank correlation with the map of random weights. passes: whether that is below the limit.
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
    """The measured effect of inpainting.

    lesions: fall of P(referable) after all lesions outlined by hand were inpainted. control: the same for regions of
    the same shapes elsewhere.
    """

    photos: int
    lesions: Score
    control: Score


def map_reliability(model_sha256: str, target: Target) -> MapReliability | None:
    """The reliability of that model's map; None where it was not measured."""
    row = _of(model_sha256).get("maps", {}).get(target)
    if row is None:
        return None
    return MapReliability(
        photos=row["photos"],
        hits=row["hits"],
        share=Score(*row["share"]),
        area=row["area"],
        center=tuple(row["center"]),
        lesion_map=tuple(row["lesion_map"]),
        alike=Score(*row["alike"]),
        passes=row["passes"],
    )


def filling(model_sha256: str) -> Filling | None:
    """The measured effect of inpainting on that model's answers; None where it was not measured."""
    row = _of(model_sha256).get("filling")
    return None if row is None else Filling(row["photos"], Score(*row["lesions"]), Score(*row["control"]))


def may_be_shown(model_sha256: str, target: Target) -> bool:
    """False where the map failed the check against random weights: it then shows the photo, not the model."""
    known = map_reliability(model_sha256, target)
    return known is None or known.passes


def map_messages(explained: Explanation, model_sha256: str) -> tuple[Message, ...]:
    """The sentences shown with a map: what it shows, and how reliable it is."""
    codes = {"referable": "EXPLAINS_REFERABLE", "edema": "EXPLAINS_EDEMA"}
    target = explained.target
    shown = [message(codes[target], {"chance": round(explained.chance, 4)})] if target in codes else []
    if explained.in_part:
        shown.append(message("EXPLAINS_IN_PART"))
    if not explained.exact:  # the measurements are of exact maps
        return (*shown, message("MAP_BY_GRADIENTS"), message("MAP_NOT_MEASURED"))
    known = map_reliability(model_sha256, target)
    if known is None:
        return (*shown, message("MAP_NOT_MEASURED"))
    alike = {"alike": known.alike.value}
    if not known.passes:
        return (message("MAP_FAILED", alike),)
    hits = {"photos": known.photos, "hits": known.hits, "center": known.center[0], "lesion_map": known.lesion_map[0]}
    share = {"share": known.share.value, "area": known.area}
    return (*shown, message("MAP_MEASURED", hits), message("MAP_SHARE", share), message("MAP_DEPENDS", alike))


def filling_message(model_sha256: str) -> Message:
    """The sentence shown with "what would change this grade"."""
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
