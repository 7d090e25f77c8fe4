from dataclasses import replace

import pytest
import torch

from fedlmd.inference import detectors
from fedlmd.models import build


@pytest.mark.parametrize("name", ["max-logit", "one-step", "lmd"])
def test_detectors_compute_where_their_networks_are(tiny_settings, name):
    # The meta device has shapes but no values, and refuses to mix with the processor as a graphics processor would.
    networks = build(tiny_settings.networks)
    for network in networks.parts().values():
        network.to("meta")
    detector = replace(tiny_settings.detector, calibrated=(name,), verdict=(name,))
    settings = replace(tiny_settings, detector=detector)
    scores = detectors(settings, networks)[name].score(torch.zeros(3, 1, 28, 28, device="meta"))
    assert (scores.device.type, scores.shape) == ("meta", (3,))
    assert networks.device.type == "meta"


def test_a_detector_without_its_gaussians_is_refused(tiny_settings):
    networks = build(tiny_settings.networks)
    with pytest.raises(ValueError, match="'mahalanobis' needs the Gaussians"):
        detectors(tiny_settings, networks)
