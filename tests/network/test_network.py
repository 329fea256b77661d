"""The contract of every network: shapes, gradients everywhere, no photo that sees another, photographs as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from funduscope.data.prepare import CHANNELS
from funduscope.inference.card import Card
from funduscope.inference.runtime import TorchRuntime
from funduscope.network.network import Network, build
from funduscope.recipe import Recipe
from funduscope.training.batch import Batch
from funduscope.training.losses import task_losses
from funduscope.vocabulary import CLASSES, CODES, DME_RISKS, GRADES, LANDMARKS

RecipeOf = Callable[..., Recipe]
ENCODERS = ("resnet18", "resnet50", "tf_efficientnet_lite0")


def _images(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def _batch(side: int) -> Batch:
    """Every task has a target."""
    labels = {"grade": torch.tensor([1, 3]), "dme": torch.tensor([0, 2])}
    return Batch(
        image=_images(2, side),
        whole=torch.ones(2, dtype=torch.bool),
        allowed={task: torch.arange(len(classes)) == labels[task][:, None] for task, classes in CLASSES.items()},
        coverage=_images(2 * len(CHANNELS), side)[..., 0].view(2, len(CHANNELS), side, side),
        known=torch.ones(2, len(CHANNELS), side, side, dtype=torch.bool),
        landmarks=torch.tensor([[[10.0, 20.0], [40.0, 30.0]]] * 2),
        landmarks_known=torch.ones(2, 2, dtype=torch.bool),
    )


def _loss(network: Network, recipe: Recipe, batch: Batch) -> torch.Tensor:
    weights = {task: torch.ones(len(classes)) for task, classes in CLASSES.items()}
    losses = task_losses(network(batch.image), batch, recipe.loss, recipe.tasks.structures, weights)
    return torch.stack(list(losses.values())).sum()


@pytest.fixture(scope="module", params=ENCODERS)
def built(
    request: pytest.FixtureRequest, recipe_of: RecipeOf, wake: Callable[[torch.nn.Module], None]
) -> tuple[Network, Recipe]:
    """A network of each encoder, without weights; an encoder is nothing but its timm name."""
    torch.manual_seed(0)
    recipe = recipe_of(request.param)
    network = build(recipe)
    wake(network)
    return network, recipe


@pytest.mark.parametrize("side", [64, 96])
def test_the_shapes_that_were_promised(side: int, built: tuple[Network, Recipe]) -> None:
    network = built[0].eval()
    with torch.inference_mode():
        outputs = network(_images(2, side))
    assert outputs.classes["grade"].shape == (2, len(GRADES))
    assert outputs.classes["dme"].shape == (2, len(DME_RISKS))
    assert outputs.structures.shape == (2, len(CODES), side // 2, side // 2)
    assert outputs.landmarks.shape == (2, len(LANDMARKS), side // 4, side // 4)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in outputs.named().values())


def test_a_photo_does_not_see_the_others_of_its_batch(built: tuple[Network, Recipe]) -> None:
    network, images = built[0].eval(), _images(3, 64)
    with torch.inference_mode():
        together, turned = network(images).named(), network(images.flip(0)).named()
        alone = [network(image[None]).named() for image in images]
    for name, value in together.items():
        torch.testing.assert_close(turned[name].flip(0), value, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), value, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_weight_and_one_step_changes_each(built: tuple[Network, Recipe]) -> None:
    network, recipe = built
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network.zero_grad()
    _loss(network, recipe, _batch(64)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    torch.optim.AdamW(network.parameters(), 1e-3).step()
    assert all(not torch.equal(value, state[name]) for name, value in network.named_parameters())
    network.load_state_dict(state)


def test_a_photograph_is_taken_as_it_is_and_normalized_inside(recipe_of: RecipeOf) -> None:
    """Bytes, red first: the encoder sees them by ImageNet's mean and deviation, in that order of channels."""
    network = build(recipe_of("resnet18")).eval()
    seen: list[torch.Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    image[..., 0], image[..., 2] = 255, 51
    with torch.inference_mode():
        network(image)
    imagenet = zip((1.0, 0.0, 0.2), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    expected = [(value - mean) / std for value, mean, std in imagenet]
    assert seen[0].shape == (1, 3, 64, 64)
    torch.testing.assert_close(seen[0][0, :, 7, 9], torch.tensor(expected))
    assert not {"mean", "std"} & network.state_dict().keys(), "constants are no weights"


def test_at_the_start_lesions_are_rare(recipe_of: RecipeOf) -> None:
    network = build(recipe_of("resnet18")).eval()
    with torch.inference_mode():
        structures = network(_images(2, 64)).structures
    assert structures.sigmoid().mean() < 0.2


def test_the_grade_is_linear_on_pooled_features(recipe_of: RecipeOf) -> None:
    """Weights times features is its exact class activation map: its mean and the bias are the logit."""
    network = build(recipe_of("resnet18")).eval()
    features: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda _module, _inputs, pyramid: features.append(pyramid[-1]))
    linear = network.heads["grade"].linear
    with torch.inference_mode():
        grade = network(_images(1, 96)).classes["grade"][0]
        maps = torch.einsum("gc,chw->ghw", linear.weight, features[0][0])
    torch.testing.assert_close(maps.mean((1, 2)) + linear.bias.detach(), grade, rtol=1e-4, atol=1e-5)


def test_dropout_draws_in_training_alone(recipe_of: RecipeOf) -> None:
    network = build(recipe_of("resnet18", "training.dropout=0.5"))
    head = network.heads["grade"].train()
    deepest = torch.ones(1, network.encoder.channels[-1], 2, 2)
    assert not torch.equal(head(deepest), head(deepest))
    head.eval()
    assert torch.equal(head(deepest), head(deepest))


def test_planes_follow_the_recipe(recipe_of: RecipeOf) -> None:
    network = build(recipe_of("resnet18", 'tasks.structures=["OD", "MA"]', 'tasks.landmarks=["fovea"]')).eval()
    with torch.inference_mode():
        outputs = network(_images(1, 64))
    assert outputs.structures.shape[1] == 2
    assert outputs.landmarks.shape[1] == 1


def test_a_decoder_of_other_levels_than_the_encoder_is_said(recipe_of: RecipeOf) -> None:
    recipe = recipe_of(
        "resnet18", "decoder.kind=transposed_unet", "decoder.skip_channels=[8, 8, 8]", "decoder.channels=[8, 8]"
    )
    with pytest.raises(ValueError, match=r"5 levels, decoder\.skip_channels 3"):
        build(recipe)


def test_a_decoder_of_one_block_has_landmarks_too(recipe_of: RecipeOf) -> None:
    network = build(recipe_of("resnet18", "decoder.channels=[8]", "decoder.skip_channels=[]"))
    maps = network.eval()(_images(1, 64))
    assert maps.landmarks.shape[1] == 2
    assert maps.landmarks.shape[2:] == maps.structures.shape[2:]


def test_predictions_are_made_in_float32_on_a_gpu_too(recipe_of: RecipeOf) -> None:
    """cuDNN's convolutions would use TensorFloat-32 there, and differ from ONNX by more than export allows."""
    seen = []

    def network(images: torch.Tensor) -> Any:
        seen.append(torch.backends.cudnn.allow_tf32)
        return whole(images)

    recipe = recipe_of("resnet18")
    whole = build(recipe).eval()
    network.parameters = whole.parameters
    TorchRuntime(network, Card.of(recipe))(np.zeros((1, 64, 64, 3), np.uint8))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32, "as it was"
