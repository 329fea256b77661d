"""The network: the figure of docs/architecture.md in code. One encoder, one decoder, four kinds of heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from funduscope.network.decoders import Decoder
from funduscope.network.encoder import Encoder, fill, load_imagenet
from funduscope.network.heads import DenseHead, GradeHead
from funduscope.recipe import Recipe
from funduscope.vocabulary import DME_RISKS, GRADES

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LANDMARK_STRIDE = 4


@dataclass(frozen=True)
class Outputs:
    """Logits only; a task that the recipe leaves out is None.

    grade (B, 5), dme (B, 3), structures (B, L, H/2, W/2), landmarks (B, P, H/4, W/4).
    """

    grade: Tensor | None = None
    dme: Tensor | None = None
    structures: Tensor | None = None
    landmarks: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """The tasks that are there, in a fixed order."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Network(nn.Module):
    """Takes photographs as they are, (B, H, W, 3) uint8 RGB with H and W multiples of 32, and returns `Outputs`."""

    def __init__(self, encoder: Encoder, decoder: Decoder | None, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.heads = heads
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, image: Tensor) -> Outputs:
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        normal = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        pyramid = self.encoder(normal)
        logits: dict[str, Tensor] = {}
        for task in ("grade", "dme"):
            if task in self.heads:
                logits[task] = self.heads[task](pyramid[-1])
        if self.decoder is not None:
            features = self.decoder(pyramid)
            if "structures" in self.heads:
                logits["structures"] = self.heads["structures"](features[-1])
            if "landmarks" in self.heads:
                logits["landmarks"] = self.heads["landmarks"](features[-2])
        return Outputs(**logits)


def build(recipe: Recipe) -> Network:
    """The untrained network of a recipe: the only function of this package that reads one."""
    encoder = Encoder(recipe.encoder.name, recipe.encoder.variant)
    tasks, dropout = recipe.tasks, recipe.training.dropout
    deepest = encoder.channels[-1]
    heads = nn.ModuleDict()
    if tasks.grade:
        heads["grade"] = GradeHead(deepest, len(GRADES), dropout)
    if tasks.dme:
        heads["dme"] = GradeHead(deepest, len(DME_RISKS), dropout)
    decoder = None
    if tasks.structures or tasks.landmarks:
        decoder = Decoder(encoder.channels, recipe.decoder.skip_channels, recipe.decoder.channels)
        if tasks.structures:
            heads["structures"] = DenseHead(decoder.channels[-1], len(tasks.structures), start=-4.0)
        if tasks.landmarks:
            heads["landmarks"] = DenseHead(decoder.channels[-2], len(tasks.landmarks), start=0.0)
    return Network(encoder, decoder, heads)


def with_imagenet(recipe: Recipe) -> tuple[Recipe, Network]:
    """The network with its encoder's ImageNet weights, and the recipe with the variant that those weights are for."""
    if recipe.encoder.weights == "none":
        return recipe, build(recipe)
    state, variant = load_imagenet(recipe.encoder.name)
    resolved = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"variant": variant})})
    network = build(resolved)
    fill(network.encoder, state)
    return resolved, network
