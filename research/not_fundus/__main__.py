"""Fits the test of whether a picture is a fundus photograph, and prints how well it does on what it did not learn from.

    python -m research.not_fundus --data DATA              the tables: true photos by source, other pictures by family
    python -m research.not_fundus --data DATA --write      also fits on everything and writes models/fundus.json

True: photos of DATA, at most `--most` of a data set and all of grade 3 or more, as they are (EyePACS's `reject` is
counted apart); every twentieth also spoiled in each way of gradability.py, in gray, in another camera's colors, small,
on a screen, a page, in a frame, with a smaller and a wider field (surroundings.py); drawn eyes. Other: families of
drawn pictures (papers.py, rounds.py, medical.py) and what installed packages carry (packaged.py). A true photo is
judged by a fit without its source (both parts of IDRiD, which share photos, are one), another picture by a fit without
its family, by one without its whole group, and by how unlike eyes it is alone, which needs no other picture. Measuring
takes minutes and is kept in --cache. Needs scikit-learn, matplotlib, and the pictures of scikit-image and pydicom.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.spoil import shift_color
from research.gradability import MILD, SPOILED
from research.not_fundus import medical, packaged, papers, rounds
from research.not_fundus.surroundings import SURROUNDED, resized
from sklearn.neural_network import MLPClassifier

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.fundus import MAX_ODD, FundusTest, features, measure_all, shows_vessels
from funduscope.quality.image_measures import FRAME_PX, small_frame
from funduscope.quality.mlp import MLP, to_json
from funduscope.testing.drawn_eyes import STYLES, draw_eye

FILE = Path(__file__).resolve().parents[2] / "src" / "funduscope" / "models" / "fundus.json"
GROUPS: Final = {"flat": papers.FAMILIES, "round": rounds.FAMILIES, "medical": medical.FAMILIES}
PHOTOGRAPHS: Final = ("packages' pictures", "crops of photographs", "photographs in a circle")
EACH, DRAWN, SPOILED_EVERY = 24, 100, 20
HIDDEN, MEMBERS, ALPHA = 12, 6, 3.0
CHANGED: Final = ("spoiled", "surrounded")
CHECKED_MEMBERS, FAMILY_PARTS = 3, 5
"""A fit that only a table needs has fewer members; every so many-th family is left out at once."""
THRESHOLD: Final = 0.1
"""Far below a half: an eye full of lesions resembles the others least, and must not be turned away."""
SICK: Final = 3
"""From this grade on an eye counts as sick: few photos, and those whose refusal does most harm."""
BEYOND, SPOILED_BEYOND, REGULAR = 0.003, 0.05, 0.03
"""The shares of true and of spoiled photos that may lie beyond the reach; what is added to the features' variances."""
WEIGHTS: Final = {
    "true": 1.0, "sick": 4.0, "spoiled": 0.3, "surrounded": 0.5, "rejected": 2.0, "drawn": 1.0, "other": 1.5
}  # fmt: skip

Look = Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Row:
    """One look at one picture. sort: a key of `WEIGHTS`. family: the data set, or the family of others."""

    sort: str
    family: str
    name: str
    fold: int | None
    values: np.ndarray


def seen(pixels: np.ndarray) -> np.ndarray:
    """The features of a picture."""
    framed = small_frame(frame(pixels, FRAME_PX), pixels)
    return features(measure_all(pixels, framed))


def gray(pixels: np.ndarray) -> np.ndarray:
    """A photo's copy without color: still a photo of an eye."""
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def bordered(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo in a wide black frame, as a viewer or a slide saves it."""
    wide, high = (int(rng.uniform(0.1, 0.6) * side) for side in (pixels.shape[1], pixels.shape[0]))
    return cv2.copyMakeBorder(pixels, high, high, wide, wide, cv2.BORDER_CONSTANT)


def small(pixels: np.ndarray) -> np.ndarray:
    """A thumbnail."""
    scale = 220 / pixels.shape[1]
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def looks(path: Path, key: str, sort: str, spoil: bool) -> list[tuple[str, str, np.ndarray]]:
    """A photo as it is, by its sort, and, if wanted, spoiled and surrounded in every way: sort, way, features."""
    cv2.setNumThreads(1)
    pixels = Photo.open(path).pixels
    looked = [(sort, "as it is", seen(pixels))]
    moderate = resized(pixels) if spoil else None
    if moderate is not None:
        pixels, rng = moderate[0], np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
        spoiled = (*MILD.items(), *SPOILED.items())
        looked += [("spoiled", way, seen(change(pixels, rng))) for way, change in spoiled]
        ways = {
            "gray": gray,
            "cast": partial(shift_color, key=key),
            "small": small,
            "border": partial(bordered, rng=rng),
            "small in a border": lambda pixels: bordered(small(pixels), rng),
        }
        looked += [("spoiled", way, seen(change(pixels))) for way, change in ways.items()]
        for way, surround in SURROUNDED.items():
            picture = surround(*moderate, rng)[0]
            looked.append(("surrounded", way, seen(picture)))
            if rng.random() < 0.3:
                looked.append(("surrounded", f"{way}, cast", seen(shift_color(picture, key + way))))
    return looked


def true_rows(data: Path, workers: int, most: int) -> Iterator[Row]:
    """Of every data set at most so many photos, every k-th, and all that are sick; `cameras/` and the demo's."""
    cases = list(_at_most(SplitPlan.of(read_data([data])).cases, most))
    sorts = {case.key: "sick" if (case.labels.grade or 0) >= SICK else "true" for case in cases}
    held = [(c.path, c.key, c.dataset, c.fold) for c in cases if c.labels.quality != "reject"]
    for folder in ("cameras", "demo"):
        files = sorted(path for path in (data / folder).rglob("*") if path.suffix.lower() in (".jpg", ".png", ".tif"))
        held += [(path, f"{folder}/{path.name}", folder, None) for path in files]
    wanted = [number % SPOILED_EVERY == 0 for number in range(len(held))]
    with ProcessPoolExecutor(workers) as pool:
        sort = [sorts.get(one[1], "true") for one in held]
        told = pool.map(looks, [one[0] for one in held], [one[1] for one in held], sort, wanted, chunksize=8)
        for (_, key, dataset, fold), looked in zip(held, told, strict=True):
            yield from (Row(s, dataset, f"{key} {way}", fold, v) for s, way, v in looked)
        rejected = [case for case in cases if case.labels.quality == "reject"]
        sort, unspoiled = ["rejected"] * len(rejected), [False] * len(rejected)
        told = pool.map(looks, [c.path for c in rejected], [c.key for c in rejected], sort, unspoiled)
        for case, looked in zip(rejected, told, strict=True):
            yield from (Row(s, case.dataset, case.key, case.fold, values) for s, _, values in looked)
    for seed in range(DRAWN):
        style = list(STYLES.values())[seed % len(STYLES)]
        eye = draw_eye(seed, width_px=600, style=style).pixels
        yield Row("drawn", "drawn eyes", f"drawn {seed}", seed % 5, seen(eye))


def _at_most(cases: Sequence[Case], most: int) -> Iterator[Case]:
    for name in dict.fromkeys(case.dataset for case in cases):
        mine = [case for case in cases if case.dataset == name]
        every = max(1, -(-len(mine) // most))
        for number, case in enumerate(mine):
            if number % every == 0 or (case.labels.grade or 0) >= SICK or case.labels.quality == "reject":
                yield case


def other_rows(first: int = 0, each: int = EACH) -> Iterator[Row]:
    """Pictures of other things, so many of each family, from that seed on."""
    for families in GROUPS.values():
        for family, draws in families.items():
            for seed in range(first, first + each):
                picture = draws[seed % len(draws)](np.random.default_rng(seed))
                yield Row("other", family, f"{family} {seed}", None, seen(picture))
    for name, picture in packaged.pictures().items():
        yield Row("other", PHOTOGRAPHS[0], name, None, seen(picture))
    makers = dict(zip(PHOTOGRAPHS[1:], (packaged.crops, packaged.in_a_circle), strict=True))
    for place, (family, maker) in enumerate(makers.items()):
        for number, picture in enumerate(maker(np.random.default_rng(first + place), each)):
            yield Row("other", family, f"{family} {number}", None, seen(picture))


def fitted(rows: list[Row], members: int = MEMBERS) -> FundusTest:
    """Several networks of one hidden layer, each from draws and a start of its own, as one: their mean logit."""
    values = np.stack([row.values for row in rows])
    fundus = np.array([row.sort != "other" for row in rows])
    least, most = values.min(axis=0), values.max(axis=0)
    weight = np.array([WEIGHTS[row.sort] for row in rows])
    weight[fundus] *= weight[~fundus].sum() / weight[fundus].sum()  # neither sort outweighs the other by its number
    center, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    parts = []
    for seed in range(members):
        drawn = np.random.default_rng(seed).choice(len(rows), len(rows), p=weight / weight.sum())
        network = MLPClassifier(
            (HIDDEN,), activation="tanh", solver="lbfgs", alpha=ALPHA, max_iter=400, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the last digits of a fit do not matter here
            parts.append(network.fit((values[drawn] - center) / scale, fundus[drawn]))
    layers = (
        (np.hstack([one.coefs_[0] for one in parts]), np.concatenate([one.intercepts_[0] for one in parts])),
        (np.vstack([one.coefs_[1] for one in parts]) / members, np.mean([one.intercepts_[1] for one in parts], 0)),
    )
    network = MLP(center, scale, layers)
    unlimited = FundusTest(network, least, most, THRESHOLD, *spread(rows), np.inf, {})
    away = {sort: [unlimited.distance(row.values) for row in rows if row.sort == sort] for sort in WEIGHTS}
    reaches = [
        (away["true"] + away["sick"] + away["drawn"], BEYOND),
        (away["spoiled"] + away["rejected"], SPOILED_BEYOND),
    ]
    reach = max(np.percentile(of, 100 * (1 - beyond)) for of, beyond in reaches if of)
    return replace(unlimited, reach=float(reach))


def spread(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle (F,), scale (F,) and whitening (F, F) of the eyes among the rows."""
    eyes = np.stack([row.values for row in rows if row.sort != "other"])
    middle, scale = eyes.mean(axis=0), eyes.std(axis=0) + 1e-6
    away = np.clip((eyes - middle) / scale, -MAX_ODD, MAX_ODD)
    covariance = np.cov(away, rowvar=False) + REGULAR * np.eye(len(scale))
    return middle, scale, np.linalg.cholesky(np.linalg.inv(covariance))


def verdict(test: FundusTest, row: Row) -> str:
    """eye: taken for one; unsure: answered with a warning; refused."""
    if test.score(row.values) < test.threshold:
        return "refused"
    if test.distance(row.values) <= test.reach:
        return "eye"
    return "unsure" if shows_vessels(row.values) else "refused"


def group_of(family: str) -> str:
    return next((group for group, families in GROUPS.items() if family in families), "photographs")


def without(rows: list[Row], left_out: Callable[[Row], bool]) -> Mapping[str, str]:
    """The verdict on each of the rows that are left out, by a fit of the others; by `name_of`."""
    test = fitted([row for row in rows if not left_out(row)], CHECKED_MEMBERS)
    return {name_of(row): verdict(test, row) for row in rows if left_out(row)}


def source_of(row: Row) -> str:
    """IDRiD's parts show some photos twice, under other names, so they are one source."""
    return "idrid" if row.family.startswith("idrid") else row.family


def name_of(row: Row) -> str:
    return f"{row.sort} {row.name}"


def tables(rows: list[Row]) -> Iterator[str]:
    yield from _true_tables(rows)
    others = [row for row in rows if row.sort == "other"]
    alone, grouped = dict[str, str](), dict[str, str]()
    families = list(dict.fromkeys(row.family for row in others))
    for part in range(FAMILY_PARTS):
        mine = families[part::FAMILY_PARTS]
        alone |= without(rows, lambda row, mine=mine: row.sort == "other" and row.family in mine)
    for group in (*GROUPS, "photographs"):
        grouped |= without(rows, lambda row, group=group: row.sort == "other" and group_of(row.family) == group)
    eyes_alone = replace(fitted(rows, CHECKED_MEMBERS), threshold=0.0)
    unlike = {name_of(row): verdict(eyes_alone, row) for row in others}
    yield "| other pictures | group | of | refused by a fit without the family | without the group | without any |"
    yield "|---|---|---|---|---|---|"
    for family in (*families, "all"):
        chosen = [name_of(row) for row in others if family in (row.family, "all")]
        cells = [
            f"{100 * np.mean([held[name] == 'refused' for name in chosen]):.1f} %" for held in (alone, grouped, unlike)
        ]
        group = "" if family == "all" else group_of(family)
        yield f"| {family} | {group} | {len(chosen)} | {' | '.join(cells)} |"
    wrong = [row.name for row in others if alone[name_of(row)] != "refused"]
    yield ""
    yield f"Taken for fundus photographs: {', '.join(wrong[:40]) or 'none'}{', ...' if len(wrong) > 40 else ''}."


def _true_tables(rows: list[Row]) -> Iterator[str]:
    """Every true photo, as it is and changed, by a fit without its source."""
    eyes = [row for row in rows if row.sort != "other"]
    found: dict[str, str] = {}
    for source in dict.fromkeys(source_of(row) for row in eyes):
        found |= without(rows, lambda row, source=source: row.sort != "other" and source_of(row) == source)
    true = [row for row in eyes if row.sort in ("true", "sick", "drawn")]
    sick = f"of grade {SICK} or more"
    groups = {family: [row for row in true if row.family == family] for family in dict.fromkeys(r.family for r in true)}
    groups |= {
        sick: [row for row in true if row.sort == "sick"],
        "all but drawn eyes": [row for row in true if row.sort != "drawn"],
    }
    keys = {row.name.removesuffix(" as it is") for row in true}
    for way in (*MILD, *SPOILED, "gray", "cast", "small", "border", "small in a border", *SURROUNDED):
        groups[way] = [row for row in eyes if row.name.removesuffix(f" {way}") in keys and row.sort in CHANGED]
    groups["rejected by EyePACS's graders"] = [row for row in eyes if row.sort == "rejected"]
    yield "| true photos, by a fit without their source | refused | answered as doubtful | of |"
    yield "|---|---|---|---|"
    for name, mine in ((name, mine) for name, mine in groups.items() if mine):
        counts = [sum(found[name_of(row)] == kind for row in mine) for kind in ("refused", "unsure")]
        cells = [f"{count} ({100 * count / len(mine):.2f} %)" for count in counts]
        yield f"| {name} | {' | '.join(cells)} | {len(mine)} |"
    lost = [row.name for row in true if found[name_of(row)] == "refused"]
    yield ""
    yield f"Refused: {', '.join(lost[:40]) or 'none'}."
    yield ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/not_fundus.npz"))
    parser.add_argument("--most", type=int, default=350, help="photos of a data set, besides the sick ones")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="fit on everything and write fundus.json")
    given = parser.parse_args()
    if given.cache.is_file() and not given.write:  # what ships is measured anew
        print(f"From {given.cache}, whatever the data and --most: remove it to measure anew.", file=sys.stderr)
        rows = _kept(given.cache)
    else:
        rows = [*true_rows(given.data, given.workers, given.most), *other_rows()]
        _keep(given.cache, rows)
    print("\n".join(tables(rows)))
    if given.write:
        test = fitted(rows)
        counts = {sort: sum(row.sort == sort for row in rows) for sort in WEIGHTS}
        about = {"command": "python -m research.not_fundus --data DATA --write", "pictures": counts}
        FILE.write_text(to_json(replace(test, about=about)) + "\n", "utf-8")
        print(f"\n{FILE.name}: {FILE.stat().st_size} bytes")
    return 0


def _keep(file: Path, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    words = json.dumps([[row.sort, row.family, row.name, row.fold] for row in rows])
    np.savez_compressed(file, values=np.stack([row.values for row in rows]), words=np.array(words))


def _kept(file: Path) -> list[Row]:
    held = np.load(file, allow_pickle=False)
    return [
        Row(*words, values=values) for words, values in zip(json.loads(str(held["words"])), held["values"], strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
