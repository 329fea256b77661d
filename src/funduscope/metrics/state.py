"""What every metric is made of: sums that add up, so that a score is exact over photos, processes and machines.

A `State` holds counts (added) and lists (joined). One photo makes one state, `a + b` is the state of both photos, and
only then is a score taken from it. `State.weighted` adds many states many times over, which is what a bootstrap needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

CHUNK_BYTES = 64 * 2**20
"""How much memory `State.weighted` spends on sums that are not yet handed out."""


@dataclass(frozen=True, eq=False)
class State:
    """Abstract. Every field is a number or array that is added, or is named in `LISTED` and joined along axis 0."""

    LISTED: ClassVar[frozenset[str]] = frozenset()

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, type(self)):
            return NotImplemented
        return type(self).total((self, other))

    def __radd__(self, other: object) -> Self:
        # Python's own sum() starts at 0.
        if not (isinstance(other, int) and other == 0):
            return NotImplemented
        return self

    @classmethod
    def total(cls, states: Iterable[Self]) -> Self:
        """The state of all photos of `states` together; raises `ValueError` for none, or of unlike sizes."""
        states = tuple(states)
        values: dict[str, Any] = {}
        for name in _names(cls, states):
            parts = [getattr(state, name) for state in states]
            if name in cls.LISTED:
                values[name] = np.concatenate(parts)
            else:
                # Adding one at a time keeps whole numbers whole, and makes no copy of all of them.
                summed = parts[0]
                for part in parts[1:]:
                    summed = summed + part
                values[name] = summed
        return cls(**values)

    @classmethod
    def weighted(cls, states: Sequence[Self], weights: np.ndarray) -> Iterator[Self]:
        """Sums in which state n counts `weights[r, n]` times; one after another, for r = 0..R-1.

        weights: (R, N), whole numbers from 0. Their sums are exact (float64 holds whole numbers up to 2**53).
        """
        weights = np.asarray(weights)
        if weights.ndim != 2 or weights.shape[1] != len(states):
            raise ValueError(f"Weights came as {weights.shape} for {len(states)} states; (R, {len(states)}) fits.")
        if np.any(weights < 0) or np.any(weights != np.floor(weights)):
            raise ValueError("A state counts a whole number of times: the weights must be 0, 1, 2, ...")
        names = _names(cls, states)
        added = {n: np.stack([np.asarray(getattr(s, n), np.float64) for s in states]) for n in names - cls.LISTED}
        joined = {n: np.concatenate([getattr(s, n) for s in states]) for n in names & cls.LISTED}
        owners = {n: np.repeat(np.arange(len(states)), [len(getattr(s, n)) for s in states]) for n in joined}
        row_bytes = 8 * sum(stack[0].size for stack in added.values())
        chunk = max(1, CHUNK_BYTES // max(1, row_bytes))
        for start in range(0, len(weights), chunk):
            part = weights[start : start + chunk]
            sums = {n: np.tensordot(part.astype(np.float64), stack, axes=1) for n, stack in added.items()}
            for r, row in enumerate(part):
                times = row.astype(np.int64)
                values: dict[str, Any] = {n: np.repeat(rows, times[owners[n]], axis=0) for n, rows in joined.items()}
                values.update({n: one[r] for n, one in sums.items()})
                yield cls(**values)


def _names(cls: type[State], states: Sequence[State]) -> set[str]:
    """The fields of a class, once it is sure that these states can be added."""
    if not states:
        raise ValueError(f"There is no {cls.__name__} to add: at least one photo is needed.")
    names = {item.name for item in fields(cls)}
    for name in names:
        # Of lists only the width must agree; their length is the number of photos in them.
        shapes = {np.shape(getattr(s, name))[1 if name in cls.LISTED else 0 :] for s in states}
        if len(shapes) > 1:
            raise ValueError(f"{cls.__name__}s of unlike sizes cannot be added: {name} is {sorted(shapes)}.")
    return names


def ratio(part: float | np.number, whole: float | np.number) -> float:
    """part / whole, and nan (not known) where there is nothing to divide by."""
    return float(part) / float(whole) if whole else float("nan")
