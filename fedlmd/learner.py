"""What one site does with its own images: train, measure, calibrate. Only weights and figures come out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch

from fedlmd import artifacts
from fedlmd.answer import VERDICT
from fedlmd.artifacts import Weights, half
from fedlmd.compression import BITS, change, compress
from fedlmd.data import some
from fedlmd.detection import Sketch, directions, moments, scored
from fedlmd.fitting import fit, norms
from fedlmd.memory import Kept, Memory
from fedlmd.networks import DENOISING, Networks, build, detectors
from fedlmd.progress import Progress, Result
from fedlmd.self_test import SelfTest
from fedlmd.settings import Settings, SettingsError, from_mapping, to_mapping
from fedlmd.site import Site, SiteImages
from fedlmd.site_scores import SiteScores
from fedlmd.statistics import gaussians, sums_by_class
from fedlmd.training import Evaluation, evaluate

__all__ = ["PARTS", "SITE", "Learner", "build_handler"]

SITE = "FEDLMD_SITE"
"""The environment variable that tells a process which site it works for, as JSON."""


PARTS = ("classifier", "denoiser")


@final
class Learner:
    """A site at work. It keeps images and scores between the messages of a run.

    Args:
        site: where the images are.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.loaded: tuple[Settings, SiteImages] | None = None
        self.found = SiteScores()
        self.memory = Memory(site.memory)
        self.evaluated: tuple[Settings, dict[str, torch.Tensor], Evaluation] | None = None

    def handle(self, action: str, config: Mapping[str, Any], weights: Weights) -> Iterator[Progress | Result]:
        """Do what a message asks for.

        Args:
            action: "train", "denoiser", "sums", "moments", "thresholds" or "install", as a federation asks; "alone"
                for ``learn_alone``.
            config: ``settings`` of the run, and what the action needs beside them.
            weights: the global weights.

        Raises:
            ValueError: on an unknown action.
        """
        if action == "install":
            self.memory.forget()  # the run's rounds are over
            self.install(config["card"], weights)
            yield Result()
            return
        settings = from_mapping(config["settings"])
        if action in ("train", "denoiser"):
            self.memory.open(str(config.get("run", "")))
        if action == "train":
            averaged = int(config.get("averaged", {}).get(self.site.name, 0))
            yield from self.train(settings, weights, int(config["round"]), averaged)
        elif action == "denoiser":
            yield from self.denoiser(settings, weights)
        elif action == "sums":
            yield Result(weights=self.sums(settings, weights))
        elif action == "moments":
            yield from self.moments(settings, weights)
        elif action == "thresholds":
            yield Result(
                self.found.sketches(settings, config["moments"]), self.found.proof(settings, config["moments"])
            )
        elif action == "alone":
            sources = {key: config.get(key) for key in ("training", "evaluation")}
            # A learner of its own: images of other sources must not stay behind for a federation's messages.
            for step in Learner(self.site).learn_alone(settings, **sources):
                if isinstance(step, Result):
                    card = step.metrics.pop("card")
                    yield Result({**step.metrics, "release": self.install(card, step.weights)})
                else:
                    yield step
        else:
            raise ValueError(f"unknown action {action!r}; a site can train, calibrate and install")

    def images(self, settings: Settings) -> SiteImages:
        """The site's images for these settings, loaded once."""
        if self.loaded is None or self.loaded[0] != settings:
            self.loaded = (settings, self.site.images(settings))
        return self.loaded[1]

    def start(self, settings: Settings, weights: Weights, number: int) -> Networks:
        """The networks that a round starts from: the global weights, and what this site keeps of its own beside them.

        Args:
            settings: of the run.
            weights: those that all sites share; the others are the site's own from its last round in this run, at first
                the settings' initial ones, which are alike everywhere.
            number: the round, from 1; after the last one that and 1.
        """
        return build(settings, {**build(settings).weights(), **self.memory.own(number), **weights})

    def train(
        self, settings: Settings, weights: Weights, number: int, averaged: int = 0
    ) -> Iterator[Progress | Result]:
        """One round: judge the global weights, train the networks that they are of, give their new ones or the change.

        Args:
            settings: of the run.
            weights: the global weights, of both networks or of parts.
            number: the round, from 1.
            averaged: the last round in which this site's update was averaged, 0 for none; asked where updates are
                compressed.

        The result's figures are "num-examples"; "accuracy", "evaluation-loss" and "evaluation-images" of the global
        weights; "seconds-loading" of images and networks, and "seconds-training" from there on; and of each network its
        loss at the end ("classifier-loss") and how far it moved ("classifier-norm").
        """
        asked = time.monotonic()
        images, networks = self.images(settings), self.start(settings, weights, number)
        start = time.monotonic()
        before = self.judged(settings, networks)
        yield Progress("evaluation", 1, 1, {"accuracy": before.accuracy})
        mu = settings.federation.mu if settings.federation.strategy == "fedprox" else 0.0
        losses = {}
        for part in PARTS:
            if not any(name.startswith(f"{part}.") for name in weights):
                continue
            steps, rounds = getattr(settings, part).steps, settings.federation.rounds
            span = range(steps * (number - 1) // rounds, steps * number // rounds)
            seed = settings.seed + 1_000 * number + self.site.worker
            for progress in fit(part, networks, images.training, settings, span, seed=seed, mu=mu):
                losses[f"{part}-loss"] = progress.metrics["loss"]
                yield progress
        trained = networks.weights()
        figures = {
            "num-examples": len(images.training),
            "accuracy": before.accuracy,
            "evaluation-loss": before.loss,
            "evaluation-images": before.images,
            "seconds-loading": start - asked,
            "seconds-training": time.monotonic() - start,
            **losses,
            **norms(change({name: trained[name] for name in weights}, weights)),
        }
        yield Result(figures, self.update(settings, trained, weights, number, averaged))

    def update(self, settings: Settings, trained: Weights, weights: Weights, number: int, averaged: int) -> Weights:
        """What the server gets of a round: new weights, or their changes in few bits; what it does not get is kept.

        Args:
            settings: of the run.
            trained: all weights of the networks after the round.
            weights: the global weights before it.
            number: the round.
            averaged: as for ``train``.
        """
        update: Weights = {name: trained[name] for name in weights}
        owed: Weights = {}
        if settings.federation.compression in BITS:
            bits = BITS[settings.federation.compression]
            update, owed = compress(change(update, weights), self.memory.owed(averaged), bits)
        parts = {name.partition(".")[0] for name in weights}
        own = {n: array for n, array in trained.items() if n not in weights and n.partition(".")[0] in parts}
        self.memory.keep(number, Kept(own, owed), averaged)
        return update

    def judged(self, settings: Settings, networks: Networks) -> Evaluation:
        """Accuracy and loss of a classifier on the evaluation images; those of the last one when it is the same."""
        state = {name: value.cpu().clone() for name, value in networks.classifier.state_dict().items()}
        before = self.evaluated
        if before is None or before[0] != settings or any(not torch.equal(before[1][n], v) for n, v in state.items()):
            found = evaluate(networks.classifier, self.images(settings).evaluation)
            self.evaluated = before = (settings, state, found)
        return before[2]

    def denoiser(self, settings: Settings, weights: Weights) -> Iterator[Progress | Result]:
        """This site's own denoiser, for a merge that averages none, and how its scores lie on held-back images.

        Args:
            settings: of the run; the denoiser is trained by them, but for the merge "partial", where it has been.
            weights: the final classifier's, and of the denoiser what all sites share.
        """
        networks = self.start(settings, weights, settings.federation.rounds + 1)
        images = self.images(settings)
        if settings.federation.initial == "own":
            own = build(replace(settings, seed=settings.seed + 1 + self.site.worker))
            networks = replace(networks, denoiser=own.denoiser)
        if settings.federation.merge != "partial":
            span, seed = range(settings.denoiser.steps), settings.seed + 1_000 + self.site.worker
            yield from fit("denoiser", networks, images.training, settings, span, seed=seed)
        chosen = some(images.held_back, settings.calibration.images, settings.seed).images()
        every = detectors(settings, networks.for_answers())
        found = scored({name: every[name] for name in DENOISING}, chosen.to(networks.device))
        of = [moments(found[name]) for name in DENOISING]
        figures = {
            "num-examples": len(images.training),
            "labels": torch.bincount(images.training.labels, minlength=len(settings.labels)).tolist(),
            "means": [one.mean for one in of],
            "stds": [one.std for one in of],
        }
        yield Result(figures, {n: array for n, array in networks.weights().items() if n.startswith("denoiser.")})

    @torch.inference_mode()
    def sums(self, settings: Settings, weights: Weights) -> Weights:
        """Sums over the final classifier's embeddings of training images, which those of other sites are added to."""
        networks = build(settings, weights).for_answers()
        described = some(self.images(settings).training, settings.calibration.described, settings.seed)
        embed = directions(networks.classifier.embedding)
        batches = torch.split(described.images(), 500)
        vectors = torch.cat([embed(batch.to(networks.device)).cpu() for batch in batches])
        return sums_by_class(vectors.numpy(), described.labels.numpy(), len(settings.labels))

    def moments(self, settings: Settings, weights: Weights) -> Iterator[Progress | Result]:
        """Judge the final weights on held-back images; see ``SiteScores.measure``."""
        yield from self.found.measure(settings, build(settings, weights).for_answers(), self.images(settings))

    def install(self, card: Mapping[str, Any], weights: Weights) -> str:
        """Keep a release at this site and make it the current one; gives its id."""
        if self.site.releases is None:
            raise ValueError("this site has no folder for releases")
        name = artifacts.save(self.site.releases, card, weights).name
        artifacts.choose(self.site.releases, name)
        return name

    def learn_alone(
        self, settings: Settings, *, training: str | None = None, evaluation: str | None = None
    ) -> Iterator[Progress | Result]:
        """Train and calibrate without a federation; the result holds a release's card and weights.

        Args:
            settings: labels and everything else.
            training: another source than the site's own.
            evaluation: another source to measure on.
        """
        start = time.monotonic()
        self.loaded = (settings, self.site.images(settings, training=training, evaluation=evaluation, complete=True))
        images, networks = self.loaded[1], build(settings)
        for part in PARTS:
            span = range(getattr(settings, part).steps)
            yield from fit(part, networks, images.training, settings, span, seed=settings.seed)
        weights = half(networks.weights())
        weights |= gaussians(self.sums(settings, weights))
        for step in self.certify(settings, weights):
            if not isinstance(step, Result):
                yield step
                continue
            seconds = round(time.monotonic() - start, 1)
            how = {"how": "at one site", "workers": [self.site.name], "seconds": seconds}
            card = {"settings": to_mapping(settings), "training": how, **step.metrics}
            yield Result({"card": card, "seconds": seconds, **step.metrics["metrics"]}, weights)

    def certify(self, settings: Settings, weights: Weights) -> Iterator[Progress | Result]:
        """Calibrate and measure weights on this site's images alone.

        The result's metrics are three sections of a card: ``calibration``, ``metrics`` (accuracy in [0, 1], loss in
        nats, and on how many images) and ``self_test``.
        """
        scale: dict[str, Any] = {}
        for step in self.moments(settings, weights):
            if isinstance(step, Result):
                scale = step.metrics
            else:
                yield step
        accuracy, loss = scale.pop("accuracy"), scale.pop("loss")
        alpha, sketches = settings.calibration.alpha, self.found.sketches(settings, scale)
        calibration = {
            "alpha": alpha,
            "moments": scale,
            "sketches": sketches,
            "workers": [self.site.name],
        }
        metrics = {"accuracy": accuracy["mean"], "loss": loss["mean"], "images": accuracy["count"]}
        test = SelfTest.of(self.found.proof(settings, scale), Sketch(**sketches[VERDICT]).threshold(alpha))
        yield Result({"calibration": calibration, "metrics": metrics, "self_test": test.to_json()})


def build_handler() -> Callable[[str, Mapping[str, Any], Weights], Iterator[Progress | Result]]:
    """The learner of the site that the environment variable ``FEDLMD_SITE`` describes, as a function.

    Raises:
        SettingsError: when the variable is missing or wrong.
    """
    try:
        told = json.loads(os.environ[SITE])
        data = from_mapping(told["settings"]).data
        root, releases, memory = (Path(told[name]) for name in ("root", "releases", "memory"))
        site = Site(told["name"], data, told["worker"], root, releases, memory)
    except (KeyError, ValueError) as error:
        raise SettingsError(f"the variable {SITE} does not describe a site: {error!r}") from None
    return Learner(site).handle
