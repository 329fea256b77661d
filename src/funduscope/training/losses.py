"""Losses of the tasks. Each is a mean over what is known, and is absent where nothing is.

An unknown label gives no gradient: it is selected away before anything is computed from it, so that not even a NaN can
come back from there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs
from funduscope.recipe import Loss
from funduscope.vocabulary import EITHER_EXUDATE, LANDMARKS

LANDMARK_SIGMA_CELLS = 2.0
_SMOOTH_PX = 1.0


def task_losses(
    outputs: Outputs,
    batch: dict[str, Tensor],
    settings: Loss,
    structures: Sequence[str],
    class_weights: dict[str, Tensor],
    landmarks: Sequence[str] = LANDMARKS,
) -> dict[str, Tensor]:
    """Unweighted losses by task: grade, dme, dense, landmarks; a task with nothing known in the batch is left out.

    class_weights: per task (classes,) float; `structures` and `landmarks` name the planes of the outputs in order.
    """
    losses: dict[str, Tensor] = {}
    for task in ("grade", "dme"):
        logits = getattr(outputs, task)
        if logits is not None:
            among = batch["dme_among"] if task == "dme" else None
            add(losses, task, grade_loss(logits, batch[task], among, class_weights[task], settings.label_smoothing))
    if outputs.structures is not None:
        add(losses, "dense", dense_loss(outputs.structures, batch["coverage"], batch["known"], structures, settings))
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


def grade_loss(
    logits: Tensor, target: Tensor, among: Tensor | None, weights: Tensor, smoothing: float
) -> Tensor | None:
    """Cross-entropy over labelled photos; for a photo with only a constraint, -log of the allowed grades' sum.

    logits (B, G); target (B,) with -1 unknown; among (B, G) bool, all False where there is no constraint.
    """
    logits = logits.float()
    labelled = target >= 0
    parts = []
    if labelled.any():
        each = F.cross_entropy(
            logits[labelled], target[labelled], weight=weights, label_smoothing=smoothing, reduction="none"
        )
        parts.append(each)
    if among is not None:
        constrained = among.any(1) & ~labelled
        if constrained.any():
            log_probs = logits[constrained].log_softmax(1)
            parts.append(-log_probs.masked_fill(~among[constrained], -torch.inf).logsumexp(1))
    return torch.cat(parts).mean() if parts else None


def dense_loss(
    logits: Tensor, coverage: Tensor, known: Tensor, structures: Sequence[str], settings: Loss
) -> Tensor | None:
    """Cross-entropy and Dice per structure over its known pixels, mean over the structures that have any.

    logits (B, L, h, w), resized to the targets; coverage (B, channels, H, W) uint8; known alike, bool. The channel of
    either exudate is met by the larger of the two logits.
    """
    logits = F.interpolate(logits.float(), size=coverage.shape[-2:], mode="bilinear", align_corners=False)
    planes = {code: logits[:, index] for index, code in enumerate(structures)}
    if "EX" in planes and "SE" in planes:
        planes[EITHER_EXUDATE] = torch.maximum(planes["EX"], planes["SE"])
    parts = []
    for index, code in enumerate(CHANNELS):
        mask = known[:, index]
        if code in planes and mask.any():
            target = coverage[:, index][mask].float() / 255
            positive_weight = settings.focus.get(code, settings.positive_weight)
            parts.append(_pixel_loss(planes[code][mask], target, positive_weight, settings.cross_entropy))
    return torch.stack(parts).mean() if parts else None


def _pixel_loss(logits: Tensor, target: Tensor, positive_weight: float, cross_entropy: float) -> Tensor:
    """(N,) each: weighted cross-entropy against the share of the pixel, plus Dice where there is something to find."""
    weight = 1 + (positive_weight - 1) * target
    loss = cross_entropy * F.binary_cross_entropy_with_logits(logits, target, weight=weight)
    if target.any():
        probs = logits.sigmoid()
        overlap = (probs * target).sum()
        loss = loss + 1 - (2 * overlap + _SMOOTH_PX) / (probs.sum() + target.sum() + _SMOOTH_PX)
    return loss


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
