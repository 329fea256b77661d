"""The export of a finished run. A model is accepted only after its parity is measured: float32 against torch, INT8
against float32.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from funduscope.atomic import file_sha256
from funduscope.data.case import Case
from funduscope.data.sources import Data, cases_of
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.parity import MAX_DIFFERENCE, compare
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import Scores, summarize
from funduscope.i18n.errors import PhotoError, refuse_machine_fault
from funduscope.imaging.demo_photo import demo_photo
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.loading import is_unfinished_run
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Device, OnnxRuntime, TorchRuntime, use_cuda
from funduscope.metrics import DenseState, GradingState, MaskState
from funduscope.vocabulary import CLASSES, CODES, EITHER_EXUDATE, NOISY_GRADE_SETS, View

if TYPE_CHECKING:
    from funduscope.checkpoint import Checkpoint
    from funduscope.settings import Sampling

MIN_EQUAL = 0.98
MAX_LOSS = 0.01
MAX_DIFFERENT = 0.02
"""Largest difference of a structure's mean probability over a frame, and of a landmark's place over the photo's width;
`fast` at 8 bits differs by less than 0.001 in both."""
MIN_GRADED, MIN_POSITIVE, MIN_TO_DIFFER = 30, 3, 5
"""Scores of fewer graded photos, or of fewer with a structure, are not compared: a single photo would decide."""

CALIBRATION_PHOTOS, CHECK_PHOTOS = 40, 12
DEMO = "the demo photo"
"""Takes the place of a data set's name in export.json where no photo was given."""
MAX_CLASSED = 120  # photos with a class alone, evenly spread: more take long and decide nothing

FLOAT, SMALL, REPORT = "model.onnx", "model.int8.onnx", "export.json"
UNPUBLISHED = ".export-"  # begins the name of the folder, in the run's, of what is not accepted yet


class ExportError(RuntimeError):
    """A model that differs from its source too much, or could not be checked; the message says by how much, or why.

    Nothing of the refused model is kept.
    """


def export_run(run: str | os.PathLike[str], data: Data | None = None, *, device: Device = "auto") -> list[Path]:
    """Writes model.onnx and model.int8.onnx into a run folder. Each also holds what fine-tuning needs.

    export.json gets the measured parity and the files' SHA-256. data: cases, or paths as `read_data` takes them; with
    them INT8 is calibrated on the run's training photos and checked on its validation photos, scores included; without
    them both on the packaged photo. Unreadable photos are named on stderr and replaced by others. device: of the
    float32 models that are compared; INT8 computes on the processor.

    Raises `ExportError` if `run` is no run folder, if its training has not ended, and if parity fails, `ParityError`
    if no photo shows an eye; the files of an earlier export then stay. Where only INT8 is refused, the float32 model
    is written before the error.
    """
    import torch  # the name `export_run` must be there without it

    from funduscope.export.onnx_file import VIEWS, write_onnx

    run, cases = Path(run), None if data is None else cases_of(data)
    best = _finished(run)
    cuda = use_cuda(device, torch.cuda.is_available(), "torch finds no GPU")
    network, card = best.network(), Card.from_dict(best.card)
    plan = SplitPlan.of_run(run, cases or ())
    checking, training = plan.validation, {view: _of_view(view, best.recipe.all_sampling, plan.train) for view in VIEWS}
    report = _stated_photos(plan, [*training["whole"], *training["close"]], given=len(cases or ()))
    is_one_view = card.close_px == card.whole_px and training["whole"] == training["close"]
    views: tuple[View, ...] = ("whole",) if is_one_view else VIEWS
    check = list(_photos(checking, CHECK_PHOTOS, seed=1))
    images = [
        _seen(pixels, card, view) for view in views for pixels in _photos(training[view], CALIBRATION_PHOTOS, seed=2)
    ]
    if not check or not images:
        raise ExportError("None of the photos to check the model on, or to calibrate INT8 on, can be read.")
    with _unpublished(run) as folder:
        # Photos are refused without the model, so on refused ones any two models would agree.
        plain = Predictor(OnnxRuntime(write_onnx(network, card, folder / FLOAT), device=device), refuses=False)
        network = network.to("cuda" if cuda else "cpu")
        parity = compare(Predictor(TorchRuntime(network, card), refuses=False), plain, check)
        report["float32 against torch"] = vars(parity)
        if not parity.holds:
            raise ExportError(f"float32 ONNX differs from torch: {parity}; allowed: {MAX_DIFFERENCE}, equal labels.")
        small_path, refused = folder / SMALL, None
        try:
            _quantized(folder / FLOAT, small_path, images)
            small = Predictor(OnnxRuntime(small_path), refuses=False)
            report["int8 against float32"] = _accept(small, plain, checking, check)
            # The card in the file says this too; here it explains why the file is hardly smaller.
            if "int8" in small.card.about:
                report["int8 note"] = small.card.about["int8"]
        except ExportError as error:
            refused = report["int8 refused"] = str(error)
            small_path.unlink(missing_ok=True)
        paths = _published(folder, run, report, best)
    if refused:
        raise ExportError(f"{refused} The float32 model was accepted and stays: {run / FLOAT}.")
    return paths


def _finished(run: Path) -> Checkpoint:
    """The checkpoint of a finished run. Raises `ExportError` for any other folder."""
    from funduscope import checkpoint

    if run.absolute().parent.name == checkpoint.STAGES and (run.absolute().parents[1] / "folds.csv").is_file():
        raise ExportError(f"{run} is one stage of a run: name the run, {run.absolute().parents[1]}.")
    if is_unfinished_run(run):
        raise ExportError(f"The training of {run} has not ended: run the same command again, then export.")
    if not (run / "best.safetensors").is_file():
        raise ExportError(f"{run} is no run folder: it holds no best.safetensors.")
    best = checkpoint.load(run / "best.safetensors")
    if not best.card:
        raise ExportError(f"The training of {run} has not ended: run the same command again, then export.")
    return best


@contextmanager
def _unpublished(run: Path) -> Iterator[Path]:
    """A folder in the run's for a model that is not accepted yet, which must not pass for the run's."""
    for left in run.glob(f"{UNPUBLISHED}*"):  # of an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=UNPUBLISHED, dir=run) as folder:
        yield Path(folder)


def _stated_photos(plan: SplitPlan, calibrating: list[Case], *, given: int) -> dict[str, Any]:
    """What a report says of the photos; on stderr, too, where the packaged one takes the place of those given."""
    checked = "validation photos" if plan.validation else DEMO
    calibrated = ", ".join(sorted({case.dataset for case in calibrating})) or DEMO
    if given and DEMO in (checked, calibrated):
        print(
            f"note: checked on {checked}, INT8 calibrated on {calibrated}: of the {given} photos given, "
            f"the run has {len(plan.validation)} to be checked on and {len(plan.train)} to calibrate on.",
            file=sys.stderr,
        )
    return {"check photos": checked, "calibration photos": calibrated}


def _of_view(view: View, sampling: Sampling, train: list[Case]) -> list[Case]:
    """The photos to calibrate INT8 on in a view: those of the data sets that most of its samples are of. Ranges wide
    enough for every camera would round most photos too coarsely."""
    rates = (sampling.close or sampling.whole) if view == "close" else (sampling.whole or sampling.close)
    drawn = {name: rates.get(name, 0.0) * count for name, count in Counter(case.dataset for case in train).items()}
    return [case for case in train if drawn[case.dataset] >= max(drawn.values()) / 2]


def _published(folder: Path, run: Path, report: dict[str, Any], best: Checkpoint) -> list[Path]:
    """Puts the checkpoint into the accepted files and moves them into the run folder, last the report with their
    SHA-256. Returns the new paths."""
    from funduscope import checkpoint

    made = [folder / name for name in (FLOAT, SMALL) if (folder / name).is_file()]
    for path in made:
        checkpoint.embed(path, best)
    digests = {path.name: file_sha256(path) for path in made}
    report["files"] = {path.name: {"bytes": path.stat().st_size, "sha256": digests[path.name]} for path in made}
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    # An earlier report would not match the new files, and an earlier INT8 file has other weights.
    for name in (REPORT, SMALL):
        (run / name).unlink(missing_ok=True)
    return [path.replace(run / path.name) for path in (*made, folder / REPORT)]


def _quantized(source: Path, target: Path, images: list[np.ndarray]) -> None:
    """`quantize`, with an `ExportError` if ONNX Runtime cannot do it."""
    from funduscope.export.quantization import quantize

    try:
        quantize(source, target, images)
    except Exception as error:  # its errors have no class in common
        refuse_machine_fault(error)
        raise ExportError(f"ONNX Runtime cannot make an INT8 model of this network ({error}).") from error


def _check_parity(small: Predictor, plain: Predictor, check: list[np.ndarray], least_equal: float) -> dict[str, Any]:
    """How far the answers of INT8 are from float32. Raises `ExportError` if it is too far."""
    parity = compare(small, plain, check)
    apart = {
        "a landmark's place, as a share of the photo's width": parity.most_landmark,
        "a structure's mean probability": parity.most_of_structure,
    }
    faults = [
        f"{what}: {'one of the two gives none' if math.isinf(value) else f'{value:.4f}'} ({MAX_DIFFERENT} allowed)"
        for what, value in apart.items()
        if value > MAX_DIFFERENT
    ]
    if parity.labels_equal < least_equal:
        faults.insert(0, f"labels equal on {parity.labels_equal:.1%} ({least_equal:.0%} needed)")
    if faults:
        raise ExportError(f"INT8 differs from float32, {parity.photos} photos: {'; '.join(faults)}.")
    return vars(parity)


def _accept(small: Predictor, plain: Predictor, checking: list[Case], check: list[np.ndarray]) -> dict[str, Any]:
    """What INT8 loses: scores where there are labels, otherwise parity, also of landmarks, and of maps where no
    outlines were scored. Raises `ExportError` if it is too much."""
    chosen = _firm(checking)
    if not chosen:
        return _check_parity(small, plain, check, MIN_EQUAL)
    scores = [summarize(list(score_stream(predictor, chosen)), repeats=1) for predictor in (plain, small)]
    equal, graded = _equal_labels(*scores)
    losses = {key: scores[0].number(key) - scores[1].number(key) for key in _compared(scores[0])}
    worst = {str(key): round(loss, 4) for key, loss in losses.items()}
    if not (graded or losses) or all(photo.refused for photo in scores[0].photos):
        return _check_parity(small, plain, check, MIN_EQUAL)
    # One photo may differ: of fewer than 50 it is already more than the allowed share. Of very few none may.
    too_many = round((1 - equal) * graded) > max(graded >= MIN_TO_DIFFER, (1 - MIN_EQUAL) * graded)
    if too_many or not all(loss <= MAX_LOSS for loss in losses.values()):
        raise ExportError(f"INT8 loses too much: labels equal on {equal:.1%}, float32 minus INT8: {worst}.")
    found = {"photos": len(chosen), "labels_equal": equal, "float32 minus int8": worst}
    has_dense = any(key.score in ("AUPR", "Dice") for key in losses)
    if check and (small.card.located or (small.card.outlined and not has_dense)):
        found["parity"] = _check_parity(small, plain, check, least_equal=0)  # labels were compared already
    return found


def _firm(cases: list[Case]) -> list[Case]:
    """Photos with outlines, and some with a class alone; of data sets whose grades are doubtful only where there are no
    others."""
    firm = [case for case in cases if case.dataset not in NOISY_GRADE_SETS]
    masked = {case.key for case in cases if {*CODES, EITHER_EXUDATE} & {*case.labels.masks}}
    classed = {case.key for case in cases for task in CLASSES if case.labels.class_of(task) is not None}
    firm = firm if {case.key for case in firm} & (masked | classed) else cases
    graded = sorted(case.key for case in firm if case.key in classed - masked)
    plain = graded[:: max(1, -(-len(graded) // MAX_CLASSED))]
    return [case for case in firm if case.key in masked.union(plain)]


def _equal_labels(first: Scores, second: Scores) -> tuple[float, int]:
    """The share of graded photos with equal answers, and their number, without photos that both models refused."""
    names = [f"predicted_{task}" for task in CLASSES]
    rows = [(a.row, b.row) for a, b in zip(first.photos, second.photos, strict=True) if a.row.keys() & CLASSES]
    labels = [[(a.get(name), b.get(name)) for name in names] for a, b in rows if not (a["refused"] and b["refused"])]
    return (float(np.mean([all(a == b for a, b in pairs) for pairs in labels])) if labels else 1.0), len(labels)


def _compared(scores: Scores) -> Iterator[ScoreKey]:
    """The scores that INT8 may not lose: kappa, AUPR, Dice; of a structure only where enough photos show it."""
    for key, interval in scores.intervals.items():
        if key.score not in ("kappa", "AUPR", "Dice") or np.isnan(interval.value):
            continue
        if scores.has_one_label(key.dataset, key.question):
            continue
        states = [photo.states.get(key.question) for photo in scores.photos if photo.case.dataset == key.dataset]
        graded = sum(isinstance(state, GradingState) for state in states)
        if 0 < graded < MIN_GRADED:
            continue
        masks = [state for state in states if isinstance(state, MaskState) and state.tp + state.fn > 0]
        pixels = [state for state in states if isinstance(state, DenseState) and state.positives > 0]
        if graded or len(masks + pixels) >= MIN_POSITIVE:
            yield key


def _photos(cases: list[Case], count: int, seed: int) -> Iterator[np.ndarray]:
    """Yields at most `count` photos in random order, (H, W, 3) uint8; without cases, the packaged one in each of the
    eight ways that it can be turned and mirrored.
    """
    if not cases:
        return islice(_turned(Photo.open(demo_photo().read_bytes()).pixels), count)
    order = np.random.default_rng(seed).permutation(len(cases))
    return islice(_readable([cases[i] for i in order]), count)


def _turned(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yields a photo (H, W, 3) in its four quarter turns, each as it is and mirrored."""
    for quarters in range(4):
        turned = np.rot90(pixels, quarters)
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, ::-1])


def _seen(pixels: np.ndarray, card: Card, view: View) -> np.ndarray:
    """A view of a photo (H, W, 3) uint8 as the model takes it: (1, S, S, 3) uint8."""
    close = frame(pixels, card.close_px).image
    size = (card.whole_px, card.whole_px)
    return (close if view == "close" else cv2.resize(close, size, interpolation=cv2.INTER_AREA))[None]


def _readable(cases: list[Case]) -> Iterator[np.ndarray]:
    """The readable photos; the others are named on stderr."""
    for case in cases:
        try:
            yield Photo.open(case.path).pixels
        except PhotoError as error:
            print(f"left out: {case.key}: {error}", file=sys.stderr)
