import base64
import io
import logging

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import load
from fedlmd.inference import channels_last, png
from fedlmd.node.config import NodeConfig
from fedlmd.node.node import Node
from fedlmd.release.shipped import PRETRAINED
from fedlmd.service.app import create_app
from fedlmd.service.client import NodeClient
from fedlmd.service.server import in_background
from fedlmd.settings import from_mapping


@pytest.fixture
def source(tmp_path):
    """Forty of the digits that the shipped release knows, in folders below the data root."""
    digits = load("mnist", "train")
    for label in ("0", "1"):
        folder = tmp_path / "data" / "digits" / label
        folder.mkdir(parents=True)
        for number in (digits.labels == int(label)).nonzero()[:20, 0].tolist():
            (folder / f"{number}.png").write_bytes(png(channels_last(digits.pixels[number].numpy())))
    return tmp_path


def explained(home, role="worker", image=None, **data):
    node = Node(NodeConfig("client1", role, home, from_mapping({"data": {"source": "digits", **data}}), threads=1))
    node.releases.use(PRETRAINED)
    asked = image or next((home / "data" / "digits" / "1").iterdir()).read_bytes()
    with in_background(create_app(node)) as url:
        body = NodeClient(url).infer(asked, explain=True)["explanation"]
    node.stop()
    return body


def test_a_worker_that_allows_it_shows_its_own_nearest_images(source):
    body = explained(source, nearest=3)
    shown = body["nearest"]
    assert [each["label"] for each in shown] == ["1", "1", "1"]
    assert [each["distance"] for each in shown] == sorted(each["distance"] for each in shown)
    own = {np.asarray(Image.open(file)).tobytes() for file in (source / "data" / "digits" / "1").iterdir()}
    for each in shown:
        picture = Image.open(io.BytesIO(base64.b64decode(each["image"].partition(",")[2])))
        assert np.asarray(picture).tobytes() in own


def test_without_leave_nothing_of_the_workers_images_is_shown(source):
    assert explained(source)["nearest"] == []


def test_a_server_shows_none(source):
    assert explained(source, role="server", nearest=3)["nearest"] == []


def test_images_that_cannot_be_read_cost_the_nearest_alone(source, caplog):
    digit = next((source / "data" / "digits" / "1").iterdir()).read_bytes()
    with caplog.at_level(logging.WARNING, "fedlmd.node.nearest"):
        body = explained(source, image=digit, source="elsewhere", nearest=3)
    assert body["nearest"] == []
    assert body["heat_map"]
    assert "no nearest images are shown" in caplog.text
