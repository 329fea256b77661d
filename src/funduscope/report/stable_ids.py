"""Ids that are made of what they name: the same photo, model and settings give the same id in every run."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from funduscope.inference.urgency import urgency_sha256
from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings


def settings_seed(findings: Findings) -> str:
    """Everything but the photo that findings and their advice depend on: an archive keeps the first object of an id."""
    return f"{findings.model_sha256} {__version__} {findings.forced} {urgency_sha256()}"


def uuid_of(seed: str) -> uuid.UUID:
    """A UUID that is made of the seed's hash."""
    return uuid.UUID(bytes=hashlib.sha256(seed.encode()).digest()[:16], version=5)
