"""Learning from teachers: the outputs of trained models as targets next to the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531): a student meets the
teachers' softened grades. Differs: of several teachers the mean of their calibrated probabilities is taken; structures
are compared pixel by pixel and landmarks as heat maps; each teacher predicts an output at the magnification at which it
learned it, and not at all where the student's images are too small for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from funduscope.checkpoint import Checkpoint, load
from funduscope.network.network import Outputs
from funduscope.recipe import Recipe
from funduscope.settings import Loss, Views
from funduscope.training import TrainingError
from funduscope.training.fit_scale import UNSCALED
from funduscope.training.initialization import learned
from funduscope.training.losses import Sums, mean_of, positive_weight, summed
from funduscope.vocabulary import CLASSES, CODES, LANDMARKS

STRUCTURE_STRIDE, LANDMARK_STRIDE = 2, 4
"""Side of the batch over the side of the teachers' maps."""
MAX_ENLARGED = 1.5
"""An image is enlarged for a teacher by this much at most: beyond it, lesions of a few pixels are already lost."""
_MULTIPLE_PX = 32
_TINY = 1e-8


@dataclass(frozen=True)
class Taught:
    """The teachers' mean probabilities; an output that no teacher has is absent.

    classes by photo task, each (B, G); structures by code, each (B, H/2, W/2); landmarks by name, each (B, H/4, W/4),
    summing to 1. rows: for each of these names the photos of the batch that its probabilities belong to, (batch,) bool
    with B of them True; a name that is absent there has probabilities for all.
    """

    classes: dict[str, Tensor] = field(default_factory=dict)
    structures: dict[str, Tensor] = field(default_factory=dict)
    landmarks: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)

    def of(self, name: str, values: Tensor) -> Tensor:
        """The rows of a (batch, ...) tensor that have probabilities of that name."""
        return values[self.rows[name]] if name in self.rows else values


@dataclass(frozen=True)
class _Teacher:
    """known: the outputs that its training had examples of, by its card."""

    network: nn.Module
    recipe: Recipe
    card: dict[str, Any]
    known: set[str]

    @classmethod
    def of(cls, one: Checkpoint) -> _Teacher:
        tasks = one.recipe.tasks
        known = {*tasks.named} & learned(one)
        return cls(one.network(), one.recipe, one.card, known)


class Teachers:
    """Trained models that predict a student's batches.

    checkpoints: at least one. student: its tasks are predicted, in the magnification of its views. Raises
    `CheckpointError` if recipe and weights do not make a network, `ValueError` if no teacher can teach anything.
    """

    def __init__(self, checkpoints: list[Checkpoint], student: Recipe) -> None:
        self.student = student
        parts = [part for one in checkpoints for part in one.parts()]
        self.teachers = [_Teacher.of(one) for one in parts]
        wanted = {*student.tasks.named}
        left = [(one.recipe, sorted((wanted & one.known) - self._ratios(one, wanted).keys())) for one in self.teachers]
        self.unused = "; ".join(
            f"{recipe.name} does not teach {', '.join(names)}, which it reads at {_side_px(recipe.views, names[0])} "
            f"px, more than {MAX_ENLARGED} times the student's {_side_px(student.views, names[0])} px"
            for recipe, names in left
            if names
        )
        """In words, what teachers know but cannot teach this student; empty if there is no such thing."""
        if not any(self._ratios(one, wanted) for one in self.teachers):
            raise ValueError(f"No teacher can teach anything: {self.unused or 'they have other tasks'}.")

    @property
    def teaches(self) -> set[str]:
        """The student's outputs that it learns from these teachers: of a view that it samples."""
        sampling, close = self.student.sampling, {*self.student.views.close}
        rates = {name: sampling.close if name in close else sampling.whole for name in self.student.tasks.named}
        seen = {name for name, of_view in rates.items() if any(of_view.values())}
        taught = {name for one in self.teachers for name in self._ratios(one, seen)}
        return taught if self.student.loss.distill else set()

    def __call__(self, image: Tensor, whole: Tensor | None = None) -> Taught:
        """The probabilities that the student should have for its images (B, H, W, 3) uint8.

        whole: (B,) bool, True for the whole eye, False for a close crop: in each view only those outputs are predicted
        that the student reads from it. Without it, all outputs of every image.
        """
        wanted, close = {*self.student.tasks.named}, set(self.student.views.close)
        if whole is None:
            return _taught(self._means(image, wanted), {})
        found: dict[str, Tensor] = {}
        rows: dict[str, Tensor] = {}
        for of_view, names in ((whole, wanted - close), (~whole, wanted & close)):
            if bool(of_view.any()):
                means = self._means(image[of_view], names)
                found |= means
                rows |= dict.fromkeys(means, of_view)
        return _taught(found, rows)

    def _ratios(self, teacher: _Teacher, wanted: set[str]) -> dict[str, float]:
        """For each wanted output that a teacher can teach: its view's side over the side of the student's."""
        sides = {name: _side_px(teacher.recipe.views, name) for name in wanted & teacher.known}
        ratios = {name: side / _side_px(self.student.views, name) for name, side in sides.items()}
        return {name: ratio for name, ratio in ratios.items() if ratio <= MAX_ENLARGED}

    def _means(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        """By output the mean probabilities of the teachers that have it."""
        answers: dict[str, list[Tensor]] = {}
        for one in self.teachers:
            one.network.to(image.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            ratios = self._ratios(one, wanted)
            for ratio in sorted({*ratios.values()}):
                with torch.inference_mode():
                    outputs = one.network(_resized(image, ratio))
                for name, probs in _probabilities(outputs, one.recipe, one.card, image.shape[1:3]).items():
                    if ratios.get(name) == ratio:
                        answers.setdefault(name, []).append(probs)
        return {name: torch.stack(probs).mean(0) for name, probs in answers.items()}


def load_teachers(paths: Sequence[Path], student: Recipe) -> Teachers | None:
    """The teachers of those checkpoints, if any. Raises `TrainingError` if no answer of theirs can be used."""
    try:
        return Teachers([load(path) for path in paths], student) if paths else None
    except ValueError as error:
        raise TrainingError(f"{error} Choose teachers that see the eye as large, or other views.") from error


def distill_sums(
    outputs: Outputs, taught: Taught, settings: Loss, structures: Sequence[str], landmarks: Sequence[str]
) -> Sums:
    """By output of the student, `distill NAME`: the sum of its distances and their number, (2,); see `losses.Sums`.

    Grades: the divergence at `distill_temperature` T, times T^2, so that its gradient does not shrink with T.
    Structures: cross-entropy against the probability, in which lesions weigh as they do against a mask. Landmarks:
    cross-entropy against the heat map. structures, landmarks: the names of the outputs' planes in order.
    """
    sums: Sums = {}
    for task, logits in outputs.classes.items():
        probs = taught.classes.get(task)
        found = [] if probs is None else [softened(taught.of(task, logits), probs, settings.distill_temperature)]
        sums[f"distill {task}"] = summed(found, logits)
    if outputs.structures is not None:
        for index, code in enumerate(structures):
            plane, probs = outputs.structures[:, index], taught.structures.get(code)
            weight = positive_weight(code, settings)
            found = [] if probs is None else [_pixels(taught.of(code, plane), probs, weight)]
            sums[f"distill {code}"] = summed(found, plane)
    if outputs.landmarks is not None:
        for index, name in enumerate(landmarks):
            plane, heat = outputs.landmarks[:, index], taught.landmarks.get(name)
            sums[f"distill {name}"] = summed([] if heat is None else [_heat(taught.of(name, plane), heat)], plane)
    return sums


def distill_loss_of(sums: Sums, settings: Loss) -> Tensor | None:
    """The distance of the student's outputs from the teachers', each task with its weight in the recipe.

    sums: of a whole batch, from `distill_sums`. None if nothing is taught.
    """
    means = {name.removeprefix("distill "): mean_of(two) for name, two in sums.items() if name.startswith("distill ")}
    groups = [([task], getattr(settings, task)) for task in CLASSES]
    groups += [(CODES, settings.dense * (settings.cross_entropy or 1.0)), (LANDMARKS, settings.landmarks)]
    parts = []
    for names, weight in groups:
        found = [mean for name in names if (mean := means.get(name)) is not None]
        if found and weight:
            parts.append(weight * torch.stack(found).mean())
    return torch.stack(parts).sum() if parts else None


def softened(logits: Tensor, probs: Tensor, temperature: float) -> Tensor:
    """(B,) T^2 times the divergence of the student's (B, G) logits from the teachers' (B, G) probabilities, at T."""
    target = torch.log_softmax(probs.clamp(min=_TINY).log() / temperature, 1)
    answer = torch.log_softmax(logits.float() / temperature, 1)
    return temperature**2 * F.kl_div(answer, target, reduction="none", log_target=True).sum(1)


def _pixels(logits: Tensor, probs: Tensor, positive_weight: float) -> Tensor:
    """(B, H, W) cross-entropy of (B, h, w) logits against (B, H, W) probabilities."""
    logits = _scaled(logits.float(), probs.shape[-2:])
    weight = 1 + (positive_weight - 1) * probs
    return F.binary_cross_entropy_with_logits(logits, probs, weight=weight, reduction="none")


def _heat(logits: Tensor, heat: Tensor) -> Tensor:
    """(B,) cross-entropy of the softmax of (B, h, w) logits against (B, H, W) heat that sums to 1."""
    log_probs = _scaled(logits.float(), heat.shape[-2:]).flatten(1).log_softmax(1)
    return -(heat.flatten(1) * log_probs).sum(1)


def _probabilities(outputs: Outputs, recipe: Recipe, card: Mapping[str, Any], size: Sequence[int]) -> dict[str, Tensor]:
    """A teacher's calibrated probabilities by name, resized for a batch of that height and width."""
    temperatures, scales = card.get("temperatures", {}), card.get("scales", {})
    found: dict[str, Tensor] = {}
    for task, logits in outputs.classes.items():
        found[task] = torch.softmax(logits.float() / temperatures.get(task, 1.0), 1)
    if outputs.structures is not None:
        fits = torch.tensor([scales.get(code, UNSCALED) for code in recipe.tasks.structures])
        slope, shift = fits.to(outputs.structures.device).T[:, None, :, None, None]
        probs = (slope * outputs.structures.float() + shift).sigmoid()
        probs = _scaled(probs, [side // STRUCTURE_STRIDE for side in size])
        found |= dict(zip(recipe.tasks.structures, probs.unbind(1), strict=True))
    if outputs.landmarks is not None:
        heat = outputs.landmarks.float().flatten(2).softmax(2).view_as(outputs.landmarks)
        heat = _scaled(heat, [side // LANDMARK_STRIDE for side in size])
        heat = heat / heat.sum((2, 3), keepdim=True)
        found |= dict(zip(recipe.tasks.landmarks, heat.unbind(1), strict=True))
    return found


def _taught(found: dict[str, Tensor], rows: dict[str, Tensor]) -> Taught:
    """`Taught` from probabilities by name."""
    classes = {name: probs for name, probs in found.items() if name in CLASSES}
    structures = {name: probs for name, probs in found.items() if name in CODES}
    landmarks = {name: heat for name, heat in found.items() if name in LANDMARKS}
    return Taught(classes, structures, landmarks, rows)


def _side_px(views: Views, name: str) -> int:
    """The side of the frame from which that output is predicted."""
    return views.close_px if name in views.close else views.whole_px


def _resized(image: Tensor, ratio: float) -> Tensor:
    """(B, H, W, 3) uint8 scaled by that ratio, to the nearest multiples of 32, which a network takes."""
    size = [max(round(side * ratio / _MULTIPLE_PX), 1) * _MULTIPLE_PX for side in image.shape[1:3]]
    if size == list(image.shape[1:3]):
        return image
    planes = F.interpolate(image.permute(0, 3, 1, 2).float(), size=size, mode="bilinear", antialias=True)
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w) or (B, C, h, w) maps resized; area means where they become smaller."""
    if list(maps.shape[-2:]) == list(size):
        return maps
    planes = maps if maps.ndim == 4 else maps[:, None]
    smaller = size[0] < maps.shape[-2]
    planes = F.interpolate(planes, size=list(size), mode="bilinear", align_corners=False, antialias=smaller)
    return planes if maps.ndim == 4 else planes[:, 0]
