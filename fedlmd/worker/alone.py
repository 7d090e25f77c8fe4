"""Training and calibration at one worker, without a federation."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

from fedlmd.calibration import Reference, Sketch, check_scores, gaussians, too_few, whitening
from fedlmd.data import DataError
from fedlmd.models import LatentEncoder, build
from fedlmd.progress import Result, Work
from fedlmd.release import VERDICT, SelfTest, Weights, half
from fedlmd.settings import Settings, to_mapping
from fedlmd.worker.images import WorkerConfig, WorkerImages
from fedlmd.worker.scores import CalibrationScores, refuse_unmeasurable
from fedlmd.worker.training import embedding_sums, fit_part, parts, sums_over_cells

log = logging.getLogger(__name__)


def train_alone(
    config: WorkerConfig, settings: Settings, *, training: str | None = None, evaluation: str | None = None
) -> Work:
    """Train and calibrate on one worker's images.

    Args:
        config: the worker's.
        settings: of the run; every "auto" is replaced by what the images suggest.
        training: another source than the worker's.
        evaluation: another source to evaluate on.

    Returns:
        A release's "card" and weights; and "seconds", "accuracy", "loss" and "images".

    Raises:
        DataError: before anything is trained, when there are too few images to train or to calibrate with.
    """
    start = time.monotonic()
    settings = resolved(config, settings, training)
    sources: dict[str, Any] = {"training": training, "evaluation": evaluation, "complete": True}
    fitted = yield from fitted_whitening(config, settings, **sources)
    networks = build(settings.networks, initial(settings) | fitted.weights)
    images = yield from config.loading(settings, networks.encode, **sources)
    refuse_too_few(config, images, settings)
    for part in parts(settings):
        span = range(settings.training_of(part).steps_for(len(images.training)))
        yield from fit_part(part, networks, images, settings, span, seed=settings.seed)
    weights = half(networks.weights()) | fitted.weights
    halved = build(settings.networks, weights).for_inference()
    weights |= gaussians(embedding_sums(settings, halved, images))
    sections = (yield from certify(config, settings, weights, images)).metrics
    seconds = round(time.monotonic() - start, 1)
    how = {"how": "at one worker", "workers": [config.name], "seconds": seconds}
    card = {"settings": to_mapping(settings), "training": how, **sections}
    return Result({"card": card, "seconds": seconds, **sections["metrics"]}, weights)


def initial(settings: Settings) -> Weights:
    """The initial weights of both networks."""
    return build(settings.networks).weights()


def fitted_whitening(config: WorkerConfig, settings: Settings, **sources: Any) -> Work:  # noqa: ANN401 - of ``loading``
    """The whitening of an encoder's maps, by the worker's training images, as weights; nothing without an encoder.

    Args:
        config: the worker's.
        settings: of the run.
        **sources: as for ``WorkerConfig.loading``.
    """
    if not settings.has_latents:
        return Result()
    maps = yield from config.loading(settings, LatentEncoder(settings.encoder), **sources)
    return Result(weights=whitening(sums_over_cells(maps), settings.encoder.channels, settings.encoder.leading))


def resolved(config: WorkerConfig, settings: Settings, source: str | None = None) -> Settings:
    """The settings without "auto", by what a worker's images look like; what that means for them is logged.

    Args:
        config: the worker's.
        settings: of a run.
        source: another source than the worker's.

    Raises:
        DataError: when the source cannot be used.
    """
    looked_at = config.survey(source)
    settings, notes = settings.resolved([looked_at.facts])
    for note in (*looked_at.notes, *notes):
        log.info("%s: %s", looked_at.source, note)
    return settings


def certify(config: WorkerConfig, settings: Settings, weights: Weights, images: WorkerImages | None = None) -> Work:
    """Calibrate and evaluate the weights of a release on one worker's images, which are loaded where not given.

    Returns:
        Three sections of a card as metrics: ``calibration``, ``metrics`` (accuracy in [0, 1], loss in nats, and on how
        many images) and ``self_test``. ``calibration`` holds under "promise" whether the evaluation images are called
        unknown as often as promised, see ``fedlmd.calibration.PromiseCheck``.

    Raises:
        DataError: when there are too few images to calibrate with.
    """
    scores = CalibrationScores()
    networks = build(settings.networks, weights).for_inference()
    if images is None:
        images = yield from config.loading(settings, networks.encode)
    refuse_too_few(config, images, settings)
    scale = (yield from scores.measure(settings, networks, weights, images)).metrics
    accuracy, loss = scale.pop("accuracy"), scale.pop("loss")
    alpha, sketches = settings.calibration.alpha, scores.sketches(settings, scale)
    reference = Reference.of_sketch(Sketch.from_json(sketches[VERDICT]))
    promise = check_scores(reference, alpha, scores.evaluated_verdict(settings, scale).numpy())
    calibration = {"alpha": alpha, "moments": scale, "sketches": sketches, "workers": [config.name]}
    metrics = {"accuracy": accuracy["mean"], "loss": loss["mean"], "images": accuracy["count"]}
    test = SelfTest.of(scores.self_test_scores(settings, scale), reference.threshold(alpha))
    calibration["promise"] = asdict(promise)
    return Result({"calibration": calibration, "metrics": metrics, "self_test": test.to_json()})


def refuse_too_few(config: WorkerConfig, images: WorkerImages, settings: Settings) -> None:
    """Refuse images of which too few are held back to ever call one unknown, or too few are left to evaluate on.

    Args:
        config: the worker's.
        images: the worker's.
        settings: of the run.

    Raises:
        DataError: with the number needed.
    """
    held_back = config.data.held_back
    refuse_unmeasurable(config.name, images, held_back)
    alpha, most = settings.calibration.alpha, settings.calibration.images
    if reason := too_few(min(len(images.held_back), most), alpha, images=most, held_back=held_back):
        raise DataError(reason)
