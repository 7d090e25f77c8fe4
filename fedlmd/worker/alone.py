"""Training and calibration at one worker, without a federation."""

from __future__ import annotations

import time

from fedlmd.calibration import Reference, Sketch, gaussians
from fedlmd.detection import class_gaussians
from fedlmd.models import build
from fedlmd.progress import Result, Work
from fedlmd.release import VERDICT, SelfTest, Weights, half
from fedlmd.settings import Settings, to_mapping
from fedlmd.worker.images import WorkerConfig, WorkerImages
from fedlmd.worker.scores import CalibrationScores
from fedlmd.worker.training import embedding_sums, fit_part


def train_alone(
    config: WorkerConfig, settings: Settings, *, training: str | None = None, evaluation: str | None = None
) -> Work:
    """Train and calibrate on one worker's images.

    Args:
        config: the worker's.
        settings: of the run.
        training: another source than the worker's.
        evaluation: another source to evaluate on.

    Returns:
        A release's "card" and weights; and "seconds", "accuracy", "loss" and "images".
    """
    start = time.monotonic()
    images = config.images(settings, training=training, evaluation=evaluation, complete=True)
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


def certify(config: WorkerConfig, settings: Settings, weights: Weights, images: WorkerImages | None = None) -> Work:
    """Calibrate and evaluate the weights of a release on one worker's images, which are loaded where not given.

    Returns:
        Three sections of a card as metrics: ``calibration``, ``metrics`` (accuracy in [0, 1], loss in nats, and on how
        many images) and ``self_test``.
    """
    scores = CalibrationScores()
    networks = build(settings.networks, weights).for_inference()
    images = config.images(settings) if images is None else images
    scale = (yield from scores.measure(settings, networks, class_gaussians(weights), images)).metrics
    accuracy, loss = scale.pop("accuracy"), scale.pop("loss")
    alpha, sketches = settings.calibration.alpha, scores.sketches(settings, scale)
    calibration = {"alpha": alpha, "moments": scale, "sketches": sketches, "workers": [config.name]}
    metrics = {"accuracy": accuracy["mean"], "loss": loss["mean"], "images": accuracy["count"]}
    test = SelfTest.of(
        scores.self_test_scores(settings, scale),
        Reference.of_sketch(Sketch.from_json(sketches[VERDICT])).threshold(alpha),
    )
    return Result({"calibration": calibration, "metrics": metrics, "self_test": test.to_json()})
