"""Predictions of many image files: decoded ahead by several threads, scored in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from fedlmd.cli.image_files import ImageFile, image_bytes
from fedlmd.data import DataError, PixelRules, convert, to_unit_range
from fedlmd.inference import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known of one image file.

    Args:
        name: its path as it was given.
        problem: why it cannot be predicted; None where it can.
        pixels: uint8 (C, S, S) of an image that was decoded.
        changes: what decoding changed, in a few words each.
        prediction: of an image that was scored.
    """

    name: str
    problem: str | None = None
    pixels: Tensor | None = None
    changes: tuple[str, ...] = ()
    prediction: Prediction | None = None


def answers(
    predictor: Predictor,
    files: Iterable[ImageFile],
    *,
    alpha: float | None = None,
    detector: str = "verdict",
    batch_size: int = 64,
    threads: int = 1,
) -> Iterator[list[Answer]]:
    """Predict image files, in their order; one list for each batch.

    Memory is bounded: at most two further batches wait decoded.

    Args:
        predictor: the release.
        files: the images; one with a problem stays an answer with that problem.
        alpha: false-alarm rate; None takes the release's.
        detector: name of the score that decides.
        batch_size: files of a batch.
        threads: that decode.

    Raises:
        ValueError: as ``Predictor.predict``.
    """
    decoded = decoded_ahead(files, predictor.settings.pixel_rules, threads, 2 * batch_size)
    while batch := list(islice(decoded, batch_size)):
        yield predicted(predictor, batch, alpha, detector)


def decoded_ahead(files: Iterable[ImageFile], rules: PixelRules, threads: int, ahead: int) -> Iterator[Answer]:
    """Decode files in threads, at most ``ahead`` of them before they are asked for."""
    pool, waiting = ThreadPoolExecutor(threads, "decode"), deque[Future[Answer]]()
    try:
        for file in files:
            waiting.append(pool.submit(decode, file, rules))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def decode(file: ImageFile, rules: PixelRules) -> Answer:
    """Read and decode one file; never raises for what the file holds."""
    if file.problem is not None:
        return Answer(file.name, file.problem)
    try:
        pixels, changes = convert(image_bytes(file.name), rules)
    except DataError as error:
        return Answer(file.name, str(error))
    return Answer(file.name, None, pixels, changes)


def predicted(predictor: Predictor, batch: Sequence[Answer], alpha: float | None, detector: str) -> list[Answer]:
    """The batch with predictions of the images in it."""
    pixels = [answer.pixels for answer in batch if answer.pixels is not None]
    if not pixels:
        return list(batch)
    predictions = iter(predictor.predict(to_unit_range(torch.stack(pixels)), alpha=alpha, detector=detector))
    return [answer if answer.pixels is None else replace(answer, prediction=next(predictions)) for answer in batch]
