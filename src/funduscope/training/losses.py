"""Losses of the tasks. Each is a mean over what is known, and is absent where nothing is.

An unknown label gives no gradient: it is selected away before anything is computed from it, so that not even a NaN can
come back from there.

Terms of a structure's loss, each over its known pixels: cross-entropy, in which a lesion's pixel weighs more; Dice,
Milletari, Navab and Ahmadi, "V-Net", 3DV 2016, with plain instead of squared sums below; focal, Lin, Goyal, Girshick,
He and Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, as a mean without its class weight; Tversky, Salehi,
Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep networks", MLMI
2017. A pixel that is partly covered counts as so much lesion and so much none.

Grades have an order: beside the cross-entropy stands, where a recipe wants it, the squared earth mover's distance of
Hou, Yu and Samaras, "Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks", arXiv:1611.05916.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs
from funduscope.settings import Loss
from funduscope.training.bags import bag_losses
from funduscope.vocabulary import EITHER_EXUDATE, LANDMARKS

LANDMARK_SIGMA_CELLS = 2.0


def task_losses(
    outputs: Outputs,
    batch: dict[str, Tensor],
    settings: Loss,
    structures: Sequence[str],
    class_weights: dict[str, Tensor],
    landmarks: Sequence[str] = LANDMARKS,
    told: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Unweighted losses by task: grade, dme, dense, landmarks; a task with nothing known in the batch is left out.

    class_weights: per task (classes,) float; `structures` and `landmarks` name the planes of the outputs in order.
    told: takes in the loss of each structure by its code, which dense is the mean of.
    """
    losses: dict[str, Tensor] = {}
    for task in ("grade", "dme"):
        logits = getattr(outputs, task)
        if logits is not None:
            among = batch["dme_among"] if task == "dme" else None
            add(losses, task, grade_loss(logits, batch[task], among, class_weights[task], settings))
    if outputs.structures is not None:
        each = structure_losses(outputs.structures, batch["coverage"], batch["known"], structures, settings)
        bagged = bag_losses(outputs.structures, batch["bags"], structures) if settings.boxes else {}
        outlined, inside = _mean(each), _mean(bagged)
        if inside is not None:
            outlined = settings.boxes * inside + (0 if outlined is None else outlined)
            each |= bagged
        add(losses, "dense", outlined)
        if told is not None:
            told |= each
    if outputs.landmarks is not None:
        order = [LANDMARKS.index(name) for name in landmarks]
        points, known = batch["landmarks"][:, order], batch["landmarks_known"][:, order]
        scale = outputs.landmarks.shape[-1] / batch["image"].shape[2]
        add(losses, "landmarks", landmark_loss(outputs.landmarks, points * scale, known))
    return losses


def add(losses: dict[str, Tensor], name: str, loss: Tensor | None) -> None:
    """Enters a loss where there is one."""
    if loss is not None:
        losses[name] = loss


def grade_loss(logits: Tensor, target: Tensor, among: Tensor | None, weights: Tensor, settings: Loss) -> Tensor | None:
    """Cross-entropy over labelled photos, and what misses by how many grades; for a photo with only a constraint, -log
    of the allowed grades' sum.

    logits (B, G); target (B,) with -1 unknown; among (B, G) bool, all False where there is no constraint.
    """
    logits = logits.float()
    labelled = target >= 0
    parts = []
    if labelled.any():
        each = F.cross_entropy(
            logits[labelled],
            target[labelled],
            weight=weights,
            label_smoothing=settings.label_smoothing,
            reduction="none",
        )
        if settings.ordinal:
            each = each + settings.ordinal * _squared_distance(logits[labelled], target[labelled])
        parts.append(each)
    if among is not None:
        constrained = among.any(1) & ~labelled
        if constrained.any():
            log_probs = logits[constrained].log_softmax(1)
            parts.append(-log_probs.masked_fill(~among[constrained], -torch.inf).logsumexp(1))
    return torch.cat(parts).mean() if parts else None


def _squared_distance(logits: Tensor, target: Tensor) -> Tensor:
    """(N,): the squared earth mover's distance between the answer and all on the label, in squared grades."""
    truth = F.one_hot(target, logits.shape[1]).cumsum(1)
    return (logits.softmax(1).cumsum(1) - truth).square().sum(1)


def dense_loss(
    logits: Tensor, coverage: Tensor, known: Tensor, structures: Sequence[str], settings: Loss
) -> Tensor | None:
    """The mean of `structure_losses` over the structures that have any to learn from."""
    return _mean(structure_losses(logits, coverage, known, structures, settings))


def _mean(losses: dict[str, Tensor]) -> Tensor | None:
    return torch.stack(list(losses.values())).mean() if losses else None


def structure_losses(
    logits: Tensor, coverage: Tensor, known: Tensor, structures: Sequence[str], settings: Loss
) -> dict[str, Tensor]:
    """The recipe's terms over the known pixels of each structure that has any to learn from, by its code.

    logits (B, L, h, w), resized to the targets; coverage (B, channels, H, W) uint8; known alike, bool. The channel of
    either exudate is met by the larger of the two logits.
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


def _pixel_loss(logits: Tensor, target: Tensor, positive_weight: float, settings: Loss) -> Tensor | None:
    """(N,) each: the sum of the weighted terms; Dice and Tversky only where there is something to find.

    target: the covered share of each pixel. None where no term that has a weight has anything to say.
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


def _focal(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """(N,) -(1 - p)^gamma log p, p being the probability of what the pixel is; finite for any logit and gamma."""
    if_lesion = F.softplus(-logits) * torch.exp(-gamma * F.softplus(logits))
    if_none = F.softplus(logits) * torch.exp(-gamma * F.softplus(-logits))
    return target * if_lesion + (1 - target) * if_none


def landmark_loss(logits: Tensor, points: Tensor, known: Tensor) -> Tensor | None:
    """Cross-entropy between the map's softmax and a Gaussian, plus the distance of its mean point.

    logits (B, P, h, w); points (B, P, 2) in cells with centers at +0.5; known (B, P).
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


def class_weights(labels: Sequence[int | None], classes: int, power: float) -> Tensor:
    """(1 / frequency) ** power per class, scaled to a mean of 1 over the labelled photos; 1 for a class never seen."""
    counts = torch.bincount(
        torch.tensor([label for label in labels if label is not None], dtype=torch.long), minlength=classes
    )
    weights = torch.where(counts > 0, counts.clamp(min=1).float() ** -power, torch.ones(()))
    total = (weights * counts).sum()
    return weights * counts.sum() / total if total > 0 else torch.ones(classes)
