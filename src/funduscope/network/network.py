"""The network, as docs/architecture.md draws it: an encoder, optional experts, a decoder, heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from funduscope.network.decoders import make_decoder
from funduscope.network.deeplab import TaskDeepLab
from funduscope.network.encoder import Encoder, load_encoder_weights, load_imagenet, normalization
from funduscope.network.expert_heads import ExpertClassifiers, ExpertDecoders
from funduscope.network.heads import (
    STRUCTURE_BIAS,
    ClassifierHead,
    DeepSupervisionHeads,
    DenseHead,
    ExpertClassifierHead,
)
from funduscope.network.routing import Routed, SharedExperts
from funduscope.network.unetplusplus import UnetPlusPlus
from funduscope.recipe import Recipe
from funduscope.settings import Encoder as EncoderSettings
from funduscope.vocabulary import CLASSES


@dataclass(frozen=True)
class Outputs:
    """Logits only. A dense output that the recipe leaves out is None, and a photo task that it leaves out is not in
    `classes`.

    classes: by photo task. structures: h and w are H / 2 and W / 2 for most encoders, a quarter of H and W for ConvNeXt
    and DeepLab. gates: the share that each router R gives each expert E, 0 if it was not computed. cams:
    by photo task the exact class activation map, whose mean is the logits; none in training, and for a head with hidden
    layers or experts of its own. features: means over the encoder's deepest map, for out-of-distribution detection;
    None in training. routing: by router its gates and logits, for the routing losses. branches: in training with deep
    supervision the structures by each branch; their mean otherwise is `structures`.
    """

    classes: dict[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    structures: Float[Tensor, "B L h w"] | None = None
    landmarks: Float[Tensor, "B P h_landmarks w_landmarks"] | None = None
    gates: Float[Tensor, "B R E"] | None = None
    cams: dict[str, Float[Tensor, "B _ h_deepest w_deepest"]] = field(default_factory=dict)
    features: Float[Tensor, "B C"] | None = None
    routing: dict[str, Routed] = field(default_factory=dict)
    branches: tuple[Float[Tensor, "B L h w"], ...] = ()

    def named(self) -> dict[str, Tensor]:
        """The outputs that are not None, in a fixed order: those of an exported model. A task's map is NAME_cam."""
        dense = {"structures": self.structures, "landmarks": self.landmarks, "gates": self.gates}
        maps = {f"{task}_cam": plane for task, plane in self.cams.items()}
        every = {**self.classes, **dense, **maps, "features": self.features}
        return {name: value for name, value in every.items() if value is not None}


class Network(nn.Module):
    """Takes RGB images with H and W multiples of 32, unnormalized, and returns `Outputs`.

    shared: experts on the deepest level, which give each task a map of its own there. decoder: one for all dense tasks,
    whose maps the heads read, or one with experts for each task (`TaskDeepLab`, `ExpertDecoders`) and the heads in it.
    settings: mean and std of images.
    """

    def __init__(
        self,
        encoder: Encoder,
        shared: SharedExperts | None,
        decoder: nn.Module | None,
        heads: nn.ModuleDict,
        settings: EncoderSettings = EncoderSettings(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.shared = shared
        self.decoder = decoder
        self.heads = heads
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, image: UInt8[Tensor, "B H W 3"]) -> Outputs:
        pyramid = self.encoder((image.permute(0, 3, 1, 2).float() - cast(Tensor, self.mean)) / cast(Tensor, self.std))
        routing: dict[str, Routed] = {}
        deepest: dict[str, Tensor] = dict.fromkeys((*CLASSES, "dense"), pyramid[-1])  # pyright: ignore
        if self.shared is not None:
            mixed, routing = self.shared(pyramid[-1])
            deepest |= mixed
        classes: dict[str, Tensor] = {}
        for task in CLASSES:
            if task in self.heads:
                found = self.heads[task](deepest[task])
                if isinstance(found, tuple):
                    found, routing[task] = found
                classes[task] = found
        cams = {} if self.training else self._activation_maps(deepest)
        dense = {} if self.decoder is None else self._dense([*pyramid[:-1], deepest["dense"]], routing)
        gates = torch.stack([one.gates for one in routing.values()], 1) if routing else None
        features = None if self.training else pyramid[-1].mean(dim=(2, 3))
        return Outputs(classes, **dense, gates=gates, cams=cams, features=features, routing=routing)

    def _activation_maps(self, deepest: dict[str, Tensor]) -> dict[str, Tensor]:
        """Class activation maps of the heads that have exact ones."""
        linear = {name: head for name, head in self.heads.items() if isinstance(head, ClassifierHead)}
        maps = {name: head.activation_map(deepest[name]) for name, head in linear.items()}
        return {name: value for name, value in maps.items() if value is not None}

    def _dense(self, pyramid: list[Tensor], routing: dict[str, Routed]) -> dict[str, Any]:
        """Logits of structures and landmarks, and in training of the branches. Adds the gates of a decoder with experts
        to `routing`."""
        assert self.decoder is not None
        if isinstance(self.decoder, TaskDeepLab | ExpertDecoders):
            maps, routed = self.decoder(pyramid)
            routing |= routed
            structures = [value for name, value in maps.items() if name != "landmarks"]
            logits = {"structures": torch.cat(structures, 1)} if structures else {}
            return logits | ({"landmarks": maps["landmarks"]} if "landmarks" in maps else {})
        features = self.decoder(pyramid)
        # Landmarks: the map before the last; a decoder of one block has only one.
        read = {"structures": features[-1], "landmarks": features[-2:][0]}
        found: dict[str, Any] = {name: self.heads[name](value) for name, value in read.items() if name in self.heads}
        if isinstance(found.get("structures"), list):
            branches = found["structures"]
            found |= {
                "structures": DeepSupervisionHeads.mean(branches),
                "branches": tuple(branches) if self.training else (),
            }
        return found


def build(recipe: Recipe) -> Network:
    """The untrained network of a recipe of one network."""
    named = recipe.encoder
    encoder = Encoder(named.name, named.variant, named.output_stride, named.levels or None)
    tasks, experts, deepest = recipe.tasks, recipe.experts, encoder.channels[-1]
    hidden, dropout = recipe.heads.hidden, recipe.training.dropout
    heads = nn.ModuleDict()
    for task in tasks.photo_tasks:
        count = len(CLASSES[task])
        if experts.kind == "heads":
            heads[task] = ExpertClassifiers(deepest, count, experts)
        elif experts.kind == "per_task":
            heads[task] = ExpertClassifierHead(deepest, count, dropout, hidden, experts)
        else:
            heads[task] = ClassifierHead(deepest, count, dropout, hidden)
    shared = None
    if experts.kind in ("mixture", "soft"):
        names = recipe.routers if experts.kind == "soft" else (*CLASSES, "dense")
        shared = SharedExperts(deepest, names, experts)
    maps = dict.fromkeys(tasks.structures, 1) | ({"landmarks": len(tasks.landmarks)} if tasks.landmarks else {})
    decoder = None
    if maps and experts.kind in ("per_task", "heads"):
        kind = TaskDeepLab if experts.kind == "per_task" else ExpertDecoders
        decoder = kind(encoder.channels, maps, recipe.decoder, recipe.encoder.output_stride, experts)
    elif maps:
        decoder = make_decoder(encoder.channels, recipe.decoder, recipe.encoder.output_stride)
        channels = cast("list[int]", decoder.channels)
        if tasks.structures:
            count, branches = len(tasks.structures), decoder.branches if isinstance(decoder, UnetPlusPlus) else []
            heads["structures"] = (
                DeepSupervisionHeads(branches, count, STRUCTURE_BIAS)
                if branches
                else DenseHead(channels[-1], count, STRUCTURE_BIAS)
            )
        if tasks.landmarks:
            heads["landmarks"] = DenseHead(channels[-2:][0], len(tasks.landmarks), 0.0)
    return Network(encoder, shared, decoder, heads, recipe.encoder)


def with_imagenet(recipe: Recipe) -> tuple[Recipe, Network]:
    """The network with ImageNet weights in its encoder, and the recipe with those weights' variant, mean and std."""
    if recipe.encoder.weights == "none":
        return recipe, build(recipe)
    state, variant = load_imagenet(recipe.encoder.name)
    brought = {"variant": variant, **normalization(recipe.encoder.name)}
    resolved = recipe.with_encoder(brought)
    network = build(resolved)
    load_encoder_weights(network.encoder, state)
    return resolved, network
