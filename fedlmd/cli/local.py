"""Commands on this machine alone: data, train, calibrate, evaluate, infer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from fedlmd import artifacts, settings
from fedlmd.answer import Answerer
from fedlmd.cli.options import CORES, JsonFile, ReleaseFolder, SettingsFile, Threads, read_settings
from fedlmd.cli.show import console, in_words, report_lines, report_table, watched, write
from fedlmd.data import LabelledImages, decode_image, export, label_names, load, to_unit_range
from fedlmd.evaluation import examine
from fedlmd.learner import Learner
from fedlmd.node import SHIPPED
from fedlmd.pictures import Row, gallery, png
from fedlmd.progress import Progress, Result
from fedlmd.settings import DataConfig, Settings
from fedlmd.site import Site

__all__ = ["calibrate", "data_app", "evaluate", "infer", "train"]

data_app = typer.Typer(help="Look at and export data sets.", no_args_is_help=True)


@data_app.command("export")
def data_export(
    source: Annotated[str, typer.Argument(help="mnist, an .npz file or a folder.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or new.")],
    labels: Annotated[str, typer.Option(help="Only these, comma separated.")] = "",
    limit: Annotated[int | None, typer.Option(help="At most so many images of each label and split.")] = None,
) -> None:
    """Write a data set as folders: DIR/train/LABEL/*.png and DIR/eval/LABEL/*.png."""
    chosen = labels.split(",") if labels else None
    steps = export(source, folder, labels=chosen, limit=limit)
    for _ in watched(Progress("export", step.done, step.total) for step in steps):
        pass
    console().print(f"written to {folder}")


@data_app.command("show")
def data_show(source: Annotated[str, typer.Argument(help="mnist, an .npz file or a folder.")]) -> None:
    """Count a data set's images by label."""
    table = Table(show_edge=False)
    for column in ("label", "train", "eval"):
        table.add_column(column, justify="right")
    splits = [load(source, split) for split in ("train", "eval")]
    counts = [dict(zip(of.names, of.labels.bincount(minlength=len(of.names)).tolist(), strict=True)) for of in splits]
    for label in dict.fromkeys(name for of in counts for name in of):
        table.add_row(label, *(str(of.get(label, 0)) for of in counts))
    Console(highlight=False).print(table)


def train(
    settings_file: SettingsFile = None,
    labels: Annotated[str, typer.Option(help="Labels to learn, comma separated; the settings' without it.")] = "",
    releases: Annotated[Path, typer.Option(help="Folder that gets the release.")] = Path("releases"),
    name: Annotated[str, typer.Option(help="The site's name in the release.")] = "local",
    worker: Annotated[int, typer.Option(help="Which share of a divided source, from 0.")] = 0,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Train both networks at one site, without a federation, and make a release."""
    torch.set_num_threads(threads)
    chosen = read_settings(settings_file)
    if labels:
        chosen = chosen.with_labels(tuple(labels.split(",")))
    site = Site(name, chosen.data, worker, releases=releases)
    for result in watched(Learner(site).learn_alone(chosen)):
        keep_release(result, releases, json_file)


def keep_release(result: Result, releases: Path, json_file: Path | None) -> None:
    """Save what was trained or calibrated, and say so."""
    folder = artifacts.save(releases, result.metrics["card"], result.weights)
    metrics = result.metrics["card"]["metrics"]
    console().print(f"release {folder}: accuracy {metrics['accuracy']:.4f} on {metrics['images']} images")
    write({"release": str(folder), "metrics": metrics}, json_file)


def calibrate(
    release: ReleaseFolder,
    releases: Annotated[Path, typer.Option(help="Folder that gets the new release.")] = Path("releases"),
    source: Annotated[str, typer.Option(help="Images of the known labels that it was not trained on.")] = "mnist",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML with other [detector] and [calibration] settings.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="False-alarm rate, in (0, 1).")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Set a release's thresholds anew: other images, another rate, other detector settings."""
    torch.set_num_threads(threads)
    old = open_release(release)
    base = settings.from_mapping(old.card["settings"])
    told = read_settings(settings_file) if settings_file else base
    rate = told.calibration if alpha is None else replace(told.calibration, alpha=alpha)
    chosen = replace(base, detector=told.detector, calibration=rate, data=DataConfig(source=source))
    for result in watched(Learner(Site("local", chosen.data)).certify(chosen, old.weights)):
        card = {**old.card, "settings": settings.to_mapping(chosen), **result.metrics, "calibrated_from": old.id}
        keep_release(Result({"card": card}, old.weights), releases, json_file)


def evaluate(
    release: ReleaseFolder,
    ood: Annotated[str, typer.Option(help="Unknown images: mnist (its other digits), an .npz file or a folder.")],
    source: Annotated[str, typer.Option(help="Known images: their evaluation split is used.")] = "mnist",
    most: Annotated[int, typer.Option("--images", help="At most so many of each kind are scored.")] = 1000,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Print accuracy, AUROC, AUPR and FPR at 95% TPR of a release against unknown images."""
    torch.set_num_threads(threads)
    answerer = Answerer(open_release(release))
    known = evaluation_images(source, answerer.settings, answerer.settings.labels)
    for report in watched(examine(answerer, known, unknown_images(ood, answerer.settings), most=most)):
        out = Console(highlight=False, soft_wrap=True)
        out.print(f"{release} against {ood}:")
        out.print(report_table(report))
        out.print(report_lines(report))
        write(asdict(report), json_file)


def unknown_images(source: str, chosen: Settings) -> LabelledImages:
    """Images of a source; of the release's own source only the labels that it does not know."""
    names = label_names(source, "eval")
    shares = source == chosen.data.source
    return evaluation_images(source, chosen, [name for name in names if not shares or name not in chosen.labels])


def evaluation_images(source: str, chosen: Settings, labels: Sequence[str]) -> LabelledImages:
    """The evaluation split of a source, in the form that a release takes."""
    return load(source, "eval", image_size=chosen.image_size, channels=chosen.channels, labels=labels)


def infer(
    release: ReleaseFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    alpha: Annotated[float | None, typer.Option(help="False-alarm rate, in (0, 1); the release's without it.")] = None,
    detector: Annotated[str, typer.Option(help="The score that decides.")] = "verdict",
    site: Annotated[
        str | None, typer.Option(help="Site of a federated release whose calibration counts; all sites' without it.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw what the detector saw into this PNG file.")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Answer images: the class, and whether the image lies outside what was learnt."""
    torch.set_num_threads(threads)
    answerer = Answerer(open_release(release), site)
    rows = []
    for file in images:
        pixels = decode_image(file.read_bytes(), answerer.settings.image_size, answerer.settings.channels)
        image = to_unit_range(pixels)
        answer = answerer.answer(image[None], alpha=alpha, detector=detector)[0]
        rows.append((file, image, answer))
        Console(highlight=False, soft_wrap=True, stderr=json_file is not None).print(f"{file}: {in_words(answer)}")
    if picture is not None:
        shown = [Row(image, answerer.explain(image[None]), answer, file.name) for file, image, answer in rows]
        picture.write_bytes(png(gallery(shown)))
    write({str(file): asdict(answer) for file, _, answer in rows}, json_file)


def open_release(release: str) -> artifacts.Release:
    """The release that an argument names."""
    return artifacts.load(SHIPPED.get(release, Path(release)))
