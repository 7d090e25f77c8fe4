"""The two networks of a run, and their weights as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from fedlmd.models.classifier import Classifier, ClassifierConfig
from fedlmd.models.denoiser import DenoiserConfig, DenoiserNetwork
from fedlmd.models.encoders import EncoderConfig
from fedlmd.models.ensemble import Ensemble
from fedlmd.models.latents import LatentEncoder
from fedlmd.models.registry import CLASSIFIERS, DENOISERS


@dataclass(frozen=True)
class NetworksConfig:
    """Shape of both networks.

    Args:
        classifier: shape of the classifier.
        denoiser: shape of the denoiser.
        seed: of the initial weights.
        encoder: what makes latents of images; by default the networks work on images themselves.
    """

    classifier: ClassifierConfig
    denoiser: DenoiserConfig
    seed: int = 0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)


@dataclass(frozen=True)
class Networks:
    """The two networks of a run.

    Args:
        classifier: latents to logits.
        denoiser: noisy latents to velocities; an ensemble where every worker's was kept.
        encode: images to latents.
    """

    classifier: Classifier
    denoiser: DenoiserNetwork | Ensemble
    encode: LatentEncoder

    @property
    def device(self) -> torch.device:
        """Where the networks compute; their inputs must be there, too."""
        return next(self.classifier.parameters()).device

    def for_inference(self) -> Networks:
        """Lay the weights out channels last: float32 inference is faster, bfloat16 training would be slower."""
        for network in self.parts().values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Ten bits of TensorFloat-32 would give a graphics processor other scores than the processor gives.
        torch.backends.cudnn.allow_tf32 = False
        return self

    def parts(self) -> dict[str, nn.Module]:
        """The networks by the prefix of their weights' names."""
        return {"classifier": self.classifier, "denoiser": self.denoiser}

    def weights(self) -> dict[str, Any]:
        """All weights as float32 arrays, named ``classifier.…`` and ``denoiser.…``."""
        return {
            f"{part}.{name}": value.detach().cpu().numpy().copy()
            for part, network in self.parts().items()
            for name, value in network.state_dict().items()
        }

    def load(self, weights: Mapping[str, Any]) -> None:
        """Load weights of any precision, as float32.

        Raises:
            ValueError: when a name or shape does not fit the networks.
        """
        for part, network in self.parts().items():
            prefix = f"{part}."
            state = {
                name.removeprefix(prefix): torch.tensor(array).float()
                for name, array in weights.items()
                if name.startswith(prefix)
            }
            try:
                network.load_state_dict(state)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"the weights do not fit the {part} of these settings: {reason}") from None


def build(config: NetworksConfig, weights: Mapping[str, Any] | None = None) -> Networks:
    """Both networks in evaluation mode, on the GPU where there is one; initialised from the seed without ``weights``.

    Raises:
        ValueError: when the weights do not fit the configuration.
    """
    weights = weights or {}
    start = "denoiser.members."
    members = len({name.removeprefix(start).partition(".")[0] for name in weights if name.startswith(start)})
    means = weights.get("denoiser.means", np.empty((0, 0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        networks = Networks(
            CLASSIFIERS[config.classifier.network](config.classifier),
            Ensemble(config.denoiser, members, means.shape[1] if means.ndim == 2 else 0)
            if members
            else DENOISERS[config.denoiser.network](config.denoiser),
            LatentEncoder(config.encoder, weights),
        )
    if networks.encode.whitening is not None:
        mean, projection, _ = networks.encode.whitening
        networks.classifier.follow(mean, projection)
    if weights:
        networks.load(weights)
    for network in networks.parts().values():
        network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return networks
