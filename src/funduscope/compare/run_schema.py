"""What the page reads of the files in a run's folder, so that a damaged file is named before the page is begun.

What else a file has is not checked: other versions write more.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from funduscope.compare.score_kinds import PACKED
from funduscope.metrics import CoarseDenseState
from funduscope.vocabulary import LESIONS, PHOTO_TASKS

_SIZE = Annotated[list[int], Field(min_length=2, max_length=2)]
_MASK = Annotated[list[int], Field(min_length=3, max_length=3)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Environment(_Part):
    device: str = ""
    cpus: int | None = None


class _Init(_Part):
    name: str
    sha256: str | None = None


class _Photos(_Part):
    train: dict[str, int] = {}


class RunFile(_Part):
    """run.json."""

    fold: int | None = None
    until: int = 0
    environment: _Environment = _Environment()
    init: _Init | None = None
    photos: _Photos = _Photos()
    not_learned: list[str] = []
    teachers: list[str] | None = None
    command: str | None = None
    precision: str = ""
    training_peak_mb: float | None = None


class JournalLine(_Part):
    """A line of journal.jsonl."""

    model_config = ConfigDict(extra="allow")

    epoch: int
    seconds: float = 0.0

    @model_validator(mode="after")
    def _routes(self) -> JournalLine:
        for name, value in (self.model_extra or {}).items():
            if name.startswith(("experts ", "weight ")) and not isinstance(value, int | float):
                raise ValueError(f"{name} is not a number")
        return self


class _Made(_Part):
    part: str = ""


class _Interval(_Part):
    value: float | None
    low: float | None
    high: float | None
    visits: int = 0


class _Counts(_Part):
    photos: int = 0


class _Details(_Part):
    photos: int
    refused: int
    states: dict[str, _Counts]


class ScoresFile(_Part):
    """scores.json."""

    about: _Made = _Made()
    scores: dict[str, dict[str, dict[str, _Interval]]]
    details: dict[str, _Details]


def _map(row: Any) -> Any:
    """A map of a photo, if it can be read back."""
    try:
        CoarseDenseState.from_row(row)
    except (TypeError, IndexError) as error:
        raise ValueError("expected a first bin and counts in two lists") from error
    return row


def _columns() -> dict[str, Any]:
    """The type of each column of photos.jsonl that is added up, by name; columns may be missing."""
    grades = {task.name: Annotated[int | None, Field(ge=0, lt=len(task.classes))] for task in PHOTO_TASKS}
    counts: dict[str, Any] = dict.fromkeys(LESIONS, (int, ...))
    false_lesions: Any = create_model("FalseLesions", __base__=_Part, **counts)
    return {
        **grades,
        **{f"predicted_{name}": kind for name, kind in grades.items()},
        **{name: Annotated[Any, AfterValidator(_map)] if name.endswith("pixels") else _MASK for name in PACKED},
        **dict.fromkeys(("disc center px", "fovea px"), float | None),
        "false lesions": false_lesions | None,
    }


class _PhotoLine(_Part):
    key: str
    dataset: str
    visit: str

    @model_validator(mode="before")
    @classmethod
    def _is_answered(cls, row: Any) -> Any:
        for task in PHOTO_TASKS if isinstance(row, dict) else ():
            if row.get(task.name) is not None and f"predicted_{task.name}" not in row:
                raise ValueError(f"{task.name} without predicted_{task.name}")
        return row


_FIELDS: dict[str, Any] = {
    f"column_{place}": (kind, Field(None, alias=name)) for place, (name, kind) in enumerate(_columns().items())
}
PhotoLine = create_model("PhotoLine", __base__=_PhotoLine, **_FIELDS)
"""A line of photos.jsonl."""


class _Work(_Part):
    total: float
    dense: float
    experts: float
    dense_experts: float
    kept: float
    in_proportion: float = 0.0


class _Scaled(_Part):
    total: float


class _Stated(_Part):
    asked_px: _SIZE
    scaled: _Scaled


class _WholeWork(_Part):
    parameters: int
    photo: _Work
    views_px: list[int]
    stated: list[_Stated]


class _Prediction(_Part):
    wall_s: float
    times_baseline: float
    peak_mb: float | None
    machine: str


class CostFile(_Part):
    """cost.json."""

    sha256: str
    runtime: str
    work: _WholeWork
    prediction: _Prediction | None = None
    sitting: str | None = None


def check(schema: type[BaseModel], tree: Any) -> None:
    """Raises `ValueError` with the first place if a file's content is not as its schema says, and why."""
    try:
        schema.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        why = "expected an object" if first["type"] in ("model_type", "dict_type") else first["msg"]
        where = "".join(f"{name}: " for name in [".".join(map(str, first["loc"]))] if name)
        raise ValueError(where + why.removeprefix("Value error, ")) from error
