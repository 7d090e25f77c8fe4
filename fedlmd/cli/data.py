"""The commands ``fedlmd data``: look at data sets and export them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlmd.cli.check import count_table, data_check, lies_in
from fedlmd.cli.options import Source, listed_labels

if TYPE_CHECKING:
    from fedlmd.data import PixelRules

data_app = typer.Typer(help="Look at and export data sets.", no_args_is_help=True)
data_app.command("check")(data_check)


@data_app.command("export")
def data_export(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or new.")],
    labels: Annotated[str, typer.Option(help="Only these, comma separated.")] = "",
    limit: Annotated[int | None, typer.Option(help="At most so many images of each label and split.", min=1)] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Bring images to this height and width, in pixels.", min=1)
    ] = None,
    channels: Annotated[int | None, typer.Option(help="Bring images to 1 (grey) or 3 (RGB) channels.")] = None,
) -> None:
    """Write a data set as folders: FOLDER/train/LABEL/*.png and FOLDER/eval/LABEL/*.png.

    Of a data set without a part to evaluate on: FOLDER/LABEL/*.png. Without --image-size and --channels each image
    stays as it is; with one of them the other is chosen by the images.
    """
    from fedlmd.cli.notes import notes_shown
    from fedlmd.cli.show import console, plain, watched
    from fedlmd.data import export

    if lies_in(folder, source):
        raise ValueError(f"{folder} lies in the data set that is exported; give another folder")
    rules = None if image_size is None and channels is None else chosen_rules(source, image_size, channels)
    with notes_shown():
        watched(export(source, folder, rules=rules, labels=listed_labels(labels) or None, limit=limit))
    console().print(f"written to {plain(folder)}")


def chosen_rules(source: str, image_size: int | None, channels: int | None) -> PixelRules:
    """The rules for pixels with a size or channels that were asked for; says what the images decided."""
    from fedlmd.cli.show import console, plain
    from fedlmd.data import AUTO, ImagesConfig, choose_rules, survey

    choice = choose_rules(image_size or AUTO, channels or AUTO, ImagesConfig(), [survey(source).facts])
    for note in choice.notes:
        console().print(plain(note))
    return choice.rules


@data_app.command("show")
def data_show(source: Source) -> None:
    """Count a data set's images by label and split, and say what would be passed over."""
    from fedlmd.cli.show import output, plain
    from fedlmd.data import DataConfig, scan
    from fedlmd.data.survey import counts, division_note

    catalogue, config = scan(source), DataConfig()
    out = output()
    out.print(count_table(counts(catalogue, config.evaluation), {"train": "train", "eval": "eval"}))
    for sentence in (*catalogue.notes, *division_note(catalogue, config), *catalogue.passed_over.sentences()):
        out.print(plain(sentence))
