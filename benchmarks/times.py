"""Times a prediction by every row of a table in one sitting, in turn: seconds of different days cannot be compared.

    python -m benchmarks.times table/* [--runs RUNS] [--rounds 5]

`python -m research.published --unpack table` writes the rows, and `--pack table` puts their costs back into the
table. A row has no weights: its network is built from its recipe, since time and memory do not depend on the weights
except where gates choose experts. For such a row the checkpoint is read from RUNS/ROW; without one the row is refused.
Every model is a float32 ONNX file here, whether its run was exported in INT8 or not, so that designs are compared and
not roundings. Writes each row's cost.json.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from funduscope import checkpoint
from funduscope.atomic import read_json
from funduscope.compare.run_record import COST
from funduscope.compare.score_runs import put_prediction
from funduscope.evaluation.cost import measure_predictions
from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.network.joined import JoinedNetwork, build_model
from funduscope.network.network import Network
from funduscope.recipe import Recipe


def network_of(bundle: Path, runs: Path | None) -> tuple[Network | JoinedNetwork, Card]:
    """The row's network in eval mode, with its trained weights where what it takes hangs on them."""
    recipe = Recipe.load(bundle / "recipe.toml")
    work = read_json(bundle / "scores" / COST)["work"]
    weights = None if runs is None else runs / bundle.name / "best.safetensors"
    if work["photo"]["kept"] < 1:
        if weights is None or not weights.is_file():
            sys.exit(f"{bundle.name}: its gates choose experts, so that its time hangs on its weights: name --runs.")
        return checkpoint.load(weights).network().eval(), Card.of(recipe)
    untrained = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"weights": "none"})})
    return build_model(untrained).eval(), Card.of(recipe)


def main() -> None:
    """Writes the models, times them, writes the costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bundles = [path for path in given.bundles if (path / "scores" / COST).is_file()]
    if not bundles:
        parser.error(f"none of these folders has a scores/{COST}: name rows that --unpack wrote")
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for bundle in bundles:
            network, card = network_of(bundle, given.runs)
            # What untrained weights happen to mark would be measured and outlined: nothing is, of any row.
            card = replace(card, thresholds=dict.fromkeys(card.structures, 1.0))
            models.append(write_onnx(network, card, Path(folder) / f"{bundle.name}.onnx"))
        predictions = measure_predictions(models, runs=given.rounds)
    sitting = hashlib.sha256("".join(path.name for path in bundles).encode()).hexdigest()[:12]
    for bundle, prediction in zip(bundles, predictions, strict=True):
        put_prediction(bundle, prediction.to_dict(), sitting, runtime="ONNX Runtime")
        print(
            f"{bundle.name}: {prediction.wall_s:.2f} s, {prediction.times_baseline:.1f} x, {prediction.peak_mb:.0f} MB"
        )


if __name__ == "__main__":
    main()
