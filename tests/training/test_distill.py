"""A student meets its teachers: least loss where it equals them, each asked at the magnification that it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from funduscope.checkpoint import Checkpoint
from funduscope.network.network import Network, Outputs, build
from funduscope.recipe import Recipe
from funduscope.settings import Loss
from funduscope.training import distill
from funduscope.training.distill import Taught, Teachers, distill_loss_of, distill_sums, softened
from funduscope.vocabulary import CLASSES, CODES, LANDMARKS

B, SIDE = 3, 64
CHANGES = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 8]",
    "decoder.channels=[8, 8, 8, 8]",
    "views.whole_px=64",
    "views.close_px=128",
)


def recipe_of(*changes: str) -> Recipe:
    return Recipe.from_toml('name = "small"\n', [*CHANGES, *changes])


def held(recipe: Recipe, card: dict[str, Any] | None = None, seed: int = 0) -> Checkpoint:
    """An untrained model, whose answers differ from photo to photo all the same."""
    torch.manual_seed(seed)
    network = build(recipe)
    with torch.no_grad():
        for own in network.heads.parameters():
            own.copy_(torch.randn_like(own))
    state = {f"weights/{name}": value for name, value in network.state_dict().items()}
    return Checkpoint(recipe, card or {}, {}, state)


def answers(checkpoint: Checkpoint, image: Tensor) -> Outputs:
    with torch.no_grad():
        return checkpoint.network()(image)


def larger(image: Tensor, times: int) -> Tensor:
    planes = F.interpolate(image.permute(0, 3, 1, 2).float(), scale_factor=times, mode="bilinear")
    return planes.round().byte().permute(0, 2, 3, 1)


def at_32(maps: Tensor | None, code: str) -> Tensor:
    """That structure's probabilities on the maps of a 64 px photo."""
    assert maps is not None
    return F.interpolate(maps.sigmoid(), size=(32, 32), mode="bilinear", antialias=True)[:, CODES.index(code)]


@pytest.fixture
def image() -> Tensor:
    """A batch of smooth noise, so that twice its size is the same picture."""
    torch.manual_seed(5)
    coarse = torch.rand(B, 3, 4, 4) * 255
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 255).byte().permute(0, 2, 3, 1)


@pytest.fixture
def leaves() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "grade": torch.randn(B, 5, requires_grad=True),
        "dme": torch.randn(B, 3, requires_grad=True),
        "structures": torch.randn(B, len(CODES), 8, 8, requires_grad=True),
        "landmarks": torch.randn(B, len(LANDMARKS), 4, 4, requires_grad=True),
    }


def same_as(leaves: dict[str, Tensor]) -> Taught:
    """Teachers that answer just what these logits say."""
    with torch.no_grad():
        heat = leaves["landmarks"].flatten(2).softmax(2).view_as(leaves["landmarks"])
        return Taught(
            {task: leaves[task].softmax(1) for task in CLASSES},
            dict(zip(CODES, leaves["structures"].sigmoid().unbind(1), strict=True)),
            dict(zip(LANDMARKS, heat.unbind(1), strict=True)),
        )


def loss_of(leaves: dict[str, Tensor], taught: Taught, settings: Loss | None = None) -> Tensor:
    classes = {task: leaves[task] for task in CLASSES if task in leaves}
    outputs = Outputs(classes, leaves.get("structures"), leaves.get("landmarks"))
    settings = settings or Loss()
    loss = distill_loss_of(distill_sums(outputs, taught, settings, CODES, LANDMARKS), settings)
    assert loss is not None
    return loss


@pytest.mark.parametrize("settings", [Loss(), Loss(distill_temperature=5.0, focus={"MA": 40.0}, cross_entropy=0)])
def test_the_loss_is_least_where_the_student_equals_its_teacher(leaves: dict[str, Tensor], settings: Loss) -> None:
    taught = same_as(leaves)
    least = loss_of(leaves, taught, settings)
    least.backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert leaf.grad.abs().max() < 1e-6, name
        for step in (-0.3, 0.3):
            moved = {**leaves, name: leaf.detach() + step * torch.randn_like(leaf)}
            assert loss_of(moved, taught, settings) > least + 1e-4, name


def test_grades_by_hand_and_their_gradient_does_not_shrink_with_the_temperature() -> None:
    logits, probs = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.2, 0.5, 0.3]])
    target, answer = probs.sqrt() / probs.sqrt().sum(), (logits / 2).softmax(1)  # temperature 2 is a square root
    expected = 4 * (target * (target / answer).log()).sum()
    torch.testing.assert_close(softened(logits, probs, 2.0), expected[None])
    sizes = []
    for temperature in (1.0, 10.0, 100.0):
        leaf = logits.clone().requires_grad_()
        softened(leaf, probs, temperature).sum().backward()
        assert leaf.grad is not None
        sizes.append(leaf.grad.abs().sum().item())
    assert sizes[2] == pytest.approx(sizes[1], rel=0.2)
    assert sizes[2] > sizes[0] / 5


def test_each_task_is_weighed_as_the_recipe_says(leaves: dict[str, Tensor]) -> None:
    taught = same_as({name: torch.randn_like(leaf) for name, leaf in leaves.items()})
    names = {"grade": "grade", "dme": "dme", "structures": "dense", "landmarks": "landmarks"}
    alone = {}
    for name, weight in names.items():
        only = {**dict.fromkeys(names.values(), 0.0), weight: 2.0}
        alone[weight] = loss_of(leaves, taught, Loss.model_validate(only)).item() / 2
        assert loss_of({name: leaves[name]}, taught, Loss.model_validate(only)).item() == 2 * alone[weight]
    settings = Loss(grade=1.0, dme=3.0, dense=0.5, landmarks=0.1)
    expected = sum(getattr(settings, weight) * value for weight, value in alone.items())
    assert loss_of(leaves, taught, settings).item() == pytest.approx(expected, rel=1e-5)


def test_a_student_without_structures_takes_only_grades(image: Tensor) -> None:
    student = recipe_of("tasks.structures=[]", "tasks.landmarks=[]", "tasks.dme=false")
    taught = Teachers([held(recipe_of())], student)(image)
    assert taught.classes.keys() == {"grade"}
    assert taught.classes["grade"].shape == (B, 5)
    assert (taught.structures, taught.landmarks) == ({}, {})
    outputs = build(student)(image)
    loss = distill_loss_of(distill_sums(outputs, taught, Loss(), (), ()), Loss())
    assert loss is not None
    loss.backward()


def test_what_no_teacher_answers_is_no_loss(image: Tensor, leaves: dict[str, Tensor]) -> None:
    teacher = held(recipe_of("tasks.grade=false", "tasks.structures=['OD']", "tasks.landmarks=[]"))
    taught = Teachers([teacher], recipe_of())(image)
    assert taught.classes.keys() == {"dme"}
    assert (taught.structures.keys(), taught.landmarks.keys()) == ({"OD"}, set())
    loss_of(leaves, taught).backward()
    assert leaves["grade"].grad is None
    assert leaves["landmarks"].grad is None
    grad = leaves["structures"].grad
    assert grad is not None
    assert (grad[:, CODES.index("OD")] != 0).any()
    assert (grad[:, : CODES.index("OD")] == 0).all()
    only_grade = Outputs(classes={"grade": leaves["grade"]})
    assert distill_loss_of(distill_sums(only_grade, taught, Loss(), CODES, LANDMARKS), Loss()) is None


def test_structures_in_another_order_are_met_by_name(image: Tensor) -> None:
    """A student with planes of its own order and a teacher's weights has the least loss there is."""
    teacher = held(recipe_of("tasks.structures=['OD', 'SE', 'MA']", "tasks.landmarks=['fovea', 'optic_disc']"))
    student = recipe_of("tasks.structures=['MA', 'HE', 'OD']")
    taught = Teachers([teacher], student)(image)
    outputs = answers(teacher, image)
    assert outputs.structures is not None
    assert outputs.landmarks is not None
    assert taught.structures.keys() == {"MA", "OD"}, "HE is not known to the teacher, SE not asked by the student"
    torch.testing.assert_close(taught.structures["MA"], outputs.structures[:, 2].sigmoid())
    torch.testing.assert_close(taught.structures["OD"], outputs.structures[:, 0].sigmoid())
    planes = torch.stack([outputs.structures[:, 2], torch.zeros(B, 32, 32), outputs.structures[:, 0]], 1)
    planes.requires_grad_()
    points = outputs.landmarks.flip(1).clone().requires_grad_()
    answered = Outputs(structures=planes, landmarks=points)
    loss = distill_loss_of(distill_sums(answered, taught, Loss(), ("MA", "HE", "OD"), LANDMARKS), Loss())
    assert loss is not None
    loss.backward()
    for leaf in (planes, points):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() < 1e-7


def test_a_teacher_of_another_size_sees_the_eye_at_its_own(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its masks come back at the student's size, each thing in its place."""
    monkeypatch.setattr(distill, "MAX_ENLARGED", 4)
    teacher = held(recipe_of("views.whole_px=128", "views.close_px=256"))
    seen: list[tuple[int, ...]] = []
    forward: Callable[..., Outputs] = Network.forward

    def noted(self: Network, photos: Tensor) -> Outputs:
        seen.append(tuple(photos.shape))
        return forward(self, photos)

    monkeypatch.setattr(Network, "forward", noted)
    taught = Teachers([teacher], recipe_of())(image)
    assert seen == [(B, 128, 128, 3)], "one look for all answers"
    outputs = answers(teacher, larger(image, 2))
    torch.testing.assert_close(taught.classes["grade"], outputs.classes["grade"].softmax(1))
    torch.testing.assert_close(taught.structures["EX"], at_32(outputs.structures, "EX"))
    assert taught.landmarks["fovea"].shape == (B, 16, 16)
    torch.testing.assert_close(taught.landmarks["fovea"].sum((1, 2)), torch.ones(B))
    assert outputs.landmarks is not None
    grid, coarse = torch.arange(32) + 0.5, torch.arange(16) + 0.5
    there = (outputs.landmarks[:, 1].flatten(1).softmax(1).view(B, 32, 32).sum(1) * grid).sum(1) / 32
    here = (taught.landmarks["fovea"].sum(1) * coarse).sum(1) / 16
    assert (there - here).abs().max() < 0.01


def test_what_a_teacher_reads_from_the_close_view_is_asked_at_that_magnification(
    image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student sees the eye once; its teacher learned the lesions at four times the student's side."""
    monkeypatch.setattr(distill, "MAX_ENLARGED", 4)
    sides = []
    forward: Callable[..., Outputs] = Network.forward

    def noted(self: Network, photos: Tensor) -> Outputs:
        sides.append(photos.shape[1])
        return forward(self, photos)

    teacher = held(recipe_of("views.whole_px=128", "views.close_px=256"))
    student = recipe_of("views.close_px=64", "views.close=[]")
    teachers = Teachers([teacher], student)
    monkeypatch.setattr(Network, "forward", noted)
    taught = teachers(image)
    assert sorted(sides) == [128, 256]
    assert taught.structures.keys() == set(CODES)
    for code, times in (("MA", 4), ("OD", 2)):
        expected = at_32(answers(teacher, larger(image, times)).structures, code)
        torch.testing.assert_close(taught.structures[code], expected)


def test_a_student_is_not_taught_what_its_photos_are_too_small_for(image: Tensor) -> None:
    """A teacher of two views and a student of one: the teacher reads lesions at twice the side."""
    student = recipe_of("views.close_px=64", "views.close=[]", "sampling.whole.set=1")
    teachers = Teachers([held(recipe_of())], student)
    assert teachers(image).structures.keys() == {"OD"}
    assert "grade" in teachers(image).classes
    assert teachers.unused == (
        "small does not teach EX, HE, MA, SE, which it reads at 128 px, more than 1.5 times the student's 64 px"
    )
    assert teachers.teaches == {"grade", "dme", "OD", *LANDMARKS}
    assert Teachers([held(recipe_of())], recipe_of()).unused == ""
    assert Teachers([held(recipe_of())], recipe_of("sampling.whole.set=1", "loss.distill=0")).teaches == set()
    only = recipe_of("tasks.grade=false", "tasks.dme=false", "tasks.landmarks=[]", "tasks.structures=['MA', 'HE']")
    with pytest.raises(ValueError, match="No teacher can teach anything: small does not teach HE, MA"):
        Teachers([held(only)], student)


def test_each_view_is_asked_only_for_what_is_read_from_it(image: Tensor) -> None:
    teacher = held(recipe_of())
    whole = torch.tensor([True, False, True])
    taught = Teachers([teacher], recipe_of())(image, whole)
    of_whole, of_close = answers(teacher, image[whole]), answers(teacher, image[~whole])
    assert of_whole.structures is not None
    assert of_close.structures is not None
    torch.testing.assert_close(taught.classes["grade"], of_whole.classes["grade"].softmax(1))
    torch.testing.assert_close(taught.structures["OD"], of_whole.structures[:, CODES.index("OD")].sigmoid())
    torch.testing.assert_close(taught.structures["MA"], of_close.structures[:, CODES.index("MA")].sigmoid())
    named = answers(teacher, image).named().items()
    logits = {name: value.requires_grad_() for name, value in named if not name.endswith(("_cam", "features"))}
    loss_of(logits, taught).backward()
    moved = torch.stack([value.grad.flatten(1).abs().sum(1) for value in logits.values()])  # pyright: ignore
    assert moved.max() < 1e-5, "each answer is met by the photo that it is about"


def test_several_teachers_answer_with_the_mean_of_their_calibrated_probabilities(image: Tensor) -> None:
    card = {"temperatures": {"grade": 2.0, "dme": 0.5}, "scales": {"HE": (0.5, -3.0)}}
    first = held(recipe_of(), card, seed=1)
    second = held(recipe_of("tasks.dme=false"), seed=2)
    taught = Teachers([first, second], recipe_of())(image)
    one, other = answers(first, image), answers(second, image)
    grades = (one.classes["grade"] / 2).softmax(1), other.classes["grade"].softmax(1)
    torch.testing.assert_close(taught.classes["grade"], (grades[0] + grades[1]) / 2)
    torch.testing.assert_close(taught.classes["dme"], (one.classes["dme"] / 0.5).softmax(1))
    assert one.structures is not None
    assert other.structures is not None
    plane = CODES.index("HE")
    scaled, plain = (0.5 * one.structures - 3).sigmoid(), one.structures.sigmoid()
    torch.testing.assert_close(taught.structures["HE"], (scaled + other.structures.sigmoid())[:, plane] / 2)
    torch.testing.assert_close(taught.structures["EX"], (plain + other.structures.sigmoid())[:, CODES.index("EX")] / 2)


def test_teachers_do_not_learn(image: Tensor) -> None:
    """Asked twice, with a student's step between, they answer the same, and their statistics stay."""
    teachers, student = Teachers([held(recipe_of())], recipe_of()), build(recipe_of())
    before = teachers(image)
    loss = distill_loss_of(distill_sums(student.train()(image), before, Loss(), CODES, LANDMARKS), Loss())
    assert loss is not None
    loss.backward()
    after = teachers(image)
    assert torch.equal(before.classes["grade"], after.classes["grade"])
    assert not before.classes["grade"].requires_grad
    assert any(own.grad is not None for own in student.parameters())


def test_a_teacher_teaches_nothing_that_it_had_no_example_of(image: Tensor) -> None:
    recipe = recipe_of("views.close=[]", "views.close_px=64")
    found = Teachers([held(recipe, {"not_learned": ["SE", "fovea"], "dme": False})], recipe)(image)
    assert found.classes.keys() == {"grade"}
    assert found.structures.keys() == {*CODES} - {"SE"}
    assert found.landmarks.keys() == {*LANDMARKS} - {"fovea"}
