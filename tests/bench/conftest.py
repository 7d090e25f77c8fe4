import pytest
import torch

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.learner import Learner
from fedlmd.networks import build
from fedlmd.settings import from_mapping, to_mapping
from fedlmd.site import Site
from fedlmd.statistics import gaussians


@pytest.fixture(scope="package")
def small_settings():
    """A run of five digits whose networks learn nothing: how the benchmark works does not depend on it."""
    return from_mapping(
        {
            "labels": list("01234"),
            "models": {"classifier": [8, 8], "denoiser": [8, 8]},
            "classifier": {"steps": 0},
            "denoiser": {"steps": 0},
            "detector": {"lmd": {"reconstructions": 2, "inpainting": {"steps": 2}}},
            "calibration": {"images": 40, "described": 200},
        }
    )


@pytest.fixture(scope="package")
def small_release(small_settings, tmp_path_factory):
    """Such a run's release: its folder."""
    weights = artifacts.half(build(small_settings).weights())
    generator = torch.Generator().manual_seed(0)
    # The denoiser starts at 0 everywhere; something must come out of it.
    weights = {
        name: of + 0.05 * torch.randn(of.shape, generator=generator).half().numpy() for name, of in weights.items()
    }
    learner = Learner(Site("alone"))
    weights |= gaussians(learner.sums(small_settings, weights))
    *_, result = learner.certify(small_settings, weights)
    card = {"settings": to_mapping(small_settings), "training": {}, **result.metrics}
    return artifacts.save(tmp_path_factory.mktemp("releases"), card, weights)


@pytest.fixture(scope="package")
def answerer(small_release):
    return Answerer(artifacts.load(small_release))
