"""What one worker does with its images: train, evaluate, calibrate. It sends only weights and figures."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch

from fedlmd.calibration import ENCODER, EVALUATION
from fedlmd.data import some
from fedlmd.detection import DENOISING, build_detectors, moments_of, scored
from fedlmd.federation import actions
from fedlmd.federation.compression import BITS, change, compress
from fedlmd.inference import detector_inputs
from fedlmd.models import LatentEncoder, Networks, build
from fedlmd.progress import Progress, Result, Work
from fedlmd.release import Weights, save_release, set_current
from fedlmd.settings import Settings, from_mapping
from fedlmd.training import Evaluation, evaluate
from fedlmd.worker.alone import train_alone
from fedlmd.worker.images import WorkerConfig, WorkerImages
from fedlmd.worker.scores import CalibrationScores, Scale, refuse_unmeasurable
from fedlmd.worker.state import ClientState, RoundState
from fedlmd.worker.training import embedding_sums, fit_part, of_networks, parts, sums_over_cells, update_norms


@final
class Worker:
    """One participant. It keeps images and scores between the messages of a run."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.loaded: tuple[Settings, Weights, WorkerImages] | None = None
        self.scores = CalibrationScores()
        self.state = ClientState(config.state)
        self.evaluated: tuple[Settings, dict[str, torch.Tensor], Evaluation] | None = None

    def handle(self, action: str, config: Mapping[str, Any], weights: Weights) -> Work:
        """Do the action of a message.

        Args:
            action: one of ``fedlmd.federation.actions``.
            config: ``settings`` of the run, and the action's other arguments.
            weights: the global weights.

        Raises:
            ValueError: on an unknown action.
        """
        if action == actions.INSTALL:
            self.state.clear()
            self.install(config["card"], weights)
            return Result()
        settings = from_mapping(config["settings"])
        if action in (actions.TRAIN, actions.DENOISER):
            self.state.open(str(config.get("run", "")))
        match action:
            case actions.TRAIN:
                averaged = int(config.get("averaged", {}).get(self.config.name, 0))
                result = yield from self.train(settings, weights, int(config["round"]), averaged)
            case actions.DENOISER:
                result = yield from self.denoiser(settings, weights)
            case actions.CELLS:
                result = yield from self.cells(settings)
            case actions.SUMS:
                result = yield from self.sums(settings, weights)
            case actions.MOMENTS:
                result = yield from self.moments(settings, weights)
            case actions.THRESHOLDS:
                result = self.thresholds(settings, config["moments"])
            case actions.TRAIN_ALONE:
                result = yield from self.train_alone(settings, config.get("training"), config.get("evaluation"))
            case _:
                raise ValueError(f"unknown action {action!r}; a worker can train, calibrate and install")
        return result

    def images(self, settings: Settings, weights: Weights) -> Generator[Progress, None, WorkerImages]:
        """The worker's images for these settings, loaded once, or their latents by the whitening among the weights.

        Raises:
            DataError: when there are too few to train or to calibrate with.
            EncoderError: when the run's encoder is missing here, or is another one.
        """
        constant = {name: array for name, array in weights.items() if name.startswith(ENCODER)}
        last = self.loaded
        if last is None or last[0] != settings or not same_arrays(last[1], constant):
            self.loaded = None  # frees the memory of the last images
            images = yield from self.config.loading(settings, LatentEncoder(settings.encoder, constant))
            refuse_unmeasurable(self.config.name, images, self.config.data.held_back)
            self.loaded = last = (settings, constant, images)
        return last[2]

    def cells(self, settings: Settings) -> Work:
        """Sums over the cells of the training images' maps, to be added to those of other workers."""
        maps = yield from self.config.loading(settings, LatentEncoder(settings.encoder))
        return Result(weights=sums_over_cells(maps))

    def start(self, settings: Settings, weights: Weights, number: int) -> Networks:
        """The networks that a round starts from: the global weights, and the worker's local layers.

        The local layers are those after the worker's last round in this run, at first the settings' initial ones, which
        are the same at every worker. Rounds count from 1; after the last one the number is the next.
        """
        initial = build(settings.networks).weights()
        return build(settings.networks, {**initial, **self.state.local_layers(number), **weights})

    def train(self, settings: Settings, weights: Weights, number: int, averaged: int = 0) -> Work:
        """One round: evaluate the global weights, and train the networks that they belong to.

        Args:
            settings: of the run.
            weights: the global weights, of both networks or of parts.
            number: the round, from 1.
            averaged: the last round in which this worker's update was averaged, 0 for none.

        Returns:
            The new weights, or their compressed changes; and the figures "num-examples"; "accuracy", "evaluation-loss"
            and "evaluation-images" of the global weights; "calibration-images", which are scored after the last round;
            "seconds-loading" of images and networks, and "seconds-training" from there on; of each network the last
            loss ("classifier-loss") and the L2 norm of its change ("classifier-norm").
        """
        begin = time.monotonic()
        images, networks = (yield from self.images(settings, weights)), self.start(settings, weights, number)
        start = time.monotonic()
        before = self.cached_evaluation(settings, networks, images)
        yield Progress("evaluation", 1, 1, {"accuracy": before.accuracy})
        losses = {}
        for part, prefix in parts(settings).items():
            if any(name.startswith(prefix) for name in weights):
                for progress in self.fit(part, networks, images, settings, number):
                    losses[f"{part}-loss"] = progress.metrics["loss"]
                    yield progress
        trained = networks.weights()
        weights = {name: array for name, array in weights.items() if name in trained}
        figures = {
            "num-examples": len(images.training),
            "accuracy": before.accuracy,
            "evaluation-loss": before.loss,
            "evaluation-images": before.images,
            "calibration-images": min(len(images.held_back), settings.calibration.images),
            "seconds-loading": start - begin,
            "seconds-training": time.monotonic() - start,
            **losses,
            **update_norms(change({name: trained[name] for name in weights}, weights)),
        }
        return Result(figures, self.update(settings, trained, weights, number, averaged))

    def fit(
        self, part: str, networks: Networks, images: WorkerImages, settings: Settings, number: int
    ) -> Iterator[Progress]:
        """Train one of the two networks for a round: the round's part of all steps."""
        rounds = settings.federation.rounds
        steps = settings.training_of(part).steps_for(len(images.training))
        span = range(steps * (number - 1) // rounds, steps * number // rounds)
        seed = settings.seed + 1_000 * number + self.config.worker
        mu = settings.federation.mu if settings.federation.strategy == "fedprox" else 0.0
        return fit_part(part, networks, images, settings, span, seed=seed, mu=mu)

    def update(self, settings: Settings, trained: Weights, weights: Weights, number: int, averaged: int) -> Weights:
        """What the server gets of a round: new weights, or their compressed changes. The client state is kept.

        ``trained`` are all weights of the networks after the round, ``weights`` the global ones before it.
        """
        update: Weights = {name: trained[name] for name in weights}
        residual: Weights = {}
        if settings.federation.compression in BITS:
            bits = BITS[settings.federation.compression]
            update, residual = compress(change(update, weights), self.state.residual(averaged), bits)
        parts = {name.partition(".")[0] for name in weights}
        local = {n: array for n, array in trained.items() if n not in weights and n.partition(".")[0] in parts}
        self.state.keep(number, RoundState(local, residual), averaged)
        return update

    def cached_evaluation(self, settings: Settings, networks: Networks, images: WorkerImages) -> Evaluation:
        """Accuracy and loss of a classifier on the evaluation images; cached for the last classifier."""
        state = {name: value.cpu().clone() for name, value in networks.classifier.state_dict().items()}
        last = self.evaluated
        if last is None or last[0] != settings or any(not torch.equal(last[1][n], v) for n, v in state.items()):
            evaluation = evaluate(networks.classifier, of_networks(images.evaluation, settings))
            self.evaluated = last = (settings, state, evaluation)
        return last[2]

    def denoiser(self, settings: Settings, weights: Weights) -> Work:
        """The worker's denoiser, for a merge that averages none, and the moments of its scores of held-back images.

        With the merge "partial" the denoiser was trained in the rounds, otherwise it is now. ``weights`` are the final
        classifier's, and the global ones of the denoiser.
        """
        networks = self.start(settings, weights, settings.federation.rounds + 1)
        images = yield from self.images(settings, weights)
        if settings.federation.initial == "own":
            initial = build(replace(settings, seed=settings.seed + 1 + self.config.worker).networks)
            networks = replace(networks, denoiser=initial.denoiser)
        if settings.federation.merge != "partial":
            span, seed = (
                range(settings.denoiser.steps_for(len(images.training))),
                settings.seed + 1_000 + self.config.worker,
            )
            yield from fit_part("denoiser", networks, images, settings, span, seed=seed)
        chosen = some(images.held_back, settings.calibration.images, settings.seed).images()
        by_name = build_detectors(DENOISING, detector_inputs(settings, networks.for_inference()))
        scores = scored(by_name, chosen.to(networks.device))
        moments = [moments_of(scores[name]) for name in DENOISING]
        figures = {
            "num-examples": len(images.training),
            "labels": torch.bincount(images.training.labels, minlength=len(settings.labels)).tolist(),
            "means": [each.mean for each in moments],
            "stds": [each.std for each in moments],
        }
        return Result(figures, {n: array for n, array in networks.weights().items() if n.startswith("denoiser.")})

    def sums(self, settings: Settings, weights: Weights) -> Work:
        """Sums over the final classifier's embeddings of training images, to be added to those of other workers."""
        images = yield from self.images(settings, weights)
        return Result(weights=embedding_sums(settings, build(settings.networks, weights).for_inference(), images))

    def moments(self, settings: Settings, weights: Weights) -> Work:
        """Score held-back images with the final weights; see ``CalibrationScores.measure``."""
        images = yield from self.images(settings, weights)
        networks = build(settings.networks, weights).for_inference()
        return (yield from self.scores.measure(settings, networks, weights, images))

    def thresholds(self, settings: Settings, scale: Scale) -> Result:
        """Sketches of the scores on the scale that all workers share, and outputs for the self-test's images."""
        sketches = self.scores.sketches(settings, scale)
        sketches[EVALUATION] = self.scores.evaluation_sketch(settings, scale)
        return Result(sketches, self.scores.self_test_scores(settings, scale))

    def install(self, card: Mapping[str, Any], weights: Weights) -> str:
        """Save a release at this worker and make it the current one; returns its id."""
        if self.config.releases is None:
            raise ValueError("this worker has no folder for releases")
        name = save_release(self.config.releases, card, weights).name
        set_current(self.config.releases, name)
        return name

    def train_alone(self, settings: Settings, training: str | None, evaluation: str | None) -> Work:
        """Train and calibrate without a federation, and install the release; see ``train_alone`` of ``alone``."""
        result = yield from train_alone(self.config, settings, training=training, evaluation=evaluation)
        card = result.metrics.pop("card")
        return Result({**result.metrics, "release": self.install(card, result.weights)})


def same_arrays(some: Weights, others: Weights) -> bool:
    """Whether two sets of arrays are the same."""
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)
