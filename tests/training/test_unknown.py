"""What is not known gives no gradient, not even where a NaN stands in its place; and a batch of unknowns no step."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs, build
from funduscope.recipe import Recipe
from funduscope.settings import Balance, Loss
from funduscope.training.balance import make_balance
from funduscope.training.batch import Batch, collate
from funduscope.training.losses import class_weights, task_losses
from funduscope.vocabulary import CLASSES, CODES, DME_RISKS, EITHER_EXUDATE, GRADES, LANDMARKS

B, SIDE = 3, 32
WEIGHTS = {"grade": torch.ones(len(GRADES)), "dme": torch.ones(len(DME_RISKS))}


def nothing_known() -> Batch:
    """A batch of which nothing is known, with values below the masks that no loss may use."""
    torch.manual_seed(0)
    return Batch(
        image=torch.zeros(B, SIDE, SIDE, 3, dtype=torch.uint8),
        whole=torch.ones(B, dtype=torch.bool),
        allowed={task: torch.ones(B, len(classes), dtype=torch.bool) for task, classes in CLASSES.items()},
        coverage=torch.randint(0, 256, (B, len(CHANNELS), SIDE, SIDE), dtype=torch.uint8),
        known=torch.zeros(B, len(CHANNELS), SIDE, SIDE, dtype=torch.bool),
        landmarks=torch.full((B, 2, 2), torch.nan),
        landmarks_known=torch.zeros(B, 2, dtype=torch.bool),
    )


def label(batch: Batch, task: str, photo: int, *classes: int) -> None:
    """Leaves a photo of the batch those classes alone."""
    batch.allowed[task][photo] = False
    batch.allowed[task][photo, list(classes)] = True


def logits() -> dict[str, Tensor]:
    """Leaves whose gradients are read."""
    torch.manual_seed(1)
    return {
        "grade": torch.randn(B, len(GRADES), requires_grad=True),
        "dme": torch.randn(B, len(DME_RISKS), requires_grad=True),
        "structures": torch.randn(B, len(CODES), SIDE // 2, SIDE // 2, requires_grad=True),
        "landmarks": torch.randn(B, len(LANDMARKS), SIDE // 4, SIDE // 4, requires_grad=True),
    }


EVERY_TERM = Loss(focal=1.0, tversky=1.0)
TASKS = ("grade", "dme", "dense", "landmarks")


def losses_of(leaves: dict[str, Tensor], batch: Batch, settings: Loss = EVERY_TERM) -> dict[str, Tensor]:
    classes = {task: leaves[task] for task in CLASSES}
    outputs = Outputs(classes, leaves["structures"], leaves["landmarks"])
    return task_losses(outputs, batch, settings, CODES, WEIGHTS)


def total_of(losses: dict[str, Tensor], settings: Loss) -> Tensor | None:
    """Leaves the gradients of all tasks and returns their weighted sum."""
    balance = make_balance(Balance(), {task: getattr(settings, task) for task in TASKS})
    return balance.backward(losses, None, Tensor.backward)


def gradients(leaves: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Of the whole loss with every term there is; zeros where a leaf has no part in it."""
    total = total_of(losses_of(leaves, batch), EVERY_TERM)
    assert total is not None
    assert torch.isfinite(total)
    return {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}


def test_nothing_known_is_no_loss() -> None:
    assert losses_of(logits(), nothing_known()) == {}
    assert total_of({}, Loss()) is None


@pytest.mark.parametrize("task", ["grade", "dme"])
def test_only_the_labeled_photo_teaches_a_grade(task: str) -> None:
    leaves, batch = logits(), nothing_known()
    with torch.no_grad():
        leaves[task][[0, 2]] = torch.nan
    label(batch, task, 1, 2)
    grads = gradients(leaves, batch)
    assert grads[task][1].abs().sum() > 0
    assert (grads[task][[0, 2]] == 0).all()
    assert all((grad == 0).all() for name, grad in grads.items() if name != task)


def test_a_constraint_on_dme_pulls_towards_what_it_allows_and_touches_no_other_photo() -> None:
    leaves, batch = logits(), nothing_known()
    with torch.no_grad():
        leaves["dme"][[0, 2]] = torch.nan
    label(batch, "dme", 1, 1, 2)
    grad = gradients(leaves, batch)["dme"]
    assert (grad[[0, 2]] == 0).all()
    assert grad[1, 0] > 0
    assert (grad[1, 1:] < 0).all()
    # Between the two that are allowed nothing is said: their odds get no gradient beyond their own shares.
    share = leaves["dme"][1, 1:].detach().softmax(0)
    torch.testing.assert_close(grad[1, 1:] / grad[1, 1:].sum(), share)


def test_a_constraint_that_allows_one_class_is_a_label() -> None:
    """Its loss is the cross-entropy with the recipe's smoothing, weights and term for the distance in grades."""
    settings, weights = Loss(ordinal=0.5), {**WEIGHTS, "dme": torch.tensor([0.5, 1.0, 2.0])}
    batch, leaves = nothing_known(), logits()
    label(batch, "dme", 1, 2)
    found = task_losses(Outputs(classes={"dme": leaves["dme"]}), batch, settings, CODES, weights)["dme"]
    answer = leaves["dme"][1:2].detach()
    cross = torch.nn.functional.cross_entropy(
        answer, torch.tensor([2]), weight=weights["dme"], label_smoothing=settings.label_smoothing, reduction="none"
    )
    distance = (answer.softmax(1).cumsum(1) - torch.tensor([0.0, 0.0, 1.0])).square().sum()
    assert found == cross[0] + 0.5 * distance


@pytest.mark.parametrize("code", CODES)
def test_only_the_known_structure_of_the_known_photo_is_taught(code: str) -> None:
    leaves, batch = logits(), nothing_known()
    plane = CODES.index(code)
    with torch.no_grad():
        leaves["structures"][[0, 2]] = torch.nan
        leaves["structures"][1, [index for index in range(len(CODES)) if index != plane]] = torch.nan
    batch.known[1, CHANNELS.index(code)] = True
    grad = gradients(leaves, batch)["structures"]
    assert (grad[1, plane] != 0).all()
    grad[1, plane] = 0
    assert (grad == 0).all()


def test_inside_a_photo_only_known_pixels_teach() -> None:
    leaves, batch = logits(), nothing_known()
    batch.known[1, 0, :, : SIDE // 2] = True
    grad = gradients(leaves, batch)["structures"][1, 0]
    column = SIDE // 4  # the resize reaches one cell beyond the border
    assert (grad[:, : column + 1] != 0).all()
    assert (grad[:, column + 1 :] == 0).all()


def test_either_exudate_teaches_the_larger_of_the_two_alone() -> None:
    leaves, batch = logits(), nothing_known()
    ex, se = CODES.index("EX"), CODES.index("SE")
    with torch.no_grad():
        leaves["structures"][1, ex] = 1.0
        leaves["structures"][1, se] = -1.0
        leaves["structures"][1, ex, :, :4] = -3.0
    batch.known[1, CHANNELS.index(EITHER_EXUDATE)] = True
    grad = gradients(leaves, batch)["structures"]
    assert (grad[1, ex, :, 6:] != 0).all()
    assert (grad[1, se, :, 6:] == 0).all()
    assert (grad[1, se, :, :3] != 0).all()
    assert (grad[1, ex, :, :3] == 0).all()
    grad[1, [ex, se]] = 0
    assert (grad == 0).all()


@pytest.mark.parametrize("only", [("EX",), ("SE",), ("MA", "OD")])
def test_either_exudate_teaches_nothing_to_a_network_that_lacks_one(only: tuple[str, ...]) -> None:
    batch = nothing_known()
    batch.known[1, CHANNELS.index(EITHER_EXUDATE)] = True
    outputs = Outputs(structures=torch.randn(B, len(only), 16, 16))
    assert task_losses(outputs, batch, Loss(), only, WEIGHTS) == {}


@pytest.mark.parametrize("point", range(len(LANDMARKS)))
def test_only_the_known_landmark_teaches(point: int) -> None:
    leaves, batch = logits(), nothing_known()
    batch.landmarks[1, point] = torch.tensor([10.0, 20.0])
    batch.landmarks_known[1, point] = True
    with torch.no_grad():
        leaves["landmarks"][[0, 2]] = torch.nan
    grad = gradients(leaves, batch)["landmarks"]
    assert (grad[1, point] != 0).any()
    grad[1, point] = 0
    assert (grad == 0).all()


def _photo(batch: Batch, index: int) -> Batch:
    values = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    values["allowed"] = {task: allowed[index] for task, allowed in batch.allowed.items()}
    return Batch(**{name: value[index] if isinstance(value, Tensor) else value for name, value in values.items()})


def test_an_unknown_photo_beside_a_known_one_changes_nothing_of_its_loss() -> None:
    batch = nothing_known()
    label(batch, "grade", 1, 3)
    label(batch, "dme", 1, 1)
    batch.known[1] = True
    batch.landmarks[1], batch.landmarks_known[1] = 12.0, True
    together = losses_of(logits(), batch)
    alone = losses_of({name: leaf[1:2] for name, leaf in logits().items()}, collate([_photo(batch, 1)]))
    assert together.keys() == alone.keys() == {"grade", "dme", "dense", "landmarks"}
    for name, value in together.items():
        torch.testing.assert_close(value, alone[name])


def test_a_task_that_is_left_out_has_no_head_no_answer_and_no_loss(tiny: Recipe) -> None:
    batch = nothing_known()
    for photo in range(B):
        label(batch, "grade", photo, 1)
        label(batch, "dme", photo, 1)
    batch.known[:], batch.landmarks_known[:], batch.landmarks[:] = True, True, 10.0
    off = {
        "grade": {"grade": False},
        "dme": {"dme": False},
        "structures": {"structures": ()},
        "landmarks": {"landmarks": ()},
    }
    for task, change in off.items():
        recipe = tiny.model_copy(update={"tasks": tiny.tasks.model_copy(update=change)})
        network = build(recipe)
        assert task not in network.heads
        outputs = network(batch.image)
        assert outputs.named().keys() == off.keys() - {task}
        losses = task_losses(outputs, batch, recipe.loss, recipe.tasks.structures, WEIGHTS)
        assert losses.keys() == {"grade", "dme", "dense", "landmarks"} - {"dense" if task == "structures" else task}
    grading = tiny.model_copy(update={"tasks": tiny.tasks.model_copy(update={"structures": (), "landmarks": ()})})
    assert build(grading).decoder is None, "no decoder is paid for where nothing is mapped"


def test_the_loss_of_a_task_weighs_what_the_recipe_says() -> None:
    losses = {"grade": torch.tensor(2.0, requires_grad=True), "landmarks": torch.tensor(3.0, requires_grad=True)}
    total = total_of(losses, Loss(grade=0.5, landmarks=2.0))
    assert total is not None
    assert total.item() == pytest.approx(7.0)
    assert losses["grade"].grad == 0.5
    assert losses["landmarks"].grad == 2.0


@pytest.mark.parametrize(
    "settings",
    [
        Loss(dice=0),
        Loss(cross_entropy=0),
        Loss(cross_entropy=0, dice=0, focal=1.0),
        Loss(cross_entropy=0, dice=0, tversky=1.0),
    ],
    ids=["cross-entropy", "dice", "focal", "tversky"],
)
def test_no_term_of_the_structures_learns_from_an_unknown_pixel(settings: Loss) -> None:
    leaves, batch = logits(), nothing_known()
    batch.known[1, 0, :, : SIDE // 2] = True
    with torch.no_grad():
        leaves["structures"][[0, 2]] = torch.nan
        leaves["structures"][1, :, :, SIDE // 4 + 1 :] = torch.nan
    dense = losses_of(leaves, batch, settings)["dense"]
    dense.backward()
    grad = leaves["structures"].grad
    assert grad is not None
    assert torch.isfinite(dense)
    assert (grad[1, 0, :, : SIDE // 4 + 1] != 0).all()
    grad[1, 0, :, : SIDE // 4 + 1] = 0
    assert (grad == 0).all()


def test_weights_of_classes_come_from_labeled_photos_alone() -> None:
    assert torch.equal(class_weights([None, None], 3, 0.5), torch.ones(3))
    assert torch.equal(class_weights([0, None, 1, None, 2], 3, 1.0), torch.ones(3))
