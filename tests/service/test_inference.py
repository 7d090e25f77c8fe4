import base64
import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import PixelRules, decode_image, to_unit_range
from tests.service.conftest import client_of, encoded

FIELDS = (
    "prediction",
    "is_ood",
    "probabilities",
    "score",
    "threshold",
    "p_value",
    "alpha",
    "detector",
    "scores",
    "release",
    "verdict",
)


def infer(client, data, field="image", **query):
    return client.post("/infer", files={field: ("x.png", data)}, params=query)


def test_the_response_is_what_the_predictor_says(predicting, trained, digit):
    body = infer(predicting, digit).raise_for_status().json()
    [expected] = trained.predictor(None).predict(to_unit_range(decode_image(digit, PixelRules()))[None])
    assert set(body) == {*FIELDS, "changes", "seconds"}
    assert body["changes"] == []
    assert body["prediction"] == expected.prediction
    assert body["is_ood"] == (body["score"] > body["threshold"])
    assert body["score"] == pytest.approx(expected.score, rel=1e-4)
    assert body["threshold"] == pytest.approx(expected.threshold)
    assert body["probabilities"] == pytest.approx(expected.probabilities, rel=1e-4)
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert set(body["scores"]) == {"mahalanobis", "one-step", "verdict"}
    assert (body["alpha"], body["detector"], body["release"]) == (0.05, "verdict", trained.current)


def test_the_response_says_how_the_image_was_converted(predicting):
    body = infer(predicting, encoded(Image.new("LA", (40, 20), (0, 0)))).json()
    assert body["changes"] == ["transparent, laid over black", "not square, padded"]


def test_the_field_may_be_called_image_out(predicting, digit):
    one, other = (infer(predicting, digit, field).json() for field in ("image", "image_out"))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_reference_is_predicted_too(predicting, digit):
    body = predicting.post("/infer", files={"image_out": digit, "image_in": digit}).json()
    assert set(body) == {*FIELDS, "changes", "seconds", "reference"}
    assert set(body["reference"]) == {*FIELDS, "changes"}
    assert body["reference"]["score"] == pytest.approx(body["score"], rel=1e-3)


@pytest.mark.parametrize("place", ["data", "params"])
def test_options_come_in_the_form_or_in_the_query(predicting, digit, place):
    options = {"alpha": "0.2", "detector": "lmd", "release": "pretrained"}
    body = predicting.post("/infer", files={"image": digit}, **{place: options}).json()
    assert (body["alpha"], body["detector"], set(body["scores"])) == (0.2, "lmd", {"lmd"})


def test_without_enough_images_for_an_alpha_there_is_no_threshold(predicting, digit):
    body = infer(predicting, digit, alpha=0.001).json()
    assert body["threshold"] is None
    assert body["is_ood"] is False


def test_an_explanation_comes_as_pictures(predicting, digit):
    explanation = infer(predicting, digit, explain=True).json()["explanation"]
    pictures = [explanation[name] for name in ("image", "median", "heat_map")]
    pictures += explanation["masks"] + explanation["reconstructions"]
    assert [opened(picture).size for picture in pictures] == [(28, 28)] * 19
    original = np.asarray(Image.open(io.BytesIO(digit)))
    assert np.array_equal(np.asarray(opened(explanation["image"])), original)
    assert set(np.unique(np.asarray(opened(explanation["masks"][0])))) == {0, 255}
    assert opened(explanation["overview"]).width > 400
    assert explanation["redrawn_as"] in "012"


def opened(uri):
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


GREY = Image.new("L", (28, 28), 40)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(np.full((28, 28), 30_000, np.uint16))),
        encoded(Image.new("RGBA", (28, 28), (255, 0, 0, 90))),
        encoded(Image.new("RGB", (301, 77), "white"), "JPEG"),
        encoded(Image.new("P", (5, 5)), "GIF"),
        encoded(Image.new("1", (28, 28))),
    ],
    ids=["16 bit", "transparent", "other size", "palette", "1 bit"],
)
def test_other_kinds_of_images_are_converted(predicting, data):
    assert infer(predicting, data).status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 422, "empty"),
        (b"these are words, not pixels", 422, "not a readable image"),
        (encoded(NOISE)[:400], 422, "truncated"),
        (encoded(GREY, "GIF", save_all=True, append_images=[Image.new("L", (28, 28))]), 422, "animated"),
        (encoded(Image.new("1", (5000, 4001))), 413, "20,000,000 pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "PNG"),
    ],
    ids=["no bytes", "text", "truncated", "animated", "too many pixels", "svg"],
)
def test_a_bad_image_is_refused_with_a_sentence(predicting, data, status, says):
    reply = infer(predicting, data)
    assert (reply.status_code, set(reply.json())) == (status, {"error"})
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"release": "0123456789ab"}, 404, "0123456789ab"),
        ({"release": "../../etc"}, 404, "etc"),
        ({"detector": "oracle"}, 422, "verdict"),
        ({"alpha": "0"}, 422, "alpha: input should be greater than 0"),
        ({"alpha": "1"}, 422, "alpha: input should be less than 1"),
        ({"alpha": "nan"}, 422, "alpha"),
        ({"alpha": "few"}, 422, "alpha: input should be a valid number"),
        ({"explain": "perhaps"}, 422, "explain"),
    ],
)
@pytest.mark.parametrize("place", ["data", "params"])
def test_a_bad_option_is_refused_with_a_sentence(predicting, digit, query, status, says, place):
    if "explain" in query:
        place = "params"
    reply = predicting.post("/infer", files={"image": digit}, **{place: query})
    assert (reply.status_code, set(reply.json())) == (status, {"error"})
    assert says in reply.json()["error"]


def test_no_image_and_two_images_are_refused(predicting, digit):
    for request in (
        {},
        {"files": {"image_in": digit}},
        {"files": {"image": digit, "image_out": digit}},
        {"json": {"image": "x"}},
        {"content": digit, "headers": {"Content-Type": "image/png"}},
    ):
        reply = predicting.post("/infer", **request)
        assert reply.status_code == 400
        assert "image or image_out" in reply.json()["error"]


def test_text_in_the_place_of_a_file_is_refused(predicting):
    reply = predicting.post("/infer", data={"image": "digit.png"})
    assert reply.status_code == 422
    assert reply.json()["error"] == "image: it must be sent as a file of a multipart/form-data body, not as text"


def test_a_broken_form_is_refused(predicting):
    reply = predicting.post("/infer", content=b"--x", headers={"Content-Type": "multipart/form-data"})
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]


def test_a_node_without_a_release_says_so(server, digit):
    reply = infer(server, digit)
    assert reply.status_code == 503
    assert "pretrained" in reply.json()["error"]
    assert int(reply.headers["Retry-After"]) > 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(host, chunked):
    with client_of(host, max_body=100_000) as client:
        parts = [b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n', *[bytes(50_000)] * 100]
        body = iter(parts) if chunked else b"".join(parts)
        reply = client.post("/infer", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert reply.status_code == 413
        assert "larger than" in reply.json()["error"]
        body = iter([b" " * 60_000] * 2) if chunked else b" " * 120_000
        assert client.post("/v1/runs", content=body, headers={"Content-Type": "application/json"}).status_code == 413
        assert client.get("/health").status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(predicting):
    parts = urlsplit(str(predicting.base_url))
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_many_images_at_once_get_the_predictions_that_each_gets_alone(predicting, images):
    files = [path.read_bytes() for label in "0123" for path in sorted((images / "eval" / label).iterdir())[:4]]
    alone = [infer(predicting, data).json() for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: infer(predicting, data).json(), files))
    assert [a["prediction"] for a in together] == [a["prediction"] for a in alone]
    assert [a["score"] for a in together] == pytest.approx([a["score"] for a in alone], rel=1e-4)


def test_neither_health_nor_lists_wait_for_images(host, digit):
    predictor, waits, gate = host.predictor, threading.Semaphore(0), threading.Event()

    def held_up(release):
        waits.release()
        assert gate.wait(20)
        return predictor(release)

    host.predictor = held_up
    with client_of(host) as client, ThreadPoolExecutor(50) as pool:
        # More than there are threads for plain requests.
        waiting = [pool.submit(infer, client, digit) for _ in range(50)]
        assert waits.acquire(timeout=10)
        try:
            assert client.get("/health").json()["status"] == "ok"
            assert client.get("/v1/jobs").json() == []
        finally:
            gate.set()
        assert {reply.result().status_code for reply in waiting} == {200}


def test_the_fields_of_a_response_come_in_their_order_and_the_optional_ones_only_on_request(predicting, digit):
    plain = infer(predicting, digit).json()
    assert list(plain) == [*FIELDS, "changes", "seconds"]
    files = {"image": digit, "image_in": digit}
    whole = predicting.post("/infer", files=files, params={"explain": True}).json()
    assert list(whole) == [*FIELDS, "changes", "explanation", "seconds", "reference"]
    assert list(whole["reference"]) == [*FIELDS, "changes", "explanation"]


def test_the_documentation_describes_every_field_of_a_response(predicting):
    document = predicting.get("/openapi.json").json()
    response = document["paths"]["/infer"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    schemas = document["components"]["schemas"]
    assert response == {"$ref": "#/components/schemas/InferBody"}
    body, reference = schemas["InferBody"], schemas["PredictionBody"]
    assert set(body["properties"]) == {*FIELDS, "changes", "explanation", "seconds", "reference"}
    assert set(body["required"]) == {*FIELDS, "seconds"}
    assert set(reference["properties"]) == {*FIELDS, "changes", "explanation"}
    assert set(reference["required"]) == set(FIELDS)
    for properties in (body["properties"], reference["properties"], schemas["ExplanationBody"]["properties"]):
        assert all(field["description"] for field in properties.values())
    assert body["properties"]["prediction"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert body["properties"]["threshold"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert body["properties"]["verdict"]["enum"] == ["known", "unknown", "uncertain"]
    assert body["properties"]["reference"]["anyOf"][0] == {"$ref": "#/components/schemas/PredictionBody"}
