"""Whether a picture is a photograph of the eye's back at all: a small network over what is measured of it.

It learned from every photo of seven sources, as they are and spoiled on purpose, from drawn eyes, and from pictures of
other things, most of them drawn; `python -m research.not_fundus` fits it and prints how well it does on sorts of
pictures that it did not learn from. A spoiled photo of an eye is still one: that it cannot be graded is said by
`gradability`. The same for every model; `funduscope doctor` asks it, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import numpy as np

from funduscope.imaging.framing import Frame
from funduscope.quality.appearance import appearance
from funduscope.quality.image_measures import measure
from funduscope.quality.mlp import MLP, one_line

PLAIN: Final = (
    *("spread", "dark", "full", "chroma", "off_color", "tints", "sharpness", "sharp_lines", "all_ways", "seen"),
    *("rim", "ordered", "even", "warm", "sallow", "sallows", "upright", "shaded", "tilted", "spot", "middle"),
    *("longest", "part"),
)
"""Measures that are features as they are."""

LOGS: Final[Mapping[str, float]] = {
    "brightness": 5.0,
    "outside": 5.0,
    "contrast": 5.0,
    "detail": 0.1,
    "vessels": 0.01,
    "beyond": 0.01,
    "lines": 0.003,
    "pieces": 1.0,
}
"""Measures whose logarithm is a feature, with what is added before."""

DARK_AND_FLAT: Final = (62.0, 42.0)
"""brightness and spread under both: a photo with a fifth to a third of its light; good ones have 89 and 56."""

FULL_SHARE: Final = 0.66
"""full over this: red is at its limit nearly everywhere; good photos have 0.60 at most."""

DARK_SHARE: Final = 0.4
"""dark over this: half the field is black; good photos have 0.02 at most."""

COLORED, ORDERED = 40.0, 0.95
"""chroma and ordered over these: what is lit is colored, and redder than green, greener than blue."""

RIM, DARK_OUTSIDE = 0.8, 60.0
"""rim over the one and outside under the other: something round stands on a dark ground."""

ODD_MOST: Final = 5.0
"""A feature that is further from the usual, in standard deviations, counts no more than this."""

SKEW_MOST: Final = 4.0
"""The skew of fine detail counts up to so much, either way."""


def measure_all(pixels: np.ndarray, framed: Frame) -> dict[str, float]:
    """Every measure of a photo (H, W, 3) uint8 and its small frame: of light and sharpness, and of `appearance`."""
    return measure(pixels, framed) | appearance(pixels, framed)


def features(measures: Mapping[str, float]) -> np.ndarray:
    """The features (F,) of a photo's measures (`measure_all`); a measure that could not be taken counts as 0."""
    plain = [float(measures.get(name, 0.0)) for name in PLAIN]
    logs = [float(np.log(measures.get(name, 0.0) + added)) for name, added in LOGS.items()]
    return np.array([*plain, *logs, float(np.clip(measures.get("skew", 0.0), -SKEW_MOST, SKEW_MOST))])


Shown = Literal["eye", "unlike", "other"]
"""A fundus photograph; what is unlike any, which may be a badly spoiled one; what looks like something else."""


@dataclass(frozen=True, eq=False)
class FundusTest:
    """The fitted test: what other things look like, and how far photos of eyes lie from each other.

    network: on features between least (F,) and most (F,), those of what it learned from; threshold: no eye below it.
    middle (F,), scale (F,), whitening (F, F): of photos of eyes; reach: no eye further from their middle.
    about: its origin.
    """

    network: MLP
    least: np.ndarray
    most: np.ndarray
    threshold: float
    middle: np.ndarray
    scale: np.ndarray
    whitening: np.ndarray
    reach: float
    about: dict[str, Any]

    def score(self, values: np.ndarray) -> float:
        """0 to 1: how sure it is that features (F,) are a fundus photograph's rather than another thing's."""
        return self.network.probability(np.clip(values, self.least, self.most))

    def distance(self, values: np.ndarray) -> float:
        """How far features (F,) lie from those of photos of eyes (Mahalanobis), per feature: about 1 for an eye.

        One feature alone counts for so many deviations at most, as among thousands of photos one has an odd margin.
        """
        away = np.clip((values - self.middle) / self.scale, -ODD_MOST, ODD_MOST)
        return float(np.linalg.norm(away @ self.whitening) / np.sqrt(len(values)))

    def classify(self, measures: Mapping[str, float]) -> Shown:
        """What a picture with these measures (`measure_all`) shows."""
        values = features(measures)
        if self.score(values) < self.threshold:
            return "unlike" if _lost_in_light(measures) else "other"
        return "eye" if self.distance(values) <= self.reach else "unlike"

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        rest = {name: value for name, value in vars(self).items() if name != "network"}
        return one_line(self.network.to_tree() | rest)

    @classmethod
    def from_json(cls, text: str) -> FundusTest:
        tree = json.loads(text)
        arrays = {name: np.array(tree[name], np.float64) for name in ("least", "most", "middle", "scale", "whitening")}
        numbers = {name: tree[name] for name in ("threshold", "reach", "about")}
        return cls(MLP.from_tree(tree), **arrays, **numbers)


def _lost_in_light(measures: Mapping[str, float]) -> bool:
    """Whether there is too little light to say what a picture shows, or too much of it in a round field.

    Too little, too, where much is black and the rest has a retina's order of colors: a photo half in shadow.
    """

    def of(name: str) -> float:
        return measures.get(name, 0.0)

    dark = of("brightness") < DARK_AND_FLAT[0] and of("spread") < DARK_AND_FLAT[1]
    shadow = of("dark") > DARK_SHARE and of("chroma") > COLORED and of("ordered") > ORDERED
    return dark or shadow or (of("full") > FULL_SHARE and of("rim") > RIM and of("outside") < DARK_OUTSIDE)


@cache
def shipped() -> FundusTest:
    """The one that travels with the package."""
    return FundusTest.from_json((resources.files("funduscope") / "models" / "fundus.json").read_text("utf-8"))
