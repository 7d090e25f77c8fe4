"""A model of Hugging Face transformers as encoder; the extra ``transformers`` installs it.

Settings: ``name = "transformers"``, ``weights`` a folder as ``save_pretrained`` writes it, with config.json,
safetensors and preprocessor_config.json; ``layers`` are blocks or stages, by default the model's last hidden state. The
tokens of vision transformers (ViT, DINOv2 and the like) become a grid, without those of classes and registers.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, final

from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.encoders.encoder import Encoder, EncoderError, EncoderSource, chosen, imported, last_line
from fedlmd.models.encoders.network import HALF, NetworkEncoder


@final
class HiddenStates(nn.Module):
    """The hidden states of a vision model, as maps.

    Args:
        model: the model.
        layers: numbers of its blocks or stages; empty for the last hidden state.
    """

    def __init__(self, model: Any, layers: tuple[int, ...]) -> None:  # noqa: ANN401 - of a package without types
        super().__init__()
        self.model, self.layers = model, layers
        patch = getattr(model.config, "patch_size", None)
        self.patch: int | None = patch if isinstance(patch, int) else None
        parameters = inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Any:  # noqa: ANN401 - checked by ``joined``
        """The maps of the chosen layers."""
        if self.patch and images.shape[-1] % self.patch:
            below = images.shape[-1] // self.patch * self.patch
            raise EncoderError(
                f"the encoder's patches have {self.patch} pixels, and {images.shape[-1]} is no multiple of it; set "
                f"image_size to {f'{below} or ' if below else ''}{below + self.patch}"
            )
        output = self.model(pixel_values=images, output_hidden_states=bool(self.layers), **self.options)
        states = chosen(output.hidden_states[1:], self.layers) if self.layers else [output.last_hidden_state]
        return [self.grid(state, images.shape[-1]) for state in states]

    def grid(self, state: Tensor, size: int) -> Tensor:
        """Tokens (B, N, D) as a map (B, D, h, w): the last h x w tokens are those of the patches; maps stay."""
        if state.ndim == 4:
            return state
        side = size // self.patch if self.patch else 0
        extra = state.shape[1] - side * side
        if not side or extra < 0:
            raise EncoderError(
                f"the model gives {state.shape[1]} tokens of an image of {size} x {size}, which are no grid of its "
                "patches; choose a vision transformer such as DINOv2, or a convolutional network"
            )
        return state[:, extra:].transpose(1, 2).reshape(len(state), -1, side, side)


def transformers(source: EncoderSource) -> Encoder:
    """A model of transformers from a folder.

    Raises:
        EncoderError: transformers cannot be imported, or the folder holds no vision model with all its weights.
    """
    package = imported("transformers", "transformers", "transformers")
    folder = source.path
    mean, deviation = normalisation(folder)
    return NetworkEncoder(HiddenStates(loaded(package, folder), source.layers), source.digest, mean, deviation)


def loaded(package: Any, folder: Path) -> Any:  # noqa: ANN401 - of a package without types
    """The model of a folder, in float32. Raises EncoderError."""
    log = package.utils.logging
    bar, level = log.is_progress_bar_enabled(), log.get_verbosity()
    log.disable_progress_bar()
    log.set_verbosity_error()
    try:
        model, info = package.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype="float32"
        )
    # A folder can be wrong in many ways; what transformers raises for each is its own choice.
    except Exception as error:
        raise EncoderError(f"transformers cannot load a model from {str(folder)!r}: {last_line(error)}") from error
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
    # A pooler is not run for the maps; checkpoints with a classifier have none.
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing or info["mismatched_keys"]:
        wrong = ", ".join(map(str, [*missing, *info["mismatched_keys"]][:3]))
        raise EncoderError(
            f"the folder {str(folder)!r} lacks weights of its model, such as {wrong}; copy all its files"
        )
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise EncoderError(f"the model of {str(folder)!r} takes no images; choose a vision model")
    return model


def normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the model's images, of preprocessor_config.json. Raises EncoderError."""
    path = folder / "preprocessor_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not config.get("do_normalize", True):
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, deviation = (tuple(map(float, config.get(key, HALF))) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{str(path)!r} cannot be read; copy all files of the model: {last_line(error)}") from error
    if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
        raise EncoderError(f"{str(path)!r} has no image_mean and image_std of three colours; use a model of RGB images")
    return mean, deviation
