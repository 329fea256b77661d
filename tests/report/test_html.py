from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from funduscope.i18n.languages import LANGUAGES, Words, string_table
from funduscope.inference.card import Card
from funduscope.report.html import report, svg_path
from funduscope.report.html_frame import printable
from funduscope.report.outline import trace
from funduscope.vocabulary import CODES, DME_RISKS, GRADES, structure

FIGURE = {"dataset": "a", "state": "DR", "score": "kappa", "photos": 7, "value": 0.74, "low": None, "high": None}
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>.jpg',
    "'; </title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "a\0b\nc\u202egpj.exe",
    "\udcff\udc80.jpg",
)


class Page(HTMLParser):
    """The tags, attributes and texts that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("name", NASTY)
def test_a_photos_name_cannot_become_part_of_the_page(drawn_eye, name):
    plain = Page(report(drawn_eye(name="eye.jpg")))
    nasty = Page(report(drawn_eye(name=name)))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in nasty.tags] == [sorted(attributes) for _, attributes in plain.tags]
    assert " ".join(printable(name).split()) in nasty.text


def test_sentences_are_escaped_too(drawn_eye):
    page = report(drawn_eye(gradable_ok=False, reason="<b>bad</b>", warning="<i>warned</i>"))
    assert "&lt;b&gt;bad" in page
    assert "&lt;i&gt;warned" in page


def test_the_policy_names_the_pages_own_script_and_style_and_nothing_else(drawn_eye):
    text = report(drawn_eye())
    page = Page(text)
    (policy,) = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not any(name == "style" or name.startswith("on") for _, attributes in page.tags for name in attributes), (
        "the policy forbids inline styles and handlers"
    )


def test_the_page_fetches_nothing(drawn_eye):
    page = Page(report(drawn_eye()))
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("data:image/jpeg;", "#"))
    outside = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", report(drawn_eye()))
    outside = outside.replace('"http://www.w3.org/2000/svg"', "")  # a name, which no browser fetches
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", outside)


def test_the_embedded_photo_is_the_photo_without_its_metadata(drawn_eye):
    found = drawn_eye()
    (image,) = Page(report(found)).named("image")
    data = base64.b64decode((image["href"] or "").split(",", 1)[1])
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (300, 220)
    assert not picture.getexif()
    assert np.abs(np.asarray(picture).astype(int) - found.pixels).mean() < 3


def test_a_wide_photo_is_embedded_at_2048(drawn_eye):
    found = drawn_eye()
    found.pixels, found.masks = np.zeros((1500, 3000, 3), np.uint8), {}
    page = Page(report(found))
    data = base64.b64decode((page.named("image")[0]["href"] or "").split(",", 1)[1])
    assert Image.open(io.BytesIO(data)).size == (2048, 1024)
    assert [svg["viewbox"] for svg in page.named("svg") if "data-photo" in svg] == ["0 0 3000 1500"]


def test_every_structure_is_a_layer_that_can_be_switched_and_faded(drawn_eye):
    page = Page(report(drawn_eye(), palette="safe"))
    layers = {group["data-layer"]: group for group in page.named("g") if "data-layer" in group}
    inputs = page.named("input")
    assert set(layers) == {*CODES, "landmarks"}
    assert {one["data-show"] for one in inputs if one["type"] == "checkbox"} == set(layers)
    assert {one["data-fade"] for one in inputs if one["type"] == "range"} == set(layers)
    assert layers["HE"]["stroke"] == "#{:02x}{:02x}{:02x}".format(*structure("HE").safe_color)


def test_what_was_found_stands_in_the_text(drawn_eye):
    text = Page(report(drawn_eye())).text
    for piece in (
        "Probably grade 2: Moderate",
        "71 %",
        "edema risk 2 of 2",
        "Refer urgently",
        "89 %",
        "38 %",
        "210.0",
        "160.0",
        "stand-in 0.1.0",
    ):
        assert piece in text
    for piece in (*GRADES, *DME_RISKS, "Microaneurysms 2", "research and education", "Not a medical device"):
        assert piece in text


def test_a_refused_photo_gives_reasons_and_no_grade(drawn_eye):
    text = report(drawn_eye(gradable_ok=False))
    page = Page(text)
    assert "This photo cannot be graded: take it again." in page.text
    assert "focus again and retake" in page.text
    assert "Take the photo again; if that fails" in page.text
    assert not [group for group in page.named("g") if "data-layer" in group]
    assert not re.search(r"Grade \d|Moderate", page.text)


def test_what_the_model_does_not_know_is_left_out(drawn_eye):
    found = drawn_eye(disc_xy=None, fovea_xy=None, codes=("MA",))
    said = found.to_dict() | {"dme": None, "referable": None}
    said["headline"]["dme"] = None
    said["lesions"]["MA"]["area_dd2"] = None
    found.to_dict = lambda: said
    text = Page(report(found)).text
    assert text.count("not found") == 2
    assert "Risk of macular edema" not in text.replace(Words()("dme.title") + " –", "")
    assert "own word" not in text


def test_what_the_model_does_not_look_for_is_not_called_missing(drawn_eye):
    found = drawn_eye(disc_xy=None, fovea_xy=None)
    found.card = replace(found.card, landmarks=("optic_disc",))
    assert Page(report(found)).text.count("not found") == 1
    found.card = replace(found.card, landmarks=())
    assert "not found" not in Page(report(found)).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_speaks_every_language(drawn_eye, language):
    words, found = Words(language), drawn_eye()
    found.card = Card(about={"figures": [FIGURE]})
    page = Page(report(found, language=language))
    assert page.named("html")[0]["lang"] == language
    said = found.to_dict()
    for note in (*said["evidence"], *said["advice"]["because"], *said["warnings"]):
        assert words.message(note) in page.text
    assert words.sentence("GRADE_PROBABLE", {"grade": 2}) in page.text
    assert words.number(0.74, ".2f") in page.text
    if language != "en":
        english = {row["en"] for row in string_table("page").values()} - {
            row[language] for row in string_table("page").values()
        }
        assert not [text for text in english if len(text) > 25 and text in page.text]


def test_a_set_of_grades_is_told(drawn_eye):
    found = drawn_eye()
    said = found.to_dict() | {"grade_set": [2, 3]}
    found.to_dict = lambda: said
    assert "(nine in ten such sets contain the true one): 2, 3." in Page(report(found)).text


def test_a_path_redraws_its_mask():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 10:50] = 1
    mask[20:30, 20:40] = 0
    mask[55, 70] = 1
    path = svg_path(trace(mask.astype(bool)).rings)
    assert path.count("M") == path.count("z") == 3
    assert "M70 55h0z" in path
    assert re.fullmatch(r"[Mlhz0-9 \-]+", path)


def test_printable_shows_that_something_was_there():
    assert printable("a\0b\u202ec\udcff") == "a\ufffdb\ufffdc\ufffd"
    for text in ("Auge_å_目.jpg", "क्‍ष", "12 345 px"):
        assert printable(text) == text


def test_the_page_shows_what_the_lesions_support(drawn_eye):
    page = Page(report(drawn_eye()))
    assert "Diabetic retinopathy 2 2 to 3 agree" in page.text
    assert ": more than microaneurysms only, so at least grade 2." in page.text
    assert "Refer urgently Grade 2: grade 2 or more is referable." in page.text
    assert "Right eye, by disc and fovea." in page.text


def test_grades_that_cannot_be_excluded_are_shown_beside_the_grade(drawn_eye):
    eye = drawn_eye()
    assert "cannot be excluded" not in report(eye)
    told = eye.to_dict() | {"grade_set": [1, 2, 3]}
    eye.to_dict = lambda: told
    assert "contain the true one): 1, 2, 3." in Page(report(eye)).text


def test_a_click_finds_every_lesion_also_one_that_the_file_does_not_list(drawn_eye):
    eye = drawn_eye()
    dots = np.zeros_like(eye.masks["MA"])
    dots[10:210:5, 50:250:6] = True
    eye.masks["MA"] = dots
    told = eye.to_dict()
    told["lesions"]["MA"]["objects"] = told["lesions"]["MA"]["objects"][:200]
    eye.to_dict = lambda: told
    (main,) = Page(report(eye)).named("main")
    listed = [one for one in json.loads(str(main["data-viewer"]))["lesions"] if one["code"] == "MA"]
    assert len(listed) == int(dots.sum()) > 200
    assert len({(one["x"], one["y"]) for one in listed}) == len(listed)
