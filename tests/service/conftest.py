import io
import shutil
from contextlib import contextmanager

import httpx
import pytest
import torch
from PIL import Image

from fedlmd.data import load
from fedlmd.progress import drain
from fedlmd.service.app import create_app
from fedlmd.service.schema import TrainOrder
from fedlmd.service.server import in_background
from tests.service.training_host import ScriptedRuns, TrainingHost

PER_LABEL = {"train": 60, "eval": 15}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of real digits 0 to 3: <split>/<label>/<number>.png."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load("mnist", "eval")
    for label in range(4):
        positions = (digits.labels == label).nonzero()[:, 0].tolist()
        for split, number in PER_LABEL.items():
            target = folder / split / str(label)
            target.mkdir(parents=True)
            for index in [positions.pop() for _ in range(number)]:
                Image.fromarray(digits.pixels[index, 0].numpy()).save(target / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, images):
    """A home with one real release."""
    host = TrainingHost(tmp_path_factory.mktemp("trained"), images)
    drain(host.train(TrainOrder(labels_list=["0", "1", "2"])))
    return host


@contextmanager
def client_of(host, **settings):
    with in_background(create_app(host, **settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def predicting(trained):
    """A client of a node with a release; tests do not change it."""
    trained.pretrained = trained.current
    with client_of(trained) as client:
        yield client


@pytest.fixture
def host(tmp_path, images, trained):
    """A worker of the test's own, with the release."""
    home = tmp_path / "releases"
    shutil.copytree(trained.home, home)
    own = TrainingHost(home, images)
    own.use(trained.current)
    return own


@pytest.fixture
def client(host):
    with client_of(host) as client:
        yield client


@pytest.fixture
def runs():
    return ScriptedRuns()


@pytest.fixture
def server(tmp_path, images, runs):
    """A client of a server that has no release yet."""
    with client_of(TrainingHost(tmp_path, images, runs)) as client:
        yield client


@pytest.fixture(scope="session")
def digit(images):
    """The bytes of a picture of a 1."""
    return next((images / "eval" / "1").iterdir()).read_bytes()


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
