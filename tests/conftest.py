"""What tests share: where the real data lies, if it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FUNDUSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "folds.csv").is_file():
        pytest.skip("the real photographs are not here (set FUNDUSCOPE_DATA to their folder)")
    return folder
