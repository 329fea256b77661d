"""What the tests of the network share: small recipes, one thread."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from funduscope.network.encoder import Encoder
from funduscope.network.routing import traced
from funduscope.recipe import Recipe


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny maps gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def wake() -> Callable[[torch.nn.Module], None]:
    """Opens the residual branches, which start at nothing in timm's ResNets: their last norm's weight is zero."""

    def open_all(network: torch.nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)

    return open_all


@pytest.fixture(scope="session")
def recipe_of() -> Callable[..., Recipe]:
    """A recipe by its encoder's name, with a narrow decoder and further changes."""

    def recipe(encoder: str, *changes: str) -> Recipe:
        small = [
            f"encoder.name={encoder}",
            "encoder.weights=none",
            "decoder.skip_channels=[8, 8, 8, 8, 16]",
            "decoder.channels=[16, 16, 8, 8]",
        ]
        return Recipe.from_toml('name = "small"\n', [*small, *changes])

    return recipe


class Whole(torch.nn.Module):
    """An encoder and what stands on it, with a flat tuple of tensors for an answer."""

    def __init__(self, encoder: Encoder, part: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.part = part

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.part(self.encoder(image)))


@pytest.fixture(scope="session")
def onnx_agrees() -> Callable[..., None]:
    """Exports what takes a pyramid, on 64 px, and compares it with torch at other sizes and batches."""
    import onnxruntime

    def agree(encoder: Encoder, part: torch.nn.Module, sizes: tuple[tuple[int, int, int], ...]) -> None:
        whole, file = Whole(encoder, part).eval(), io.BytesIO()
        for norm in (module for module in whole.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            # As if it had learned: otherwise half of a ResNet's branches are zero.
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.running_mean, std=0.1)  # pyright: ignore[reportArgumentType]
        example = torch.randn(1, 3, 64, 64)
        names = [f"map{index}" for index in range(len(whole(example)))]
        axes = {"image": {0: "batch", 2: "height", 3: "width"}} | {name: {0: "batch"} for name in names}
        torch.onnx.export(
            traced(whole, example), (example,), file, input_names=["image"], output_names=names, dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for batch, height, width in sizes:
            image = torch.randn(batch, 3, height, width)
            with torch.inference_mode():
                expected = whole(image)
            came = session.run(names, {"image": image.numpy()})
            for one, other in zip(came, expected, strict=True):
                np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=1e-3, atol=1e-4)

    return agree
