"""Adding a lesion is one line of vocabulary: everything from recipe to report takes it from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from funduscope import vocabulary

LINE = '    Structure("NV", "New vessels", (255, 120, 200), (0, 0, 0), True, "vessels that grew where none belong"),\n'

# Reads the vocabulary with one line more in the place of the package's own, then goes the whole way with it.
WAY = """
import sys, types
from pathlib import Path

import funduscope
text, folder = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
module = types.ModuleType("funduscope.vocabulary")
sys.modules["funduscope.vocabulary"] = module
exec(compile(text, "vocabulary.py", "exec"), module.__dict__)
funduscope.vocabulary = module

import numpy as np
import torch
from PIL import Image

torch.set_num_threads(1)
from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.derived_labels import derive_labels
from funduscope.data.masks import read_mask
from funduscope.data.prepare import CHANNELS, cached, prepare
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training.losses import dense_loss
from funduscope.training.batch import Item, Samples, collate

small = ["encoder.name=resnet18", "encoder.weights=none", "decoder.skip_channels=[8, 8, 8, 8, 8]",
         "decoder.channels=[8, 8, 8, 8]", "views.whole_px=64", "views.close_px=128", "sampling.lesion_centered=1"]
recipe = Recipe.from_toml('name = "small"', small)
assert recipe.tasks.structures == ("MA", "HE", "EX", "SE", "NV", "OD"), recipe.tasks.structures
assert "NV" in recipe.views.close and "NV" in CHANNELS

pixels = np.zeros((300, 300, 3), np.uint8)
y, x = np.mgrid[:300, :300]
pixels[np.hypot(x - 150, y - 150) < 140] = (180, 80, 30)
mask = np.hypot(x - 150, y - 120) < 12
pixels[mask] = (90, 20, 10)
Image.fromarray(pixels).save(folder / "eye.png")
Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "nv.png")
labels = Labels(grade=4, masks={"NV": Mask((folder / "nv.png",), read_mask)})
case = Case("set/eye", "set", "eye", folder / "eye.png", "eye", labels)
assert derive_labels(Labels(grade=0)).masks["NV"] is ABSENT, "no lesion at all includes the new one"
assert "NV" in prepare(case, 128).coverage

item = Item(case, "close", (0, 0, 0))
sample = Samples({case.key: cached(case, 128, folder / "cache")}, recipe)[item]
batch = collate([sample, sample])
network = build(recipe)
outputs = network(batch.image)
assert outputs.structures.shape[1] == 6
loss = dense_loss(outputs.structures, batch.coverage, batch.known, recipe.tasks.structures, recipe.loss)
outputs.structures.retain_grad()
loss.backward()
plane = recipe.tasks.structures.index("NV")
taught = [index for index in range(6) if outputs.structures.grad[:, index].any()]
assert taught == [plane], taught

from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
card = Card.of(recipe)
assert card.thresholds["NV"] == 0.5
with torch.no_grad():
    head = network.heads["structures"].conv
    head.weight.zero_()
    head.bias.fill_(-9)
    head.bias[plane] = 9
from funduscope.quality.fundus import FundusTest
FundusTest.classify = lambda self, measures: "eye"  # a painted disc is no fundus photograph
findings = Predictor(TorchRuntime(network.eval(), card))(folder / "eye.png")
assert findings.gradable_ok, findings.reasons
assert findings.mask("NV").any() and not findings.mask("MA").any()
found = findings.to_dict()
assert "NV" in str(found["lesions"])

from funduscope.report.html import report
page = report(findings)
assert "New vessels" in page

from funduscope.metrics.dense import DenseState
state = DenseState.of(findings.probability("NV"), mask)
assert state.positive.sum() == mask.sum()
print("whole way")
"""


@pytest.mark.slow
def test_one_line_goes_the_whole_way(tmp_path: Path) -> None:
    text = Path(vocabulary.__file__).read_text("utf-8")
    disc = '    Structure("OD"'
    assert text.count(disc) == 1
    (tmp_path / "vocabulary.py").write_text(text.replace(disc, LINE + disc), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WAY, str(tmp_path / "vocabulary.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "whole way" in done.stdout
