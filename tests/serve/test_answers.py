"""What the service answers is what `predict` writes; what it refuses has the same code."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
import zipfile
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from tests.serve.conftest import Service

from funduscope.cli.main import main
from funduscope.i18n.errors import HTTP_STATUS
from funduscope.report.write import findings_schema
from funduscope.serve.answer_formats import DICOM, FHIR, JSON, ZIP, choose
from funduscope.serve.limits import RefusalError
from funduscope.serve.wrapped_photos import TAKEN
from funduscope.testing.drawn_eyes import draw_eye

CHARSET = {"content-type": "multipart/form-data; boundary=x; charset=punycode"}
ONE_FILE = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="eye.jpg"\r\n\r\nabc\r\n--x--\r\n'
FORM = {"content-type": "multipart/form-data"}
DICOM_ACCEPT = f'{DICOM}; type="application/dicom"'


def test_findings_and_zip_are_what_predict_writes(service: Service, tiny: Path, eye: bytes, tmp_path: Path) -> None:
    (tmp_path / "eye.png").write_bytes(eye)
    assert main(["predict", str(tmp_path / "eye.png"), "--model", str(tiny), "--out", str(tmp_path / "out")]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "eye").iterdir()}
    form = {"photo": ("C:\\patients\\eye.png", eye, "image/png")}
    with service.client() as client:
        answer = client.post("/v1/findings", files=form)
        assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
        assert answer.content == written["findings.json"]
        answer = client.post("/v1/findings", files=form, headers={"accept": ZIP})
        again = client.post("/v1/findings", files=form, headers={"accept": ZIP})
        as_body = client.post("/v1/findings", content=eye).json()
    assert answer.content == again.content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}
    assert zipped == {name: written[name] for name in written if name not in ("report.html", "settings.json")}
    assert set(zipped) >= {"findings.json", "overlay.png", "eye_EX.tif"}
    found = json.loads(written["findings.json"])
    assert as_body == found | {"photo": found["photo"] | {"name": "photo"}, "image": "photo"}


def _bad_files(eye: bytes) -> dict[str, bytes]:
    small = io.BytesIO()
    Image.new("RGB", (40, 30)).save(small, "PNG")
    return {"empty": b"", "text": b"no photo", "cut": eye[:-1], "damaged": eye[:9000] + b"!!" + eye[9002:],
            "small": small.getvalue()}  # fmt: skip


def test_a_photo_that_cannot_be_read_has_the_code_of_predict(
    service: Service, tiny: Path, eye: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with service.client() as client:
        for name, data in _bad_files(eye).items():
            (tmp_path / name).write_bytes(data)
            assert main(["predict", str(tmp_path / name), "--model", str(tiny), "--json"]) == 1
            error = json.loads(capsys.readouterr().out)["error"]
            for answer in (
                client.post("/v1/findings", content=data),
                client.post("/v1/findings", files={"photo": ("eye.png", data)}),
            ):
                assert answer.json()["error"] == error, name
                assert answer.status_code == HTTP_STATUS[error["code"]]
        assert client.post("/v1/findings", content=eye).status_code == 200


def test_a_picture_that_cannot_be_graded_is_an_answer(service: Service) -> None:
    black = io.BytesIO()
    Image.new("RGB", (300, 300)).save(black, "PNG")
    with service.client() as client:
        refused = client.post("/v1/findings", content=black.getvalue())
        forced = client.post("/v1/findings?force=true", content=black.getvalue())
    assert (refused.status_code, refused.json()["predicted_grade"]) == (200, None)
    assert forced.json()["predicted_grade"] is not None
    assert "TRUST_FORCED" in [warning["code"] for warning in forced.json()["warnings"]]


def test_a_frame_of_several_is_chosen_and_nothing_of_the_patient_comes_back(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="DICOM needs the extra `dicom`")
    from tests.cli.test_predict_dicom import assert_unmarked, write_dicom

    pixels = draw_eye(1, width_px=480).pixels
    write_dicom(tmp_path / "eye.dcm", np.stack([pixels, pixels[:, ::-1]]), "L")
    with service.client() as client:
        whole, second, third = (
            client.post("/v1/findings", params=params, content=(tmp_path / "eye.dcm").read_bytes())
            for params in ({}, {"frame": 2}, {"frame": 3})
        )
    assert (whole.status_code, whole.json()["error"]["code"]) == (422, "E_MULTIPAGE")
    assert (second.status_code, second.json()["photo"]["name"]) == (200, "photo_frame2")
    assert (third.status_code, third.json()["error"]["code"]) == (422, "E_CONFIG")
    assert_unmarked(second.content, service.log.read_bytes())


def test_dicom_objects_and_bundle_are_what_predict_writes(service: Service, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="DICOM objects need the extra `dicom`")
    from tests.cli.test_predict_dicom import write_dicom

    photo, out = tmp_path / "eye.dcm", tmp_path / "out"
    write_dicom(photo, draw_eye(1, width_px=480).pixels[None], "L")
    asked = ["--dicom", "--fhir", "--fhir-subject", "Patient/7"]
    assert main(["predict", str(photo), "--model", str(tiny), "--out", str(out), *asked]) == 0
    written = {path.name: path.read_bytes() for path in (out / "eye").iterdir()}
    form = {"photo": ("eye.dcm", photo.read_bytes())}
    with service.client() as client:
        objects = client.post("/v1/findings", files=form, headers={"accept": DICOM_ACCEPT})
        bundle = client.post("/v1/findings?subject=Patient/7", files=form, headers={"accept": FHIR})
        foreign = client.post("/v1/findings", files=form, headers={"accept": f'{DICOM}; type="image/jpeg"'})
        unfit = client.post("/v1/findings?subject=a%20b", files=form, headers={"accept": FHIR})
    head = f"Content-Type: {objects.headers['content-type']}\r\n\r\n".encode()
    parts = list(email.message_from_bytes(head + objects.content, policy=email.policy.HTTP).iter_parts())
    assert {part.get_content_type() for part in parts} == {"application/dicom"}
    assert [part.get_payload(decode=True) for part in parts] == [written["eye_SR.dcm"], written["eye_SEG.dcm"]]
    assert bundle.headers["content-type"] == FHIR
    assert bundle.json() == json.loads(written["eye_fhir.json"])
    assert "Patient/7" in bundle.text
    assert (foreign.status_code, unfit.status_code) == (406, 422)


def test_dicom_objects_are_refused_of_another_file(service: Service, eye: bytes) -> None:
    with service.client() as client:
        answer = client.post("/v1/findings", content=eye, headers={"accept": DICOM_ACCEPT})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "E_FORMAT")


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"),
    [
        ("POST", "/v1/findings", {"files": [("a", b"1"), ("b", b"2")]}, 400, "E_REQUEST"),
        ("POST", "/v1/findings", {"content": b"x", "headers": FORM}, 400, "E_REQUEST"),
        ("POST", "/v1/findings", {"content": ONE_FILE, "headers": CHARSET}, 400, "E_REQUEST"),
        ("POST", "/v1/findings?frame=0", {"content": b"x"}, 422, "E_CONFIG"),
        ("POST", "/v1/findings?forse=true", {"content": b"x"}, 422, "E_CONFIG"),
        ("POST", "/v1/findings?force=true&force=false", {"content": b"x"}, 422, "E_CONFIG"),
        ("POST", "/v1/findings", {"content": b"x", "headers": {"accept": "text/html"}}, 406, "E_ACCEPT"),
        ("GET", "/v1/findings", {}, 405, "E_METHOD"),
        ("GET", "/docs", {}, 404, "E_NOT_FOUND"),
        ("GET", "/static/..%2f..%2fetc/passwd", {}, 404, "E_NOT_FOUND"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_answered_has_a_code(
    service: Service, method: str, path: str, given: dict, status: int, code: str
) -> None:
    with service.client() as client:
        answer = client.request(method, path, **given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"] == answer.json()["request"]


def test_a_photo_in_another_wrapping_is_told_what_is_taken(service: Service, eye: bytes) -> None:
    encoded = base64.b64encode(eye)
    related = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + bytes(128) + b"DICM" + b"\r\n--x--\r\n"
    requests = {
        "JSON": {"json": {"image": encoded.decode()}},
        "base64": {"content": encoded},
        "as base64": {"content": b"data:image/png;base64," + encoded},
        "encoded as base64": {"files": {"photo": ("eye.png", base64.encodebytes(eye))}},
        "multipart/related": {
            "content": related,
            "headers": {"content-type": 'multipart/related; type="application/dicom"; boundary=x'},
        },
    }
    with service.client() as client:
        answers = {name: client.post("/v1/findings", **given) for name, given in requests.items()}
        mislabeled = client.post("/v1/findings", content=eye, headers={"content-type": "application/json"})

    for name, answer in answers.items():
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (415, "E_FORMAT")
        assert name in error["says"]
        assert TAKEN in error["says"]
    assert mislabeled.status_code == 200


def test_a_form_that_was_cut_off_is_not_said_to_lack_a_file(service: Service) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    with service.client() as client:
        cut = client.post("/v1/findings", content=ONE_FILE.removesuffix(b"\r\n--x--\r\n"), headers=headers)
        empty = client.post("/v1/findings", content=b"--x--\r\nwhat comes after it", headers=headers)
        heads = [client.head(path).status_code for path in ("/healthz", "/readyz", "/metrics", "/v1/model")]
    assert (cut.status_code, empty.status_code) == (400, 400)
    assert "was cut off before its last boundary" in cut.json()["error"]["says"]
    assert "has no file" in empty.json()["error"]["says"]
    assert heads == [200] * 4


def test_the_model_says_what_it_is(service: Service, tiny: Path) -> None:
    with service.client() as client:
        about = client.get("/v1/model").json()
    assert (about["name"], about["license"], about["not_a_medical_device"]) == ("tiny", None, True)
    assert about["card"]["close_px"] == 128
    assert len(about["sha256"]) == 64


def test_the_openapi_document_describes_what_comes(service: Service, eye: bytes) -> None:
    with service.client() as client:
        document = client.get("/openapi.json").json()
        found = client.post("/v1/findings", content=eye).json()
        refused = client.get("/nothing").json()
    for name, value in (("Findings", found), ("Refusal", refused)):
        schema = document | {"$ref": f"#/components/schemas/{name}"}
        jsonschema.Draft202012Validator(schema).validate(value)
    jsonschema.Draft202012Validator(findings_schema()).validate(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(document | {"$ref": "#/components/schemas/Findings"}).validate(refused)
    answers = document["paths"]["/v1/findings"]["post"]["responses"]
    assert {"200", "400", "401", "403", "406", "408", "413", "415", "422", "500", "503"} <= answers.keys()
    assert [status for status, answer in answers.items() if "Retry-After" in answer.get("headers", {})] == ["503"]
    for status, answer in answers.items():
        if status != "200":
            examples = answer["content"]["application/json"]["examples"]
            assert all(HTTP_STATUS[one["value"]["error"]["code"]] == int(status) for one in examples.values())


def test_every_answer_has_security_headers_and_none_lets_other_sites_read_it(service: Service) -> None:
    with service.client() as client:
        own = {"origin": service.address}
        answers = [
            client.get("/healthz", headers=own),
            client.get("/nothing"),
            client.post("/v1/findings", content=b"x"),
        ]
        foreign = [
            client.post("/v1/findings", content=b"x", headers={"origin": "https://example.org"}),
            client.get("/healthz", headers={"host": "example.org"}),
        ]
    for answer in (*answers, *foreign):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "server"]
    assert [(one.status_code, one.json()["error"]["code"]) for one in foreign] == [(403, "E_ORIGIN")] * 2


def test_what_accept_prefers_is_chosen() -> None:
    wanted = {"": JSON, "*/*": JSON, "application/*": JSON, "application/zip": ZIP, "text/html, */*;q=0.1": JSON}
    wanted |= {"application/json;q=0.5, application/zip": ZIP, "application/json;q=0, */*": ZIP}
    assert {accept: choose(accept) for accept in wanted} == wanted
    for accept in ("text/html", "application/zip;q=0", "application/zip;q=much"):
        with pytest.raises(RefusalError) as caught:
            choose(accept)
        assert caught.value.code == "E_ACCEPT"


def test_no_name_no_token_and_no_pixel_gets_into_log_or_temporary_files(service: Service, eye: bytes) -> None:
    marker = "Erika-Mustermann"
    with service.client(token=marker) as client:
        client.headers.update({"x-request-id": marker, "user-agent": marker, "referer": marker})
        for data in (eye, eye[:-1], b"x"):
            form = {"photo": (f"{marker}.png", data)}
            client.post(f"/v1/findings?frame={marker}", files=form)
            client.post("/v1/findings", files=form, headers={"accept": ZIP})
        client.get(f"/{marker}")
        client.post(f"/v1/findings/{marker}", content=eye)
    text = service.log.read_text("utf-8")
    assert marker not in text
    assert "eye" not in text
    assert list(service.temporary.rglob("*")) == []
    of_photo = [line for line in service.lines("request") if "sha256" in line]
    assert all(len(line["sha256"]) == 12 and line["seconds"] > 0 for line in of_photo)
    assert {"request", "route", "status", "code", "seconds"} <= service.lines("request")[0].keys()
    assert {line["route"] for line in service.lines("request")} <= {
        *("/v1/findings", "/v1/model", "/openapi.json", "/metrics", "/readyz", "/healthz", "other"),
    }


def test_figures_count_requests_refusals_and_stages(service: Service, eye: bytes) -> None:
    answered = 'funduscope_requests_total{route="/v1/findings",status="200"}'
    refused = 'funduscope_refusals_total{code="E_FORMAT"}'
    before = service.figure(answered), service.figure(refused)
    with service.client() as client:
        client.post("/v1/findings", content=eye)
        client.post("/v1/findings", content=b"x")
    assert (service.figure(answered), service.figure(refused)) == (before[0] + 1, before[1] + 1)
    assert service.figure('funduscope_stage_seconds_count{stage="model"}') > 0
    assert service.figure("funduscope_photos_running") == 0
    if Path("/proc/self/stat").exists():
        assert service.figure("funduscope_worker_process_resident_memory_bytes") > 1e6
        assert service.figure("funduscope_front_process_resident_memory_bytes") > 1e6


def test_the_machine_has_two_names(service: Service) -> None:
    with httpx.Client(trust_env=False) as client:
        for host in ("localhost", "127.0.0.1"):
            assert client.get(f"http://{host}:{service.place[1]}/healthz").json() == {"ok": True}


def test_lines_of_what_is_accepted_are_one_list(service: Service, eye: bytes) -> None:
    lines = [("accept", "text/html"), ("accept", "application/json")]
    with service.client() as client:
        answer = client.post("/v1/findings", content=eye, headers=lines)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_load_balancer_may_ask_for_the_head_alone(service: Service, path: str) -> None:
    with service.client() as client:
        answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
