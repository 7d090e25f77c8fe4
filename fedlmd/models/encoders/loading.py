"""Loads the encoder of a configuration."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fedlmd.models.encoders.config import EncoderConfig
from fedlmd.models.encoders.encoder import Encoder, EncoderBuilder, EncoderError, EncoderSource
from fedlmd.models.encoders.files import digest, located
from fedlmd.models.encoders.registry import ENCODERS


def load_encoder(config: EncoderConfig, *, folder: Path | None = None) -> Encoder:
    """The encoder of a configuration; a process holds the two that it loaded last.

    Args:
        config: names the encoder. Where it has a digest, the weights must have the same.
        folder: the folder of encoders, by default that of ``FEDLMD_ENCODERS`` or ``~/.fedlmd/encoders``.

    Raises:
        EncoderError: the weights are missing or others, a package is missing, or the encoder cannot be built of them.
        ValueError: the package that registers the encoder cannot be imported.
    """
    path = located(config.weights, folder) if config.weights else None
    source = EncoderSource(config.model, config.layers, path, digest(path) if path else "")
    if path:
        check_digest(config, source.digest)  # before anything of the file is run
    encoder = built(ENCODERS[config.name], source)
    check_digest(config, encoder.digest)
    return encoder


@lru_cache(maxsize=2)
def built(builder: EncoderBuilder, source: EncoderSource) -> Encoder:
    """An encoder; it is built once, as it is frozen."""
    return builder(source)


def check_digest(config: EncoderConfig, present: str) -> None:
    """Refuse weights that are not those of the run. Raises EncoderError."""
    if config.digest and config.digest != present:
        raise EncoderError(
            f"the run or release was made with the encoder {config.name!r} of digest {config.digest[:12]}, here it is "
            f"{present[:12] or 'without weights'}; copy the same weights into the folder of encoders, or install the "
            "same package of them"
        )
