"""A release's outputs for the images of its self-test."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import Moments
from fedlmd.data import to_unit_range
from fedlmd.detection import Detector, fuse, scored
from fedlmd.models import Networks
from fedlmd.release import LOGITS, VERDICT, patterns
from fedlmd.settings import Settings

# LMD is left out of a self-test, which runs whenever a release is loaded, from so many evaluations per image on.
EXPENSIVE = 100


@torch.inference_mode()
def self_test_outputs(
    settings: Settings, networks: Networks, by_name: Mapping[str, Detector]
) -> dict[str, Float[Tensor, "n ..."]]:
    """Logits of the self-test's images and those of their scores that make the verdict.

    LMD is left out where it takes more than about a hundred evaluations; one-step denoising stands in where no other
    score is left.
    """
    rules = settings.pixel_rules
    pixels = torch.from_numpy(patterns(rules.channels, rules.size))
    images = networks.encode(to_unit_range(pixels).to(networks.device))
    expensive = {"lmd"} if settings.detector.lmd.evaluations > EXPENSIVE else set()
    names = [name for name in settings.detectors.verdict if name not in expensive] or by_name.keys() & {"one-step"}
    logits = networks.classifier(images[:, : settings.networks.classifier.channels]).cpu()
    return {LOGITS: logits, **scored({name: by_name[name] for name in names}, images)}


def self_test_scores(
    outputs: Mapping[str, Float[Tensor, "n ..."]], settings: Settings, scale: Mapping[str, Moments]
) -> dict[str, np.ndarray]:
    """Outputs as a card and a message hold them, with the verdict where all of its scores are there."""
    verdict, whole = settings.detectors.verdict, dict(outputs)
    if outputs.keys() >= set(verdict):
        whole[VERDICT] = fuse({name: outputs[name] for name in verdict}, {name: scale[name] for name in verdict})
    return {name: tensor.numpy() for name, tensor in whole.items()}
