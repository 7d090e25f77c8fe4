"""Commands on this machine alone: data, train, calibrate, evaluate, infer."""

from __future__ import annotations

from collections.abc import Sequence
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
    Source,
    Threads,
    read_settings,
)

if TYPE_CHECKING:
    from fedlmd.data import LabelledImages
    from fedlmd.progress import Result
    from fedlmd.release import Release
    from fedlmd.settings import Settings

data_app = typer.Typer(help="Look at and export data sets.", no_args_is_help=True)


@data_app.command("export")
def data_export(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or new.")],
    labels: Annotated[str, typer.Option(help="Only these, comma separated.")] = "",
    limit: Annotated[int | None, typer.Option(help="At most so many images of each label and split.")] = None,
) -> None:
    """Write a data set as folders: DIR/train/LABEL/*.png and DIR/eval/LABEL/*.png."""
    from fedlmd.cli.show import console, watched
    from fedlmd.data import export

    watched(export(source, folder, labels=labels.split(",") if labels else None, limit=limit))
    console().print(f"written to {folder}")


@data_app.command("show")
def data_show(source: Source) -> None:
    """Count a data set's images by label."""
    from fedlmd.cli.show import label_table, output
    from fedlmd.data import load

    output().print(label_table({split: load(source, split) for split in ("train", "eval")}))


def train(
    settings_file: SettingsFile = None,
    labels: Labels = "",
    releases: Annotated[Path, typer.Option(help="Folder that gets the release.")] = Path("releases"),
    name: Annotated[str, typer.Option(help="The worker's name in the release.")] = "local",
    worker: Annotated[int, typer.Option(help="Which share of a divided source, from 0.")] = 0,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Train both networks on one worker's images, without a federation, and make a release."""
    import torch

    from fedlmd.cli.show import watched
    from fedlmd.worker.alone import train_alone
    from fedlmd.worker.images import WorkerConfig

    torch.set_num_threads(threads)
    settings = read_settings(settings_file, labels)
    result = watched(train_alone(WorkerConfig(name, settings.data, worker), settings))
    keep_release(result, releases, json_file)


def keep_release(result: Result, releases: Path, json_file: Path | None) -> None:
    """Save a release that was trained or calibrated, and print its folder and metrics."""
    from fedlmd.cli.show import console, write
    from fedlmd.release import save_release

    folder = save_release(releases, result.metrics["card"], result.weights)
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
    alpha: Alpha = None,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Set a release's thresholds anew: other images, another rate, other detector settings."""
    from dataclasses import replace

    import torch

    from fedlmd.cli.show import watched
    from fedlmd.data import DataConfig
    from fedlmd.progress import Result
    from fedlmd.settings import from_mapping, to_mapping
    from fedlmd.worker.alone import certify
    from fedlmd.worker.images import WorkerConfig

    torch.set_num_threads(threads)
    old = open_release(release)
    base = from_mapping(old.card["settings"])
    changes = read_settings(settings_file) if settings_file else base
    calibration = changes.calibration if alpha is None else replace(changes.calibration, alpha=alpha)
    settings = replace(base, detector=changes.detector, calibration=calibration, data=DataConfig(source=source))
    sections = watched(certify(WorkerConfig("local", settings.data), settings, old.weights)).metrics
    card = {**old.card, "settings": to_mapping(settings), **sections, "calibrated_from": old.id}
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
    from dataclasses import asdict

    import torch

    from fedlmd.cli.show import output, report_shown, watched, write
    from fedlmd.inference import Predictor, examine

    torch.set_num_threads(threads)
    predictor = Predictor(open_release(release))
    known = evaluation_images(source, predictor.settings, predictor.settings.labels)
    report = watched(examine(predictor, known, unknown_images(ood, predictor.settings), most=most))
    out = output()
    out.print(f"{release} against {ood}:")
    out.print(report_shown(report))
    write(asdict(report), json_file)


def unknown_images(source: str, settings: Settings) -> LabelledImages:
    """Images of a source; of the release's own source only the labels that it does not know."""
    from fedlmd.data import label_names

    names = label_names(source, "eval")
    shares = source == settings.data.source
    return evaluation_images(source, settings, [name for name in names if not shares or name not in settings.labels])


def evaluation_images(source: str, settings: Settings, labels: Sequence[str]) -> LabelledImages:
    """The evaluation split of a source, in the form that a release takes."""
    from fedlmd.data import load

    return load(source, "eval", image_size=settings.image_size, channels=settings.channels, labels=labels)


def infer(
    release: ReleaseFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    alpha: Alpha = None,
    detector: Annotated[str, typer.Option(help="The score that decides.")] = "verdict",
    worker: Annotated[
        str | None,
        typer.Option(help="Worker of a federated release whose calibration counts; all workers' without it."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw what the detector computed into this PNG file.")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Predict images: the class, and whether the image is out of distribution."""
    from dataclasses import asdict

    import torch

    from fedlmd.cli.show import in_words, output, write
    from fedlmd.data import decode_image, to_unit_range
    from fedlmd.inference import Predictor, Row, gallery, png

    torch.set_num_threads(threads)
    predictor = Predictor(open_release(release), worker)
    size, channels, rows = predictor.settings.image_size, predictor.settings.channels, []
    for file in images:
        image = to_unit_range(decode_image(file.read_bytes(), size, channels))
        prediction = predictor.predict(image[None], alpha=alpha, detector=detector)[0]
        rows.append((file, image, prediction))
        output(stderr=json_file is not None).print(f"{file}: {in_words(prediction)}")
    if picture is not None:
        shown = [Row(image, predictor.explain(image[None]), prediction, file.name) for file, image, prediction in rows]
        picture.write_bytes(png(gallery(shown)))
    write({str(file): asdict(prediction) for file, _, prediction in rows}, json_file)


def open_release(release: str) -> Release:
    """The release that an argument names."""
    from fedlmd.release import SHIPPED, load_release

    return load_release(SHIPPED.get(release, Path(release)))
