"""Whether a picture is a fundus photo: a small network over its image measures.

It learned from all photos of seven sources, unchanged and degraded on purpose, from drawn eyes, and from pictures of
other things, most of them drawn. `python -m research.not_fundus` fits it and prints its scores on kinds of pictures
that it did not learn from. A degraded photo of an eye is still a fundus photo: `gradability` says that it cannot be
graded. The test is the same for every model; `funduscope doctor` uses it too.
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
from funduscope.quality.mlp import MLP

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
"""Measures whose logarithm is a feature, and the offset that is added before."""

DARK_AND_FLAT: Final = (62.0, 42.0)
"""brightness and spread below both: a photo with a fifth to a third of its light; good ones have 89 and 56."""

FULL_SHARE: Final = 0.66
"""full above this: red is saturated nearly everywhere; good photos have 0.60 at most."""

DARK_SHARE: Final = 0.4
"""dark above this: half the field is black; good photos have 0.02 at most."""

COLORED, ORDERED = 40.0, 0.95
"""chroma and ordered above these: the lit part is colored, with red >= green >= blue."""

RIM, DARK_OUTSIDE = 0.8, 60.0
"""rim above the first and outside below the second: a round field on a dark background."""

VESSEL_FRAC: Final = 0.3
"""longest above this: a dark line as long as a vessel's, in frames."""

MAX_HIDDEN_PIECES: Final = 4
"""A picture with no more vessel components hides what is behind its haze. Of ODIR's 88 eyes with cataract that the test
does not take for a fundus photo, 79 are called hidden, of DRIMDB's 11 pictures of other things none (`python -m
research.hidden_retinas`)."""

HIDDEN_CHROMA, HIDDEN_BRIGHTNESS = 25.0, 25.0
"""chroma and brightness above these: haze takes color from a retina, but not all of it."""

MAX_ODD: Final = 5.0
"""The deviation of a feature is clipped to this many standard deviations."""

MAX_SKEW: Final = 4.0
"""The skew of fine detail is clipped to this, in both directions."""


def measure_all(pixels: np.ndarray, framed: Frame) -> dict[str, float]:
    """All measures of a photo (H, W, 3) uint8 and its small frame: `image_measures.measure` and `appearance`."""
    return measure(pixels, framed) | appearance(*framed.cut_out(pixels))


def features(measures: Mapping[str, float]) -> np.ndarray:
    """The features (F,) of a photo's measures (`measure_all`); a missing measure counts as 0."""
    plain = [float(measures.get(name, 0.0)) for name in PLAIN]
    logs = [float(np.log(measures.get(name, 0.0) + added)) for name, added in LOGS.items()]
    return np.array([*plain, *logs, float(np.clip(measures.get("skew", 0.0), -MAX_SKEW, MAX_SKEW))])


Shown = Literal["eye", "unsure", "hidden", "unlike", "other"]
"""A fundus photo; a picture unlike any, but with vessels; the round field of a retina that haze hides; a picture
without vessels, perhaps a badly degraded fundus photo; a picture of something else."""


@dataclass(frozen=True, eq=False)
class FundusTest:
    """The fitted test: a classifier of eyes against other things, and a distance from photos of eyes.

    network: on features clipped to least (F,) and most (F,), the range in its training set; threshold: no eye below it.
    middle (F,), scale (F,), whitening (F, F): of photos of eyes; reach: no eye beyond this distance from the middle.
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
        """The probability, 0 to 1, that features (F,) are those of a fundus photo and not of another thing."""
        return self.network.probability(np.clip(values, self.least, self.most))

    def distance(self, values: np.ndarray) -> float:
        """Mahalanobis distance of features (F,) from those of photos of eyes, per feature: about 1 for an eye.

        Each feature is clipped to `MAX_ODD` deviations, because among thousands of photos some have an odd margin.
        """
        offsets = np.clip((values - self.middle) / self.scale, -MAX_ODD, MAX_ODD)
        return float(np.linalg.norm(offsets @ self.whitening) / np.sqrt(len(values)))

    def classify(self, measures: Mapping[str, float]) -> Shown:
        """The kind of picture with these measures (`measure_all`)."""
        values = features(measures)
        is_eye = self.score(values) >= self.threshold
        if is_eye and self.distance(values) <= self.reach:
            return "eye"
        if is_eye and shows_vessels(values):
            return "unsure"
        if hides_retina(measures):
            return "hidden"
        return "unlike" if is_eye or _lost_in_light(measures) else "other"

    @classmethod
    def from_json(cls, text: str) -> FundusTest:
        """Reads what `mlp.to_json` wrote."""
        tree = json.loads(text)
        arrays = {name: np.array(tree[name], np.float64) for name in ("least", "most", "middle", "scale", "whitening")}
        numbers = {name: tree[name] for name in ("threshold", "reach", "about")}
        return cls(MLP.from_tree(tree), **arrays, **numbers)


def shows_vessels(values: np.ndarray) -> bool:
    """Whether a picture with features (F,) has a round field with long dark lines in a retina's order of colors."""
    long, ordered, rim = (values[PLAIN.index(name)] for name in ("longest", "ordered", "rim"))
    return bool(long >= VESSEL_FRAC and ordered > ORDERED and rim > RIM)


def hides_retina(measures: Mapping[str, float]) -> bool:
    """Whether a picture has the round field and the colors of a retina, but hardly a vessel, as behind a cataract."""
    is_round = measures.get("rim", 0.0) > RIM and measures.get("outside", 0.0) < DARK_OUTSIDE
    is_colored = measures.get("ordered", 0.0) > ORDERED and measures.get("chroma", 0.0) > HIDDEN_CHROMA
    is_lit = measures.get("brightness", 0.0) > HIDDEN_BRIGHTNESS
    return is_round and is_colored and is_lit and measures.get("pieces", 0.0) <= MAX_HIDDEN_PIECES


def _lost_in_light(measures: Mapping[str, float]) -> bool:
    """Whether there is too little light to recognize the content of a picture, or too much of it in a round field.

    Too little also if much is black and the rest has a retina's order of colors: a photo half in shadow.
    """

    def of(name: str) -> float:
        return measures.get(name, 0.0)

    dark = of("brightness") < DARK_AND_FLAT[0] and of("spread") < DARK_AND_FLAT[1]
    shadow = of("dark") > DARK_SHARE and of("chroma") > COLORED and of("ordered") > ORDERED
    return dark or shadow or (of("full") > FULL_SHARE and of("rim") > RIM and of("outside") < DARK_OUTSIDE)


@cache
def load_fundus_test() -> FundusTest:
    """The test that is shipped with the package."""
    return FundusTest.from_json((resources.files("funduscope") / "models" / "fundus.json").read_text("utf-8"))
