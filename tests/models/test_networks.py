import torch

from fedlmd.models import build


def test_networks_start_from_the_runs_seed_alone(tiny_settings):
    before = torch.get_rng_state()
    first, again = build(tiny_settings.networks).weights(), build(tiny_settings.networks).weights()
    assert torch.equal(torch.get_rng_state(), before)
    assert all((first[name] == again[name]).all() for name in first)
    assert {name.partition(".")[0] for name in first} == {"classifier", "denoiser"}


def test_weights_of_any_precision_are_held_as_single(tiny_settings):
    weights = build(tiny_settings.networks).weights()
    halved = {name: array.astype("float16") for name, array in weights.items()}
    held = build(tiny_settings.networks, halved)
    assert {str(array.dtype) for array in held.weights().values()} == {"float32"}
    assert all((held.weights()[name] == halved[name]).all() for name in weights)
    assert not held.classifier.training
