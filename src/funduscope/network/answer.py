"""What a model answers, as tensor operations on its networks' logits: the last steps of a model.

Landmarks are located, lesions are summed up in numbers, and what the photo says and what its lesions say become one
answer. These steps are exported with a model, so that every language gets the same answer from the same file. Their
parameters are numbers that calibration fixed on validation photos (`Card`).

What the lesions say is an ordinal regression on numbers in which no lesion has a weight below 0: more of anything never
makes a lower class (McCullagh, "Regression Models for Ordinal Data", JRSS B 1980). A sharp photo shows more dots than a
small or blurred one, true and false ones, so the detail that the photo has is part of the regression. The joint answer
is a weighed geometric mean of both (Genest and Zidek, "Combining Probability Distributions", Statistical Science 1986).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from funduscope.inference.card import Card, FoveaOffset
from funduscope.inference.runtime import plane_of
from funduscope.vocabulary import DISC_DIAMETER_FRAC, LESIONS

PRIOR_CELLS: Final = 64
"""Side of the grid on which the priors of the landmarks are computed."""

PRIOR_WIDTH: Final = 1.5
"""Factor on the spread of the distance. Cameras differ in field of view, and so in the distance per frame side."""

HEAT_FLOOR: Final = 1e-5
"""Added to maps that sum to 1, so that the other map can select a place that this one excludes."""

SURE: Final = 0.5
"""Share of the fused map that an estimated place needs: of two equally likely sides neither has it."""

PEAK_BLUR: Final = 2.0
"""Standard deviation in cells of the blur before the largest value is searched."""


class LandmarkFinder(nn.Module):
    """The places of disc and fovea: each from its own heat map, with the other one's as a prior.

    A fovea in a dark or scarred macula is hardly visible in its heat map, and a bright scar resembles a disc; but the
    two lie at a known distance. Each heat map is multiplied by the prior that the other one implies through that
    distance: pictorial structures of two parts, Felzenszwalb and Huttenlocher, "Pictorial Structures for Object
    Recognition", IJCV 61(1), 2005. What differs: left and right eyes are mirror images, so the distance has two signs.
    And where a landmark's own map has enough weight around the chosen peak, its mean counts, so that the prior does not
    shift a clear fovea.

    side: cells of a heat map in each direction. floor: share of a map that must lie around its peak for the landmark
    to count as found. offset: usual place of the fovea from the disc; None locates each landmark by itself.
    disc, fovea: their places among the heat maps.
    """

    blur: Tensor
    across: Tensor
    below: Tensor
    shrink: Tensor
    enlarge: Tensor

    def __init__(
        self, side: int, floor: float, offset: FoveaOffset | None = None, disc: int = 0, fovea: int = 1
    ) -> None:
        super().__init__()
        self.side, self.floor, self.has_prior = side, floor, offset is not None
        self.disc, self.fovea = disc, fovea
        self.reach = max(3, side // 16)  # about half a disc diameter
        self.register_buffer("blur", blur_matrix(side, PEAK_BLUR), persistent=False)
        if offset is not None:
            across, below = offset_matrices(offset)
            self.register_buffer("across", across, persistent=False)
            self.register_buffer("below", below, persistent=False)
            self.register_buffer("shrink", area_matrix(side, PRIOR_CELLS), persistent=False)
            self.register_buffer("enlarge", linear_matrix(PRIOR_CELLS, side), persistent=False)

    def forward(
        self, heat_logits: Float[Tensor, "P n n"]
    ) -> tuple[Float[Tensor, "P 2"], Bool[Tensor, "P"], Bool[Tensor, "P"]]:
        """Places x, y as shares of the frame's side; whether each was found; whether it was estimated.

        An estimated place was located from the other landmark, because its own map is unclear.
        """
        heats = functional.softmax(heat_logits.flatten(1), dim=1).view_as(heat_logits)
        fused = self._fuse(heats) if self.has_prior else heats
        blurred = self.blur @ fused @ self.blur.T
        peaks = blurred.flatten(1).argmax(dim=1)
        peak_y, peak_x = peaks // self.side, peaks % self.side

        # The cells around each peak.
        cells = torch.arange(self.side, device=heats.device)
        near_x = (cells - peak_x[:, None]).abs() <= self.reach
        near_y = (cells - peak_y[:, None]).abs() <= self.reach
        around = (near_y[:, :, None] & near_x[:, None, :]).float()

        own_share = (heats * around).sum(dim=(1, 2))
        fused_share = (fused * around).sum(dim=(1, 2))
        is_estimated = own_share < self.floor
        is_found = ~is_estimated | ((fused_share >= SURE) & self._has_prior(heats))

        chosen = torch.where(is_estimated[:, None, None], fused, heats) * around
        centers = cells.float() + 0.5
        total = chosen.sum(dim=(1, 2)).clamp(min=1e-12)
        x = (chosen.sum(dim=1) * centers).sum(dim=1) / total
        y = (chosen.sum(dim=2) * centers).sum(dim=1) / total
        return torch.stack([x, y], dim=1) / self.side, is_found, is_estimated

    def _has_prior(self, heats: Tensor) -> Tensor:
        """(P,) bool: the landmarks that the other one can estimate."""
        can = [self.has_prior and number in (self.disc, self.fovea) for number in range(len(heats))]
        return torch.tensor(can, device=heats.device)

    def _fuse(self, heats: Float[Tensor, "P n n"]) -> Float[Tensor, "P n n"]:
        """Heat maps, each times the prior that the other landmark implies; each sums to 1 before and after."""
        coarse = self.shrink @ heats @ self.shrink.T
        coarse = coarse / coarse.sum(dim=(1, 2), keepdim=True) + HEAT_FLOOR
        fovea_prior = self.below @ coarse[self.disc] @ self.across.T
        disc_prior = self.below.T @ coarse[self.fovea] @ self.across
        maps = []
        for number, heat in enumerate(heats.unbind()):
            prior = {self.disc: disc_prior, self.fovea: fovea_prior}.get(number)
            if prior is not None:
                heat = (heat + HEAT_FLOOR) * (self.enlarge @ prior @ self.enlarge.T)
                heat = heat / heat.sum()
            maps.append(heat)
        return torch.stack(maps)


def offset_matrices(offset: FoveaOffset) -> tuple[Tensor, Tensor]:
    """Two matrices (64, 64): likelihood of the fovea's column given the disc's, and of its row given the disc's."""
    apart, apart_spread, below, below_spread = offset
    cells = torch.arange(PRIOR_CELLS, dtype=torch.float64)
    distance = (cells[:, None] - cells[None, :]) / PRIOR_CELLS
    left, right = (_bell(distance, sign * apart, apart_spread) for sign in (-1, 1))
    return (left + right).float(), _bell(distance, below, below_spread).float()


def _bell(distance: Tensor, mean: float, spread: float) -> Tensor:
    return torch.exp(-0.5 * ((distance - mean) / (PRIOR_WIDTH * spread)) ** 2)


def area_matrix(source: int, target: int) -> Tensor:
    """(target, source): a row of cells shrunk or enlarged by averaging areas, as OpenCV's INTER_AREA shrinks."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], cells[None])
    high = torch.minimum(edges[1:, None], cells[None] + 1)
    return ((high - low).clamp(min=0) * target / source).float()


def linear_matrix(source: int, target: int) -> Tensor:
    """(target, source): linear interpolation between the centers of cells, as OpenCV's INTER_LINEAR enlarges."""
    places = ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5).clamp(0, source - 1)
    cells = torch.arange(source, dtype=torch.float64)
    return (1 - (places[:, None] - cells[None]).abs()).clamp(min=0).float()


def blur_matrix(side: int, sigma: float) -> Tensor:
    """(side, side): a Gaussian blur along a row, mirrored at the borders."""
    reach = math.ceil(4 * sigma)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = weights / weights.sum()
    cells = torch.arange(side)
    matrix = torch.zeros(side, side)
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        place = (cells + step).abs()
        place = torch.where(place >= side, 2 * (side - 1) - place, place)
        matrix[cells, place] += weight
    return matrix


LEVELS: Final = (0.25, 0.5, 0.75)
"""Probabilities from which on a pixel counts."""

TOP_FRACS: Final = {"strongest": 1 / 131072, "strong": 1 / 8192}
"""Shares of the frame's pixels, the most probable ones, that stand for a map: a microaneurysm, and one exudate of a
tenth of a disc diameter."""

MAX_LOGIT: Final = 9.0
"""Larger logits carry no more information."""

PEAK_CELLS: Final = 5
"""A lesion is counted where a cell has the largest value of a square of so many cells around it."""


class LesionNumbers(nn.Module):
    """Sums up the lesions of a photo in plain numbers: how strong, how many, how large, and where.

    codes: the lesions, in the order of their maps. Where a landmark was not found, nothing lies near it.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        super().__init__()
        self.codes = tuple(codes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers, in the order that `forward` gives."""
        kinds = [*TOP_FRACS, "quadrants", "within 1 DD", "within 2 DD"]
        for level in LEVELS:
            kinds += [f"count {level}", f"area {level}"]
        return tuple(f"{code} {kind}" for kind in kinds for code in self.codes)

    def forward(
        self,
        logits: Float[Tensor, "L h w"],
        disc_xy: Float[Tensor, "2"],
        fovea_xy: Float[Tensor, "2"],
        has_disc: Bool[Tensor, ""],
        has_fovea: Bool[Tensor, ""],
    ) -> Float[Tensor, "N"]:
        """The numbers of one photo. disc_xy, fovea_xy: as shares of the frame's side."""
        logits = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
        height, width = (int(side) for side in logits.shape[1:])  # while traced, sizes are tensors
        few, many = (max(1, round(share * height * width)) for share in TOP_FRACS.values())
        flat = logits.flatten(1)
        numbers = [_mean_of_largest(flat, few), _mean_of_largest(flat, many)]

        rows = (torch.arange(height, device=logits.device) + 0.5) / height
        columns = (torch.arange(width, device=logits.device) + 0.5) / width
        down = rows[:, None] - fovea_xy[1]
        right = columns[None, :] - fovea_xy[0]

        # In how many quadrants around the fovea there is any; one at most where they are not known.
        toward_disc = disc_xy - fovea_xy
        is_nasal = right * toward_disc[0] + down * toward_disc[1] > 0
        is_below = down * toward_disc[0] - right * toward_disc[1] > 0
        quadrant = 2 * is_nasal.int() + is_below.int()
        strengths = [_mean_of_largest(_masked(logits, quadrant == one), few) for one in range(4)]
        spread = torch.sigmoid(torch.stack(strengths)).sum(dim=0)
        numbers.append(torch.where(has_disc & has_fovea, spread, torch.sigmoid(numbers[0])))

        for diameters in (1, 2):
            reach = diameters * DISC_DIAMETER_FRAC
            is_near = (right**2 + down**2 < reach**2) & has_fovea
            numbers.append(_mean_of_largest(_masked(logits, is_near), many))

        peak = functional.max_pool2d(logits[None], PEAK_CELLS, stride=1, padding=PEAK_CELLS // 2)[0] == logits
        for level in LEVELS:
            is_marked = logits >= math.log(level / (1 - level))
            count = (peak & is_marked).flatten(1).float().sum(dim=1)
            area = is_marked.flatten(1).float().mean(dim=1)
            numbers += [torch.log1p(count), torch.log1p(1e4 * area)]
        return torch.cat(numbers)


def _masked(logits: Tensor, is_inside: Tensor) -> Tensor:
    """(L, h * w) the logits inside, and the lowest ones elsewhere."""
    lowest = torch.tensor(-MAX_LOGIT, device=logits.device)
    return torch.where(is_inside, logits, lowest).flatten(1)


def _mean_of_largest(flat: Float[Tensor, "L N"], count: int) -> Float[Tensor, "L"]:
    return flat.topk(count, dim=1).values.mean(dim=1)


DETAIL_SCALES: Final = 4
"""Neighboring pixels are compared at so many sizes of the frame, each half of the one before."""

DETAIL_CORE: Final = (0.2, 0.8)
"""Detail is measured in the middle of the frame, within these shares of its side: rims are blurred in good photos."""


def detail_of(frame: UInt8[Tensor, "1 S S 3"]) -> Float[Tensor, "3"]:
    """How much detail a photo has: differences of neighboring pixels of green, each over those at half of the size.

    Logarithms of three ratios, the finest first. An enlarged or blurred photo has low ones.
    """
    green = frame[..., 1][None].float()
    strengths = []
    for _ in range(DETAIL_SCALES):
        side = int(green.shape[-1])
        first, last = (round(share * side) for share in DETAIL_CORE)
        core = green[..., first:last, first:last]
        down = (core[..., 1:, :] - core[..., :-1, :]).abs().mean()
        right = (core[..., :, 1:] - core[..., :, :-1]).abs().mean()
        strengths.append(torch.log(down + right + DETAIL_FLOOR))
        green = functional.avg_pool2d(green, 2)
    logs = torch.stack(strengths)
    return logs[:-1] - logs[1:]


DETAIL_FLOOR: Final = 0.01
"""Added to each difference, in levels of 255: a frame of one color has no detail, and no ratio of it."""


class LesionRegression(nn.Module):
    """What the lesions say of a photo task, and the joint answer of photo and lesions.

    weights: (N,) of the lesions' numbers, at least 0. detail: (3,) weights of the photo's detail. cuts: (C - 1,)
    ascending: P(class >= k) = sigmoid(score - cut k). shares: exponents of the photo's and the lesions' probabilities.
    """

    weights: Tensor
    detail: Tensor
    cuts: Tensor

    def __init__(
        self, weights: Sequence[float], detail: Sequence[float], cuts: Sequence[float], shares: Sequence[float]
    ) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.register_buffer("detail", torch.tensor(detail), persistent=False)
        self.register_buffer("cuts", torch.tensor(cuts), persistent=False)
        self.of_photo, self.of_lesions = shares

    def forward(
        self, logits: Float[Tensor, "C"], numbers: Float[Tensor, "N"], detail: Float[Tensor, "3"]
    ) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
        """The probabilities of the lesions alone, and the joint ones. logits: the network's own."""
        score = (numbers * self.weights).sum() + (detail * self.detail).sum()
        lesions = ordinal(score, self.cuts)
        photo = functional.softmax(logits, dim=0)
        joint = self.of_photo * _log(photo) + self.of_lesions * _log(lesions)
        return lesions, functional.softmax(joint, dim=0)


def regression_of(witness: Mapping[str, Any], lesions: Sequence[str]) -> LesionRegression:
    """The regression of a card's witness, on all numbers of these lesions."""
    weights = dict(zip(witness["numbers"], witness["weights"], strict=True))
    row = [weights.get(name, 0.0) for name in LesionNumbers(lesions).names]
    return LesionRegression(row, witness["detail"], witness["cuts"], witness["shares"])


MIN_PROBABILITY: Final = 1e-6


def ordinal(score: Float[Tensor, "*N"], cuts: Float[Tensor, "K"]) -> Float[Tensor, "*N C"]:
    """Probabilities of the classes: P(class >= k) = sigmoid(score - cut k)."""
    above = torch.sigmoid((score[..., None] - cuts).clamp(-30, 30))
    edge = torch.ones_like(above[..., :1])
    at_least = torch.cat([edge, above, torch.zeros_like(edge)], dim=-1)
    probabilities = (at_least[..., :-1] - at_least[..., 1:]).clamp(min=MIN_PROBABILITY)
    return probabilities / probabilities.sum(dim=-1, keepdim=True)


def _log(probabilities: Tensor) -> Tensor:
    return torch.log(probabilities.clamp(min=MIN_PROBABILITY))


class Answer(nn.Module):
    """The answer of a model from the logits of its networks.

    card: the model's, fixed by calibration. heat_px: side of its heat maps of landmarks, 0 without any.
    """

    def __init__(self, card: Card, heat_px: int = 0) -> None:
        super().__init__()
        self.card = card
        self.finder = None
        if heat_px and card.located:
            names = card.landmarks
            offset = card.fovea_from_disc if {"optic_disc", "fovea"} <= {*card.located} else None
            disc, fovea = (names.index(one) if one in names else -1 for one in ("optic_disc", "fovea"))
            self.finder = LandmarkFinder(heat_px, card.landmark_floor, offset, disc, fovea)
        self.lesions = tuple(code for code in card.outlined if code in LESIONS)
        self.counter = LesionNumbers(self.lesions) if self.lesions else None
        witnesses = card.witnesses if self.lesions else {}
        self.regressions = nn.ModuleDict({task: regression_of(tree, self.lesions) for task, tree in witnesses.items()})

    def forward(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The answer of one photo.

        logits: by photo task TASK_logits (1, C); `landmarks` (1, P, n, n); `structures` (1, L, h, w) of the whole view
        and `close_structures` of the close one; `frame` (1, S, S, 3) uint8.

        Returns by photo task its probabilities (C,), and as TASK_photo and TASK_lesions those of either witness;
        `places` (P, 2) as shares of the frame's side, `is_found` and `is_estimated` (P,); by structure its probability
        (S, S) over its view; `lesion_numbers` (N,) and `detail` (3,), from which calibration fits the regression.
        """
        answer: dict[str, Tensor] = {}
        if self.finder is not None:
            places, is_found, is_estimated = self.finder(logits["landmarks"][0])
            answer |= {"places": places, "is_found": is_found, "is_estimated": is_estimated}
        if self.counter is not None:
            answer |= {"lesion_numbers": self._numbers(logits, answer), "detail": detail_of(logits["frame"])}
        for task in (task for task in self.card.photo_tasks if f"{task}_logits" in logits):
            own = logits[f"{task}_logits"][0]
            photo = functional.softmax(own / self.card.temperatures[task], dim=0)
            answer[task] = photo
            if task in self.regressions:
                lesions, joint = self.regressions[task](own, answer["lesion_numbers"], answer["detail"])
                answer |= {f"{task}_photo": photo, f"{task}_lesions": lesions, task: joint}
        for code in self.card.outlined:
            answer[code] = self._probability(code, logits, answer.get("grade"))
        return answer

    def _plane(self, code: str, logits: Mapping[str, Tensor]) -> Float[Tensor, "1 1 h w"]:
        name = "close_structures" if code in self.card.close else "structures"
        place = plane_of(code, self.card)
        return logits[name][:, place : place + 1]

    def _numbers(self, logits: Mapping[str, Tensor], answer: Mapping[str, Tensor]) -> Float[Tensor, "N"]:
        """The lesions in numbers. Where disc or fovea were not found, or are not sought, nothing lies near them."""
        assert self.counter is not None
        maps = torch.cat([self._plane(code, logits) for code in self.lesions], dim=1)[0]
        unknown = (torch.zeros(2, device=maps.device), torch.zeros((), dtype=torch.bool, device=maps.device))
        found: dict[str, tuple[Tensor, Tensor]] = {"optic_disc": unknown, "fovea": unknown}
        for place, name in enumerate(self.card.landmarks if self.finder is not None else ()):
            if name in self.card.located:
                found[name] = (answer["places"][place], answer["is_found"][place])
        (disc, has_disc), (fovea, has_fovea) = found["optic_disc"], found["fovea"]
        return self.counter(maps, disc, fovea, has_disc, has_fovea)

    def _probability(self, code: str, logits: Mapping[str, Tensor], grade: Tensor | None) -> Float[Tensor, "S S"]:
        """The probability of a structure at its view's full size. A lesion that makes a grade by its presence is no
        likelier than that grade."""
        side = self.card.close_px if code in self.card.close else self.card.whole_px
        plane = functional.interpolate(self._plane(code, logits), (side, side), mode="bilinear", align_corners=False)
        slope, shift = self.card.scales.get(code, (1.0, 0.0))
        probability = torch.sigmoid((slope * plane[0, 0] + shift).clamp(-30, 30))
        lowest = self.card.lowest_grades.get(code, 0)
        if grade is None or not lowest:
            return probability
        return probability * grade[lowest:].sum().clamp(max=1)
