"""The federations of the merge benchmark, and what their runs may spend."""

from dataclasses import replace

import pytest

from benchmarks.merges import CENTRAL, FEDERATIONS, LABELS, METHODS, Budget, classifier_rounds, settings_of
from fedlmd.data import load, partition
from fedlmd.federation.config import FederationConfig
from fedlmd.models import ModelConfig
from fedlmd.settings import from_mapping, to_mapping

EVERY = {"central": CENTRAL, **FEDERATIONS}


@pytest.mark.parametrize("name", EVERY)
def test_all_workers_together_do_the_gradient_steps_of_central_training(name):
    """But for federations with a Byzantine worker and those that they are compared with: half of the steps there."""
    kind, budget = EVERY[name], Budget(classifier=600, denoiser=900)
    share = 0.5 if name in ("honest", "poisoned") else 1
    for method in kind.methods:
        settings = settings_of(kind, METHODS[method], budget)
        assert settings.classifier.steps * kind.workers == 600 * share
        assert settings.denoiser.steps * kind.workers == 900 * share
        assert settings.federation.min_workers == kind.workers
        assert from_mapping(to_mapping(settings)) == settings


def test_the_byzantine_worker_is_one_of_the_same_honest_workers():
    honest, poisoned = (replace(FEDERATIONS[name], title="", methods=()) for name in ("honest", "poisoned"))
    assert (honest.byzantine, poisoned.byzantine) == (0, 1)
    assert honest == replace(poisoned, byzantine=0)


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY)
def test_every_worker_has_images_and_together_they_have_all(kind):
    images = load("mnist", "train", labels=LABELS)
    shares = [len(partition(images, kind.partition, worker)) for worker in range(kind.workers)]
    assert sum(shares) == len(images)
    assert min(shares) > 500


def test_a_classifier_is_the_average_of_the_last_tenth_of_many_rounds_and_the_last_of_few():
    decays = {}
    for kind in EVERY.values():
        run = classifier_rounds(settings_of(kind, METHODS["fedavg"], Budget()))
        assert run.classifier.ema == (0.9 if kind.workers == 1 else 0.0)
        assert run.federation.merge == "average"
        decays[kind.rounds] = run.federation.server_ema
    assert decays == pytest.approx({1: 0, 10: 0, 20: 0.5, 30: 2 / 3, 50: 0.8})


def test_methods_change_settings_that_there_are_and_a_classifier_of_another_shape_is_trained_for_itself():
    for method in METHODS.values():
        settings = FederationConfig(min_workers=5, **method.changes)
        assert (settings == FederationConfig(min_workers=5)) == (method.changes == {})
        assert (replace(ModelConfig(), **method.models) == ModelConfig()) == (method.models == {})
        assert method.whole or not method.models


def test_all_federations_and_methods_are_named_alike():
    assert {name for kind in FEDERATIONS.values() for name in kind.methods} == METHODS.keys()
