"""Numbers of scores as text."""

from __future__ import annotations

import math
from typing import Final

DASH: Final = "–"
"""Stands for a number that is not known."""


def format_number(value: float, digits: int = 3) -> str:
    """Write a number with so many digits behind the point, but one from 10 on."""
    if math.isnan(value):
        return DASH

    text = f"{value:.{1 if abs(value) >= 10 else digits}f}"
    is_zero = not text.strip("-0.")
    return text.removeprefix("-") if is_zero else text.replace("-", "−")


def format_signed(value: float, digits: int = 3) -> str:
    """Write a number with its sign, also where it is a plus."""
    text = format_number(value, digits)
    is_zero = not text.strip("0.")
    return f"+{text}" if value > 0 and not is_zero else text


def format_range(low: float, high: float, digits: int = 3, *, is_signed: bool = False) -> str:
    """Write the two ends of an interval; empty if they are not known."""
    if math.isnan(low):
        return ""
    write = format_signed if is_signed else format_number
    return f"{write(low, digits)} to {write(high, digits)}"


def format_p(p: float) -> str:
    """Write a p value."""
    if math.isnan(p):
        return "not tested"
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def format_photo_count(counts: list[int]) -> str:
    """Write how many photos, as a range where the counts differ."""
    low, high = min(counts, default=0), max(counts, default=0)
    number = str(high) if low == high else f"{low} to {high}"
    return f"{number} {'photo' if high == 1 else 'photos'}"
