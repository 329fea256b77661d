"""Losses of the tasks. Each is a mean over what is known, and is absent where nothing is.

An unknown label gives no gradient: it is selected away before anything is computed from it, so that not even a NaN in
its place has an effect.

Terms of a structure's loss, each over its known pixels: cross-entropy, in which a lesion's pixel weighs more; Dice,
Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, with plain instead of squared sums in the denominator; focal, Lin,
Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, as a mean without its class weight;
Tversky, Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
networks", MLMI 2017. A partly covered pixel counts as lesion by its covered share, as background by the rest.

Bags: multiple instances, Maron and Lozano-Pérez, "A Framework for Multiple-Instance Learning", NIPS 1997. Differs: the
mean of the highest logits instead of the maximum, so that one pixel is not the whole answer.

Grades have an order. A recipe may add to the cross-entropy the squared earth mover's distance of Hou, Yu and Samaras,
"Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks", arXiv:1611.05916.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs
from funduscope.settings import Loss
from funduscope.training.batch import BAGS, Batch
from funduscope.vocabulary import CLASSES, EITHER_EXUDATE, LANDMARKS

LANDMARK_SIGMA_CELLS = 2.0

LEAST_SHARE, LEAST_PX = 0.05, 4
"""The part of a bag's pixels that must be lesion: a small one, since boxes and regions are drawn wide."""


def task_losses(
    outputs: Outputs,
    batch: Batch,
    settings: Loss,
    structures: Sequence[str],
    class_weights: dict[str, Float[Tensor, "_"]],
    landmarks: Sequence[str] = LANDMARKS,
    by_structure: dict[str, Float[Tensor, ""]] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Unweighted losses by task: grade, dme, dense, landmarks. A task of which the batch knows nothing is left out.

    class_weights: per photo task (classes,). structures, landmarks: the planes of the outputs in order. by_structure:
    receives each structure's loss by its code; dense is their mean.
    """
    losses: dict[str, Tensor] = {}
    for task in CLASSES:
        logits = getattr(outputs, task)
        if logits is not None:
            add(losses, task, class_loss(logits, batch.allowed[task], class_weights[task], settings))
    if outputs.structures is not None:
        each = structure_losses(outputs.structures, batch.coverage, batch.known, structures, settings)
        of_bags = {} if batch.bags is None else bag_losses(outputs.structures, batch.bags, structures)
        outlined, inside = _mean(each), _mean(of_bags)
        if inside is not None:
            outlined = settings.boxes * inside + (0 if outlined is None else outlined)
            each |= of_bags
        add(losses, "dense", outlined)
        if by_structure is not None:
            by_structure |= each
    if outputs.landmarks is not None:
        order = [LANDMARKS.index(name) for name in landmarks]
        points, known = batch.landmarks[:, order], batch.landmarks_known[:, order]
        scale = outputs.landmarks.shape[-1] / batch.image.shape[2]
        add(losses, "landmarks", landmark_loss(outputs.landmarks, points * scale, known))
    return losses


def add(losses: dict[str, Tensor], name: str, loss: Tensor | None) -> None:
    """Enters a loss where there is one."""
    if loss is not None:
        losses[name] = loss


def class_loss(
    logits: Float[Tensor, "B G"], allowed: Bool[Tensor, "B G"], weights: Float[Tensor, "G"], settings: Loss
) -> Float[Tensor, ""] | None:
    """The mean over the photos of which anything is known. See `Batch.allowed`.

    A photo with one allowed class: cross-entropy, and the recipe's term for the distance in grades. With several: -log
    of their summed probability. With all: nothing.
    """
    logits = logits.float()
    count = allowed.sum(1)
    labelled, constrained = count == 1, (count > 1) & (count < logits.shape[1])
    parts = []
    if labelled.any():
        target = allowed[labelled].int().argmax(1)
        each = F.cross_entropy(
            logits[labelled], target, weight=weights, label_smoothing=settings.label_smoothing, reduction="none"
        )
        if settings.ordinal:
            each = each + settings.ordinal * _squared_distance(logits[labelled], target)
        parts.append(each)
    if constrained.any():
        log_probs = logits[constrained].log_softmax(1)
        parts.append(-log_probs.masked_fill(~allowed[constrained], -torch.inf).logsumexp(1))
    return torch.cat(parts).mean() if parts else None


def _squared_distance(logits: Float[Tensor, "N G"], target: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The squared earth mover's distance between the answer and the label, in squared grades."""
    truth = F.one_hot(target, logits.shape[1]).cumsum(1)
    return (logits.softmax(1).cumsum(1) - truth).square().sum(1)


def dense_loss(
    logits: Float[Tensor, "B L h w"],
    coverage: UInt8[Tensor, "B channels H W"],
    known: Bool[Tensor, "B channels H W"],
    structures: Sequence[str],
    settings: Loss,
) -> Float[Tensor, ""] | None:
    """The mean of `structure_losses`; None where there are none."""
    return _mean(structure_losses(logits, coverage, known, structures, settings))


def _mean(losses: dict[str, Tensor]) -> Tensor | None:
    return torch.stack(list(losses.values())).mean() if losses else None


def structure_losses(
    logits: Float[Tensor, "B L h w"],
    coverage: UInt8[Tensor, "B channels H W"],
    known: Bool[Tensor, "B channels H W"],
    structures: Sequence[str],
    settings: Loss,
) -> dict[str, Float[Tensor, ""]]:
    """By code the recipe's terms over the known pixels of each structure; without known pixels it is left out.

    The logits are resized to the targets. The channel of either exudate is compared with the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=coverage.shape[-2:], mode="bilinear", align_corners=False)
    planes = {code: logits[:, index] for index, code in enumerate(structures)}
    if "EX" in planes and "SE" in planes:
        planes[EITHER_EXUDATE] = torch.maximum(planes["EX"], planes["SE"])
    losses: dict[str, Tensor] = {}
    for index, code in enumerate(CHANNELS):
        mask = known[:, index]
        if code in planes and mask.any():
            target = coverage[:, index][mask].float() / 255
            weight = settings.focus.get(code, settings.positive_weight)
            add(losses, code, _pixel_loss(planes[code][mask], target, weight, settings))
    return losses


def bag_losses(
    logits: Float[Tensor, "B L h w"], bags: UInt8[Tensor, "B kinds H W"], structures: Sequence[str]
) -> dict[str, Float[Tensor, ""]]:
    """By kind: -log of the probability that a bag holds its kind of lesion, the mean over the bags. See `Batch.bags`.

    The logits are resized to the bags. A box of red lesions is compared with the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=bags.shape[-2:], mode="bilinear", align_corners=False)
    losses: dict[str, Tensor] = {}
    for index, (kind, codes) in enumerate(BAGS.items()):
        planes = [logits[:, structures.index(code)] for code in codes if code in structures]
        if len(planes) < len(codes):
            continue
        plane = torch.stack(planes).amax(0)
        found = [
            F.softplus(-inside.topk(max(LEAST_PX, round(LEAST_SHARE * len(inside)))).values.mean())
            for one, numbers in zip(plane, bags[:, index], strict=True)
            for number in numbers.unique().tolist()
            if number and len(inside := one[numbers == number]) >= LEAST_PX
        ]
        if found:
            losses[kind] = torch.stack(found).mean()
    return losses


def _pixel_loss(
    logits: Float[Tensor, "N"], target: Float[Tensor, "N"], positive_weight: float, settings: Loss
) -> Float[Tensor, ""] | None:
    """The sum of the weighted terms; Dice and Tversky only where there is something to find.

    target: the covered share of each pixel. None where no term with a weight applies.
    """
    overlaps = bool(settings.dice or settings.tversky) and bool(target.any())
    if not (settings.cross_entropy or settings.focal or overlaps):
        return None
    loss = logits.new_zeros(())
    if settings.cross_entropy:
        weight = 1 + (positive_weight - 1) * target
        loss = loss + settings.cross_entropy * F.binary_cross_entropy_with_logits(logits, target, weight=weight)
    if settings.focal:
        loss = loss + settings.focal * _focal(logits, target, settings.focal_gamma).mean()
    if overlaps:
        probs = logits.sigmoid()
        overlap, smooth = (probs * target).sum(), settings.smooth_px
        if settings.dice:
            share = (2 * overlap + smooth) / (probs.sum() + target.sum() + smooth)
            loss = loss + settings.dice - settings.dice * share
        if settings.tversky:
            false, missed = probs.sum() - overlap, target.sum() - overlap
            wrong = settings.tversky_false * false + (1 - settings.tversky_false) * missed
            loss = loss + settings.tversky * (1 - (overlap + smooth) / (overlap + wrong + smooth))
    return loss


def _focal(logits: Float[Tensor, "N"], target: Float[Tensor, "N"], gamma: float) -> Float[Tensor, "N"]:
    """-(1 - p)^gamma log p, where p is the probability of the pixel's true class; finite for any logit and gamma."""
    if_lesion = F.softplus(-logits) * torch.exp(-gamma * F.softplus(logits))
    if_none = F.softplus(logits) * torch.exp(-gamma * F.softplus(-logits))
    return target * if_lesion + (1 - target) * if_none


def landmark_loss(
    logits: Float[Tensor, "B P h w"], points: Float[Tensor, "B P 2"], known: Bool[Tensor, "B P"]
) -> Float[Tensor, ""] | None:
    """Cross-entropy between the map's softmax and a Gaussian, plus the distance of its mean point in widths of the map.

    points: x, y in cells of the map, with centers at +0.5. None where no point is known.
    """
    if not known.any():
        return None
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
    return (cross + distance).mean()


def class_weights(labels: Sequence[int | None], classes: int, power: float) -> Float[Tensor, "classes"]:
    """(1 / frequency) ** power per class, scaled to a mean of 1 over the labelled photos; 1 for a class without any."""
    counts = torch.bincount(
        torch.tensor([label for label in labels if label is not None], dtype=torch.long), minlength=classes
    )
    weights = torch.where(counts > 0, counts.clamp(min=1).float() ** -power, torch.ones(()))
    total = (weights * counts).sum()
    return weights * counts.sum() / total if total > 0 else torch.ones(classes)
