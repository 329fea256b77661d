"""A sixth structure, a new encoder and a new way to weigh tasks need only what docs/architecture.md names for them.

A copy of the package is changed in just those places and trained, through its command line, on drawn eyes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import funduscope
from funduscope.network.encoder import Encoder
from funduscope.testing.drawn_eyes import write_idrid

PACKAGE = Path(funduscope.__file__).parent

STRUCTURE = (
    '    Structure("NV", "New vessels", (255, 120, 200), (0, 0, 0), True, "vessels that grew where none belong"),\n'
)
BALANCE = '''class Halved(Balance):
    """Half of every start weight."""

    def weights(self) -> dict[str, float]:
        return {task: weight / 2 for task, weight in self.start.items()}

    def combine(self, losses: dict[str, Tensor], shared: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor | None]:
        values = list(losses.values())
        return self.weighed(losses, self.starts(list(losses), values[0]) / 2), None


'''
CHANGES = {
    "vocabulary.py": ('    Structure("OD"', STRUCTURE + '    Structure("OD"'),
    "settings.py": ('"uncertainty", "routed"]', '"uncertainty", "routed", "halved"]'),
    "training/balance.py": ("def make_balance(", BALANCE + "def make_balance("),
}
LINE = '        "uncertainty": lambda: Uncertainty(start),\n'

RECIPE = """
name = "sixth"
[encoder]
name = "regnetx_002"
weights = "none"
[decoder]
skip_channels = [8, 8, 8, 8, 8]
channels = [8, 8, 8, 8]
[tasks]
structures = ["MA", "NV", "OD"]
landmarks = []
[views]
whole_px = 64
close_px = 64
close = []
[sampling]
per_epoch = 8
[sampling.whole]
idrid-A = 1
idrid-B = 1
[balance]
kind = "halved"
[loss]
dme = 3.0
[training]
epochs = 1
batch = 4
workers = 0
precision = "float32"
"""


@pytest.mark.slow
def test_only_the_named_files_are_touched_and_it_trains(tmp_path: Path) -> None:
    copy = tmp_path / "source" / "funduscope"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.onnx", "*.safetensors", "demo", "__pycache__"))
    for name, (old, new) in CHANGES.items():
        text = (copy / name).read_text("utf-8")
        assert text.count(old) == 1, name
        text = text.replace(old, new).replace(LINE, LINE + '        "halved": lambda: Halved(start),\n')
        (copy / name).write_text(text, "utf-8")
    (tmp_path / "sixth.toml").write_text(RECIPE, "utf-8")
    write_idrid(tmp_path / "idrid", graded=10, masked=5, width_px=400)
    assert Encoder("regnetx_002").channels != Encoder("resnet50").channels, "no encoder of a recipe of the package"

    command = ["train", "sixth.toml", "--data", "idrid", "--run", "run", "--fold", "0"]
    code = f"from funduscope.cli.main import main; raise SystemExit(main({command}))"
    environment = os.environ | {"PYTHONPATH": str(copy.parent), "FUNDUSCOPE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    line = json.loads((tmp_path / "run" / "journal.jsonl").read_text("utf-8"))
    assert "loss dense NV" in line, "known to be absent from the eyes of grade 0, so it is learned"
    assert line["weight dme"] == 1.5
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert card["structures"] == ["MA", "NV", "OD"]
