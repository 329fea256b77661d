"""Figures that others published, next to the runs of their designs, by the recipe's name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from funduscope.compare.run_record import CompareError
from funduscope.evaluation.score_key import ScoreKey


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PublishedFigure(_Strict):
    """A number that the authors of a design published: a score, or a cost."""

    recipe: str
    value: float = Field(allow_inf_nan=False)
    data: str = ""
    """With `state` and `score`: the score's names as in scores.json."""

    state: str = ""
    score: str = ""
    cost: Literal["", "parameters", "multiply_adds"] = ""
    height_px: int = 0
    """With `width_px`: the image that the multiply-adds are of."""

    width_px: int = 0
    note: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> PublishedFigure:
        has_score = bool(self.data and self.state and self.score)
        if has_score == bool(self.cost):
            raise ValueError("expected either data, state and score, or cost")
        if self.cost and self.value <= 0:
            raise ValueError("expected a cost above 0")
        if self.cost == "multiply_adds" and not (self.height_px > 0 and self.width_px > 0):
            raise ValueError("expected the height_px and width_px of the image")
        return self

    @property
    def key(self) -> ScoreKey:
        return ScoreKey.parse(self.data, self.state, self.score)

    @property
    def title(self) -> str:
        if self.cost == "parameters":
            return "parameters, million"
        if self.cost == "multiply_adds":
            return f"multiply-adds at {self.height_px} × {self.width_px} px, G"
        return f"{self.key.question.title}: {self.score}, {self.data}"


class Published(_Strict):
    """A file of published figures."""

    source: str
    """Who published them."""

    photos: str
    """Which photos they are of, and how those differ from the runs'."""

    figure: list[PublishedFigure]


def read_published(path: Path) -> Published:
    """Read a TOML file of figures. Raises `CompareError`."""
    try:
        return Published.model_validate(tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CompareError(f"{path} has no published figures: {place}: {first['msg']}.") from error
    except ValueError as error:  # neither text nor TOML
        raise CompareError(f"{path} has no published figures: {error}.") from error
