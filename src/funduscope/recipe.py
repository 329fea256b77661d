"""A recipe: all settings of a model and its training, read from and written to TOML.

Two models of this package differ in nothing else. An unknown key, a wrong type or a value out of bounds is an error
that names the key. A task is switched off by an empty list or false. The sections are in settings.py.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from funduscope.i18n.errors import RecipeError
from funduscope.settings import (
    Augment,
    Balance,
    Decoder,
    Encoder,
    Experts,
    Heads,
    Loss,
    Sampling,
    Strict,
    Tasks,
    Training,
    Views,
)

Changes = Mapping[str, Any] | Sequence[str]
"""Settings to change: `{"training.epochs": 3}`, or `["training.epochs=3"]` with TOML values."""

_MOST: Final = 3
"""Settings that a message about two recipes names."""

LEARNING = ("sampling", "augment", "loss", "balance", "training")
"""The sections of how a network learns, not what it is: a setting that is changed there is changed in every stage."""


class Recipe(Strict):
    """What is trained, on what, and how.

    stages: by name the settings, section by section, in which a part of the model differs. Each stage trains a network
    of its own for the tasks that it names, one after the other, and the networks are joined to one model
    (`network.joined`). No task is in two stages, and together they have those of the recipe.
    """

    name: str
    about: str = ""
    encoder: Encoder = Encoder()
    decoder: Decoder = Decoder()
    heads: Heads = Heads()
    experts: Experts = Experts()
    tasks: Tasks = Tasks()
    views: Views = Views()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    loss: Loss = Loss()
    balance: Balance = Balance()
    training: Training = Training()
    stages: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)

    @property
    def networks(self) -> list[Recipe]:
        """The recipe of each network: of each stage, or the recipe itself."""
        return [self.stage(name) for name in self.stages] or [self]

    def stage(self, name: str) -> Recipe:
        """The recipe of one stage, without stages itself."""
        tree = self.model_dump(mode="json") | {"stages": {}, "name": f"{self.name} {name}"}
        for section, values in self.stages[name].items():
            if not isinstance(tree.get(section), dict) or section == "stages":
                raise ValueError(f"stages.{name} has {section!r}, which is not a section of a recipe")
            own = tree[section]
            inner = {k: own[k] | v for k, v in values.items() if isinstance(own.get(k), dict) and isinstance(v, dict)}
            tree[section] = own | values | inner
        try:
            return Recipe.model_validate(tree)
        except ValidationError as error:  # of the stage, and not of the recipe's own section of that name
            found = [dict(item) | {"loc": ("stages", name, *item["loc"])} for item in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(error.title, cast(list[InitErrorDetails], found)) from error

    @model_validator(mode="after")
    def _joins(self) -> Recipe:
        if odd := [name for name in self.stages if not re.fullmatch(r"[a-z][a-z0-9_]*", name)]:
            raise ValueError(
                f"a stage is called {odd[0]!r}; expected are names of lower-case letters, digits and underscores, such "
                "as lesions"
            )
        shares = [self.stage(name) for name in self.stages]
        named = [task for share in shares for task in share.tasks.named]
        if shares and sorted(named) != sorted(self.tasks.named):
            raise ValueError(
                f"the stages {', '.join(self.stages)} have the tasks {', '.join(named)}; expected are those of the "
                f"recipe, each once: {', '.join(self.tasks.named)}"
            )
        if shares and len({share.closeup for share in shares}) == 1:
            raise ValueError("the stages all read one view; expected are some of the close view and some of the whole")
        if len([share for share in shares if share.tasks.landmarks]) > 1:
            raise ValueError("the landmarks are in several stages; expected are all of them in one")
        for name, share in zip(self.stages, shares, strict=True):
            if not share.closeup and (close := sorted({*share.tasks.named} & {*self.views.close})):
                raise ValueError(
                    f"stages.{name} reads {', '.join(close)} from the close view and the rest from the whole one; "
                    "expected is one view a stage"
                )
            views = share.views.model_copy(update={"whole_px": self.views.whole_px}) if share.closeup else share.views
            if views != self.views:
                raise ValueError(f"stages.{name} has other views than the recipe; only the size of crops may differ")
        return self

    @property
    def closeup(self) -> bool:
        """Whether every task is read from the close view, so that `views.whole_px` is the size of crops alone."""
        return {*self.tasks.named} <= {*self.views.close}

    @property
    def all_sampling(self) -> Sampling:
        """The sampling; with the highest rates of any stage where there are stages."""
        parts = [self.stage(name).sampling for name in self.stages]
        rates: dict[str, dict[str, float]] = {"whole": {}, "close": {}}
        for part in parts:
            for view, highest in rates.items():
                for name, rate in getattr(part, view).items():
                    highest[name] = max(rate, highest.get(name, 0.0))
        return self.sampling.model_copy(update=rates) if parts else self.sampling

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        dense = self.tasks.structures or self.tasks.landmarks
        made_of = {"per_task": "atrous branches", "heads": "DeepLab's decoders"}.get(self.experts.kind)
        if made_of is not None and self.decoder.kind != "deeplab" and dense:
            raise ValueError(
                f"experts.kind {self.experts.kind} has experts of {made_of}, so decoder.kind must be deeplab, not "
                f"{self.decoder.kind}"
            )
        if self.encoder.levels and dense and self.decoder.kind in ("deeplab", "transposed_unet"):
            raise ValueError(
                f"encoder.levels leaves out the deepest features, which decoder.kind {self.decoder.kind} needs: leave "
                "encoder.levels out, or choose another decoder"
            )
        if self.experts.kind == "per_task" and self.tasks.photo_tasks and not self.heads.hidden:
            raise ValueError("experts.kind per_task mixes the grades' hidden layer: name its width in heads.hidden")
        skips = self.experts.kind == "heads" or (self.experts.kind != "none" and self.experts.keep != "all")
        if skips and self.training.batch_norm == "synchronized":
            raise ValueError(
                f"training.batch_norm synchronized waits for every process, and experts.kind {self.experts.kind} skips "
                "experts in some of them: leave training.batch_norm out, or set experts.keep=all"
            )
        return self

    @property
    def without_effect(self) -> list[str]:
        """Settings of close crops, where nothing is learned from any. Not of a stage, which has those of its recipe."""
        if {*self.tasks.structures} & {*self.views.close}:
            return []
        rates = {f"sampling.close.{name}": rate for name, rate in self.sampling.close.items()}
        rates |= {"sampling.hard_negatives": self.sampling.hard_negatives, "loss.boxes": self.loss.boxes}
        return [name for name, rate in rates.items() if rate]

    @property
    def routers(self) -> tuple[str, ...]:
        """The names of the network's routers, in the order of the rows of `Outputs.gates`."""
        if self.stages:  # as `JoinedNetwork`: those of the last stage that answers for whole photos
            grading = [share for share in map(self.stage, self.stages) if not share.closeup and share.tasks.photo_tasks]
            return grading[-1].routers if grading else ()
        kind, tasks = self.experts.kind, self.tasks
        if kind == "none":
            return ()
        if kind == "mixture":
            return ("all",)
        dense = (*tasks.structures, *(["landmarks"] if tasks.landmarks else []))
        if kind == "soft":
            return (*tasks.photo_tasks, "dense") if dense else tasks.photo_tasks
        return (*tasks.photo_tasks, *dense)

    def with_encoder(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with these settings of its encoder, for instance those that pretrained weights bring."""
        return self.model_copy(update={"encoder": self.encoder.model_copy(update=dict(settings))})

    def to_toml(self) -> str:
        """The recipe as TOML, defaults included. `Recipe.from_toml` reads it back equal."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json"))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], changes: Changes = ()) -> Recipe:
        """A recipe by its name in the package or by a TOML file's path. Raises `RecipeError` with the known names.

        changes: by setting its value, `{"training.epochs": 3}`, or `section.key=value` with TOML values. One of how the
        networks learn (`LEARNING`) holds for every stage; `stages.NAME.training.epochs` changes one.
        """
        known = builtin_recipes()
        name, path = os.fspath(name_or_path), Path(name_or_path)
        if name in known:
            return cls.from_toml(known[name], changes)
        if not path.is_file():
            raise RecipeError(f"No recipe {name!r}: neither a file nor one of {', '.join(known)}.")
        try:
            text = path.read_text("utf-8-sig")  # some editors begin a file with a byte order mark
        except UnicodeDecodeError as error:
            says = f"The recipe {path.name} is no text in UTF-8; expected TOML: save it as UTF-8."
            raise RecipeError(says) from error
        return cls.from_toml(text, changes)

    @classmethod
    def from_toml(cls, text: str, changes: Changes = ()) -> Recipe:
        """Reads a recipe. changes: as in `load`. Raises `RecipeError`."""
        try:
            tree = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits, and of deep nesting
            raise RecipeError(f"The recipe is no valid TOML: {error}.") from error
        listed = changes.items() if isinstance(changes, Mapping) else map(_parsed, changes)
        for path, value in sorted(listed, key=lambda change: change[0].startswith("stages.")):  # these are narrower
            _change(tree, path, value)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise RecipeError(_say(error)) from error
        except (TypeError, ArithmeticError, RecursionError) as error:
            raise RecipeError(f"The recipe does not fit. A value of it cannot be used: {error}.") from error


def differences(theirs: Recipe, ours: Recipe) -> str:
    """The first settings in which two recipes differ, of a run first: "training.epochs is 4 there and 6 here"."""
    flat = [dict(_flat(one.model_dump(mode="json"))) for one in (theirs, ours)]
    unlike = [key for key in dict.fromkeys((*flat[0], *flat[1])) if flat[0].get(key, flat) != flat[1].get(key, flat)]
    # of an empty section and one with settings, the settings are named
    keys = [key for key in unlike if not any(other.startswith(f"{key}.") for other in unlike)]
    there, here = ([repr(one[key]) if key in one else "not set" for key in keys] for one in flat)
    said = [f"{key} is {first} there and {second} here" for key, first, second in zip(keys, there, here, strict=True)]
    return "; ".join(said[:_MOST]) + (f"; {len(keys) - _MOST} more differ" if len(keys) > _MOST else "")


def _flat(tree: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def _parsed(change: str) -> tuple[str, Any]:
    """The setting and the value of one `section.key=value`."""
    path, equals, value = change.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise RecipeError(f"--set got {change!r}; expected section.key=value, such as training.epochs=3.")
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return path.strip(), value  # a bare word is a string


def _change(tree: dict[str, Any], path: str, value: Any) -> None:
    """Changes a setting, of how networks learn also in each stage that has a value of its own for it.

    Raises `RecipeError` for another setting that every stage has a value of its own for: nothing would change.
    """
    keys = path.split(".")
    named = tree.get("stages", {})
    if keys[0] == "stages" and len(keys) > 3 and isinstance(named, dict) and keys[1] not in named:
        known = f"its stages are {', '.join(named)}" if named else "it has none"
        raise RecipeError(f"--set {path}: the recipe has no stage {keys[1]}; {known}.")
    _set(tree, keys, value, path)
    stages = tree.get("stages", {}) if len(keys) > 1 else {}
    if not isinstance(stages, dict):
        return
    own = {
        name: stage
        for name, stage in stages.items()
        if isinstance(stage, dict) and isinstance(stage.get(keys[0]), dict) and keys[1] in stage[keys[0]]
    }
    if keys[0] in LEARNING:
        for stage in own.values():
            _set(stage, keys, value, path)
    elif own and own.keys() == stages.keys() and keys[0] != "tasks":  # `Recipe` compares them with its stages' own
        names = ", ".join(f"stages.{name}.{path}" for name in own)
        raise RecipeError(f"--set {path} changes nothing, since every stage has a value of its own: set {names}.")


def _set(tree: dict[str, Any], keys: list[str], value: Any, asked: str) -> None:
    """Sets one value in the tree. keys: from the section to the value's own. asked: how it was asked for."""
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"--set {asked}: {key} is a value, not a section.")
    tree[keys[-1]] = value


_EXPECTED: Final = {
    "tuple_type": 'Expected a list, such as ["EX", "SE"]',
    "model_type": "Expected a section with settings",
    "dict_type": "Expected a section with settings",
}
"""In place of pydantic's words for what TOML calls otherwise."""


def _say(error: ValidationError) -> str:
    """One sentence with every wrong key: where, what was expected, what was given."""
    lines = []
    for item in error.errors():
        place = item["loc"]
        section = place[2:-1] if place[:1] == ("stages",) and len(place) > 3 else place[:-1]
        is_unknown = item["type"] == "extra_forbidden"
        known = _known(section) if is_unknown else []
        names = f"; known are {', '.join(known)}" if known else ""
        is_own = item["type"] == "value_error"  # a validator's own sentence, which says what came
        says = str(item["ctx"]["error"]) if is_own and "ctx" in item else _EXPECTED.get(item["type"], item["msg"])
        if is_unknown:
            meant = _meant(place, known)
            says = "No setting has this name" + (f"; was {' or '.join(meant)} meant?" if meant else "")
        came = "" if is_own and isinstance(item["input"], (dict, Strict)) else f" (came: {item['input']!r:.80}{names})"
        lines.append(": ".join(filter(None, (".".join(map(str, place)), says))) + came)
    return "The recipe does not fit. " + "; ".join(lines) + "."


def _meant(place: tuple[int | str, ...], known: Sequence[str]) -> list[str]:
    """The settings that were perhaps meant: a similar name among the known ones, or the same one in a section."""
    name = str(place[-1])
    similar = get_close_matches(name, known, n=1)
    return similar or [f"{section}.{name}" for section in Recipe.model_fields if name in _known((section,))]


def _known(section: tuple[int | str, ...]) -> list[str]:
    """The names of the settings of a section; of none, of the recipe. Empty for a section with names of its own."""
    fields = Recipe.model_fields
    for part in section:
        kind = fields[str(part)].annotation if str(part) in fields else None
        if not (isinstance(kind, type) and issubclass(kind, Strict)):
            return []
        fields = kind.model_fields
    return list(fields)


def builtin_recipes() -> dict[str, str]:
    """Names of the package's recipes with their TOML text; those at their authors' budgets are `published/NAME`."""
    folder = resources.files("funduscope") / "recipes"
    return {
        prefix + entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for prefix, place in (("", folder), ("published/", folder / "published"))
        for entry in sorted(place.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }
