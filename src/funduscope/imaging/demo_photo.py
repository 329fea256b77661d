"""The photo that comes with the package: for the demo, for warming a model up and for timing."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEMO_PHOTO: Final = "hrf_07_dr.jpg"


def demo_photo() -> Traversable:
    """The packaged photo's file."""
    return resources.files("funduscope") / "demo" / DEMO_PHOTO
