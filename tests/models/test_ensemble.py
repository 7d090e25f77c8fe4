"""Several workers' denoisers in one network."""

import numpy as np
import pytest
import torch

from fedlmd.federation.messages import Reply
from fedlmd.federation.server.merge import merged
from fedlmd.models import DenoiserConfig, Ensemble, UNet

CONFIG = DenoiserConfig(classes=3, widths=(8, 16))


def reply(seed, labels):
    torch.manual_seed(seed)
    weights = {f"denoiser.{name}": value.numpy() for name, value in UNet(CONFIG).state_dict().items()}
    return Reply(f"worker-{seed}", {"labels": labels, "means": [0.5, float(seed)], "stds": [1.0, 2.0]}, weights)


def test_it_loads_what_a_server_merges_and_its_members_predict_as_the_workers_denoisers():
    replies = [reply(1, [4, 1, 0]), reply(2, [0, 3, 0])]
    arrays = merged("mixture", replies)
    ensemble = Ensemble(CONFIG, members=2, detectors=2)
    assert {f"denoiser.{name}" for name in ensemble.state_dict()} == arrays.keys()
    ensemble.load_state_dict({name.removeprefix("denoiser."): torch.tensor(array) for name, array in arrays.items()})
    x_t, t = torch.randn(2, 1, 28, 28), torch.tensor([10, 900])
    for member, worker in zip(ensemble.members, replies, strict=True):
        denoiser = UNet(CONFIG)
        denoiser.load_state_dict(
            {n.removeprefix("denoiser."): torch.tensor(np.array(a)) for n, a in worker.weights.items()}
        )
        assert torch.equal(member(x_t, t, torch.tensor([0, 2])), denoiser(x_t, t, torch.tensor([0, 2])))
    torch.testing.assert_close(ensemble.shares, torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 0.0]]))
    torch.testing.assert_close(ensemble.means, torch.tensor([[0.5, 1.0], [0.5, 2.0]]))
    torch.testing.assert_close(ensemble.stds, torch.tensor([[1.0, 2.0], [1.0, 2.0]]))


@pytest.mark.parametrize("members", [1, 3])
def test_before_weights_are_loaded_all_members_hold_every_label_alike(members):
    ensemble = Ensemble(CONFIG, members, detectors=2)
    torch.testing.assert_close(ensemble.shares.sum(0), torch.ones(3))
    assert len(set(ensemble.shares.flatten().tolist())) == 1
