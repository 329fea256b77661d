"""The measured reliability of a model's explanation maps, shipped with the package.

`research/explanations.py --write` and `research/filled_lesions.py --write` write the file; nothing in it is written
by hand. The maps of a model that was not measured are shown with a sentence that says so.

The file is `{"models": {SHA-256: {"maps": {target: row}, "filling": row}}}`. A score is a mean over photos with the
ends of its 95 % interval over visits, null if there is none. The row of a map:

photos: number of photos with lesions outlined by hand that the model did not learn from. hits: in how many of them the
map's highest place is on a lesion. share: score, of the map that lies on lesions. area: the lesions' share of the eye,
for comparison. center, lesion_map: hits and share of a blob in the center and of the model's own lesion map. alike:
score, rank correlation with the map of random weights. passes: whether that is below the limit.

The row of the inpainting: photos; lesions: score, fall of P(referable) after all lesions outlined by hand were
inpainted; control: the same for regions of the same shapes elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from funduscope.explain.class_activation import Explanation, Target
from funduscope.i18n.messages import Message, message

FILE: Final = "explanations.json"


def may_be_shown(model_sha256: str, target: Target) -> bool:
    """False if the map failed the check against random weights: it then shows the photo, not the model."""
    known = _measured(model_sha256, target)
    return known is None or known["passes"]


def map_messages(explained: Explanation, model_sha256: str) -> tuple[Message, ...]:
    """The sentences shown with a map: what it shows, and how reliable it is."""
    codes = {"referable": "EXPLAINS_REFERABLE", "edema": "EXPLAINS_EDEMA"}
    target = explained.target
    shown = [message(codes[target], {"chance": round(explained.probability, 4)})] if target in codes else []
    if explained.also_by_lesions:
        shown.append(message("EXPLAINS_IN_PART"))
    if not explained.exact:  # the measurements are of exact maps
        return (*shown, message("MAP_BY_GRADIENTS"), message("MAP_NOT_MEASURED"))
    known = _measured(model_sha256, target)
    if known is None:
        return (*shown, message("MAP_NOT_MEASURED"))
    alike = {"alike": known["alike"][0]}
    if not known["passes"]:
        return (message("MAP_FAILED", alike),)
    hits = {key: known[key] for key in ("photos", "hits")} | {key: known[key][0] for key in ("center", "lesion_map")}
    share = {"share": known["share"][0], "area": known["area"]}
    return (*shown, message("MAP_MEASURED", hits), message("MAP_SHARE", share), message("MAP_DEPENDS", alike))


def filling_message(model_sha256: str) -> Message:
    """The sentence shown with "what would change this grade"."""
    known = _table()["models"].get(model_sha256, {}).get("filling")
    if known is None:
        return message("FILLING_NOT_MEASURED")
    values = {"photos": known["photos"], "lesions": known["lesions"][0], "control": known["control"][0]}
    return message("FILLING_MEASURED", values)


def _measured(model_sha256: str, target: Target) -> Mapping[str, Any] | None:
    """The row of that model's exact map; None if it was not measured."""
    return _table()["models"].get(model_sha256, {}).get("maps", {}).get(target)


@cache
def _table() -> Mapping[str, Any]:
    file = resources.files("funduscope").joinpath("models", FILE)
    return json.loads(file.read_text("utf-8")) if file.is_file() else {"models": {}}
