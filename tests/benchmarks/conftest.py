import pytest
import torch

from benchmarks.baselines.ddpm_ood import DDPMOODConfig
from benchmarks.baselines.density import MixtureConfig
from benchmarks.baselines.diffpath import DiffPathConfig
from benchmarks.baselines.factory import BaselineConfig
from benchmarks.baselines.msma import MSMAConfig
from fedlmd.calibration.class_gaussians import gaussians
from fedlmd.data import load, some
from fedlmd.inference.predictor import Predictor
from fedlmd.models.networks import build
from fedlmd.progress import drain
from fedlmd.release import half, load_release, save_release
from fedlmd.settings import from_mapping, to_mapping
from fedlmd.worker.alone import certify
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker


def load_few(source, split, **form):
    """Images as ``load`` gives them, but few: the small release learns nothing from them."""
    return some(load(source, split, **form), 2000)


@pytest.fixture(scope="package")
def few():
    """A worker with few images."""
    return WorkerConfig("alone", load=load_few)


@pytest.fixture(scope="package")
def cheap_baselines():
    """The published detectors in their cheapest form."""
    one = MixtureConfig(components=(1,), folds=2)
    return BaselineConfig(MSMAConfig(3, mixture=one), DiffPathConfig(3, one), DDPMOODConfig(2, 4))


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
def small_release(small_settings, few, tmp_path_factory):
    """Such a run's release: its folder."""
    weights = half(build(small_settings.networks).weights())
    generator = torch.Generator().manual_seed(0)
    # A new denoiser's output is 0 everywhere: noise changes that.
    weights = {
        name: array + 0.05 * torch.randn(array.shape, generator=generator).half().numpy()
        for name, array in weights.items()
    }
    weights |= gaussians(drain(Worker(few).sums(small_settings, weights)).weights)
    result = drain(certify(few, small_settings, weights))
    card = {"settings": to_mapping(small_settings), "training": {}, **result.metrics}
    return save_release(tmp_path_factory.mktemp("releases"), card, weights)


@pytest.fixture(scope="package")
def predictor(small_release):
    return Predictor(load_release(small_release))
