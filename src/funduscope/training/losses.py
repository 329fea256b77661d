"""Losses of the tasks. Each is a mean over what is known, and is absent if nothing is.

An unknown label gives no gradient: it is selected away before anything is computed from it, so that not even a NaN in
its place has an effect.

A loss is taken from sums over a batch (`loss_sums`), which have the same names and lengths whatever the batch knows.
Where several processes share a batch, their sums are added before any loss is taken: the mean of their means would be
another number, since one process may know more than another. The functions named `..._loss` and `..._losses` do both
steps, for a custom loop.

Terms of a structure's loss, each over its known pixels: cross-entropy, in which a lesion's pixel weighs more; Dice,
Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, with plain instead of squared sums in the denominator; focal, Lin,
Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, as a mean;
Tversky, Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
networks", MLMI 2017. A partly covered pixel counts as lesion by its covered share, as background by the rest.

Bags: multiple instances, Maron and Lozano-Pérez, "A Framework for Multiple-Instance Learning", NIPS 1997. Differs: the
mean of the highest logits instead of the maximum, so that one pixel is not the whole answer.

Grades have an order. A recipe may add to the cross-entropy the squared earth mover's distance of Hou, Yu and Samaras,
"Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks", arXiv:1611.05916.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs
from funduscope.settings import Loss
from funduscope.training.batch import BAGS, Batch
from funduscope.vocabulary import CLASSES, EITHER_EXUDATE, LANDMARKS, PHOTO_TASKS

Sums = dict[str, Tensor]
"""One-dimensional float tensors by name, without a gradient where the batch knows nothing of it."""

DEFAULT_LOSS: Final = Loss()
"""The settings of a recipe that says nothing of its loss."""

LANDMARK_SIGMA_CELLS = 2.0

_PIXEL_SUMS: Final = 6
"""Per structure: cross-entropy, focal loss, known pixels, overlap, predicted and true lesion."""

MIN_SHARE, MIN_PX = 0.05, 4
"""A bag's score is the mean of so large a share of its pixels, the highest, or of so many at least: bags are drawn
wide."""


def task_losses(
    outputs: Outputs,
    batch: Batch,
    settings: Loss,
    structures: Sequence[str],
    class_weights: dict[str, Float[Tensor, "_"]],
    landmarks: Sequence[str] = LANDMARKS,
    by_structure: dict[str, Float[Tensor, ""]] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Unweighted losses by task: the photo tasks, dense, landmarks. One of which the batch knows nothing is left out.

    class_weights: per photo task (classes,). structures, landmarks: the planes of the outputs in order. by_structure:
    receives each structure's loss by its code; dense is their mean.
    """
    return losses_of(loss_sums(outputs, batch, settings, structures, class_weights, landmarks), settings, by_structure)


def loss_sums(
    outputs: Outputs,
    batch: Batch,
    settings: Loss,
    structures: Sequence[str],
    class_weights: dict[str, Float[Tensor, "_"]],
    landmarks: Sequence[str] = LANDMARKS,
) -> Sums:
    """What `losses_of` needs of a batch: by photo task, by structure, by kind of bag, and for the landmarks."""
    sums: Sums = {}
    for task in PHOTO_TASKS:
        logits = outputs.classes.get(task.name)
        if logits is not None:
            allowed, weights = batch.allowed[task.name], class_weights[task.name]
            sums[task.name] = class_sums(logits, allowed, weights, settings, is_ordinal=task.is_ordinal)
    if outputs.structures is not None:
        sums |= _of_branches(outputs.branches or (outputs.structures,), batch, structures, settings)
        if batch.bags is not None:
            sums |= bag_sums(outputs.structures, batch.bags, structures)
    if outputs.landmarks is not None:
        order = [LANDMARKS.index(name) for name in landmarks]
        points, known = batch.landmarks[:, order], batch.landmarks_known[:, order]
        scale = outputs.landmarks.shape[-1] / batch.image.shape[2]
        sums["landmarks"] = landmark_sums(outputs.landmarks, points * scale, known)
    return sums


def losses_of(
    sums: Sums, settings: Loss, by_structure: dict[str, Float[Tensor, ""]] | None = None
) -> dict[str, Float[Tensor, ""]]:
    """`task_losses` from the sums of a whole batch."""
    losses: dict[str, Tensor] = {}
    for name in (*CLASSES, "landmarks"):
        if name in sums:
            add(losses, name, mean_of(sums[name]))
    each = structure_losses(sums, settings)
    of_bags = _means(sums)
    outlined, inside = _mean(each), _mean(of_bags)
    if inside is not None:
        outlined = settings.boxes * inside + (0 if outlined is None else outlined)
    add(losses, "dense", outlined)
    if by_structure is not None:
        by_structure |= each | of_bags
    return losses


def with_total(line: dict[str, float], settings: Loss) -> dict[str, float]:
    """Numbers with `loss total`: the sum of the tasks' losses, `loss TASK` each, by the weights of the recipe.

    Not the mean of the totals of an epoch's steps: a step of which no photo has masks has a part of the tasks alone.
    """
    tasks = [task for task in (*CLASSES, "landmarks", "dense", "distill") if f"loss {task}" in line]
    total = sum(getattr(settings, task) * line[f"loss {task}"] for task in tasks)
    return line | {"loss total": total} if tasks else line


def add(losses: dict[str, Tensor], name: str, loss: Tensor | None) -> None:
    """Enters a loss where there is one."""
    if loss is not None:
        losses[name] = loss


def mean_of(sums: Float[Tensor, "2"]) -> Float[Tensor, ""] | None:
    """A sum over its count; None if nothing was counted."""
    return sums[0] / sums[1] if sums[1] > 0 else None


def _mean(losses: dict[str, Tensor]) -> Tensor | None:
    return torch.stack(list(losses.values())).mean() if losses else None


def class_loss(
    logits: Float[Tensor, "B G"],
    allowed: Bool[Tensor, "B G"],
    weights: Float[Tensor, "G"] | None = None,
    settings: Loss = DEFAULT_LOSS,
) -> Float[Tensor, ""] | None:
    """The mean of `class_sums` over the photos of which anything is known; None if there are none.

    allowed: the classes that each photo may have: one for a label, several for a constraint, all where nothing is
    known. weights: of the classes in the cross-entropy; all 1 if none are given.
    """
    weights = logits.new_ones(logits.shape[1], dtype=torch.float32) if weights is None else weights
    return mean_of(class_sums(logits, allowed, weights, settings))


def class_sums(
    logits: Float[Tensor, "B G"],
    allowed: Bool[Tensor, "B G"],
    weights: Float[Tensor, "G"],
    settings: Loss,
    *,
    is_ordinal: bool = True,
) -> Float[Tensor, "2"]:
    """The sum over the photos of which anything is known, and their number. See `Batch.allowed`.

    A photo with one allowed class: cross-entropy, the focal loss, and, where the classes have an order, their distance.
    With several: -log of their summed probability. With all: nothing.
    """
    logits = logits.float()
    count = allowed.sum(1)
    labeled, constrained = count == 1, (count > 1) & (count < logits.shape[1])
    parts = []
    if labeled.any():
        target = allowed[labeled].int().argmax(1)
        each = F.cross_entropy(
            logits[labeled], target, weight=weights, label_smoothing=settings.label_smoothing, reduction="none"
        )
        if settings.ordinal and is_ordinal:
            each = each + settings.ordinal * _squared_distance(logits[labeled], target)
        if settings.class_focal:
            one_hot = F.one_hot(target, logits.shape[1]).float()
            each = each + settings.class_focal * _focal(logits[labeled], one_hot, settings).sum(1)
        parts.append(each)
    if constrained.any():
        log_probs = logits[constrained].log_softmax(1)
        parts.append(-log_probs.masked_fill(~allowed[constrained], -torch.inf).logsumexp(1))
    return summed(parts, logits)


def summed(parts: Sequence[Tensor], like: Tensor) -> Float[Tensor, "2"]:
    """The sum of all numbers and how many there are, float32 on the device of `like`."""
    if not parts:
        return torch.zeros(2, device=like.device)
    every = torch.cat([part.flatten() for part in parts])
    return torch.stack([every.sum(), every.new_tensor(float(every.numel()))])


def _squared_distance(logits: Float[Tensor, "N G"], target: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The squared earth mover's distance between the answer and the label, in squared grades."""
    truth = F.one_hot(target, logits.shape[1]).cumsum(1)
    return (logits.softmax(1).cumsum(1) - truth).square().sum(1)


def dense_loss(
    logits: Float[Tensor, "B L h w"],
    coverage: UInt8[Tensor, "B channels H W"],
    known: Bool[Tensor, "B channels H W"],
    structures: Sequence[str],
    settings: Loss = DEFAULT_LOSS,
) -> Float[Tensor, ""] | None:
    """The mean of the structures' losses over their known pixels; None if nothing is known.

    structures: the codes of the planes of the logits. coverage (255: wholly the structure) and known have a plane for
    each of `data.prepare.CHANNELS`, as in `Batch`. The logits may be smaller; they are resized.
    """
    return _mean(structure_losses(structure_sums(logits, coverage, known, structures, settings), settings))


def structure_sums(
    logits: Float[Tensor, "B L h w"],
    coverage: UInt8[Tensor, "B channels H W"],
    known: Bool[Tensor, "B channels H W"],
    structures: Sequence[str],
    settings: Loss,
) -> Sums:
    """By code sums over the known pixels of each structure, in the order of `_PIXEL_SUMS`.

    The logits are resized to the targets. The channel of either exudate is compared with the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=coverage.shape[-2:], mode="bilinear", align_corners=False)
    planes = {code: logits[:, index] for index, code in enumerate(structures)}
    if "EX" in planes and "SE" in planes:
        planes[EITHER_EXUDATE] = torch.maximum(planes["EX"], planes["SE"])
    sums: Sums = {}
    for index, code in enumerate(CHANNELS):
        if code not in planes:
            continue
        mask = known[:, index]
        sums[code] = torch.zeros(_PIXEL_SUMS, device=logits.device)
        if mask.any():
            target = coverage[:, index][mask].float() / 255
            sums[code] = _pixel_sums(planes[code][mask], target, positive_weight(code, settings), settings)
    return sums


def _of_branches(
    branches: Sequence[Float[Tensor, "B L h w"]], batch: Batch, structures: Sequence[str], settings: Loss
) -> Sums:
    """`structure_sums` over all branches of deep supervision: the loss is their mean, Dice of their summed overlaps."""
    each = [structure_sums(logits, batch.coverage, batch.known, structures, settings) for logits in branches]
    return {code: torch.stack([sums[code] for sums in each]).sum(0) for code in each[0]}


def positive_weight(code: str, settings: Loss) -> float:
    """How much a lesion's pixel weighs in the cross-entropy of that structure."""
    return settings.focus.get(code, settings.positive_weight)


def _pixel_sums(
    logits: Float[Tensor, "N"], target: Float[Tensor, "N"], positive_weight: float, settings: Loss
) -> Float[Tensor, "6"]:
    """The sums of one structure. target: the covered share of each pixel. A term without a weight is not computed."""
    cross, focal, overlap, predicted = logits.new_zeros(4).unbind()
    if settings.cross_entropy:
        weight = 1 + (positive_weight - 1) * target
        cross = F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    if settings.focal:
        focal = _focal(logits, target, settings).sum()
    if settings.dice or settings.tversky:
        probs = logits.sigmoid()
        overlap, predicted = (probs * target).sum(), probs.sum()
    return torch.stack([cross, focal, logits.new_tensor(float(logits.numel())), overlap, predicted, target.sum()])


def structure_losses(sums: Sums, settings: Loss) -> dict[str, Float[Tensor, ""]]:
    """By code the recipe's weighted terms, from `structure_sums`; a structure without known pixels is left out.

    Dice and Tversky only if there is something to find; no loss if no term with a weight applies.
    """
    losses: dict[str, Tensor] = {}
    for code in CHANNELS:
        if code not in sums:
            continue
        cross, focal, count, overlap, predicted, true = sums[code]
        overlaps = bool(settings.dice or settings.tversky) and bool(true > 0)
        if not count > 0 or not (settings.cross_entropy or settings.focal or overlaps):
            continue
        loss = (settings.cross_entropy * cross + settings.focal * focal) / count
        if overlaps:
            smooth = settings.smooth_px
            dice = (2 * overlap + smooth) / (predicted + true + smooth)
            wrong = settings.tversky_false * (predicted - overlap) + (1 - settings.tversky_false) * (true - overlap)
            tversky = (overlap + smooth) / (overlap + wrong + smooth)
            loss = loss + settings.dice * (1 - dice) + settings.tversky * (1 - tversky)
        losses[code] = loss
    return losses


def bag_losses(
    logits: Float[Tensor, "B L h w"], bags: UInt8[Tensor, "B kinds H W"], structures: Sequence[str]
) -> dict[str, Float[Tensor, ""]]:
    """By kind of bag the mean of `bag_sums` over the bags; a kind without any is left out. See `Batch.bags`."""
    return _means(bag_sums(logits, bags, structures))


def _means(sums: Sums) -> dict[str, Tensor]:
    """By kind of bag."""
    return {kind: loss for kind in BAGS if kind in sums and (loss := mean_of(sums[kind])) is not None}


def bag_sums(logits: Float[Tensor, "B L h w"], bags: UInt8[Tensor, "B kinds H W"], structures: Sequence[str]) -> Sums:
    """By kind: the sum over the bags of -log of the probability that one holds its kind of lesion, and their number.

    The logits are resized to the bags. A box of red lesions is compared with the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=bags.shape[-2:], mode="bilinear", align_corners=False)
    sums: Sums = {}
    for index, (kind, codes) in enumerate(BAGS.items()):
        planes = [logits[:, structures.index(code)] for code in codes if code in structures]
        if len(planes) < len(codes):
            continue
        plane = torch.stack(planes).amax(0)
        found = [
            F.softplus(-inside.topk(max(MIN_PX, round(MIN_SHARE * len(inside)))).values.mean())
            for one, numbers in zip(plane, bags[:, index], strict=True)
            for number in numbers.unique().tolist()
            if number and len(inside := one[numbers == number]) >= MIN_PX
        ]
        sums[kind] = summed(found, logits)
    return sums


def _focal(logits: Float[Tensor, "*N"], target: Float[Tensor, "*N"], settings: Loss) -> Float[Tensor, "*N"]:
    """-(1 - p)^gamma log p, where p is the probability of the true class, weighed by alpha; finite for any logit."""
    gamma, alpha = settings.focal_gamma, settings.focal_alpha
    if_lesion = F.softplus(-logits) * torch.exp(-gamma * F.softplus(logits))
    if_none = F.softplus(logits) * torch.exp(-gamma * F.softplus(-logits))
    of_lesion, of_none = (alpha, 1 - alpha) if alpha else (1.0, 1.0)
    return of_lesion * target * if_lesion + of_none * (1 - target) * if_none


def landmark_loss(
    logits: Float[Tensor, "B P h w"], points: Float[Tensor, "B P 2"], known: Bool[Tensor, "B P"]
) -> Float[Tensor, ""] | None:
    """The mean of `landmark_sums` over the known points; None if there are none.

    points: in cells of the map, which a `Batch` has in pixels of the image: multiply them by w over the image's width.
    """
    return mean_of(landmark_sums(logits, points, known))


def landmark_sums(
    logits: Float[Tensor, "B P h w"], points: Float[Tensor, "B P 2"], known: Bool[Tensor, "B P"]
) -> Float[Tensor, "2"]:
    """Cross-entropy between the map's softmax and a Gaussian, plus the distance of its mean point in widths of the map:
    the sum over the known points, and their number.

    points: x, y in cells of the map, with centers at +0.5.
    """
    if not known.any():
        return torch.zeros(2, device=logits.device)
    chosen, points = logits.float()[known], points[known]
    height, width = chosen.shape[-2:]
    log_probs = chosen.flatten(1).log_softmax(1)
    grid_y = torch.arange(height, device=chosen.device).repeat_interleave(width) + 0.5
    grid_x = torch.arange(width, device=chosen.device).repeat(height) + 0.5
    square = (grid_x - points[:, :1]) ** 2 + (grid_y - points[:, 1:]) ** 2
    heat = torch.softmax(-square / (2 * LANDMARK_SIGMA_CELLS**2), 1)
    cross = -(heat * log_probs).sum(1)
    probs = log_probs.exp()
    mean = torch.stack([(probs * grid_x).sum(1), (probs * grid_y).sum(1)], 1)
    distance = (mean - points).norm(dim=1) / width
    return summed([cross + distance], logits)


def class_weights(labels: Sequence[int | None], classes: int, power: float) -> Float[Tensor, "classes"]:
    """(1 / frequency) ** power per class, scaled to a mean of 1 over the labeled photos; 1 for a class without any."""
    counts = torch.bincount(
        torch.tensor([label for label in labels if label is not None], dtype=torch.long), minlength=classes
    )
    weights = torch.where(counts > 0, counts.clamp(min=1).float() ** -power, torch.ones(()))
    total = (weights * counts).sum()
    return weights * counts.sum() / total if total > 0 else torch.ones(classes)
