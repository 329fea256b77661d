"""Prints the model's figures as tables, from the scores that `funduscope evaluate` wrote, and puts them into the docs.

    python benchmarks/figures.py            prints them
    python benchmarks/figures.py --write    also replaces what stands between the markers in README.md and MODEL_CARD.md
                                            and the scores that lie beside the shipped model, for its reports

A figure in those files comes from here or it does not stand there; a test compares them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCORES = ROOT / "docs" / "scores" / "fold0.json"
FILES = ("README.md", "MODEL_CARD.md")
BESIDE = ROOT / "src" / "funduscope" / "models" / "funduscope.scores.json"
REPORTED = ("DR", "referable DR", "DME")
"""What of the scores lies beside the shipped model (predict/figures.py)."""

MARKER = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.S)

Row = tuple[str, str, str, str]
# What is shown, the data set, the state, the score; the short table first.
SHORT: tuple[Row, ...] = (
    ("DR, quadratic weighted kappa", "idrid-B", "DR", "kappa"),
    ("DR, accuracy", "idrid-B", "DR", "accuracy"),
    ("macular edema risk, accuracy", "idrid-B", "DME", "accuracy"),
    ("referable DR, AUROC", "idrid-B", "referable DR", "AUROC"),
    ("disc, mean distance at 4288 wide, px", "idrid-B", "disc center", "mean px"),
    ("fovea, mean distance at 4288 wide, px", "idrid-B", "fovea", "mean px"),
    ("DR, quadratic weighted kappa", "srahim", "DR", "kappa"),
    ("referable DR, AUROC", "srahim", "referable DR", "AUROC"),
    ("hard exudates, average precision", "idrid-A", "EX pixels", "average precision"),
    ("haemorrhages, average precision", "idrid-A", "HE pixels", "average precision"),
    ("microaneurysms, average precision", "idrid-A", "MA pixels", "average precision"),
    ("soft exudates, average precision", "idrid-A", "SE pixels", "average precision"),
    ("optic disc, IoU", "idrid-A", "OD mask", "IoU"),
    ("grade-0 photos with a false HE, EX or SE", "idrid-B", "false HE, EX or SE", "photos with any"),
    ("grade-0 photos with a false HE, EX or SE", "srahim", "false HE, EX or SE", "photos with any"),
)


def number(value: float | None) -> str:
    """A score for people: three digits, one from ten on."""
    if value is None:
        return "not known"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(score: dict[str, Any]) -> str:
    """The 95 % interval, where there is one."""
    if score["low"] is None:
        return ""
    return f"{number(score['low'])} to {number(score['high'])}"


def short_table(tree: dict[str, Any]) -> str:
    """The figures that the README shows."""
    lines = ["| what | data set (fold 0) | photos | value | 95 % interval |", "|---|---|---|---|---|"]
    for what, dataset, state, name in SHORT:
        score = tree["scores"][dataset][state][name]
        photos = tree["details"][dataset]["states"][state]["photos"]
        lines.append(f"| {what} | {dataset} | {photos} | {number(score['value'])} | {interval(score)} |")
    return "\n".join(lines) + "\n"


def full_table(tree: dict[str, Any]) -> str:
    """Every score of every data set."""
    parts = []
    for dataset, states in tree["scores"].items():
        about = tree["details"][dataset]
        parts.append(f"#### {dataset}: {about['photos']} photos, {about['refused']} refused\n")
        parts.append("| what | score | photos | value | 95 % interval |\n|---|---|---|---|---|")
        for state, scores in states.items():
            photos = about["states"][state]["photos"]
            for name, score in scores.items():
                shown = state.replace("|", " or ")
                parts.append(f"| {shown} | {name} | {photos} | {number(score['value'])} | {interval(score)} |")
        parts.append("")
    return "\n".join(parts)


def source(tree: dict[str, Any]) -> str:
    """The command that made them and the model they are of."""
    about = tree["about"]
    model = about["models"][0]
    return f"Model `{model['sha256'][:16]}`, by `{about['command']}`.\n"


def filled(text: str, tree: dict[str, Any]) -> str:
    """The text with every marked block made anew."""
    tables = {"short": short_table, "full": full_table, "source": source}
    return MARKER.sub(lambda found: f"{found[1]}{tables[found[2]](tree)}{found[3]}", text)


def beside(tree: dict[str, Any]) -> str:
    """The part of the scores that lies beside the shipped model, as the file's text."""
    scores, details = {}, {}
    for dataset, states in tree["scores"].items():
        held = {state: states[state] for state in REPORTED if state in states}
        if held:
            scores[dataset] = held
            about = tree["details"][dataset]["states"]
            details[dataset] = {"states": {state: {"photos": about[state]["photos"]} for state in held}}
    part = {"about": tree["about"], "schema": tree["schema"], "scores": scores, "details": details}
    return json.dumps(part, indent=1, allow_nan=False) + "\n"


def main() -> None:
    """Prints the short table; with --write fills the files."""
    tree = json.loads(SCORES.read_text("utf-8"))
    print(short_table(tree) + source(tree), end="")
    if "--write" in sys.argv[1:]:
        for name in FILES:
            path = ROOT / name
            path.write_text(filled(path.read_text("utf-8"), tree), "utf-8")
        BESIDE.write_text(beside(tree), "utf-8")


if __name__ == "__main__":
    main()
