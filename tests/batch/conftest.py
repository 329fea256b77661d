"""Six drawn eyes, among them a file that is no photo, and a model of a few dozen numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.cli.conftest import write_model

pytest.importorskip("pyarrow", reason="the tables need the extra batch")

from funduscope.batch.reader import ReadingSettings
from funduscope.testing.drawn_eyes import draw_eye


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder; never changed."""
    folder = tmp_path_factory.mktemp("eyes")
    for seed in range(5):
        path = folder / ("first" if seed < 3 else "second") / f"eye{seed}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_eye(seed, width_px=420).pixels).save(path)
    (folder / "second" / "no-photo.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="session")
def reading(tmp_path_factory: pytest.TempPathFactory) -> ReadingSettings:
    model = write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    return ReadingSettings((str(model),), force=True)
