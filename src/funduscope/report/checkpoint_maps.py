"""What `predict --explain` adds for a checkpoint: maps that need the network itself, which ONNX cannot give.

results/eye/explanation_referable.png, explanation_edema.png    by Grad-CAM, for heads without an exact map
results/eye/explanation_attention.png                           what attention gates let through, if the network has any
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.explain.attention_maps import attention_maps
from funduscope.explain.class_activation import EXPLAINED_TARGETS, Explanation, Target, explanation
from funduscope.explain.grad_cam import grad_cam, levels_of
from funduscope.i18n.messages import message
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.runtime import Outputs
from funduscope.inference.strips import run_in_strips
from funduscope.inference.witnesses import Witness
from funduscope.network.attention import AttentionGate
from funduscope.network.joined import JoinedNetwork, part_for
from funduscope.network.network import Network
from funduscope.report.heatmap import WIDTH_PX, colorize, gray_photo, map_picture, resample, with_messages_below
from funduscope.report.image_files import write_png
from funduscope.report.outline import Traced
from funduscope.report.overlay import Pen, Word, band

MIN_SPAN: Final = 0.1
"""Least range of a gate's factors that is stretched to full contrast: a gate that is nearly uniform stays flat."""

COLUMNS: Final = 2
"""Gates next to each other in their picture."""


class CheckpointMaps:
    """Draws maps of findings with the network that made them. card: of that network."""

    def __init__(self, network: Network | JoinedNetwork, card: Card) -> None:
        self.network, self.card = network, card
        self._close = card.closeups
        names = [*self._close, *card.photo_tasks, *card.outlined, *card.located]
        self._shown = part_for(network, names[0]) if names else None
        gates = [one for one in self._shown.modules() if isinstance(one, AttentionGate)] if self._shown else []
        self.gated = bool(gates)

    def __call__(self, findings: Findings, traced: Traced, folder: Path, stem: str) -> None:
        """Adds the maps that need the network to a photo's folder; an extra output of `report.write.save`."""
        for target in EXPLAINED_TARGETS:
            shown = self.explanation(findings, target)
            if shown is not None and not shown.exact:
                write_png(map_picture(findings, shown), folder / f"explanation_{target}.png")
        if self.gated and findings.gradable_ok:
            write_png(self.attention_picture(findings), folder / "explanation_attention.png")

    def explanation(self, findings: Findings, target: Target) -> Explanation | None:
        """The explanation by the exact map, otherwise by Grad-CAM; None if there is no answer."""
        return explanation(findings, target, lambda task, classes: self._evidence(findings, task, classes))

    def _evidence(self, findings: Findings, task: str, classes: tuple[int, ...]) -> np.ndarray:
        """Grad-CAM at the head's input, (n, n) float32, 0 and more; the mean over the flips that the card names.

        Multiplied by the number of cells, it is in log odds, as the exact map is; for a linear head it is that map's
        positive part.
        """
        image, card, same, back = self._whole(findings), self.card, slice(None), slice(None, None, -1)
        network, answer, maps = part_for(self.network, task), findings.class_probs[task], []
        share = 1 / card.temperatures[task]
        if task in findings.by_lesions:  # the answer is a product of powers of what photo and lesions say
            share = Witness.of_tree(card.witnesses[task]).shares[0]
        for flip in ((same, same), (same, back))[: 1 + card.mirrored]:
            plane = grad_cam(levels_of(network, image[flip], task, classes, share, answer)[-1])
            maps.append((plane * plane.size)[flip])
        return np.asarray(np.mean(maps, axis=0), np.float32)

    def _whole(self, findings: Findings) -> np.ndarray:
        """The frame at the size of the whole view, from which the grade is predicted."""
        image, side = findings.transform.image_to_frame(findings.photo.pixels), self.card.whole_px
        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) if side < len(image) else image

    def attention(self, findings: Findings) -> list[np.ndarray]:
        """Each gate's factors over the frame, (n, n) float32 in 0..1, deep to shallow, in the view of the lesions.

        Of a model of several networks, the gates of the one for that view. Empty for a network without gates.
        """
        network = self._shown
        if network is None or not self.gated:
            return []
        if not self._close:
            return attention_maps(network, self._whole(findings))
        sides: list[int] = []

        def gates_of(image: np.ndarray) -> Outputs:
            maps = attention_maps(network, image)
            sides[:] = [plane.shape[1] for plane in maps]
            size = maps[-1].shape[::-1]
            level = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in maps]
            return Outputs(structures=np.stack(level)[None])

        factors = run_in_strips(gates_of, findings.transform.image_to_frame(findings.photo.pixels)).structures
        assert factors is not None
        for plane in factors[0]:  # rows outside the field of view were skipped: as dark as the darkest computed row
            plane[plane < 0] = plane[plane >= 0].min()
        return [
            cv2.resize(plane, (side, side), interpolation=cv2.INTER_NEAREST)
            for plane, side in zip(factors[0], sides, strict=True)
        ]

    def attention_picture(self, findings: Findings, width_px: int = WIDTH_PX) -> np.ndarray:
        """One picture of the photo per gate with the range of its factors, and messages below: (h, w, 3) uint8."""
        gray = gray_photo(findings.photo, min(width_px, findings.photo.pixels.shape[1]) // COLUMNS)
        size = gray.shape[1], gray.shape[0]
        tiles = []
        for plane in self.attention(findings):
            low, high = float(plane.min()), float(plane.max())
            heat = resample((plane - low) / max(high - low, MIN_SPAN), findings.transform, size)
            caption = [Word(f"{len(plane)} x {len(plane)}: {low:.2f} dark, {high:.2f} bright")]
            tile = colorize(gray, np.clip(heat, 0, 1))
            tiles.append(np.concatenate([tile, band([caption], size[0], Pen.for_width(2 * size[0]))]))
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
        return with_messages_below(np.vstack(rows), [message("EXPLAINS_ATTENTION"), message("MAP_NOT_MEASURED")])
