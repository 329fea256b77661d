"""Every setting of a design, typed, with its unit and bound: TOML in, TOML out.

A recipe is the whole difference between two models of this package. It is strict: an unknown key, a wrong type or a
value out of bounds is an error that names the key. A task is switched off by leaving it out (an empty list or false).
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from funduscope.vocabulary import CODES, LANDMARKS, LESIONS

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names each key, what came and what was expected."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Encoder(_Strict):
    """The backbone, any timm name. `variant` v1: strides in the first 1x1 convolution of ResNet's layers 2-4."""

    name: str = "resnet50"
    weights: Literal["imagenet", "none"] = "imagenet"
    variant: Literal["timm", "v1"] = "timm"


class Decoder(_Strict):
    """U-Net blocks from the deepest level up; each level is first projected to so many channels (shallow to deep)."""

    skip_channels: tuple[int, ...] = (32, 64, 96, 128, 256)
    channels: tuple[int, ...] = (128, 64, 32, 32)


class Tasks(_Strict):
    """What the network answers."""

    grade: bool = True
    dme: bool = True
    structures: tuple[str, ...] = CODES
    landmarks: tuple[str, ...] = LANDMARKS

    @model_validator(mode="after")
    def _known(self) -> Tasks:
        for name, allowed in (("structures", CODES), ("landmarks", LANDMARKS)):
            unknown = [item for item in getattr(self, name) if item not in allowed]
            if unknown:
                raise ValueError(f"{name} has {unknown[0]!r}; known are {', '.join(allowed)}")
        if not (self.grade or self.dme or self.structures or self.landmarks):
            raise ValueError("a recipe needs at least one task")
        return self


class Views(_Strict):
    """The eye is seen twice by one network: whole, for grade, landmarks and disc; close, for what is small.

    whole_px, close_px: side of the square frame around the eye. A training sample is whole_px wide in either view: the
    eye shrunk to it, or a crop of the close frame. close: the structures whose masks are read from the close view.
    """

    whole_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)] = 512
    close_px: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 1024
    close: tuple[str, ...] = LESIONS


class Sampling(_Strict):
    """How often an epoch sees a photo of each data set in each view: 8 is eight crops, 0.5 is every second epoch.

    A data set that is not named is not trained on. Cases without any label that the view can use are left out.
    """

    whole: dict[str, Weight] = {}
    close: dict[str, Weight] = {}
    lesion_centered: Share = 0.75


class Augment(_Strict):
    """One joint warp and one color pass. Bounds of uniform draws; probabilities where it says so."""

    mirror: Share = 0.5
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    scale_frac: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    shift_frac: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    brightness: Share = 0.2
    contrast: Share = 0.2
    gamma: Share = 0.2
    color: Share = 0.1
    blur: Share = 0.1
    noise: Share = 0.1
    jpeg: Share = 0.1


class Loss(_Strict):
    """Weights of the tasks and how imbalance is met.

    class_weight_power: a grade's weight is (1 / its frequency) ** power, scaled to a mean of 1 over the photos.
    positive_weight: of a lesion's pixel in the cross-entropy; Dice beside it does not depend on prevalence. focus:
    other such weights for single structures, for those so rare that they are otherwise never learned.
    cross_entropy: weight of the pixels' cross-entropy beside Dice.
    """

    grade: Weight = 1.0
    dme: Weight = 0.5
    dense: Weight = 1.0
    landmarks: Weight = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    class_weight_power: Share = 0.25
    positive_weight: Positive = 3.0
    focus: dict[str, Positive] = {}
    cross_entropy: Weight = 5.0


class Training(_Strict):
    """The loop. warm_up_frac: part of all steps in which the rate rises; then it falls as a cosine.

    average_decay: of the exponential moving average of the weights, which is what is judged and kept.
    patience: epochs without a better validation score after which training stops. precision auto: bfloat16 where
    the machine computes in it, else float32.
    """

    epochs: Annotated[int, Field(ge=1)] = 9
    batch: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    learning_rate: Positive = 1.5e-4
    encoder_rate_frac: Positive = 1.0
    weight_decay: Weight = 0.02
    warm_up_frac: Share = 0.15
    clip_norm: Positive = 5.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    patience: Annotated[int, Field(ge=1)] = 4
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 2
    seed: Annotated[int, Field(ge=0)] = 42


class Recipe(_Strict):
    """A whole design: what is trained, on what, how."""

    name: str
    about: str = ""
    encoder: Encoder = Encoder()
    decoder: Decoder = Decoder()
    tasks: Tasks = Tasks()
    views: Views = Views()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    loss: Loss = Loss()
    training: Training = Training()

    @model_validator(mode="after")
    def _levels(self) -> Recipe:
        if len(self.decoder.skip_channels) != len(self.decoder.channels) + 1:
            raise ValueError(
                f"decoder.skip_channels needs one entry more than decoder.channels ({len(self.decoder.channels)}), "
                f"it has {len(self.decoder.skip_channels)}"
            )
        return self

    def to_toml(self) -> str:
        """The recipe with every default spelled out; `Recipe.from_toml` reads it back equal."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_toml(cls, text: str, changes: list[str] | None = None) -> Recipe:
        """Reads a recipe; `changes` are `section.key=value` with TOML values. Raises `RecipeError`."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"The recipe is no valid TOML: {error}.") from error
        for change in changes or []:
            _apply(tree, change)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise RecipeError(_say(error)) from error


def _apply(tree: dict[str, Any], change: str) -> None:
    """Sets one `section.key=value` in the tree."""
    path, equals, value = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set got {change!r}; expected section.key=value, such as training.epochs=3.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"--set {change!r}: {key} is a value, not a section.")
    tree[keys[-1]] = parsed


def _say(error: ValidationError) -> str:
    """One line for each wrong key: where, what was expected, what came."""
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'recipe'}: {item['msg']} (came: {item['input']!r:.80})"
        for item in error.errors()
    ]
    return "The recipe does not fit. " + "; ".join(lines) + "."


def builtin_recipes() -> dict[str, str]:
    """Names of the recipes in the package, with their TOML text."""
    folder = resources.files("funduscope") / "recipes"
    return {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def load_recipe(name_or_path: str, changes: list[str] | None = None) -> Recipe:
    """A recipe by its name in the package or by a TOML file's path. Raises `RecipeError` naming what there is."""
    known = builtin_recipes()
    if name_or_path in known:
        return Recipe.from_toml(known[name_or_path], changes)
    path = Path(name_or_path)
    if not path.is_file():
        raise RecipeError(f"No recipe {name_or_path!r}: neither a file nor one of {', '.join(known)}.")
    return Recipe.from_toml(path.read_text("utf-8"), changes)
