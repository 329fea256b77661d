"""doctor.html: readable without network, escaped, filterable, and bounded for any number of findings."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from funduscope.doctor.doctor_html import LISTED, SHOWN, page
from funduscope.doctor.finding import Finding, Picture, found, ordered
from funduscope.doctor.kinds import KINDS

EVIL = '<img src=x onerror="alert(1)">.jpg'


class _Read(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _page(findings: list[Finding], photos: int = 3) -> str:
    return page("my photos", photos, ordered(findings), lambda name: b"jpeg", lambda items, words, total: items)


def _blurred(number: int) -> Finding:
    return found("blurred", [f"eye {number:04d}.jpg"], "Vessels have soft edges.", {"sharpness": 0.41})


def test_a_stranger_reads_what_it_is_and_what_to_do() -> None:
    text = _Read(_page([_blurred(1), found("truncated", ["b.jpg"], "Its end is missing.")])).text
    assert "3 photos examined. 2 findings:" in text
    for kind in ("blurred", "truncated"):
        assert KINDS[kind].title in text
        assert KINDS[kind].why in text
    assert text.index("Fix first") < text.index("Cut short") < text.index("Blurred")


def test_nothing_found_is_said() -> None:
    text = _Read(_page([], photos=1)).text
    assert "1 photo examined. Nothing was found" in text


def test_names_of_files_are_text_and_nothing_else() -> None:
    one = found("blurred", [EVIL], f"Says {EVIL}.", {EVIL: EVIL, "table": [{EVIL: EVIL}]})
    read = _Read(page(EVIL, 1, [one], lambda name: None, lambda items, words, total: items))
    assert "onerror" not in {key for _, attributes in read.tags for key in attributes}
    assert read.text.count(EVIL) > 4
    flipped = found("blurred", ["eye\u202egpj.exe"], "Turned.")
    assert "\u202e" not in _page([flipped])


def test_the_page_allows_nothing_but_itself() -> None:
    text = _page([_blurred(1)])
    policy = next(meta["content"] for meta in _Read(text).all("meta") if "content" in meta and "src" in meta["content"])
    assert "default-src 'none'" in policy
    for tag in ("style", "script"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inside is not None
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert all(image["src"].startswith("data:image/jpeg") for image in _Read(text).all("img"))
    assert "http:" not in text
    assert "https:" not in text


def test_thousands_of_findings_make_a_page_that_opens() -> None:
    drawn: list[int] = []

    def draw(number: int) -> np.ndarray:
        drawn.append(number)
        return np.zeros((8, 8, 3), np.uint8)

    many = [
        found("blurred", [f"{number:05d}.jpg"], "Soft.", pictures=[Picture("why", lambda number=number: draw(number))])
        for number in range(LISTED + 50)
    ]
    text = _page(many, photos=5000)
    read = _Read(text)
    assert len(drawn) == SHOWN
    assert len(read.all("article")) == SHOWN
    assert sum("data-finding" in attributes for _, attributes in read.tags) == LISTED
    assert "And 50 more in doctor.json" in read.text
    assert len(text) < 1_000_000


def test_a_picture_that_cannot_be_drawn_is_left_out() -> None:
    def gone() -> np.ndarray:
        raise FileNotFoundError("eye.jpg")

    read = _Read(
        _page([found("blurred", ["a.jpg"], "Soft.", pictures=[Picture("a", gone), Picture("b", lambda: None)])])
    )
    assert len(read.all("img")) == 1  # the thumbnail


def test_what_can_be_filtered_and_sorted_is_marked() -> None:
    read = _Read(_page([_blurred(1), _blurred(2), found("truncated", ["b.jpg"], "Its end is missing.")]))
    sections = [attributes for attributes in read.all("section") if "data-severity" in attributes]
    assert [(one["data-severity"], one["data-group"], one["data-count"]) for one in sections] == [
        ("error", "Photographs", "1"),
        ("warning", "Photographs", "2"),
    ]
    assert {box["data-severity"] for box in read.all("input") if "data-severity" in box} == {"error", "warning", "info"}
    assert len(read.all("select")) == 2


def test_tables_and_lists_of_evidence_are_shown() -> None:
    families = [{"family": "camera 1", "photos": 30}, {"family": "camera 2", "photos": 20}]
    counts = {"camera 1": {"0": 25, "1": 5}, "camera 2": {"0": 1, "1": 19}}
    read = _Read(
        _page([found("camera_families", ["a.jpg"], "Two.", {"families": families, "counts": counts, "p": 0.0005})])
    )
    assert len(read.all("table")) == 2
    for words in ("camera 2 20", "camera 1 25 5", "0.0005"):
        assert words in read.text


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is_for(kind: str) -> None:
    about = KINDS[kind]
    assert all(len(text) > 3 for text in (about.title, about.why, about.advice))
    assert about.why.endswith(".")
    assert about.advice.endswith(".")
    assert about.title not in [other.title for name, other in KINDS.items() if name != kind]
