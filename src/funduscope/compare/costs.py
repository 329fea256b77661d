"""The cost table, from cost.json: parameters, multiply-adds, time and memory of a prediction and of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from funduscope.compare.page_parts import Cell, Picture, Section, Table, number
from funduscope.compare.run_folder import DASH, Run
from funduscope.compare.sections import Comparison

GIGA, MEGA = 1e9, 1e6

_CAPTION: Final = (
    "Less is better. Multiply-adds are of one photo with all of its views; where gates choose experts, the mean over "
    "photos. Prediction is a whole “funduscope predict” from process start, the median of several; below it, the "
    "multiple of a process that only loads the libraries and decodes the photo. A model without an ONNX file loads "
    "torch first, which its row states: compare its seconds with others of that kind. Training is the median epoch "
    "with its validation; below it, the number of epochs and the precision, which alone can make it three times as "
    "long. Training memory is the peak: resident on a processor, allocated on an accelerator; they are not comparable."
)
TOGETHER: Final = "All of them in one sitting, in turn, so that their seconds can be compared."
APART: Final = "Not in one sitting: the load of the machine differed, so compare their multiples."


def multiply_adds(run: Run) -> float | None:
    """Multiply-adds of one photo, all views, with the experts that were chosen."""
    return None if run.cost is None else run.cost["work"]["photo"]["total"]


def parameters(run: Run) -> int | None:
    """Parameters of the whole network."""
    return None if run.cost is None else run.cost["work"]["parameters"]


def predict_s(run: Run) -> float | None:
    """Seconds of a whole prediction."""
    return run.cost["prediction"]["wall_s"] if run.cost and run.cost.get("prediction") else None


def cost_section(comparison: Comparison, pictures: Sequence[Picture]) -> Section:
    """A row for each run: multiply-adds, time and memory of a prediction, time and memory of training."""
    runs = comparison.runs
    experts = any(run.cost and run.cost["work"]["photo"]["dense_experts"] for run in runs)
    stated = next((one["asked_px"] for run in runs if run.cost for one in run.cost["work"]["stated"]), None)
    heads = [("run", ""), ("parameters", "million"), ("multiply-adds", "G per photo")]
    heads += [("with every expert", "G per photo"), ("experts alone", "G, chosen of all")] if experts else []
    heads += [(f"at {stated[0]} × {stated[1]} px", "G, one image")] if stated else []
    heads += [("predict", "seconds"), ("peak memory", "MB"), ("training", "minutes per epoch")]
    heads += [("training memory", "MB"), ("samples drawn", "")]
    rows = comparison.table_lines(lambda run: [*_work_cells(run, experts, stated), *_training_cells(run)])
    return Section("Cost", [_machines(runs)], [Table("Cost of each run", _CAPTION, heads, rows), *pictures])


def _training_cells(run: Run) -> list[Cell]:
    each = " + ".join(f"{seconds / 60:.1f}" for seconds in run.seconds_an_epoch)
    peak = run.about.get("training_peak_mb")
    how = ", ".join([run.epochs, *([run.about["precision"]] if "precision" in run.about else [])])
    return [
        Cell(each, how) if each else Cell(DASH),
        Cell(DASH) if peak is None else Cell(f"{peak:,.0f}", run.device),
        Cell(DASH if run.drawn is None else f"{run.drawn:,}"),
    ]


def _work_cells(run: Run, experts: bool, stated: Sequence[int] | None) -> list[Cell]:
    if run.cost is None:
        return [Cell(DASH)] * (4 + 2 * experts + (stated is not None))
    work = run.cost["work"]
    photo = work["photo"]
    views = " + ".join(str(side) for side in work["views_px"])
    cells = [Cell(f"{work['parameters'] / MEGA:.2f}"), Cell(_giga(photo["total"]), f"{views} px")]
    if experts:
        cells += [Cell(_giga(photo["dense"]) if photo["dense_experts"] else DASH), _experts(photo)]
    if stated:
        scaled = [one["scaled"]["total"] for one in work["stated"] if one["asked_px"] == list(stated)]
        cells.append(Cell(_giga(scaled[0]) if scaled else DASH))
    return [*cells, *_prediction(run.cost)]


def _prediction(cost: dict[str, Any]) -> list[Cell]:
    """Time and memory; dashes where they have not been measured yet."""
    if not cost.get("prediction"):
        return [Cell(DASH), Cell(DASH)]
    measured = cost["prediction"]
    seconds, base, peak = measured["wall_s"], measured["times_baseline"], measured["peak_mb"]
    how = "" if cost["runtime"].startswith("ONNX") else ", loads torch"
    return [Cell(f"{seconds:.1f}", f"{base:.1f} ×{how}"), Cell(DASH if peak is None else f"{peak:,.0f}")]


def _experts(photo: dict[str, Any]) -> Cell:
    if not photo["dense_experts"]:
        return Cell(DASH)
    return Cell(f"{_giga(photo['experts'])} of {_giga(photo['dense_experts'])}", f"{100 * photo['kept']:.0f} % kept")


def _giga(count: float) -> str:
    return f"{count / GIGA:.1f}" if count >= GIGA else number(count / GIGA)


def _machines(runs: Sequence[Run]) -> str:
    """The classes of the machines that timed predictions and ran training."""
    costs = [run.cost for run in runs if run.cost and run.cost.get("prediction")]
    timed = sorted({cost["prediction"]["machine"] for cost in costs})
    places = {_place(run.about) for run in runs} - {""}
    words = [f"Predictions were timed on: {'; '.join(timed)}."] if timed else ["No prediction was timed."]
    if costs and all(cost["prediction"].get("arithmetic") == "float32" for cost in costs):
        words.append("Every model was a float32 ONNX file.")
    if len(costs) > 1:
        words.append(TOGETHER if in_one_sitting(runs) else APART)
    words += [f"Trained on: {'; '.join(sorted(places))}."] if places else []
    return " ".join(words)


def in_one_sitting(runs: Sequence[Run]) -> bool:
    """Whether the seconds of these runs' predictions can be compared: all were timed in turn."""
    sittings = {run.cost.get("sitting") for run in runs if run.cost and run.cost.get("prediction")}
    return len(sittings) == 1 and None not in sittings


def _place(about: dict[str, Any]) -> str:
    """Device, cores and precision of a training: on a processor bfloat16 can be two to three times as fast."""
    environment = about.get("environment", {})
    cores = f"{environment['cpus']} processor cores" if environment.get("cpus") else ""
    known = [part for part in (environment.get("device"), cores) if part]
    return ", ".join([*known, about["precision"]] if known and about.get("precision") else known)
