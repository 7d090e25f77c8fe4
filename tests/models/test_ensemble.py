"""Several sites' denoisers in one network."""

import numpy as np
import pytest
import torch

from fedlmd.federation.merge import merged
from fedlmd.federation.messages import Reply
from fedlmd.models import DenoiserConfig, Ensemble, UNet

CONFIG = DenoiserConfig(classes=3, widths=(8, 16))


def reply(seed, labels):
    torch.manual_seed(seed)
    weights = {f"denoiser.{name}": value.numpy() for name, value in UNet(CONFIG).state_dict().items()}
    return Reply(f"site-{seed}", {"labels": labels, "means": [0.5, float(seed)], "stds": [1.0, 2.0]}, weights)


def test_it_takes_what_a_server_merges_and_its_members_answer_as_the_sites_own_did():
    replies = [reply(1, [4, 1, 0]), reply(2, [0, 3, 0])]
    arrays = merged("mixture", replies)
    ensemble = Ensemble(CONFIG, members=2, detectors=2)
    assert {f"denoiser.{name}" for name in ensemble.state_dict()} == arrays.keys()
    ensemble.load_state_dict({name.removeprefix("denoiser."): torch.tensor(array) for name, array in arrays.items()})
    x_t, t = torch.randn(2, 1, 28, 28), torch.tensor([10, 900])
    for member, site in zip(ensemble.members, replies, strict=True):
        own = UNet(CONFIG)
        own.load_state_dict({n.removeprefix("denoiser."): torch.tensor(np.array(a)) for n, a in site.weights.items()})
        assert torch.equal(member(x_t, t, torch.tensor([0, 2])), own(x_t, t, torch.tensor([0, 2])))
    torch.testing.assert_close(ensemble.shares, torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.75, 0.0]]))
    torch.testing.assert_close(ensemble.means, torch.tensor([[0.5, 1.0], [0.5, 2.0]]))
    torch.testing.assert_close(ensemble.stds, torch.tensor([[1.0, 2.0], [1.0, 2.0]]))


@pytest.mark.parametrize("members", [1, 3])
def test_before_it_is_told_more_all_members_hold_every_label_alike(members):
    ensemble = Ensemble(CONFIG, members, detectors=2)
    torch.testing.assert_close(ensemble.shares.sum(0), torch.ones(3))
    assert len(set(ensemble.shares.flatten().tolist())) == 1
