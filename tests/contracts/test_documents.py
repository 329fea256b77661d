"""Links of the documents lead somewhere, and the architecture names the folders and layers that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for top in (".", "docs", "docs/decisions", "benchmarks", "research", "results")
    for path in (ROOT / top).glob("*.md")
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; a heading that repeats has a number after it."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    slugs = [
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    ]
    return {
        f"{slug}-{slugs[:place].count(slug)}" if slug in slugs[:place] else slug for place, slug in enumerate(slugs)
    }


@pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = [(link, anchor) for link, anchor in LINK.findall(text) if "://" not in link]
    assert not [link for link, _ in links if not (page.parent / link).exists()]
    targets = [(page.parent / link if link else page, anchor) for link, anchor in links if anchor]
    assert not [(target.name, anchor) for target, anchor in targets if anchor not in anchors(target)]
    assert "../shared" not in text, "DATA stands for a folder outside the repository"


def test_the_map_has_every_folder() -> None:
    block = ARCHITECTURE.partition("## The map")[2].split("```")[1]
    folders = {path.name for path in (ROOT / "src" / "funduscope").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= set(re.findall(r"(\w+)/", block))


def test_the_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == ["funduscope"])
    wanted = [", ".join(name.strip("() ") for name in line.split("|")) for line in layers]
    assert ARCHITECTURE.partition("## Who may import whom")[2].split("```")[1].split("\n")[1:-1] == wanted


def test_the_license_of_the_package_has_that_of_the_demo_photo() -> None:
    photo = (ROOT / "NOTICE").read_text("utf-8").partition("1. The demo photograph")[2].partition("\n2. ")[0]
    assert "Creative Commons Attribution 4.0 International" in photo
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "CC-BY-4.0" in project["license"].split(" AND ")


def test_every_code_of_an_answer_is_explained() -> None:
    """But for the captions of maps, which are drawn next to their code's sentence."""
    text = (ROOT / "src" / "funduscope" / "i18n" / "strings" / "findings.toml").read_text("utf-8")
    codes = {code for code in tomllib.loads(text) if not code.startswith(("EXPLAINS_", "MAP_", "FILLING_"))}
    suffix = re.compile(r"_(CHANCE|LESIONS)$")
    codes = {suffix.sub("", code) if code.startswith("REFER_") else code for code in codes}
    explained = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", (ROOT / "docs" / "errors.md").read_text("utf-8")))
    assert codes <= explained


def test_there_is_not_more_to_read_than_people_read() -> None:
    assert len(list((ROOT / "docs").glob("*.md"))) <= 26
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 120
