"""Encoders by their timm name; weights from a file; strides where the weights want them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from funduscope.network.encoder import WEIGHTS_VARIABLE, Encoder, WeightsError, fill, load_imagenet
from funduscope.network.network import with_imagenet
from funduscope.recipe import Recipe

RecipeOf = Callable[..., Recipe]


def test_v1_has_other_strides_same_shapes_and_other_features(wake: Callable[[torch.nn.Module], None]) -> None:
    torch.manual_seed(0)
    timm_way, v1_way = Encoder("resnet50").eval(), Encoder("resnet50", "v1").eval()
    wake(timm_way)
    v1_way.load_state_dict(timm_way.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = v1_way(image), timm_way(image)
    assert [level.shape for level in ours] == [level.shape for level in theirs]
    same = [bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4)) for a, b in zip(ours, theirs, strict=True)]
    assert same == [True, True, False, False, False], "up to layer1 there is no stride to move"
    for layer in ("layer2", "layer3", "layer4"):
        block = v1_way.body.get_submodule(layer)[0]  # pyright: ignore[reportIndexIssue]
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize("name", ["resnet_18", "hf-hub:somebody/something", "local-dir:/tmp/model", ""])
def test_what_is_no_timm_name_is_refused_and_nothing_is_fetched(name: str) -> None:
    with pytest.raises(WeightsError, match="timm has no model"):
        Encoder(name)


def test_v1_is_for_resnets() -> None:
    with pytest.raises(WeightsError, match="variant v1"):
        Encoder("tf_efficientnet_lite0", "v1")


def _write(folder: Path, name: str, encoder: Encoder, about: str | None = None) -> dict[str, torch.Tensor]:
    state = {key: value.clone() for key, value in encoder.body.state_dict().items()}
    state["fc.weight"] = torch.zeros(3)  # the classifier, which no pyramid uses
    halves = {key: value.half() for key, value in state.items()}
    save_file(halves, folder / name, {"architecture": about} if about else None)
    return state


@pytest.mark.parametrize(
    ("file", "about", "variant"),
    [
        ("resnet18.safetensors", None, "timm"),
        ("resnet18_v1.safetensors", "the stride is in the first 1x1 convolution", "v1"),
    ],
)
def test_weights_come_from_the_named_folder_with_their_variant(
    file: str, about: str | None, variant: str, recipe_of: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _write(tmp_path, file, Encoder("resnet18"), about)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    recipe, network = with_imagenet(recipe_of("resnet18", "encoder.weights=imagenet"))
    assert recipe.encoder.variant == variant
    assert network.encoder.variant == variant
    for name, value in network.encoder.body.state_dict().items():
        torch.testing.assert_close(value, state[name].half().to(value.dtype))


def test_without_weights_it_says_at_once_where_they_were_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_imagenet("resnet18")
    assert str(tmp_path) in str(caught.value)
    assert "encoder.weights=none" in str(caught.value)


def test_weights_that_lack_something_are_refused() -> None:
    encoder = Encoder("resnet18")
    state = encoder.body.state_dict()
    del state["layer3.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"lack 1 of resnet18's tensors, such as layer3\.0\.conv1\.weight"):
        fill(encoder, state)


def test_none_asks_for_no_weights(recipe_of: RecipeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    recipe = recipe_of("resnet18")
    assert with_imagenet(recipe)[0] == recipe
