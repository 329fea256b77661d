"""The accumulator of every metric: sums that add up, so that a score is exact over photos, processes and machines.

A `State` has counts, which are added, and lists, which are joined. One photo makes one state; `a + b` is the state of
both photos; a score is taken of the sum. `State.weighted` and `State.batches` make the weighted sums of a bootstrap.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, ClassVar, Self

import numpy as np

CHUNK_BYTES = 64 * 2**20
"""Largest size of the weighted sums that are computed at once."""


@dataclass(frozen=True, eq=False)
class State:
    """Abstract. Every field is a number or array that is added, or is named in `LISTED` and joined along axis 0."""

    LISTED: ClassVar[frozenset[str]] = frozenset()

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, type(self)):
            raise TypeError(f"a {type(self).__name__} adds to states of its own kind, not to {other!r}")
        return type(self).total((self, other))

    def __radd__(self, other: int) -> Self:
        if other != 0:  # where Python's `sum` starts
            raise TypeError(f"a {type(self).__name__} adds to states of its own kind, not to {other!r}")
        return self

    @classmethod
    def total(cls, states: Iterable[Self]) -> Self:
        """The state of all photos of `states` together. Raises `ValueError` for no state, or for unlike sizes."""
        states = tuple(states)
        values: dict[str, Any] = {}
        for name in _names(cls, states):
            parts = [getattr(state, name) for state in states]
            # One addition at a time keeps integers integers, and needs no stacked copy.
            values[name] = np.concatenate(parts) if name in cls.LISTED else reduce(operator.add, parts)
        return cls(**values)

    @classmethod
    def weighted(cls, states: Sequence[Self], weights: np.ndarray) -> Iterator[Self]:
        """The sums in which state n counts `weights[r, n]` times, one after another, for r = 0..R-1.

        weights: (R, N), whole numbers from 0. The sums are exact (float64 represents whole numbers up to 2**53).
        """
        names = _names(cls, states) & cls.LISTED
        joined = {name: np.concatenate([getattr(state, name) for state in states]) for name in names}
        owners = {
            name: np.repeat(np.arange(len(states)), [len(getattr(state, name)) for state in states]) for name in names
        }
        for part, sums in _weighted_sums(cls, states, weights):
            for r, row in enumerate(part):
                times = row.astype(np.int64)
                lists = {name: np.repeat(rows, times[owners[name]], axis=0) for name, rows in joined.items()}
                yield cls(**lists, **{name: one[r] for name, one in sums.items()})

    @classmethod
    def batches(cls, states: Sequence[Self], weights: np.ndarray) -> Iterator[Self]:
        """The same sums in a few states whose fields have a leading axis; together R long. For classes without lists.

        A score that is documented for batches is then an array along that axis.
        """
        for _, sums in _weighted_sums(cls, states, weights):
            yield cls(**sums)


def _weighted_sums(
    cls: type[State], states: Sequence[State], weights: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Some rows of the weights, and by name of each added field their sums (r, ...); until all rows are done."""
    names = _names(cls, states) - cls.LISTED
    added = {name: np.stack([np.asarray(getattr(s, name), np.float64) for s in states]) for name in names}
    row_bytes = 8 * sum(stack[0].size for stack in added.values())
    chunk = max(1, CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, len(weights), chunk):
        part = weights[start : start + chunk]
        yield part, {name: np.tensordot(part.astype(np.float64), stack, axes=1) for name, stack in added.items()}


def _names(cls: type[State], states: Sequence[State]) -> set[str]:
    """The names of the fields of a class, after a check that these states can be added."""
    if not states:
        raise ValueError(f"There is no {cls.__name__} to add: at least one photo is needed.")
    names = {item.name for item in fields(cls)}
    for name in names:
        # The first axis of a list is its photos, whose number may differ.
        shapes = {np.shape(getattr(s, name))[1 if name in cls.LISTED else 0 :] for s in states}
        if len(shapes) > 1:
            raise ValueError(f"{cls.__name__}s of unlike sizes cannot be added: {name} is {sorted(shapes)}.")
    return names


def ratio(part: Any, whole: Any) -> Any:
    """part / whole, and nan (not known) where `whole` is 0. Numbers give a float, arrays (batches) an array."""
    if np.ndim(whole) == 0:
        return float(part) / float(whole) if whole else float("nan")
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)
