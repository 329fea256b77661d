"""The schema takes what the design's two examples say, and nothing that contradicts itself."""

from __future__ import annotations

import copy
import json

import jsonschema
import pytest

from funduscope.report.write import findings_schema
from funduscope.vocabulary import GRADES

SHA = "0" * 64


def problems(found):
    return list(jsonschema.Draft202012Validator(findings_schema()).iter_errors(found))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(findings_schema())
    assert findings_schema()["properties"]["grade_name"]["enum"] == [*GRADES, None]


@pytest.mark.parametrize("name", ["findings.example.json", "findings.ungradable.example.json"])
def test_the_examples_follow_it(shared, name):
    file = shared.parent / name
    if not file.is_file():
        pytest.skip("the examples are not here")
    found = json.loads(file.read_text(encoding="utf-8"))
    # The examples leave the hashes out.
    found["photo"]["sha256"] = found["model"]["sha256"] = SHA
    assert problems(found) == []
    # They have no further task and no second witness, and were written before the headline.
    later = ("tasks", "witnesses", "headline")
    assert list(found) == [key for key in findings_schema()["properties"] if key not in later]


@pytest.mark.parametrize("gradable", [True, False])
def test_every_required_key_is_required(drawn_eye, gradable):
    found = drawn_eye(gradable_ok=gradable).to_dict()
    assert problems(found) == []
    for key in findings_schema()["required"]:
        assert problems({name: value for name, value in found.items() if name != key}), key


def test_additions_are_welcome(drawn_eye):
    found = drawn_eye().to_dict()
    found["lesions"]["MA"]["new"] = found["new"] = 1
    assert problems(found) == []


@pytest.mark.parametrize(
    "key", ["predicted_grade", "grade_name", "probabilities", "dme", "referable", "landmarks", "lesions"]
)
def test_a_refused_photo_has_no_answer(drawn_eye, key):
    answered = drawn_eye().to_dict()
    assert problems(drawn_eye(gradable_ok=False).to_dict() | {key: answered[key]})


def test_a_refused_photo_has_a_reason(drawn_eye):
    found = drawn_eye(gradable_ok=False).to_dict()
    found["gradable"]["reasons"] = []
    assert problems(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "funduscope-findings/2"),
        (("predicted_grade",), 5),
        (("grade_name",), None),
        (("probabilities",), [0.5, 0.5]),
        (("confidence",), 71),
        (("photo", "sha256"), "abc"),
        (("lesions", "MA", "count"), -1),
        (("lesions", "MA", "area_px"), None),
        (("landmarks", "fovea"), {"x_px": 3}),
        (("warnings",), ["only words"]),
        (("laterality",), "OD"),
        (("not_a_medical_device",), False),
    ],
)
def test_what_contradicts_is_refused(drawn_eye, path, value):
    found = copy.deepcopy(drawn_eye().to_dict())
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert problems(found)


def test_a_landmark_that_was_not_found_is_null(drawn_eye):
    assert problems(drawn_eye(fovea_xy=None, disc_xy=None).to_dict()) == []


def test_the_schema_takes_a_set_and_no_empty_one(drawn_eye) -> None:
    from funduscope.report.write import findings_schema

    check = jsonschema.Draft202012Validator(findings_schema())
    found = drawn_eye().to_dict()
    check.validate(found | {"grade_set": [1, 2, 3]})
    check.validate(found | {"grade_set": None})
    with pytest.raises(jsonschema.ValidationError):
        check.validate(found | {"grade_set": []})
