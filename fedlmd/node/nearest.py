"""The images of its own that a worker shows beside an image that it is asked about, where its settings allow that."""

from __future__ import annotations

import logging
import threading
from functools import lru_cache
from typing import final

from jaxtyping import Float
from torch import Tensor

from fedlmd.data import DataError, some
from fedlmd.inference import NearestImage, NearestImages, Predictor
from fedlmd.models import EncoderError
from fedlmd.node.config import NodeConfig
from fedlmd.progress import drain
from fedlmd.worker.handler import STORE
from fedlmd.worker.images import WorkerConfig

log = logging.getLogger(__name__)

SEARCHED = 2_000
"""Training images that are searched at most, drawn at random."""


@final
class OwnNearestImages:
    """Finds the nearest of a worker's training images; ``data.nearest`` says how many it shows, none by default.

    The first search with a release reads the images, which takes seconds; the result is kept for one release.

    Args:
        config: of the node.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config, self.lock = config, threading.Lock()
        self.searched = lru_cache(1)(self.read)

    def nearest(self, predictor: Predictor, image: Float[Tensor, "1 c h w"]) -> list[NearestImage]:
        """The nearest images, the nearest first; none where that is not allowed, or the images cannot be read.

        Args:
            predictor: of the release.
            image: in [-1, 1], of the release's size.
        """
        count = self.config.settings.data.nearest
        if not count or self.config.role == "server":
            return []
        with self.lock:
            searched = self.searched(predictor)
        return [] if searched is None else searched.nearest(image, count)

    def read(self, predictor: Predictor) -> NearestImages | None:
        """What is searched: training images of the release's labels."""
        node, settings = self.config, predictor.settings
        worker = WorkerConfig(node.name, node.settings.data, node.worker, node.data, store=node.home / STORE)
        try:
            both = [drain(worker.loading(settings, each)).training for each in (predictor.networks.encode, None)]
        except (DataError, EncoderError) as error:
            log.warning("no nearest images are shown: %s", error)
            return None
        inputs, images = (some(each, SEARCHED, settings.seed) for each in both)
        return NearestImages(predictor, inputs, images)
