"""Prints the model's figures as tables, from the scores that `funduscope evaluate` wrote, and puts them into the docs.

    python -m research.figures                prints them
    python -m research.figures --write        also replaces what stands between the markers in README.md and
                                              MODEL_CARD.md and the scores next to the shipped models, for their reports
    python -m research.figures --keep fast OUT   first takes the scores of `funduscope evaluate fast --fold 0 --out OUT`
                                              into results/, and the predictions of each photo

The default model's figures are of folds 0 and 3, of a run that learned without each, and it repeats the first of them:
`funduscope evaluate runs/flagship/model.int8.onnx runs/flagship3/model.onnx --data DATA --out OUT`.

A figure in those files comes from here or it does not stand there; a test compares them. A model that learned from
every photo ships with the figures of the procedure that made it: those of the run that it repeats.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.unseen import SHIPPED
from research.bars import BARS, FAST_BARS, bars_table, interval, number

from funduscope.compare.run_record import hashed
from funduscope.inference.model_scores import ENDING
from funduscope.inference.runtime import OnnxRuntime
from funduscope.vocabulary import DME_RISKS, GRADES, REFERABLE_FROM, referable

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "MODEL_CARD.md")
SCORES = {"default": ROOT / "results" / "folds0and3.json", "fast": ROOT / "results" / "fold0-fast.json"}
"""By the model's name what `funduscope evaluate` wrote of it."""

PHOTOS = ".photos.jsonl.gz"
"""What the names of files with predictions end in, next to those of the scores."""

REFERRED = ("idrid-B", "srahim", "messidor2", "eyepacs400")
"""The data sets with grades."""

EDEMA: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("idrid-B", "DME", tuple((f"risk {risk}", f"recall of {risk}") for risk in range(len(DME_RISKS)))),
    ("srahim", "maculopathy", (("no maculopathy", "specificity"), ("maculopathy: risk 1 or 2", "sensitivity"))),
    ("messidor2", "macular edema", (("risk 0 or 1", "specificity"), ("macular edema: risk 2", "sensitivity"))),
)
"""Data set, state, and by label of edema risk the score that is the share of its photos that are answered so."""

ADVICE, BOTH_RATES = "referral advice", ("sensitivity", "specificity")

OPERATING = (0.5, 0.3, 0.2, 0.15, 0.1, 0.05)
"""Thresholds of P(grade >= 2) that are shown next to the models' own."""

REPORTED = ("DR", "referable DR", "DME")
"""What of the scores lies next to the shipped model (inference/model_scores.py)."""

MARKER = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.S)

Row = tuple[str, str, str, str]
# What is shown, the data set, the state, the score: some of every data set and task, the worst among them.
SHORT: tuple[Row, ...] = (
    ("DR, quadratic weighted kappa", "idrid-B", "DR", "kappa"),
    ("DR, quadratic weighted kappa", "srahim", "DR", "kappa"),
    ("DR, quadratic weighted kappa", "messidor2", "DR", "kappa"),
    ("DR, quadratic weighted kappa", "eyepacs400", "DR", "kappa"),
    ("referable DR, AUROC", "idrid-B", "referable DR", "AUROC"),
    ("hard exudates, average precision", "idrid-A", "EX pixels", "average precision"),
    ("microaneurysms, average precision", "idrid-A", "MA pixels", "average precision"),
)


def read_scores(path: Path = SCORES["default"], shipped: Path = SHIPPED["default"]) -> dict[str, Any]:
    """The scores, with the shipped model's SHA-256 under `about["stands for"]` where they are of its procedure.

    Raises ValueError if they are of another model than that and the run that it repeats.
    """
    tree: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if "command" in tree["about"]:
        tree["about"]["command"] = re.sub(r"--data \S+", "--data DATA", tree["about"]["command"])
    digest = hashlib.sha256(shipped.read_bytes()).hexdigest()
    first, *others = tree["about"]["models"]
    if first["sha256"] == digest:
        return tree
    unlike = any(one["name"] != first["name"] or set(one["folds"]) & set(first["folds"]) for one in others)
    if unlike or first["sha256"] not in OnnxRuntime(shipped).card.about.get("repeats", ()):
        raise ValueError(f"{path.name} holds the scores of another model than {shipped.name} or the run it repeats.")
    return tree | {"about": tree["about"] | {"stands for": digest}}


def short_table(tree: dict[str, Any]) -> str:
    """The figures that the README shows."""
    lines = ["| what | data set | photos | value | 95 % interval |", "|---|---|---|---|---|"]
    for what, dataset, state, name in SHORT:
        score = tree["scores"][dataset][state][name]
        about = tree["details"][dataset]["states"][state]
        photos = str(about["photos"])
        cells = (what, dataset, photos, number(score["value"]), interval(score["low"], score["high"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def referral_table(trees: dict[str, dict[str, Any]]) -> str:
    """Sensitivity and specificity of every shipped model, at its threshold and as its reports advise, by data set."""
    heads = ["model", "data set"]
    for name in ("referable, other", "to be advised, other"):
        heads += [name, *BOTH_RATES]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, tree in trees.items():
        for dataset in REFERRED:
            cells = [f"`{name}`", dataset]
            for state in ("referable DR", ADVICE):
                scores = tree["scores"][dataset].get(state)
                if scores is None:
                    cells += ["not measured", "–", "–"]
                    continue
                others, wanted = map(sum, tree["details"][dataset]["states"][state]["confusion"])
                cells.append(f"{wanted}, {others}")
                for rate in (scores[one] for one in BOTH_RATES):
                    cells.append(f"{number(rate['value'])} ({interval(rate['low'], rate['high'])})")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def grades_table(photos: dict[str, list[dict[str, Any]]]) -> str:
    """By model and data set: of the photos of each grade those that are given it, and the severe ones that are not
    given any referable one."""
    heads = [*(f"grade {grade}" for grade in range(len(GRADES))), "3 or 4, answered 0 or 1", "refused"]
    lines = [f"| model | data set | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for name, rows in photos.items():
        for dataset in REFERRED:
            graded = [row for row in rows if row["dataset"] == dataset and row.get("grade") is not None]
            given = {grade: [row for row in graded if row["grade"] == grade] for grade in range(len(GRADES))}
            cells = [
                f"{sum(row['predicted_grade'] == grade for row in own)} of {len(own)}" for grade, own in given.items()
            ]
            severe = [row for row in graded if row["grade"] > REFERABLE_FROM]
            mild = sum(row["predicted_grade"] is not None and not referable(row["predicted_grade"]) for row in severe)
            cells += [f"{mild} of {len(severe)}", f"{sum(row['refused'] for row in graded)} of {len(graded)}"]
            lines.append(f"| `{name}` | {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def edema_table(trees: dict[str, dict[str, Any]]) -> str:
    """By model and data set: of the eyes with each label of edema risk those that are answered so."""
    lines = ["| model | data set | label | answered so | share | 95 % interval |", "|---|---|---|---|---|---|"]
    for name, tree in trees.items():
        for dataset, state, labels in EDEMA:
            counts = tree["details"][dataset]["states"][state]["confusion"]
            for at, (label, score) in enumerate(labels):
                share = tree["scores"][dataset][state][score]
                cells = (f"`{name}`", dataset, label, f"{counts[at][at]} of {sum(counts[at])}", number(share["value"]))
                lines.append(f"| {' | '.join(cells)} | {interval(share['low'], share['high'])} |")
    return "\n".join(lines) + "\n"


def answered_table(trees: dict[str, dict[str, Any]]) -> str:
    """Kappa and AUROC of the photos that were answered, where some were refused, next to those of all photos."""
    heads = "model | data set | refused | DR kappa, all | answered alone | referable DR AUROC, all | answered alone"
    lines = [f"| {heads} |", "|---|---|---|---|---|---|---|"]
    for name, tree in trees.items():
        for dataset in (one for one in REFERRED if one in tree["selective"]):
            about = tree["details"][dataset]["states"]["DR"]
            cells = [f"{about['refused']} of {about['photos']}"]
            for state, score in (("DR", "kappa"), ("referable DR", "AUROC")):
                for scores in (tree["scores"], tree["selective"]):
                    one = scores[dataset][state][score]
                    cells.append(f"{number(one['value'])} ({interval(one['low'], one['high'])})")
            lines.append(f"| `{name}` | {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def operating_table(photos: dict[str, list[dict[str, Any]]]) -> str:
    """Sensitivity / specificity of referable retinopathy at other thresholds; refused photos count as wrong."""
    lines = ["| model | data set | " + " | ".join(map(str, OPERATING)) + " |", "|---" * (2 + len(OPERATING)) + "|"]
    for name, rows in photos.items():
        for dataset in REFERRED:
            graded = [row for row in rows if row["dataset"] == dataset and row.get("grade") is not None]
            truth = np.array([referable(row["grade"]) for row in graded])
            chances = [sum((row["grade_probs"] or [])[REFERABLE_FROM:]) for row in graded]
            answered = np.array([row["grade_probs"] is not None for row in graded])
            cells = []
            for cut in OPERATING:
                right = answered & ((np.array(chances) >= cut) == truth)
                cells.append(f"{number(right[truth].mean())} / {number(right[~truth].mean())}")
            lines.append(f"| `{name}` | {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def source(tree: dict[str, Any]) -> str:
    """The command that made them and the model they are of."""
    about = tree["about"]
    models = [f"`{one['sha256'][:16]}` on fold {', '.join(map(str, one['folds']))}" for one in about["models"]]
    ships = about.get("stands for")
    which = "the first of them" if len(models) > 1 else "that training"
    repeats = f"repeats {which} on every photo: none is left to test it on"
    shipped = f" The model that ships, `{ships[:16]}`, {repeats}." if ships else ""
    return f"Model{'s' * (len(models) > 1)} {' and '.join(models)}, by `{about['command']}`.{shipped}\n"


def keep(name: str, folder: Path, results: Path = ROOT / "results") -> None:
    """Takes what an evaluation of a shipped model wrote into `results`; names of photos and visits become hashes.

    From the predictions every score of grades, edema risk and places can be computed again, and Dice of each photo.
    Raises ValueError for the scores of another model, before anything is written.
    """
    read_scores(folder / "scores.json", SHIPPED[name])
    keep_as(results / SCORES[name].name, folder)


def keep_as(scores: Path, folder: Path) -> None:
    """Takes what an evaluation wrote into `folder`: its scores to that path, its predictions next to it."""
    lines = (folder / "photos.jsonl").read_text("utf-8").splitlines()
    shutil.copyfile(folder / "scores.json", scores)
    rows = [row | {key: hashed(row[key]) for key in ("key", "visit")} for row in map(json.loads, lines)]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    # Without a time the bytes depend on the content alone.
    scores.with_suffix(PHOTOS).write_bytes(gzip.compress(text.encode(), mtime=0))


def read_photos(scores: Path) -> list[dict[str, Any]]:
    """The predictions of each photo that lie next to the scores."""
    text = gzip.decompress(scores.with_suffix(PHOTOS).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def read_all() -> dict[str, dict[str, Any]]:
    """The scores of every shipped model, by its name."""
    return {name: read_scores(SCORES[name], shipped) for name, shipped in SHIPPED.items()}


def filled(text: str, trees: dict[str, dict[str, Any]]) -> str:
    """The text with every marked block made anew. trees: scores by the model's name."""
    tables = {"short": short_table, "bars": bars_table, "source": source}

    def block(name: str) -> str:
        if name == "fast":
            return f"{bars_table(trees['fast'], FAST_BARS)}\n{source(trees['fast'])}"
        of_scores = {"referral": referral_table, "answered": answered_table, "edema": edema_table}
        if name in of_scores:
            return of_scores[name](trees)
        if name in ("operating", "grades"):
            of_photos = {"operating": operating_table, "grades": grades_table}[name]
            return of_photos({model: read_photos(path) for model, path in SCORES.items()})
        return tables[name](trees["default"])

    return MARKER.sub(lambda found: f"{found[1]}{block(found[2])}{found[3]}", text)


def model_scores(tree: dict[str, Any]) -> str:
    """The part of the scores that lies next to the shipped model, as the file's text."""
    scores, details = {}, {}
    for dataset, states in tree["scores"].items():
        reported = {state: states[state] for state in REPORTED if state in states}
        if reported:
            scores[dataset] = reported
            about = tree["details"][dataset]["states"]
            details[dataset] = {"states": {state: {"photos": about[state]["photos"]} for state in reported}}
    part = {"about": tree["about"], "schema": tree["schema"], "scores": scores, "details": details}
    return json.dumps(part, indent=1, allow_nan=False) + "\n"


def main() -> None:
    """Prints a table of each model; with --write fills the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", nargs=2, metavar=("MODEL", "OUT"))
    given = parser.parse_args()
    if given.keep and given.keep[0] not in SCORES:
        parser.error(f"--keep got {given.keep[0]!r}; expected {' or '.join(SCORES)}")
    if given.keep:
        keep(given.keep[0], Path(given.keep[1]))
    trees = read_all()
    for name, bars in (("default", BARS), ("fast", FAST_BARS)):
        print(bars_table(trees[name], bars) + source(trees[name]))
    if given.write:
        for name in FILES:
            path = ROOT / name
            path.write_text(filled(path.read_text("utf-8"), trees), "utf-8")
        for name, model in SHIPPED.items():
            model.with_suffix(ENDING).write_text(model_scores(trees[name]), "utf-8")


if __name__ == "__main__":
    main()
