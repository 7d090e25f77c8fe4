"""A network of timm (PyTorch Image Models) as encoder; the extra ``timm`` installs it.

Settings: ``name = "timm"``, ``model`` one of ``timm.list_models()``, ``weights`` a .safetensors or .pth file of its
weights; ``layers`` are numbers of its feature maps (``model.feature_info``), by default the last of 1/16 of the image's
size. Images are normalised as the model's were.
"""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.encoders.encoder import Encoder, EncoderError, EncoderSource, imported
from fedlmd.models.encoders.network import NetworkEncoder

STRIDE = 16
"""By default the last map of at least 1/16 of the image's size is taken."""


@final
class Intermediates(nn.Module):
    """The feature maps of a model of timm; layers behind the last one are not run.

    Args:
        model: the model.
        layers: numbers of the feature maps.
    """

    def __init__(self, model: Any, layers: tuple[int, ...]) -> None:  # noqa: ANN401 - of a package without types
        super().__init__()
        self.model, self.layers = model, list(layers)

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Any:  # noqa: ANN401 - checked by ``joined``
        """The feature maps, of images normalised as the model's were."""
        return self.model.forward_intermediates(
            images, indices=self.layers, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )


def timm(source: EncoderSource) -> Encoder:
    """A model of timm with weights from a file.

    Raises:
        EncoderError: timm or torchvision cannot be imported, there is no such model or layer, or the weights do not
            fit.
    """
    package = imported("timm", "timm", "timm")
    model = created(package, source.model)
    reductions = [info["reduction"] for info in model.feature_info]
    fine = [layer for layer, reduction in enumerate(reductions) if reduction <= STRIDE]
    layers = source.layers or (fine[-1] if fine else 0,)
    if layers[-1] >= len(reductions):
        raise EncoderError(f"layers is {layers}, but {source.model!r} has the feature maps 0 to {len(reductions) - 1}")
    fill(model, package, source)
    settings = model.pretrained_cfg
    return NetworkEncoder(Intermediates(model, layers), source.digest, settings["mean"], settings["std"])


def created(package: Any, name: str) -> Any:  # noqa: ANN401 - of a package without types
    """A model without weights and without its classifier, for images of any size. Raises EncoderError."""
    if not package.is_model(name):
        raise EncoderError(f"timm has no model {name!r}; timm.list_models() lists those that there are")
    with torch.random.fork_rng(devices=[]):
        try:
            model = package.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # only vision transformers have the option
            model = package.create_model(name, pretrained=False, num_classes=0)
    if not hasattr(model, "forward_intermediates"):
        raise EncoderError(f"timm's model {name!r} gives no feature maps; choose one with forward_intermediates")
    return model


def fill(model: Any, package: Any, source: EncoderSource) -> None:  # noqa: ANN401 - of a package without types
    """Load the weights, without those of the classifier. Raises EncoderError where they do not fit."""
    path = str(source.path)
    try:
        weights = package.models.load_state_dict(path, weights_only=True)
        heads = model.pretrained_cfg.get("classifier") or ()
        prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
        model.load_state_dict({key: value for key, value in weights.items() if not key.startswith(prefixes)})
    # Files of other formats raise what their reader chooses.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"the weights {path!r} do not fit timm's model {source.model!r}: {reason}") from error
