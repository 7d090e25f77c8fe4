"""Training and calibration at one worker, without a federation."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict

from fedlmd.calibration import Reference, Sketch, check_scores, gaussians, too_few
from fedlmd.data import DataError
from fedlmd.detection import class_gaussians
from fedlmd.models import build
from fedlmd.progress import Result, Work
from fedlmd.release import VERDICT, SelfTest, Weights, half
from fedlmd.settings import Settings, to_mapping
from fedlmd.worker.images import WorkerConfig, WorkerImages
from fedlmd.worker.scores import CalibrationScores, refuse_unmeasurable
from fedlmd.worker.training import embedding_sums, fit_part

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
    images = config.images(settings, training=training, evaluation=evaluation, complete=True)
    refuse_too_few(config, images, settings)
    networks = build(settings.networks)
    for part in ("classifier", "denoiser"):
        span = range(settings.training_of(part).steps)
        yield from fit_part(part, networks, images, settings, span, seed=settings.seed)
    weights = half(networks.weights())
    halved = build(settings.networks, weights).for_inference()
    weights |= gaussians(embedding_sums(settings, halved, images))
    sections = (yield from certify(config, settings, weights, images)).metrics
    seconds = round(time.monotonic() - start, 1)
    how = {"how": "at one worker", "workers": [config.name], "seconds": seconds}
    card = {"settings": to_mapping(settings), "training": how, **sections}
    return Result({"card": card, "seconds": seconds, **sections["metrics"]}, weights)


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
    images = config.images(settings) if images is None else images
    refuse_too_few(config, images, settings)
    scale = (yield from scores.measure(settings, networks, class_gaussians(weights), images)).metrics
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
