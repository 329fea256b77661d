"""Several networks as one model: each has tasks, an encoder and a training of its own (`Recipe.stages`)."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from funduscope.network.network import Network, Outputs, build
from funduscope.recipe import Recipe
from funduscope.vocabulary import View


class JoinedNetwork(nn.Module):
    """The networks of a recipe's stages. parts: by stage; a part that is read from the close view alone runs there and
    nowhere else, the others in the whole view.

    recipe: whose order of structures the joined outputs have, those of each view apart.
    """

    def __init__(self, parts: dict[str, Network], recipe: Recipe) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        stages = {name: recipe.stage(name) for name in parts}
        self.codes = {name: stage.tasks.structures for name, stage in stages.items()}
        self.located = {name: stage.tasks.landmarks for name, stage in stages.items()}
        self.of_view: dict[View, tuple[str, ...]] = {
            "whole": tuple(name for name, stage in stages.items() if not stage.closeup),
            "close": tuple(name for name, stage in stages.items() if stage.closeup),
        }
        self.structures = recipe.tasks.structures

    def forward(self, image: UInt8[Tensor, "B H W 3"], view: View = "whole") -> Outputs:
        """The outputs of the parts of that view. structures: those of the view, in the recipe's order."""
        names = self.of_view[view]
        answers = [self.parts[name](image) for name in names]
        found = {
            code: answer.structures[:, plane : plane + 1]
            for name, answer in zip(names, answers, strict=True)
            for plane, code in enumerate(self.codes[name])
        }
        planes = [found[code] for code in self.structures if code in found]
        joined = Outputs(structures=torch.cat(planes, 1) if planes else None)
        for answer in answers:
            joined = replace(
                joined,
                classes=joined.classes | answer.classes,
                cams=joined.cams | answer.cams,
                landmarks=answer.landmarks if joined.landmarks is None else joined.landmarks,
                **({"features": answer.features, "gates": answer.gates} if answer.classes else {}),
            )
        return joined

    def part_for(self, name: str) -> Network:
        """The part that answers a photo task, a structure or a landmark. Raises `KeyError` if none does."""
        for stage, part in self.parts.items():
            assert isinstance(part, Network)
            if name in part.heads or name in self.codes[stage] or name in self.located[stage]:
                return part
        raise KeyError(f"No part of this model answers {name!r}.")


def part_for(model: Network | JoinedNetwork, name: str) -> Network:
    """The network that answers a photo task, a structure or a landmark."""
    return model.part_for(name) if isinstance(model, JoinedNetwork) else model


def build_model(recipe: Recipe) -> Network | JoinedNetwork:
    """The untrained model of a recipe: a network, or those of its stages."""
    if not recipe.stages:
        return build(recipe)
    return JoinedNetwork({name: build(recipe.stage(name)) for name in recipe.stages}, recipe)
