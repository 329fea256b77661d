"""What a model costs, as cost.json has it: parameters, multiply-adds, the time and memory of a prediction, training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from funduscope.compare.page_parts import Cell, Line, Picture, Section, Table, listed, number
from funduscope.compare.run_folder import DASH, Run

GIGA, MEGA = 1e9, 1e6

_SAYS: Final = (
    "Less is better. Multiply-adds are of one photo with all of its views; where gates "
    "choose experts, the mean over photos. Prediction is a whole “funduscope predict” from nothing, the median of "
    "several; below it, how many times as long as a process that only loads the libraries and decodes the photo. A "
    "model without an ONNX file loads torch first, which its row says: compare its seconds with others of that kind. "
    "Training is the median epoch with its validation; below it, how many there were and the numbers it computed in, "
    "which alone can make it three times as long. Training memory is the peak that the loop saw: resident on a "
    "processor, allocated on an accelerator; not alike."
)
TOGETHER: Final = "All of them in one sitting, in turn, so that their seconds can be compared."
APART: Final = "Not in one sitting: what else the machine did then differs, so compare their multiples."


def multiply_adds(run: Run) -> float | None:
    """Of one photo, all views, with the experts that were chosen."""
    return None if run.cost is None else run.cost["work"]["photo"]["total"]


def parameters(run: Run) -> int | None:
    """Of the whole network."""
    return None if run.cost is None else run.cost["work"]["parameters"]


def predict_s(run: Run) -> float | None:
    """Seconds of a whole prediction."""
    return run.cost["prediction"]["wall_s"] if run.cost and "prediction" in run.cost else None


def cost_section(runs: Sequence[Run], lines: Sequence[tuple[str, Run | None]], pictures: Sequence[Picture]) -> Section:
    """lines: the runs in the order of every table, None where a line divides it."""
    experts = any(run.cost and run.cost["work"]["photo"]["dense_experts"] for run in runs)
    stated = next((one["asked_px"] for run in runs if run.cost for one in run.cost["work"]["stated"]), None)
    heads = [("run", ""), ("parameters", "million"), ("multiply-adds", "G a photo")]
    heads += [("with every expert", "G a photo"), ("experts alone", "G, chosen of all")] if experts else []
    heads += [(f"at {stated[0]} × {stated[1]} px", "G, one look")] if stated else []
    heads += [
        ("predict", "seconds"),
        ("peak memory", "MB"),
        ("training", "minutes an epoch"),
        ("training memory", "MB"),
    ]
    heads += [("samples drawn", "")]
    table = Table(
        "Cost",
        _SAYS,
        heads,
        [Line(name, [] if run is None else _cells(run, experts, stated)) for name, run in lines],
    )
    return Section("What they cost", [_machines(runs)], [table, *pictures])


def _cells(run: Run, experts: bool, stated: Sequence[int] | None) -> list[Cell]:
    each, how = (
        run.seconds_an_epoch,
        ", ".join([run.epochs, *([run.about["precision"]] if "precision" in run.about else [])]),
    )
    minutes = Cell(DASH) if each is None else Cell(f"{each / 60:.1f}", how)
    held = run.about.get("training_peak_mb")
    device = str(run.about.get("environment", {}).get("device", "")).split(" ")[0]
    learning = [minutes, Cell(DASH) if held is None else Cell(f"{held:,.0f}", device)]
    drawn = Cell(DASH if run.drawn is None else f"{run.drawn:,}")
    if run.cost is None:
        return [Cell(DASH)] * (4 + 2 * experts + (stated is not None)) + [*learning, drawn]
    work = run.cost["work"]
    photo = work["photo"]
    views = " + ".join(str(side) for side in work["views_px"])
    cells = [Cell(f"{work['parameters'] / MEGA:.2f}"), Cell(_giga(photo["total"]), f"{views} px")]
    if experts:
        cells += [Cell(_giga(photo["dense"]) if photo["dense_experts"] else DASH), _experts(photo)]
    if stated:
        looks = [one for one in work["stated"] if one["asked_px"] == list(stated)]
        cells.append(Cell(_giga(looks[0]["scaled"]["total"])) if looks else Cell(DASH))
    return [*cells, *_prediction(run.cost), *learning, drawn]


def _prediction(cost: dict[str, Any]) -> list[Cell]:
    """Time and memory; dashes where no sitting has measured them yet."""
    if "prediction" not in cost:
        return [Cell(DASH), Cell(DASH)]
    held = cost["prediction"]
    seconds, base, peak = held["wall_s"], held["times_baseline"], held["peak_mb"]
    how = "" if cost["runtime"].startswith("ONNX") else ", loads torch"
    return [Cell(f"{seconds:.1f}", f"{base:.1f} ×{how}"), Cell(DASH if peak is None else f"{peak:,.0f}")]


def _experts(photo: dict[str, Any]) -> Cell:
    if not photo["dense_experts"]:
        return Cell(DASH)
    small = f"{100 * photo['kept']:.0f} % kept"
    if photo.get("in_proportion"):  # measured since 2026-11-21
        small += f", router by router {_giga(photo['in_proportion'])}"
    return Cell(f"{_giga(photo['experts'])} of {_giga(photo['dense_experts'])}", small)


def _giga(count: float) -> str:
    return f"{count / GIGA:.1f}" if count >= GIGA else number(count / GIGA)


def _machines(runs: Sequence[Run]) -> str:
    """Where predictions were timed and where training ran; the machines' classes."""
    costs = [run.cost for run in runs if run.cost and "prediction" in run.cost]
    timed = sorted({cost["prediction"]["machine"] for cost in costs})
    places = {_place(run.about) for run in runs} - {""}
    words = [f"Predictions were timed on: {'; '.join(timed)}."] if timed else ["No prediction was timed."]
    if costs and all(cost["prediction"].get("arithmetic") == "float32" for cost in costs):
        words.append("Every model was a float32 ONNX file for that.")
    if len(costs) > 1:
        sittings = {cost.get("sitting") for cost in costs}
        together = len(sittings) == 1 and None not in sittings
        words.append(TOGETHER if together else APART)
    words += [f"Trained on: {listed(sorted(places))}."] if places else []
    return " ".join(words)


def _place(about: dict[str, Any]) -> str:
    """Device, cores and precision of a training: a processor that has bfloat16 is two to three times as fast."""
    environment = about.get("environment", {})
    cores = f"{environment['cpus']} processor cores" if environment.get("cpus") else ""
    known = [part for part in (environment.get("device"), cores) if part]
    return ", ".join([*known, about["precision"]] if known and about.get("precision") else known)


def cost_words(runs: Sequence[Run]) -> list[str]:
    """From the cheapest to the dearest, in one sentence."""
    known = sorted((total, run.name) for run in runs if (total := multiply_adds(run)) is not None)
    if len(known) < 2:
        return []
    (least, cheap), (most, dear) = known[0], known[-1]
    times = f", {most / least:.1f} times as much" if least else ""
    return [f"A photo takes from {_giga(least)} G multiply-adds ({cheap}) to {_giga(most)} G ({dear}){times}."]


def shared_cost(more: Run, less: Sequence[Run]) -> str:
    """What one network for all tasks takes beside the networks for each; nothing where a cost is not known."""
    totals = [multiply_adds(run) for run in (more, *less)]
    sizes = [parameters(run) for run in (more, *less)]
    if None in totals or None in sizes:
        return ""
    own, others = totals[0] or 0, sum(one or 0 for one in totals[1:])
    weights, other_weights = sizes[0] or 0, sum(one or 0 for one in sizes[1:])
    return (
        f"One network for all of it, {more.name}, takes {_giga(own)} G multiply-adds a photo and "
        f"{weights / MEGA:.1f} million parameters; {listed([run.name for run in less])} together "
        f"{_giga(others)} G and {other_weights / MEGA:.1f} million."
    )
