"""Whether a photo can be graded: a small network over its image measures, with reasons that a photographer can act on.

It learned from EyePACS photos that graders called good or to be rejected, and from photos of four other clinics that
were degraded on purpose. `research/gradability.py` fits it and prints its scores on photos that it did not learn from.
It does not depend on retinopathy, and it is the same for every model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import numpy as np

from funduscope.i18n.messages import Message, message
from funduscope.quality.mlp import MLP

FEATURES: Final = (
    *("brightness", "log brightness", "spread", "dark", "full", "washed", "contrast", "chroma", "off color"),
    *("sharpness", "sharp lines", "log detail", "log vessels", "all ways", "seen", "cut sideways", "cut upright"),
)
"""Names of the features of `features`, in order."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "OUT_OF_FOCUS": ("sharpness", "sharp lines", "log detail", "log vessels", "all ways"),
    "LIGHT": ("brightness", "log brightness", "dark", "full", "washed"),
    "LOW_CONTRAST": ("spread", "contrast", "chroma", "off color"),
    "FIELD_CUT": ("seen", "cut sideways", "cut upright"),
}
"""Features that one cause degrades, by its code; LIGHT is reported as TOO_DARK or TOO_BRIGHT."""


HARDLY_VISIBLE: Final[Mapping[str, float]] = {"pieces": 2.0, "brightness": 40.0, "contrast": 20.0}
"""A photo to take again of which any measure is below its value shows hardly anything: at most one vessel component, a
field that is nearly black, or one that is nearly even. Of 96 photos with a fifth of their light 93 are refused or below
(`python -m research.hidden_retinas`)."""

QualityAdvice = Literal["grade", "retake", "refuse"]
"""What to do with a photo. grade: grade it. retake: grade it, but advise a new photo. refuse: it is too poor; no
answer is better than the model's."""


@dataclass(frozen=True)
class Quality:
    """score: probability, 0 to 1, that a photo can be graded. reasons: what is wrong with a photo to take again."""

    score: float
    reasons: tuple[Message, ...]
    advice: QualityAdvice = "grade"


@dataclass(frozen=True, eq=False)
class Gradability:
    """The fitted model. usual (F,): medians of good photos. about: its origin.

    threshold: below this score the photo is graded, but should be taken again. refusal: below this score it is refused.
    """

    network: MLP
    usual: np.ndarray
    threshold: float
    refusal: float
    about: dict[str, Any]

    def judge(self, measures: Mapping[str, float]) -> Quality:
        """The quality of a photo with these measures (of `image_measures.measure`).

        What is wrong with a photo of a low score is the group of measures that raises the score most when it is set to
        that of a usual good photo.
        """
        values = features(measures)
        score = self.network.probability(values)
        if score >= self.threshold:
            return Quality(score, ())
        repaired = {code: np.where(np.isin(FEATURES, names), self.usual, values) for code, names in GROUPS.items()}
        gains = {code: self.network.probability(one) for code, one in repaired.items()}
        most = max(gains, key=gains.__getitem__)
        dark = values[0] < self.usual[0]
        reason = message(("TOO_DARK" if dark else "TOO_BRIGHT") if most == "LIGHT" else most)
        return Quality(score, (reason,), "refuse" if score < self.refusal else "retake")

    @classmethod
    def from_json(cls, text: str) -> Gradability:
        """Reads what `mlp.to_json` wrote."""
        tree = json.loads(text)
        network = MLP.from_tree(tree)
        return cls(network, np.array(tree["usual"], np.float64), tree["threshold"], tree["refusal"], tree["about"])


def hardly_visible(measures: Mapping[str, float]) -> bool:
    """Whether a photo that should be taken again shows hardly anything."""
    return any(measures.get(name, 0.0) < value for name, value in HARDLY_VISIBLE.items())


def features(measures: Mapping[str, float]) -> np.ndarray:
    """The features (F,) of a photo's measures; a missing measure counts as 0."""

    def of(name: str) -> float:
        return float(measures.get(name, 0.0))

    return np.array(
        [
            of("brightness") / 255,
            np.log(of("brightness") + 5),
            of("spread") / 255,
            of("dark"),
            of("full"),
            of("washed"),
            of("contrast") / 100,
            of("chroma") / 100,
            of("off_color"),
            of("sharpness"),
            of("sharp_lines"),
            np.log(of("detail") + 0.1),
            np.log(of("vessels") + 0.01),
            of("all_ways"),
            of("seen"),
            abs(of("left") - of("right")),
            abs(of("top") - of("bottom")),
        ]
    )


@cache
def load_gradability() -> Gradability:
    """The model that is shipped with the package."""
    return Gradability.from_json((resources.files("funduscope") / "models" / "gradability.json").read_text("utf-8"))
