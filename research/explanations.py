"""Explanations tested: do maps point at lesions, do answers depend on them, do they depend on the weights.

    python -m research.explanations --data DATA            prints the tables of docs/explanations.md
    python -m research.explanations --data DATA --write    and keeps what the package says with a map

Photos with lesions outlined by hand in folds 0 and 1, from which the model did not learn (fold 1 chose its epoch and
its thresholds). Where the shipped model learned from every photo, --run names the run that it repeats, which is
measured in its place. Every photo is one JSON file in --cache, so that a run which was stopped continues. One
processor, half an hour.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from benchmarks.unseen import SHIPPED, measured
from research.explanation_facts import keep, mean, mean_of, said, triple

from funduscope.checkpoint import load as load_weights
from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.explain import grad_cam
from funduscope.explain.class_activation import Explanation, Target, explanation
from funduscope.explain.map_reliability import FILE
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import session_options, softmax
from funduscope.metrics.intervals import Interval
from funduscope.network.joined import part_for
from funduscope.network.network import Network
from funduscope.vocabulary import LESIONS
from research import map_measures, sanity

FOLDS = (0, 1)
SETS: dict[Target, dict[str, tuple[str, ...]]] = {
    "referable": {"idrid-A": LESIONS},
    "edema": {"idrid-A": ("EX",), "heimed": ("EX|SE",)},
}
"""Which lesions an answer is about, by data set."""

CURVES = ("idrid-A",)
CHECKED = "idrid-A"
DRAWS = 3
MAPS = {
    "exact CAM": "what the package shows",
    "Grad-CAM": "deepest level",
    "HiResCAM, stride 16": "",
    "LayerCAM, strides 8 to 32": "",
    "lesion probability map": "trivial: the model's own lesions",
    "center blob": "trivial",
    "random blobs": "trivial",
}
FIXED = ("center blob", "random blobs")
Maps = dict[str, np.ndarray]
Grader = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass
class Row:
    """One photo and one target: what every map scored."""

    case: str
    dataset: str
    visit: str
    target: Target
    chance: float
    parity: float
    overlaps: dict[str, dict[str, float]]
    curves: dict[str, tuple[float, float]]


def cases_of(data: Path, dataset: str) -> list[Case]:
    """The photos of a data set in `FOLDS` that show a lesion outlined by hand."""
    held = [case for case in SplitPlan.of(read_data([data])).cases if case.dataset == dataset and case.fold in FOLDS]
    return [
        case for case in held if any(not mask.is_absent for code, mask in case.labels.masks.items() if code != "OD")
    ]


def lesions_in(case: Case, findings: Findings, codes: Iterable[str]) -> np.ndarray:
    """The true lesions of those kinds as the grid sees them."""
    photo = findings.photo
    united = np.zeros((photo.height, photo.width), bool)
    for code in codes:
        if code in case.labels.masks:
            united |= case.labels.masks[code].load(photo.height, photo.width)
    return map_measures.widened(findings.transform.map_to_frame(united))


def trivial_maps(findings: Findings, target: Target) -> Maps:
    """The lesion probability map, a blob in the middle, blobs anywhere."""
    codes = LESIONS if target == "referable" else ("EX",)
    yy, xx = np.mgrid[:64, :64] / 63 - 0.5
    noise = np.random.default_rng(int(findings.photo.sha256[:8], 16)).random((16, 16))
    return {
        "lesion probability map": np.maximum.reduce([findings.frame_probs[code] for code in codes]),
        "center blob": np.exp(-(xx**2 + yy**2) / (2 * 0.15**2)),
        "random blobs": noise,
    }


def gradient_maps(
    network: Network, image: np.ndarray, asked: Explanation, temperature: float
) -> tuple[Maps, np.ndarray]:
    """The maps that need torch, and the exact one by torch."""
    levels = grad_cam.levels_of(network, image, asked.task, asked.classes, 1 / temperature)
    maps = {
        "Grad-CAM": grad_cam.grad_cam(levels[-1]),
        "HiResCAM, stride 16": grad_cam.hires_cam(levels[-2]),
        "LayerCAM, strides 8 to 32": grad_cam.joined_layer_cam(levels[-3:]),
    }
    return maps, grad_cam.hires_cam(levels[-1])


def grader(path: Path, temperatures: dict[str, float]) -> Grader:
    """Image to probabilities of grade and DME, by the part of the model that makes them."""
    part = onnx.utils.Extractor(onnx.load(str(path))).extract_model(["image"], ["grade", "dme"])
    session = onnxruntime.InferenceSession(part.SerializeToString(), session_options(), ["CPUExecutionProvider"])

    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        logits = dict(zip(("grade", "dme"), session.run(["grade", "dme"], {"image": image[None]}), strict=True))
        return {task: softmax(np.asarray(each)[0] / temperatures[task]) for task, each in logits.items()}

    return answer


def look(case: Case, target: Target, predictor: Predictor, network: Network, answer: Callable[..., Any]) -> Row:
    """Everything measured of one photo but the check against random weights."""
    findings, image, asked = seen(case, target, predictor)
    maps, exact = gradient_maps(network, image, asked, predictor.card.temperatures[asked.task])
    maps |= {"exact CAM": asked.evidence} | trivial_maps(findings, target)
    small_eye = map_measures.eye_of(cv2.resize(image, (map_measures.SIDE,) * 2, interpolation=cv2.INTER_AREA))
    lesions = lesions_in(case, findings, SETS[target][case.dataset])
    overlaps = {name: asdict(map_measures.overlap(maps[name], lesions, small_eye)) for name in MAPS}
    curves: dict[str, tuple[float, float]] = {}
    if case.dataset in CURVES and asked.probability >= 0.5:
        known: dict[bytes, float] = {}  # every curve begins and ends with the same two pictures

        def chance(changed: np.ndarray) -> float:
            key = hashlib.sha256(changed.tobytes()).digest()
            if key not in known:
                known[key] = float(answer(changed)[asked.task][list(asked.classes)].sum())
            return known[key]

        eye = map_measures.eye_of(image)
        curves = {name: map_measures.curves(image, maps[name], eye, chance) for name in MAPS}
    parity = sanity.alike(exact, asked.evidence, small_eye)
    return Row(case.key, case.dataset, case.visit, target, asked.probability, parity, overlaps, curves)


def seen(case: Case, target: Target, predictor: Predictor) -> tuple[Findings, np.ndarray, Explanation]:
    """The findings of a photo, its whole view and its explanation."""
    photo = Photo.open(case.path)
    card, framed = predictor.card, frame(photo, predictor.card.close_px)
    findings = predictor.answer(photo, framed)
    asked = explanation(findings, target)
    assert asked is not None, "the model has exact maps"
    return findings, cv2.resize(framed.image, (card.whole_px,) * 2, interpolation=cv2.INTER_AREA), asked


def lesions_by(network: Network, image: np.ndarray, codes: Iterable[str], card: Card) -> Maps:
    """The network's lesion map of the whole view; none if another network finds lesions."""
    import torch

    if card.own_close:
        return {}
    with torch.no_grad():
        planes = network(torch.from_numpy(image[None])).structures[0].sigmoid().numpy()
    return {"lesion probability map": np.maximum.reduce([planes[card.structures.index(code)] for code in codes])}


def checked(cases: list[Case], predictor: Predictor, network: Network, place: Path) -> list[dict[str, Any]]:
    """Rank correlations with the maps of ever more random networks: a row a photo, target, draw and part."""
    rows: list[dict[str, Any]] = []
    looks = [(case, target, *seen(case, target, predictor)[1:]) for case in cases for target in SETS]
    images = [image for _, target, image, _ in looks if target == "referable"]
    before = [maps_of(network, image, asked, predictor) for _, _, image, asked in looks]
    for draw in range(DRAWS):
        file = place / f"random-{draw}.json"
        if not file.is_file():
            parts = len(sanity.stages(network))
            told = []
            for number, (part, changed) in enumerate(sanity.cascade(network, images[:4], draw)):
                if draw and number < parts - 1:
                    continue  # the way there is reported for the first draw alone
                for (case, target, image, asked), was in zip(looks, before, strict=True):
                    now, eye = maps_of(changed, image, asked, predictor), map_measures.eye_of(image)
                    alike = {name: sanity.alike(was[name], now[name], eye) for name in was}
                    told.append({"case": case.key, "visit": case.visit, "target": target, "part": part,
                                 "last": number == parts - 1, "alike": alike})  # fmt: skip
                print(f"draw {draw}: {part}", file=sys.stderr, flush=True)
            file.write_text(json.dumps(told), "utf-8")
        rows += json.loads(file.read_text("utf-8"))
    return rows


def maps_of(network: Network, image: np.ndarray, asked: Explanation, predictor: Predictor) -> Maps:
    """The maps that may depend on the weights, all by torch."""
    card = predictor.card
    maps, exact = gradient_maps(network, image, asked, card.temperatures[asked.task])
    codes = LESIONS if asked.target == "referable" else ("EX",)
    return {"exact CAM": exact} | maps | lesions_by(network, image, codes, card)


def alike_at_last(rows: list[dict[str, Any]], target: str, name: str) -> Interval:
    """Over the draws' means of every photo, all weights random."""
    by_case: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["last"] and row["target"] == target:
            by_case.setdefault((row["case"], row["visit"]), []).append(row["alike"][name])
    return mean_of((visit, float(np.mean(values))) for (_, visit), values in by_case.items())


def table(rows: list[Row], random: list[dict[str, Any]], target: Target, dataset: str) -> list[str]:
    """One target on one data set."""
    mine = [row for row in rows if row.target == target and row.dataset == dataset]
    drawn = [row for row in mine if row.curves]
    area = np.mean([row.overlaps["exact CAM"]["area"] for row in mine])
    lines = [
        f"#### {target}, {dataset}: {len(mine)} photos of {len({row.visit for row in mine})} visits; "
        f"lesions cover {area:.3f} of the eye; curves of {len(drawn)} photos",
        "",
        "| map | highest place on a lesion | share on lesions | IoU | deletion (low) | insertion (high) "
        "| like that of random weights | check |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in MAPS:
        cells = [said(mean_of((r.visit, r.overlaps[name][key]) for r in mine)) for key in ("pointing", "energy", "iou")]
        cells += [said(mean_of((r.visit, r.curves[name][side]) for r in drawn)) if drawn else "" for side in (0, 1)]
        is_checked = dataset == CHECKED and name in random[0]["alike"]
        alike = alike_at_last(random, target, name) if is_checked else None
        cells += ["1.00", "fails"] if name in FIXED else [said(alike)]
        if alike is not None:
            cells.append("passes" if sanity.passes(alike.high) else "fails")
        elif name not in FIXED:
            cells.append("")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def cascade_table(random: list[dict[str, Any]], target: Target) -> list[str]:
    """How like itself each map stays while the network is made random from the answers down; first draw."""
    count = len({(row["case"], row["target"]) for row in random})
    first = random[: count * len({row["part"] for row in random})]
    parts = list(dict.fromkeys(row["part"] for row in first))
    names = list(first[0]["alike"])
    lines = [f"| {target}: random down to | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for part in parts:
        told = [row["alike"] for row in first if row["part"] == part and row["target"] == target]
        lines.append(f"| {part} | {' | '.join(f'{np.mean([one[name] for one in told]):.2f}' for name in names)} |")
    return [*lines, ""]


def facts(rows: list[Row], random: list[dict[str, Any]]) -> dict[str, Any]:
    """What the package says with a map: see `funduscope.explain.map_reliability.Measured`."""
    told: dict[str, Any] = {}
    for target in SETS:
        mine = [row for row in rows if row.target == target and row.dataset == CHECKED]
        share = mean_of((row.visit, row.overlaps["exact CAM"]["energy"]) for row in mine)
        alike = alike_at_last(random, target, "exact CAM")
        pairs = {
            key: [
                sum(int(row.overlaps[name]["pointing"]) for row in mine),
                mean([row.overlaps[name]["energy"] for row in mine]),
            ]
            for key, name in (("center", "center blob"), ("lesion_map", "lesion probability map"))
        }
        told[target] = {
            "photos": len(mine),
            "hits": sum(int(row.overlaps["exact CAM"]["pointing"]) for row in mine),
            "share": triple(share),
            "area": mean([row.overlaps["exact CAM"]["area"] for row in mine]),
            **pairs,
            "alike": triple(alike),
            "passes": sanity.passes(alike.high),
        }
    return told


def rows_of(data: Path, place: Path, predictor: Predictor, network: Network, answer: Grader) -> list[Row]:
    """Every photo's row, from its file where there is one."""
    rows: list[Row] = []
    for target, sets in SETS.items():
        for dataset in sets:
            for case in cases_of(data, dataset):
                file = place / f"{target}-{case.key.replace('/', '-')}.json"
                if not file.is_file():
                    row = look(case, target, predictor, network, answer)
                    file.write_text(json.dumps(asdict(row)), "utf-8")
                    print(f"{target} {case.key}", file=sys.stderr, flush=True)
                rows.append(Row(**json.loads(file.read_text("utf-8"))))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/explanations"))
    parser.add_argument("--model", choices=SHIPPED, default="default", help="the shipped model (default: default)")
    parser.add_argument("--run", type=Path, help="the exported run that the shipped model repeats")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {FILE}")
    given = parser.parse_args()
    model = measured(given.run, given.model)
    predictor = load(model.onnx, threads=1)
    network = part_for(load_weights(model.weights).network(), "grade")
    place = given.cache / predictor.runtime.sha256[:12]
    place.mkdir(parents=True, exist_ok=True)
    rows = rows_of(given.data, place, predictor, network, grader(model.onnx, predictor.card.temperatures))
    random = checked(cases_of(given.data, CHECKED), predictor, network, place)
    for target, sets in SETS.items():
        for dataset in sets:
            print("\n".join(table(rows, random, target, dataset)))
        print("\n".join(cascade_table(random, target)))
    outside = np.mean([row.overlaps["exact CAM"]["outside"] for row in rows])
    print(f"Share of the exact map outside the eye: {outside:.2f}.")
    parity = np.mean([row.parity for row in rows])
    print(f"Exact map of the INT8 file and of the float weights, rank correlation: {parity:.3f}")
    print(f"The bar of the check: upper end of the interval below {sanity.MAX_ALIKE}.")
    if given.write:
        command = f"python -m research.explanations --data DATA --write{model.option}"
        keep(model.stands_for, predictor.card.name, "maps", facts(rows, random), command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
