"""What `predict --explain` adds where the model is a checkpoint: with weights at hand, maps that ONNX cannot give.

results/eye/explanation_referable.png, explanation_edema.png    by Grad-CAM, for heads that have no exact map
results/eye/explanation_attention.png                           what attention gates let through, where there are some
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from funduscope.explain.attention_maps import attention_maps
from funduscope.explain.class_activation import SHOWN, Explanation, Target, explanation
from funduscope.explain.grad_cam import grad_cam, levels_of
from funduscope.i18n.messages import message
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.runtime import Outputs
from funduscope.inference.strips import run_in_strips
from funduscope.network.attention import AttentionGate
from funduscope.network.network import Network
from funduscope.report.heatmap import WIDTH_PX, colorize, in_gray, pictured, resample, with_words
from funduscope.report.outline import Traced
from funduscope.report.overlay import Pen, Word, band

LEAST_SPAN: Final = 0.1
"""A gate's darkest and brightest place are at least so far apart: one that lets everything through alike stays flat."""

COLUMNS: Final = 2
"""Gates beside each other in their picture."""


class CheckpointMaps:
    """Maps of findings by the network that made them. card: its own."""

    def __init__(self, network: Network, card: Card) -> None:
        self.network, self.card = network, card
        self.gated = any(isinstance(module, AttentionGate) for module in network.modules())

    def __call__(self, findings: Findings, traced: Traced, folder: Path) -> None:
        """Adds to a photo's folder what was not drawn there without weights; see `report.write.write`, beside."""
        for target in SHOWN:
            asked = self.explanation(findings, target)
            if asked is not None and not asked.exact:
                _save(pictured(findings, asked), folder / f"explanation_{target}.png")
        if self.gated and findings.gradable_ok:
            _save(self.attention_picture(findings), folder / "explanation_attention.png")

    def explanation(self, findings: Findings, target: Target) -> Explanation | None:
        """Why the findings say so: by the exact map, else by Grad-CAM; None where there is no answer."""
        return explanation(findings, target, lambda task, classes: self._evidence(findings, task, classes))

    def _evidence(self, findings: Findings, task: str, classes: tuple[int, ...]) -> np.ndarray:
        """Grad-CAM at what the head reads, (n, n) float32, 0 and more; the mean over
        the looks that the card names.

        Times the number of places, it is in log odds, as the exact map is: of a linear head its positive part.
        """
        image, back = self._whole(findings), slice(None, None, -1)
        looks = [(rows, columns) for rows in (slice(None), back) for columns in (slice(None), back)]
        looks = [look for look in looks if self.card.upside_down or look[0] != back]
        looks = [look for look in looks if self.card.mirrored or look[1] != back]
        maps = [self._grad_cam(image[look], task, classes)[look] for look in looks]
        return np.asarray(np.mean(maps, axis=0), np.float32)

    def _grad_cam(self, image: np.ndarray, task: str, classes: tuple[int, ...]) -> np.ndarray:
        level = levels_of(self.network, image, task, classes, self.card.temperatures[task])[-1]
        plane = grad_cam(level)
        return plane * plane.size

    def _whole(self, findings: Findings) -> np.ndarray:
        """The frame as the whole view shows it: what the grade is read from."""
        image, side = findings.transform.image_to_frame(findings.photo.pixels), self.card.whole_px
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) if side < len(image) else image

    def attention(self, findings: Findings) -> list[np.ndarray]:
        """Each gate's factors over the frame, (n, n) float32 in 0..1, deep to shallow, in the view that lesions are
        read from; empty for a network without gates."""
        card = self.card
        if not any(code in card.close for code in card.structures) or card.close_px == card.whole_px:
            return attention_maps(self.network, self._whole(findings))
        sides: list[int] = []

        def gates_of(image: np.ndarray) -> Outputs:
            maps = attention_maps(self.network, image)
            sides[:] = [plane.shape[1] for plane in maps]
            size = maps[-1].shape[::-1]
            level = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in maps]
            return Outputs(structures=np.stack(level)[None])

        seen = run_in_strips(gates_of, findings.transform.image_to_frame(findings.photo.pixels)).structures
        assert seen is not None
        for plane in seen[0]:  # rows without an eye were not looked at: as dark as the darkest that was
            plane[plane < 0] = plane[plane >= 0].min()
        return [
            cv2.resize(plane, (side, side), interpolation=cv2.INTER_NEAREST)
            for plane, side in zip(seen[0], sides, strict=True)
        ]

    def attention_picture(self, findings: Findings, width_px: int = WIDTH_PX) -> np.ndarray:
        """The photo once for each gate, with what it let through and in what range, and words below: (h, w, 3)."""
        gray = in_gray(findings.photo, min(width_px, findings.photo.pixels.shape[1]) // COLUMNS)
        size = gray.shape[1], gray.shape[0]
        tiles = []
        for plane in self.attention(findings):
            low, high = float(plane.min()), float(plane.max())
            heat = resample((plane - low) / max(high - low, LEAST_SPAN), findings.transform, size)
            says = [Word(f"{len(plane)} x {len(plane)}: {low:.2f} dark, {high:.2f} bright")]
            tile = colorize(gray, np.clip(heat, 0, 1))
            tiles.append(np.concatenate([tile, band([says], size[0], Pen.for_width(2 * size[0]))]))
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
        return with_words(np.vstack(rows), [message("EXPLAINS_ATTENTION"), message("MAP_NOT_MEASURED")])


def _save(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture).save(path, compress_level=1)
