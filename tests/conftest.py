"""Every test runs on one thread, with the shapes and types of the tensors checked."""

from collections.abc import Iterator
from functools import cache

import jaxtyping
import pytest
import torch

TENSORS = ("calibration", "data", "detection", "diffusion", "inference", "models", "training", "worker")
"""The parts of the package that handle tensors."""

# Before any of them is imported: they then check the annotations of their functions at every call. Processes that a
# test starts do not get the hook, so what they run is what users run.
jaxtyping.install_import_hook([f"fedlmd.{part}" for part in TENSORS], "beartype.beartype")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a test's command sets is gone for the next test: sums of floats differ with the number of threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def digits_read_once() -> None:
    """The shipped digits are decompressed once in a process and not for every worker: nothing changes them."""
    from fedlmd.data import sources  # noqa: PLC0415 - after the hook

    sources.SOURCES.builtin["mnist"] = cache(sources.SOURCES.builtin["mnist"])


@pytest.fixture
def unchecked() -> Iterator[None]:
    """For tests that pass a wrong type on purpose, to see what users get, who run without the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny_settings():
    """A run that takes seconds: three digits, small networks, few steps."""
    from fedlmd import settings  # noqa: PLC0415 - after the hook

    # In single precision, so that every processor computes about the same.
    plain = {"batch_size": 32, "low_precision": False}
    return settings.from_mapping(
        {
            "labels": ["0", "1", "2"],
            "models": {"classifier": [8, 16], "denoiser": [8, 16], "views": 1},
            "classifier": {
                "steps": 120,
                "warmup": 3,
                "ema": 0.9,
                "learning_rate": 0.01,
                "weight_decay": 0.01,
                "augmentation": {"turn": 0, "zoom": 0, "shear": 0, "shift": 0},
                **plain,
            },
            "denoiser": {"steps": 20, "warmup": 3, **plain},
            "detector": {"lmd": {"reconstructions": 2, "inpainting": {"steps": 3}}},
            "calibration": {"images": 60, "described": 300},
            "federation": {"rounds": 2},
        }
    )


@pytest.fixture(scope="session")
def tiny_result(tiny_settings):
    """What such a run makes at one worker: figures, card and weights."""
    from fedlmd.progress import drain  # noqa: PLC0415 - after the hook
    from fedlmd.worker.alone import train_alone  # noqa: PLC0415
    from fedlmd.worker.images import WorkerConfig  # noqa: PLC0415

    return drain(train_alone(WorkerConfig("alone"), tiny_settings))


def pytest_collection_modifyitems(items):
    """Tests that start Flower's processes come first: they mostly wait, while the others compute beside them."""
    waiting = ("tests/journeys/", "tests/federation/flower/")
    items.sort(key=lambda item: not item.nodeid.startswith(waiting))
