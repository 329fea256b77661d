"""What is added needs only what docs/architecture.md names: a lesion, a photo task, a data set, an encoder, a balance,
a term of a loss, an augmentation. (A data set in Python and a custom score: docs/python.md, whose examples run.)

A copy of the package is changed in just those places, and goes its whole way on drawn eyes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import funduscope
from funduscope.network.encoder import Encoder
from funduscope.testing.drawn_eyes import write_idrid

PACKAGE = Path(funduscope.__file__).parent
LESS_WORK = f"""
import sys
sys.path.append({str(Path(__file__).parents[2])!r})
from tests import less_work
less_work.draw_less()
less_work.draw_no_pictures()
less_work.export_less()
"""

STRUCTURE = (
    '    Structure("NV", "New vessels", (255, 120, 200), (0, 0, 0), True, "vessels that grew where none belong"),\n'
)
BALANCE = '''class Halved(Balance):
    """Half of every start weight."""

    def weights(self) -> dict[str, float]:
        return {task: weight / 2 for task, weight in self.start.items()}

    def combine(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        values = list(losses.values())
        return self.weighed(losses, self.starts(list(losses), values[0]) / 2), None


'''
LINE = '        "fixed": lambda: Fixed(start),\n'
TERM = """        if settings.class_brier:
            wrong = logits[labeled].softmax(1) - F.one_hot(target, logits.shape[1])
            each = each + settings.class_brier * wrong.square().sum(1)
        parts.append(each)
"""
GRAY = """    if happens(bounds.gray, rng):
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return image


def _compressed("""
Change = tuple[str, str, str]
"""A file of the package, a text that it has once, and what takes its place."""

CHANGES: tuple[Change, ...] = (
    ("vocabulary.py", '    Structure("OD"', STRUCTURE + '    Structure("OD"'),
    ("settings.py", '["fixed", "routed"]', '["fixed", "routed", "halved"]'),
    ("training/balance.py", "def make_balance(", BALANCE + "def make_balance("),
    ("training/balance.py", LINE, LINE + '        "halved": lambda: Halved(start),\n'),
    (
        "settings.py",
        "    class_focal: Weight = 0.0\n",
        "    class_focal: Weight = 0.0\n    class_brier: Weight = 0.0\n",
    ),
    ("training/losses.py", "        parts.append(each)\n", TERM),
    ("settings.py", "    jpeg: Share = 0.1\n", "    jpeg: Share = 0.1\n    gray: Share = 0.0\n"),
    ("training/augment.py", "    return image\n\n\ndef _compressed(", GRAY),
)

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
class_brier = 1000.0
[augment]
gray = 1.0
[training]
epochs = 1
batch = 4
workers = 0
precision = "float32"
"""
PLAIN = RECIPE.replace('kind = "halved"', "").replace("class_brier = 1000.0", "").replace("gray = 1.0", "")

LESION = (
    '    Structure("NV", "New vessels", (255, 120, 200), (0, 0, 0), True, "vessels that grew where none belong", 4),\n'
)
WAY_OF_A_LESION = """
import json
from pathlib import Path

import numpy as np

import funduscope
from funduscope.app.export_labels import LabeledPhoto, as_zip, into_folder
from funduscope.app.import_labels import read_zip
from funduscope.app.edits import apply_edit
from funduscope.app.reviewed import Corrections, apply_corrections, mark_complete, mask_from_png
from funduscope.app.viewer_data import threshold_sliders, viewer_data
from funduscope.cli.main import main
from funduscope.data.case import ABSENT
from funduscope.data.sources import read_data
from funduscope.testing.drawn_eyes import write_idrid

write_idrid(Path("idrid"), graded=10, masked=15, width_px=400)
outlined = [case for case in read_data(["idrid"]) if not case.labels.masks.get("NV", ABSENT).is_absent]
assert len(outlined) == 5, "every eye of grade 4 that has masks"

assert main(["train", "sixth.toml", "--data", "idrid", "--run", "run", "--fold", "0"]) == 0
card = json.loads(Path("run/card.json").read_text())
assert (card["structures"], card["not_learned"]) == (["MA", "NV", "OD"], [])
assert main(["evaluate", "run", "--data", "idrid", "--fold", "0", "--out", "scores"]) == 0
scores = json.loads(Path("scores/scores.json").read_text())["scores"]["idrid-A"]
assert "AUPR" in scores["NV pixels"], scores.keys()
assert list(Path("scores").glob("*NV*.png")), "best and worst photos"
main(["export", "run"])  # INT8 may be refused for a network of one epoch; float32 may not
assert json.loads(Path("run/export.json").read_text())["check photos"] == "the demo photo"

photo = next(case.path for case in outlined if case.fold == 0)
other = next(case.path for case in outlined if case.fold == 1)
assert main(["predict", str(photo), str(other), "--model", "run/model.onnx", "--out", "out"]) == 0
found = json.loads(next(Path("out").rglob("findings.json")).read_text())
assert found["gradable"]["ok"] and [*found["lesions"]] == ["MA", "NV"], found
assert "New vessels" in next(Path("out").rglob("report.html")).read_text()
assert next(Path("out").rglob("*_NV.tif")).is_file()
assert ",NV_count," in Path("out/summary.csv").read_text()

findings = funduscope.load("run/model.onnx")(photo)
ring = [[150, 100], [170, 100], [170, 120], [150, 120]]
drawn = apply_edit(findings, Corrections(), {"what": "draw", "code": "NV", "points": ring})
shown = apply_corrections(findings, {}, drawn)
assert shown.mask("NV")[110, 160]
assert shown.to_dict()["rules"]["grade_range"] == [4, 4], "a lesion that makes grade 4"
assert "NV" in [layer["code"] for layer in viewer_data(shown, "standard", drawn)["layers"]]
assert "NV" in [slider["code"] for slider in threshold_sliders(findings, {}, drawn)]
drawn = mark_complete(shown, drawn, frozenset({"NV"}))
saved = LabeledPhoto(findings.photo, drawn, {"NV": shown.mask("NV")})
(again,) = read_data([into_folder([saved], Path("corrected"))])
assert np.array_equal(again.labels.masks["NV"].load(*shown.mask("NV").shape), shown.mask("NV"))
(again,) = read_data([Path("corrected/labels.csv")])
assert np.array_equal(again.labels.masks["NV"].load(*shown.mask("NV").shape), shown.mask("NV"))
(back,) = read_zip(as_zip([saved]))
assert np.array_equal(mask_from_png(back.corrections.masks["NV"]), shown.mask("NV"))
"""

READER = '''"""A stranger's data set: grades in grades.txt, masks of microaneurysms, empty where there are none."""

from pathlib import Path

from funduscope.data.case import Case, Labels, Mask
from funduscope.data.masks import read_mask


NAME = "Clinic"


def recognize(folder: Path) -> bool:
    return (folder / "grades.txt").is_file()


def read(folder: Path) -> list[Case]:
    rows = [line.split() for line in (folder / "grades.txt").read_text("utf-8").splitlines()]
    return [
        Case.of(
            "clinic",
            folder / f"{name}.png",
            Labels(grade=int(grade), masks={"MA": Mask((folder / f"{name}_ma.png",), read_mask, "absent")}),
        )
        for name, grade in rows
    ]
'''
WAY_OF_A_DATA_SET = """
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from funduscope.cli.main import main
from funduscope.testing.drawn_eyes import draw_eye

folder = Path("clinic")
folder.mkdir()
for number in range(20):
    eye = draw_eye(number, grade=number % 5, width_px=400)
    Image.fromarray(eye.pixels).save(folder / f"{number}.png")
    Image.fromarray(eye.masks["MA"].astype(np.uint8)).save(folder / f"{number}_ma.png")
(folder / "grades.txt").write_text("".join(f"{number} {number % 5}\\n" for number in range(20)))
train = ["train", "sixth.toml", "--data", "clinic", "--run", "run", "--fold", "0"]
settings = ["--set", "sampling.whole.clinic=1"]
assert main(train) != 0
assert main([*train, *settings]) == 0
card = json.loads(Path("run/card.json").read_text())
assert card["not_learned"] == ["OD"] and card["research_only"]
assert (card["grade"], card["dme"]) == (True, False), "no photo has a label of edema"
assert json.loads(Path("run/run.json").read_text())["photos"]["train"]["clinic"] >= 8
assert main(["evaluate", "run", "--data", "clinic", "--fold", "0", "--out", "scores"]) == 0
scores = json.loads(Path("scores/scores.json").read_text())["scores"]["clinic"]
assert {"DR", "MA pixels"} <= scores.keys() and not any(name.startswith("OD") for name in scores), scores.keys()
assert main(["doctor", "clinic"]) in (0, 1)
"""


TASK = '    PhotoTask("glaucoma", "glaucoma", ("no glaucoma", "glaucoma"), "AUROC"),\n'
WORDS = """
["glaucoma.title"]
en = "Glaucoma"
de = "Glaukom"
es = "Glaucoma"
hi = "ग्लूकोमा"

["glaucoma.0"]
en = "No glaucoma seen"
de = "Kein Glaukom zu sehen"
es = "No se ve glaucoma"
hi = "ग्लूकोमा नहीं दिखता"

["glaucoma.1"]
en = "Glaucoma suspected"
de = "Verdacht auf Glaukom"
es = "Sospecha de glaucoma"
hi = "ग्लूकोमा का संदेह"

["grade.0"]"""
TASK_CHANGES: tuple[Change, ...] = (
    ("vocabulary.py", ")\nCLASSES: Final", TASK + ")\nCLASSES: Final"),
    ("i18n/strings/page.toml", '\n["grade.0"]', WORDS),
)
TASK_RECIPE = """
name = "glaucoma"
[encoder]
name = "regnetx_002"
weights = "none"
[tasks]
dme = false
glaucoma = true
structures = []
landmarks = []
[views]
whole_px = 64
close_px = 64
close = []
[sampling]
per_epoch = 32
[sampling.whole]
table = 1
[training]
epochs = 3
batch = 8
workers = 0
learning_rate = 1e-3
average_decay = 0.0
precision = "float32"
"""
WAY_OF_A_TASK = """
import csv
import json
from pathlib import Path

import cv2
import jsonschema
from PIL import Image
from streamlit.testing.v1 import AppTest

from funduscope.cli.main import main
from funduscope.report.write import findings_schema
from funduscope.testing.drawn_eyes import draw_eye

rows = ["path,dr,glaucoma,fold"]
for number in range(40):
    eye = draw_eye(number, grade=number % 5, width_px=400)
    ill = number // 5 % 2
    if ill:  # a bright, wide disc
        x, y = (round(at) for at in eye.disc_xy)
        cv2.circle(eye.pixels, (x, y), round(eye.disc_diameter_px), (255, 255, 255), -1)
    Image.fromarray(eye.pixels).save(f"{number}.png")
    rows.append(f"{number}.png,{number % 5},{'' if number % 5 == 4 else ill},{number % 4}")
Path("eyes.csv").write_text("\\n".join(rows))

assert main(["train", "glaucoma.toml", "--data", "eyes.csv", "--run", "run", "--fold", "0"]) == 0
line = json.loads(Path("run/journal.jsonl").read_text().splitlines()[-1])
assert "loss glaucoma" in line and 0 <= line["validation table glaucoma AUROC"] <= 1, line
card = json.loads(Path("run/card.json").read_text())
assert card["tasks"] == ["glaucoma"] and "glaucoma" in card["temperatures"], card
assert 0 < card["about"]["calibration"]["glaucoma_labels"] < card["about"]["calibration"]["grade_labels"], card
main(["export", "run", "--data", "eyes.csv"])  # INT8 may be refused for a network of three epochs; float32 may not

assert main(["evaluate", "run", "--data", "eyes.csv", "--fold", "0", "--out", "scores"]) == 0
scores = json.loads(Path("scores/scores.json").read_text())["scores"]["table"]
for question, score in (("glaucoma", "accuracy"), ("glaucoma probabilities", "AUROC")):
    one = scores[question][score]
    assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1, (question, one)
row = json.loads(Path("scores/photos.jsonl").read_text().splitlines()[0])
assert {"glaucoma", "predicted_glaucoma", "glaucoma_probs"} <= row.keys(), row

assert main(["predict", "5.png", "--model", "run/model.onnx", "--out", "one", "--pdf", "--language", "de"]) == 0
found = json.loads(next(Path("one").rglob("findings.json")).read_text())
jsonschema.Draft202012Validator(findings_schema()).validate(found)
answer = found["tasks"]["glaucoma"]
assert answer["confidence"] == answer["probabilities"][answer["class"]] == max(answer["probabilities"]), answer
page = next(Path("one").rglob("report.html")).read_text()
name = ("Kein Glaukom zu sehen", "Verdacht auf Glaukom")[answer["class"]]
assert "<h2>Glaukom</h2>" in page and name in page
shown = AppTest.from_string(
    "import json; from pathlib import Path; from funduscope.app.answers import show_answers;"
    "from funduscope.i18n.languages import Words;"
    "show_answers(json.loads(next(Path('one').rglob('findings.json')).read_text()), Words('de'))"
).run(timeout=60)
assert not shown.exception and any(">Glaukom</h3>" in str(one.proto) for one in shown.get("html"))

both = ["--model", "run/model.onnx", "--model", "run/best.safetensors"]
assert main(["predict", "5.png", "6.png", *both, "--out", "several"]) == 0
with Path("several/summary.csv").open(encoding="utf-8") as file:
    table = list(csv.DictReader(file))
assert all(row["glaucoma"] in ("0", "1") and float(row["glaucoma_confidence"]) >= 0.5 for row in table), table
"""
WAY_OF_A_MARKED_TASK = """
import json
import os
from pathlib import Path

from streamlit.testing.v1 import AppTest

from funduscope.app import MODEL_VARIABLE
from funduscope.app.export_labels import LabeledPhoto, as_zip, into_folder
from funduscope.app.import_labels import read_zip
from funduscope.app.reviewed import Corrections
from funduscope.cli.main import main
from funduscope.data.sources import read_data
from funduscope.imaging.photo import Photo

os.environ[MODEL_VARIABLE] = json.dumps(["run/model.onnx"])
page = AppTest.from_string("from funduscope.app.page_view import show; show()", default_timeout=180).run()
page.file_uploader[0].set_value([("5.png", Path("5.png").read_bytes(), "image/png")]).run()
session = page.session_state.session
(key,) = session.entries
page.selectbox(key=f"correct-en-{key[:16]}-glaucoma").set_value(1).run()
assert not page.exception and session.history(key).now == Corrections(classes={"glaucoma": 1})
assert any("Glaucoma suspected" in one.value for one in page.info), [one.value for one in page.info]
page.selectbox(key="language").set_value("de").run()
assert any("Verdacht auf Glaukom" in one.value for one in page.info)
page.segmented_control(key="view").set_value("many").run()
assert not page.exception and "Verdacht auf Glaukom" in str(json.loads(page.get("bidi_component")[0].proto.json))
page.segmented_control(key="view").set_value("one").run()
page.text_input(key="save-folder").set_value("saved").run()
page.button(key="save-button").click().run()
assert not page.exception and not page.error
assert "--data saved/labels.csv --run runs/corrected --set tasks.glaucoma=true" in page.code[0].value
(again,) = read_data("saved/labels.csv")
assert (again.labels.classes, again.labels.grade) == ({"glaucoma": 1}, None)

marked = [
    LabeledPhoto(Photo.open(f"{number}.png"), Corrections(classes={"glaucoma": number // 5 % 2}), {})
    for number in range(20)
]
assert [one.corrections for one in read_zip(as_zip(marked[4:6]))] == [one.corrections for one in marked[4:6]]
table = into_folder(marked, Path("corrected")) / "labels.csv"
short = ["--fold", "0", "--set", "training.epochs=1"]
assert main(["train", "glaucoma.toml", "--data", str(table), "--run", "again", *short]) == 0
line = json.loads(Path("again/journal.jsonl").read_text().splitlines()[-1])
assert "loss glaucoma" in line and "loss grade" not in line, line
card = json.loads(Path("again/card.json").read_text())
assert (card["grade"], card["tasks"]) == (False, ["glaucoma"]), card
assert main(["predict", "5.png", "--model", "again", "--out", "marked"]) == 0
found = json.loads(next(Path("marked").rglob("findings.json")).read_text())
assert found["predicted_grade"] is None and found["tasks"]["glaucoma"]["class"] in (0, 1)
page = next(Path("marked").rglob("report.html")).read_text()
assert "looks for no disease that is not named above" in page and "does not look for glaucoma" not in page
"""


def _copy(folder: Path, changes: Sequence[Change] = ()) -> Path:
    """A copy of the package with these changes."""
    copy = folder / "source" / "funduscope"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.onnx", "*.safetensors", "__pycache__"))
    for name, old, new in changes:
        text = (copy / name).read_text("utf-8")
        assert text.count(old) == 1, name
        (copy / name).write_text(text.replace(old, new), "utf-8")
    return copy


def _run(copy: Path, folder: Path, code: str) -> subprocess.CompletedProcess:
    code = LESS_WORK + code
    environment = os.environ | {"PYTHONPATH": str(copy.parent), "FUNDUSCOPE_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_only_the_named_files_are_touched_and_it_trains(tmp_path: Path) -> None:
    copy = _copy(tmp_path, CHANGES)
    (tmp_path / "sixth.toml").write_text(RECIPE, "utf-8")
    write_idrid(tmp_path / "idrid", graded=10, masked=5, width_px=400)
    assert Encoder("regnetx_002").channels != Encoder("resnet50").channels, "no encoder of a recipe of the package"

    command = ["train", "sixth.toml", "--data", "idrid", "--run", "run", "--fold", "0"]
    done = _run(copy, tmp_path, f"from funduscope.cli.main import main; raise SystemExit(main({command}))")
    assert done.returncode == 0, done.stderr[-3000:]
    line = json.loads((tmp_path / "run" / "journal.jsonl").read_text("utf-8"))
    assert "loss dense NV" in line, "known to be absent from the eyes of grade 0, so it is learned"
    assert line["weight dme"] == 1.5
    assert line["loss grade"] > 100, "the term of the loss, weighed by 1000"
    gray = """
import numpy as np
from funduscope.settings import Augment
from funduscope.training.augment import recolor
red = np.full((9, 9, 3), (200, 100, 50), np.uint8)
image = recolor(red, Augment(gray=1, noise=0, jpeg=0), np.random.default_rng(0))
assert image.any() and (np.ptp(image, axis=2) == 0).all(), image
"""
    done = _run(copy, tmp_path, gray)
    assert done.returncode == 0, done.stderr[-3000:]
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert (card["structures"], card["not_learned"]) == (["MA", "NV", "OD"], ["NV"]), "no eye shows one"


@pytest.mark.slow
def test_a_lesion_is_one_line_from_drawn_eyes_to_saved_corrections(tmp_path: Path) -> None:
    copy = _copy(tmp_path, [("vocabulary.py", '    Structure("OD"', LESION + '    Structure("OD"')])
    (tmp_path / "sixth.toml").write_text(PLAIN, "utf-8")
    done = _run(copy, tmp_path, WAY_OF_A_LESION)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_a_data_set_is_its_reader(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    (copy / "data" / "readers" / "clinic.py").write_text(READER, "utf-8")
    recipe = PLAIN.replace('"MA", "NV", "OD"', '"MA", "OD"')
    (tmp_path / "sixth.toml").write_text(recipe, "utf-8")
    done = _run(copy, tmp_path, WAY_OF_A_DATA_SET)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "add --set sampling.whole.clinic=1" in done.stderr


@pytest.mark.slow
def test_a_photo_task_is_one_line_and_its_words(tmp_path: Path) -> None:
    """Its label is a column of the user's table, and what a person marks on the page becomes such a column."""
    copy = _copy(tmp_path, TASK_CHANGES)
    (tmp_path / "glaucoma.toml").write_text(TASK_RECIPE, "utf-8")
    done = _run(copy, tmp_path, WAY_OF_A_TASK)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    assert "glaucoma: " in done.stdout, "the sentence of one photo"
    done = _run(copy, tmp_path, WAY_OF_A_MARKED_TASK)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
