"""The check against random weights: it passes a map of the network and flags one of the photo."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from research.sanity import MAX_ALIKE, alike, cascade, passes, stages

from funduscope.explain.grad_cam import hires_cam, levels_of
from funduscope.network.network import Network

Built = Callable[..., Network]


def _edges(network: Network, image: np.ndarray) -> np.ndarray:
    """A map that shows the photo's edges, whatever the network says."""
    return np.abs(cv2.Laplacian(image[..., 1].astype(np.float32), cv2.CV_32F))


def _exact(network: Network, image: np.ndarray) -> np.ndarray:
    return hires_cam(levels_of(network, image, "grade", (2, 3, 4))[-2])


@pytest.mark.parametrize(("kind", "good"), [(_exact, True), (_edges, False)])
def test_a_map_that_does_not_depend_on_the_weights_is_flagged(built: Built, kind: Callable, good: bool) -> None:
    network = built()
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(3)]
    inside = np.ones((256, 256), bool)
    before = [kind(network, image) for image in images]
    told = {
        name: float(np.mean([alike(was, kind(changed, image), inside) for was, image in zip(before, images)]))  # noqa: B905
        for name, changed in cascade(network, images, seed=0)
    }
    assert next(iter(told)) == "heads"
    assert passes(list(told.values())[-1]) == good
    if not good:
        assert min(told.values()) == pytest.approx(1)


def test_parts_become_random_from_the_answers_down(built: Built) -> None:
    network = built("experts.kind=mixture", "experts.width=8")
    names = [name for name, _ in stages(network)]
    assert names[:3] == ["heads", "experts", "layer4"]
    before = {name: value.clone() for name, value in network.named_parameters()}
    image = np.zeros((64, 64, 3), np.uint8)
    seen = []
    for name, changed in cascade(network, [image, image], seed=3):
        now = dict(changed.named_parameters())
        shared = next(n for n in before if n.startswith("encoder.body.layer4") and n.endswith("conv1.weight"))
        first = "encoder.body.conv1.weight"
        first = first if first in before else next(n for n in before if n.startswith("encoder.body.conv1"))
        seen.append((torch.equal(now[shared], before[shared]), torch.equal(now[first], before[first])))
        assert not torch.equal(now["heads.grade.linear.weight"], before["heads.grade.linear.weight"]), name
    assert seen[1] == (True, True)
    assert seen[2] == (False, True)
    assert seen[-1] == (False, False)
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]), "the network itself stays as it was"


def test_likeness_is_of_ranks_inside_the_eye() -> None:
    rng = np.random.default_rng(0)
    plane, inside = rng.random((16, 16)).astype(np.float32), np.ones((32, 32), bool)
    assert alike(plane, np.exp(3 * plane), inside) == pytest.approx(1)
    assert alike(plane, -plane, inside) == pytest.approx(1), "turned round is as like"
    assert alike(plane, rng.random((16, 16)), inside) < 0.25
    assert alike(plane, np.zeros((16, 16)), inside) == 0, "a map that shows nothing is like none"
    other = plane.copy()
    other[:8] = 0
    half = inside.copy()
    half[:16] = False
    assert alike(plane, other, half) == pytest.approx(1)
    assert alike(plane, cv2.resize(plane, (32, 32), interpolation=cv2.INTER_LINEAR), inside) > 0.95


def test_the_bar() -> None:
    assert passes(MAX_ALIKE - 0.01)
    assert not passes(MAX_ALIKE)
    assert not passes(float("nan"))
