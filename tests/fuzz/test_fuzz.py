"""Damaged files of every kind give an answer or an error with a code: a short run of `tests.fuzz.fuzz`, and what it
found."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tests.fuzz import fuzz, fuzz_seeds

from funduscope import checkpoint
from funduscope.inference.card import Card
from funduscope.inference.loading import load
from funduscope.inference.runtime import ModelError
from funduscope.recipe import Recipe, RecipeError

INPUTS = {
    "photo": 100,
    "dicom": 40,
    "table": 150,
    "photo_table": 120,
    "photo_archive": 60,
    "archive": 60,
    "checkpoint": 200,
    "card": 40,
    "corrections": 80,
}
"""Of each kind; more of them by the command."""

WITNESS = {
    "numbers": ["EX strong"],
    "center": [0],
    "spread": [1],
    "weights": [1],
    "cuts": [0, 1, 2, 3],
    "shares": [1, 1],
}
"""What the lesions say of the grade, as in a card."""


@pytest.mark.parametrize("kind", fuzz_seeds.SEEDS)
def test_a_damaged_file_gives_an_answer_or_a_code(kind: str, tmp_path: Path) -> None:
    most_s = fuzz.longest(kind, tmp_path)
    wrong = {}
    for number in range(INPUTS.get(kind, 200)):
        _, says = fuzz.outcome(kind, fuzz.mutated(kind, 31, number), tmp_path, most_s)
        if says:
            wrong[number] = says
    assert not wrong


@pytest.mark.parametrize("kind", fuzz_seeds.SEEDS)
def test_intact_files_are_read(kind: str, tmp_path: Path) -> None:
    codes = [fuzz.outcome(kind, data, tmp_path) for data in fuzz_seeds.SEEDS[kind]()]
    assert codes.count(("answer", "")) >= len(codes) - 2, codes


def test_an_input_depends_on_its_number_and_seed_alone() -> None:
    assert fuzz.mutated("card", 1, 7) == fuzz.mutated("card", 1, 7) != fuzz.mutated("card", 2, 7)


@pytest.mark.slow
def test_damaged_photos_go_through_the_whole_model(tmp_path: Path) -> None:
    wrong = [says for _, _, says in fuzz.fuzz("model", 31, range(40)) if says]
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        b"name = 'x'\n\xff\xfe",
        b"name = 'x'\nabout = " + b"[" * 3000,
        b"name = 'x'\n[training]\nepochs = " + b"9" * 5000,
    ],
    ids=["no UTF-8", "deep", "digits"],
)
def test_a_recipe_that_is_no_text_is_an_error_of_the_recipe(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(RecipeError, match=r"expected TOML|no valid TOML"):
        Recipe.load(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("whole_px", value) for value in (0, -1, 10**30, "512", True)],
        *[("thresholds", value) for value in ({"EX": []}, {}, [], {"EX": float("nan")})],
        *[("lowest_grades", {"EX": [1]}), ("lowest_grades", {"EX": 9}), ("temperatures", {"grade": 0.0, "dme": 1.0})],
        *[("structures", ["EX", "EX"]), ("structures", ["XX"]), ("fovea_from_disc", [1, 0, 1, 1]), ("about", None)],
        *[("name", None), ("mirrored", "no"), ("distance", 3)],
        *[("close_px", 1), ("fovea_from_disc", [0, 0.02, 0, 0.02]), ("temperatures", {"grade": 10**30, "dme": 1.0})],
        *[("scales", {"EX": [[1], [2]]}), ("dme_evidence", {"bias": [0.0] * 3, "weights": [[0] * 5] * 3})],
        *[
            ("witnesses", {"grade": value})
            for value in ({"cuts": [{}]}, WITNESS | {"spread": [0]}, WITNESS | {"x": []})
        ],
        *[("witnesses", {"grade": WITNESS | {"cuts": [0]}}), ("witnesses", {"another": WITNESS})],
    ],
)
def test_a_card_that_no_photo_could_be_answered_with_is_refused(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{name}|iterable"):
        Card.from_dict(Card().to_dict() | {name: value})


def test_a_model_whose_planes_its_card_does_not_name_is_read_without_them(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(fuzz_seeds.model_with(json.dumps(json.loads(fuzz_seeds.cards()[0]) | {"landmarks": []}).encode()))
    assert load(path)(fuzz_seeds.eye(), force=True).disc_xy is None


def _rich(**changes: object) -> dict[str, object]:
    """Parts of the card that has every part, with changes of its reference."""
    return {"distance": json.loads(fuzz_seeds.cards()[1])["distance"] | changes}


@pytest.mark.parametrize(
    "part",
    [
        *[{"distance": {}}, {"distance": {"mean": 3}}, {"witnesses": {"grade": {"x": [1]}}}],
        *[{"witnesses": {"grade": WITNESS | {"numbers": ["EX unheard of"]}}}],
        *[_rich(quantiles=[0.0] * 9), _rich(quantiles=3), _rich(unit=0), _rich(directions=3)],
    ],
)
def test_a_part_of_a_card_that_is_wrong_is_the_model_s_fault(part: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(fuzz_seeds.model_with(json.dumps(Card().to_dict() | part).encode()))
    with pytest.raises(ModelError, match="card") as caught:
        load(path)
    assert caught.value.code == "E_MODEL"


@pytest.mark.parametrize("part", [{"structures": ["EX"]}, {"landmarks": ["fovea"]}])
def test_a_model_that_gives_other_planes_than_its_card_names_is_refused(
    part: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(fuzz_seeds.model_with(json.dumps(json.loads(fuzz_seeds.cards()[0]) | part).encode()))
    with pytest.raises(ModelError, match="its card names 1"):
        load(path)(fuzz_seeds.eye(), force=True)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        *[("card", "[]", "E_CONFIG"), ("card", "[" * 5000, "E_CONFIG")],
        *[("progress", "3", "E_CONFIG"), ("digests", "[]", "E_WEIGHTS")],
    ],
    ids=["a list", "deep", "a number", "digests"],
)
def test_a_checkpoint_whose_texts_are_wrong_is_refused(key: str, value: str, code: str, tmp_path: Path) -> None:
    data = fuzz_seeds.checkpoints()[0]
    size = struct.unpack_from("<Q", data)[0]
    head = json.loads(data[8 : 8 + size])
    head["__metadata__"][key] = value
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.code == code
