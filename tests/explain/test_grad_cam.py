"""Maps by gradients: exact where theory says so, sharp where the layer is, and attention as it was used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from funduscope.explain.attention_maps import attention_maps
from funduscope.explain.class_activation import log_odds_weights
from funduscope.explain.grad_cam import Level, grad_cam, hires_cam, joined_layer_cam, layer_cam, levels_of
from funduscope.network.network import Network

Built = Callable[..., Network]


@pytest.mark.parametrize("changes", [(), ("experts.kind=soft", "experts.width=8")])
@pytest.mark.parametrize(("task", "classes"), [("grade", (2, 3, 4)), ("dme", (1, 2))])
def test_at_what_a_linear_head_reads_they_are_the_exact_map(
    built: Built, image: np.ndarray, task: str, classes: tuple[int, ...], changes: tuple[str, ...]
) -> None:
    """HiResCAM is the map without its bias, over h w; Grad-CAM its positive part."""
    network = built(*changes)
    level = levels_of(network, image, task, classes, share=1 / 1.3)[-1]
    with torch.inference_mode():
        outputs = network(torch.from_numpy(image[None])).named()
    logits, cam = outputs[task][0].numpy() / 1.3, outputs[f"{task}_cam"][0].numpy() / 1.3
    probs = np.exp(logits) / np.exp(logits).sum()
    weights = log_odds_weights(probs, classes)
    bias = network.heads[task].linear.bias.detach().numpy() / 1.3  # pyright: ignore
    exact = np.tensordot(weights, cam - bias[:, None, None], axes=1)
    np.testing.assert_allclose(hires_cam(level) * exact.size, exact, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(grad_cam(level) * exact.size, np.maximum(exact, 0), rtol=1e-3, atol=1e-4)


def test_hidden_layers_have_maps_too(built: Built, image: np.ndarray) -> None:
    levels = levels_of(built("heads.hidden=[8]"), image, "grade", (2, 3, 4))
    assert [level.features.shape[1] for level in levels] == [64, 32, 16, 8, 4]
    for level in levels:
        assert np.isfinite(hires_cam(level)).all()
        assert (grad_cam(level) >= 0).all()
        assert (layer_cam(level) >= 0).all()
    joined = joined_layer_cam(levels[-3:])
    assert joined.shape == (16, 16)
    assert 0 <= joined.min() <= joined.max() <= 1


def test_an_answer_that_does_not_use_the_photo_has_a_flat_map(built: Built, image: np.ndarray) -> None:
    """As where validation gave the lesions' answer all of the weight."""
    level = levels_of(built("heads.hidden=[8]"), image, "grade", (2, 3, 4), share=0.0)[-1]
    assert not grad_cam(level).any()


def test_channels_may_stand_last(built: Built, image: np.ndarray) -> None:
    """The maps that are kept are those that the answer was made of, and come channels first."""
    network = built("encoder.name=test_mambaout", "decoder.skip_channels=[8, 8, 8, 16]", "decoder.channels=[16, 8, 8]")
    levels = levels_of(network, image, "grade", (2, 3, 4))
    assert [level.features.shape[0] for level in levels] == network.encoder.channels
    assert [level.features.shape[1] for level in levels] == [128 // stride for stride in network.encoder.strides]
    assert all(np.abs(level.gradient).max() > 0 for level in levels)


def test_a_network_without_the_answer_says_so(built: Built, image: np.ndarray) -> None:
    network = built("tasks.dme=false")
    with pytest.raises(ValueError, match="it has: grade"):
        levels_of(network, image, "dme", (1, 2))


def test_nothing_is_left_behind(built: Built, image: np.ndarray) -> None:
    network = built()
    levels_of(network, image, "grade", (4,))
    assert not network.encoder.body._forward_hooks
    assert not network.heads["grade"]._forward_pre_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


def test_layer_cam_takes_only_what_speaks_for_it() -> None:
    features = np.ones((2, 2, 2), np.float32)
    gradient = np.array([[[1, -3], [0, 2]], [[0, 1], [-1, 0]]], np.float32)
    level = Level(features, gradient)
    np.testing.assert_array_equal(layer_cam(level), [[1, 1], [0, 2]])
    np.testing.assert_array_equal(hires_cam(level), [[1, -2], [-1, 2]])
    np.testing.assert_array_equal(grad_cam(level), np.zeros((2, 2)))


def test_attention_is_what_the_gates_let_through(built: Built, image: np.ndarray) -> None:
    network = built("decoder.kind=attention_unet")
    maps = attention_maps(network, image)
    assert [plane.shape for plane in maps] == [(8, 8), (16, 16), (32, 32), (64, 64)]
    assert all(0 <= plane.min() <= plane.max() <= 1 for plane in maps)
    gate = network.decoder.gates[-1]  # pyright: ignore
    seen: list[torch.Tensor] = []
    hook = gate.register_forward_hook(lambda module, given, passed: seen.append(passed[0] / given[0][0]))
    with torch.inference_mode():
        network(torch.from_numpy(image[None]))
    hook.remove()
    finite = seen[0].isfinite()
    there = torch.from_numpy(maps[-1]).expand_as(seen[0])
    torch.testing.assert_close(seen[0][finite], there[finite], rtol=1e-3, atol=1e-4)
    assert attention_maps(built(), image) == []
