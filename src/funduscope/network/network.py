"""The network: the figure of docs/architecture.md in code. One encoder, experts if wanted, one decoder, heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from funduscope.network.decoders import make_decoder
from funduscope.network.deeplab import TaskDeepLab
from funduscope.network.encoder import Encoder, fill, load_imagenet
from funduscope.network.heads import DenseHead, ExpertGradeHead, GradeHead
from funduscope.network.routing import Routed, SharedExperts
from funduscope.recipe import Recipe
from funduscope.vocabulary import DME_RISKS, GRADES

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Outputs:
    """Logits only; a task that the recipe leaves out is None.

    grade (B, 5), dme (B, 3), structures (B, L, h, w), landmarks (B, P, h', w'). gates (B, R, E): the share that each
    router gives each expert, 0 where it was not computed. grade_cam (B, 5, h", w"), dme_cam (B, 3, h", w"): exact class
    activation maps, whose means over the map are grade and dme; not made while training, None for a head with hidden
    layers or experts of its own. features (B, C): means over the encoder's deepest map, by which photos are told to be
    unlike the training's; not made while training. routing: the gates by router, with what its losses need.
    """

    grade: Tensor | None = None
    dme: Tensor | None = None
    structures: Tensor | None = None
    landmarks: Tensor | None = None
    gates: Tensor | None = None
    grade_cam: Tensor | None = None
    dme_cam: Tensor | None = None
    features: Tensor | None = None
    routing: dict[str, Routed] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """The answers that are there, in a fixed order: what an exported model has as outputs."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


class Network(nn.Module):
    """Takes photographs as they are, (B, H, W, 3) uint8 RGB with H and W multiples of 32, and returns `Outputs`.

    shared: experts on the deepest level, each task then has a map of its own there. decoder: one for all dense tasks,
    whose maps the heads read, or a `TaskDeepLab`, which answers by itself.
    """

    def __init__(
        self, encoder: Encoder, shared: SharedExperts | None, decoder: nn.Module | None, heads: nn.ModuleDict
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.shared = shared
        self.decoder = decoder
        self.heads = heads
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, image: Tensor) -> Outputs:
        pyramid = self.encoder((image.permute(0, 3, 1, 2).float() - cast(Tensor, self.mean)) / cast(Tensor, self.std))
        routing: dict[str, Routed] = {}
        deepest: dict[str, Tensor] = dict.fromkeys(("grade", "dme", "dense"), pyramid[-1])  # pyright: ignore
        if self.shared is not None:
            mixed, routing = self.shared(pyramid[-1])
            deepest |= mixed
        logits: dict[str, Tensor] = {}
        for task in ("grade", "dme"):
            if task in self.heads:
                answer = self.heads[task](deepest[task])
                if isinstance(answer, tuple):
                    answer, routing[task] = answer
                logits[task] = answer
        maps = {} if self.training else self._activation_maps(deepest)
        if self.decoder is not None:
            logits |= self._dense([*pyramid[:-1], deepest["dense"]], routing)
        gates = torch.stack([one.gates for one in routing.values()], 1) if routing else None
        features = None if self.training else pyramid[-1].mean(dim=(2, 3))
        return Outputs(**logits, **maps, gates=gates, features=features, routing=routing)

    def _activation_maps(self, deepest: dict[str, Tensor]) -> dict[str, Tensor]:
        """The class activation maps of the heads that have exact ones."""
        linear = {name: head for name, head in self.heads.items() if isinstance(head, GradeHead)}
        maps = {f"{name}_cam": head.activation_map(deepest[name]) for name, head in linear.items()}
        return {name: value for name, value in maps.items() if value is not None}

    def _dense(self, pyramid: list[Tensor], routing: dict[str, Routed]) -> dict[str, Tensor]:
        """Logits of structures and landmarks; gates of a decoder that has some are entered into `routing`."""
        assert self.decoder is not None
        if isinstance(self.decoder, TaskDeepLab):
            maps, routed = self.decoder(pyramid)
            routing |= routed
            structures = [value for name, value in maps.items() if name != "landmarks"]
            logits = {"structures": torch.cat(structures, 1)} if structures else {}
            return logits | ({"landmarks": maps["landmarks"]} if "landmarks" in maps else {})
        features = self.decoder(pyramid)
        places = {"structures": -1, "landmarks": -2}
        return {name: self.heads[name](features[place]) for name, place in places.items() if name in self.heads}


def build(recipe: Recipe) -> Network:
    """The untrained network of a recipe: the only function of this package that reads one."""
    encoder = Encoder(recipe.encoder.name, recipe.encoder.variant, recipe.encoder.output_stride)
    tasks, experts, deepest = recipe.tasks, recipe.experts, encoder.channels[-1]
    hidden, dropout = recipe.heads.hidden, recipe.training.dropout
    by_task = experts.kind == "per_task"
    heads = nn.ModuleDict()
    for task, classes in (("grade", len(GRADES)), ("dme", len(DME_RISKS))):
        if getattr(tasks, task):
            heads[task] = (
                ExpertGradeHead(deepest, classes, dropout, hidden, experts)
                if by_task
                else GradeHead(deepest, classes, dropout, hidden)
            )
    shared = None
    if experts.kind in ("mixture", "soft"):
        names = recipe.routers if experts.kind == "soft" else ("grade", "dme", "dense")
        shared = SharedExperts(deepest, names, experts)
    maps = dict.fromkeys(tasks.structures, 1) | ({"landmarks": len(tasks.landmarks)} if tasks.landmarks else {})
    decoder = None
    if maps and by_task:
        decoder = TaskDeepLab(encoder.channels, maps, recipe.decoder, recipe.encoder.output_stride, experts)
    elif maps:
        decoder = make_decoder(encoder.channels, recipe.decoder, recipe.encoder.output_stride)
        channels = cast("list[int]", decoder.channels)
        if tasks.structures:
            heads["structures"] = DenseHead(channels[-1], len(tasks.structures), start=-4.0)
        if tasks.landmarks:
            heads["landmarks"] = DenseHead(channels[-2], len(tasks.landmarks), start=0.0)
    return Network(encoder, shared, decoder, heads)


def with_imagenet(recipe: Recipe) -> tuple[Recipe, Network]:
    """The network with its encoder's ImageNet weights, and the recipe with the variant that those weights are for."""
    if recipe.encoder.weights == "none":
        return recipe, build(recipe)
    state, variant = load_imagenet(recipe.encoder.name)
    resolved = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"variant": variant})})
    network = build(resolved)
    fill(network.encoder, state)
    return resolved, network
