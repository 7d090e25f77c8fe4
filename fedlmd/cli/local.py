"""Commands that make and measure releases on this machine alone: train, calibrate, evaluate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlmd.cli.options import (
    CORES,
    Alpha,
    JsonFile,
    Labels,
    ReleaseFolder,
    SettingsFile,
    Threads,
    open_release,
    read_settings,
)

if TYPE_CHECKING:
    from fedlmd.data import DataConfig, LabelledImages
    from fedlmd.progress import Result
    from fedlmd.release import Release
    from fedlmd.settings import Settings


def train(
    settings_file: SettingsFile = None,
    labels: Labels = "",
    releases: Annotated[Path, typer.Option(help="Folder that gets the release.")] = Path("releases"),
    name: Annotated[str, typer.Option(help="The worker's name in the release.")] = "local",
    worker: Annotated[int, typer.Option(help="Which share of a divided source, from 0.", min=0)] = 0,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Train both networks on one worker's images, without a federation, and make a release.

    What is chosen by the images, and what is passed over, is said before training.
    """
    import torch

    from fedlmd.cli.notes import notes_shown
    from fedlmd.cli.show import watched
    from fedlmd.worker.alone import train_alone
    from fedlmd.worker.images import WorkerConfig

    torch.set_num_threads(threads)
    settings = read_settings(settings_file, labels)
    with notes_shown():
        result = watched(train_alone(WorkerConfig(name, settings.data, worker), settings))
    keep_release(result, releases, json_file)


def keep_release(result: Result, releases: Path, json_file: Path | None) -> None:
    """Save a release that was trained or calibrated, and print its folder, metrics and false alarms."""
    from fedlmd.calibration import PromiseCheck
    from fedlmd.cli.show import console, plain, write
    from fedlmd.release import save_release

    card = result.metrics["card"]
    folder, metrics = save_release(releases, card, result.weights), card["metrics"]
    console().print(f"release {plain(folder)}: accuracy {metrics['accuracy']:.4f} on {metrics['images']} images")
    if "promise" in card["calibration"]:
        console().print(plain(PromiseCheck.from_json(card["calibration"]["promise"]).sentence))
    write({"release": str(folder), "metrics": metrics}, json_file)


def calibrate(
    release: ReleaseFolder,
    releases: Annotated[Path, typer.Option(help="Folder that gets the new release.")] = Path("releases"),
    source: Annotated[
        str | None,
        typer.Option(help="Images of the known labels that it was not trained on; without it, the release's own."),
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML with other [detector] and [calibration] settings.")
    ] = None,
    alpha: Alpha = None,
    denoiser: Annotated[
        Path | None, typer.Option(help="Folder of diffusers, whose UNet2DModel becomes the denoiser.")
    ] = None,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Set a release's thresholds anew: other images, another rate, other detector settings, another denoiser."""
    from dataclasses import replace

    import torch

    from fedlmd.cli.interchange import refuse_labels, with_denoiser
    from fedlmd.cli.notes import notes_shown
    from fedlmd.cli.show import watched
    from fedlmd.progress import Result
    from fedlmd.settings import from_mapping, to_mapping
    from fedlmd.worker.alone import certify
    from fedlmd.worker.images import WorkerConfig

    torch.set_num_threads(threads)
    old = open_release(release)
    if denoiser is not None:
        old = with_denoiser(old, denoiser)
    base = from_mapping(old.card["settings"])
    changes = read_settings(settings_file) if settings_file else base
    calibration = changes.calibration if alpha is None else replace(changes.calibration, alpha=alpha)
    data = calibration_data(old, base, source)
    settings = replace(base, detector=changes.detector, calibration=calibration, data=data)
    refuse_labels(settings)
    with notes_shown():
        sections = watched(certify(WorkerConfig("local", settings.data), settings, old.weights)).metrics
    card = {**old.card, "settings": to_mapping(settings), **sections, "calibrated_from": old.id}
    keep_release(Result({"card": card}, old.weights), releases, json_file)


def calibration_data(release: Release, settings: Settings, source: str | None) -> DataConfig:
    """Where the images to calibrate with are.

    Without a source that was asked for: the release's own, of which those are taken that were held back.

    Raises:
        DataError: the release's own images cannot be told apart from those that it was trained on.
    """
    from dataclasses import replace

    from fedlmd.data import DataError, PartitionConfig

    chosen = known_images_at(release, source)
    if source is None and settings.data.partition.kind != "none":
        raise DataError(
            f"release {release.id} was trained on a share of {chosen!r}, and does not say on which; give --source "
            "with images that it was not trained on"
        )
    return replace(settings.data, source=chosen, partition=PartitionConfig())


def evaluate(
    release: ReleaseFolder,
    ood: Annotated[
        str,
        typer.Option(
            help="Unknown images: a folder, with or without label folders, an .npz file, mnist or sign-digits. Of the "
            "release's own source those of the labels that it does not know."
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(help="Known images, of which the evaluation part is used; without it, the release's own."),
    ] = None,
    most: Annotated[int, typer.Option("--images", help="At most so many of each kind are scored.", min=1)] = 1000,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Print accuracy, AUROC, AUPR and FPR at 95% TPR of a release against unknown images."""
    from dataclasses import asdict

    import torch

    from fedlmd.cli.notes import notes_shown
    from fedlmd.cli.show import console_beside, plain, report_shown, watched, write
    from fedlmd.inference import Predictor, examine

    torch.set_num_threads(threads)
    predictor = Predictor(open_release(release))
    chosen = known_images_at(predictor.release, source)
    with notes_shown():
        known = known_images(chosen, predictor.settings)
        unknown = unknown_images(ood, predictor.settings, own=(chosen, predictor.settings.data.source))
        report = watched(examine(predictor, known, unknown, most=most))
    out = console_beside(json_file)
    out.print(f"{plain(release)}, known images of {plain(chosen)}, against {plain(ood)}:")
    out.print(report_shown(report))
    write(asdict(report), json_file)


def known_images_at(release: Release, source: str | None) -> str:
    """The source of images of a release's labels: the one that was asked for, or the release's own.

    Raises:
        DataError: the release does not name its own, or it is not on this machine.
    """
    from fedlmd.data import DataError
    from fedlmd.data.sources import SOURCES
    from fedlmd.inference import known_source

    if source is not None:
        return source
    own = known_source(release.card)
    if own not in SOURCES and not os.path.exists(own):
        raise DataError(f"the release's images were at {own!r}, and nothing is there now; give --source")
    return own


def known_images(source: str, settings: Settings) -> LabelledImages:
    """The evaluation images of a release's labels, in the form that it takes; a label without any is logged.

    Raises:
        DataError: the source has an image of none of the labels, or cannot be read.
    """
    from logging import getLogger

    from fedlmd.data import label_names, load

    present = label_names(source, "eval", config=settings.data)
    labels = [label for label in settings.labels if label in present]
    images = load(source, "eval", rules=settings.pixel_rules, labels=labels or settings.labels, config=settings.data)
    for label in filter(lambda label: label not in present, settings.labels):
        getLogger(__name__).warning("%s has no image of the known label %r to evaluate on", source, label)
    return images.select(labels, names=settings.labels)


def unknown_images(source: str, settings: Settings, own: tuple[str, ...]) -> LabelledImages:
    """Images that a release does not know, in the form that it takes.

    Args:
        source: of the images; of a source with a part to evaluate on, that part.
        settings: of the release.
        own: sources of known images: of these only the labels are taken that the release does not know.

    Raises:
        DataError: there is no such image, or the source cannot be read.
    """
    from fedlmd.data import DataError, Split, label_names, load, scan

    split: Split = "eval" if scan(source, labelled=False).divided else "all"
    labels = None
    if os.path.realpath(source) in map(os.path.realpath, own):
        names = label_names(source, split, config=settings.data)
        labels = [name for name in names if name not in settings.labels]
        if not labels:
            raise DataError(f"the release knows every label of {source!r}; give --ood other images")
    return load(source, split, rules=settings.pixel_rules, labels=labels, config=settings.data, labelled=False)
