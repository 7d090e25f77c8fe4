"""The command ``fedlmd data check``: look at a whole data set before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlmd.cli.options import JsonFile, SettingsFile, Source, read_settings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fedlmd.data import CheckConfig, CheckReport

WIDTH = 13
"""Columns of a terminal that the names of the facts take."""

SHEET = "data-check.png"
"""Name of the contact sheet; it is written in the working folder, or beside the data set if that is inside of it."""

MOST = 40
"""At most so many labels are listed with their counts; the JSON has all."""


def data_check(
    source: Source,
    settings_file: SettingsFile = None,
    alpha: Annotated[float | None, typer.Option(help="False-alarm rate, in (0, 1); the settings' without it.")] = None,
    held_back: Annotated[
        float | None, typer.Option(help="Share kept for calibration, in (0, 0.5]; the settings' without it.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 for anything passed over, damaged or contradictory.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file that gets a contact sheet; data-check.png without it.")
    ] = None,
    no_sheet: Annotated[bool, typer.Option("--no-sheet", help="Draw no contact sheet.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Look at every image of a data set before training: what it holds, what is wrong, how the networks will see it.

    Exits with status 1 where it cannot be trained on.
    """
    from fedlmd.cli.show import console_beside, watched, write
    from fedlmd.data import check

    place = None if no_sheet else sheet_file(source, sheet)
    config = check_config(settings_file, alpha, held_back, strict, place)
    report = watched(check(source, config=config))
    print_report(console_beside(json_file), report)
    write(report.to_json(), json_file)
    if not report.usable:
        raise typer.Exit(1)


def sheet_file(source: str, sheet: Path | None) -> Path:
    """Where the contact sheet goes: never into the data set, where it would be taken for one of its images.

    Raises:
        ValueError: a place in the data set was asked for.
    """
    place = sheet or Path(SHEET)
    if not lies_in(place, source):
        return place
    if sheet is not None:
        raise ValueError(f"{sheet} lies in the data set, whose images are checked; give --sheet another place")
    return Path(source).resolve().parent / SHEET


def lies_in(place: Path, source: str) -> bool:
    """Whether a file or folder would lie in a source that is a folder."""
    return Path(source).is_dir() and place.resolve().is_relative_to(Path(source).resolve())


def check_config(
    settings_file: Path | None, alpha: float | None, held_back: float | None, strict: bool, sheet: Path | None
) -> CheckConfig:
    """What is checked for: what a settings file says, and the options."""
    from dataclasses import replace

    from fedlmd.data import CheckConfig

    settings = read_settings(settings_file)
    data, calibration = replace(settings.data, strict=strict or settings.data.strict), settings.calibration
    if alpha is not None:
        calibration = replace(calibration, alpha=alpha)
    if held_back is not None:
        data = replace(data, held_back=held_back)
    return CheckConfig(
        data=data,
        alpha=calibration.alpha,
        images=calibration.images,
        labels=settings.labels if settings_file else None,
        choose=settings.choose,
        sheet=sheet,
    )


def print_report(out: Console, report: CheckReport) -> None:
    """Print a report for a person, the verdict last."""
    from fedlmd.cli.show import plain

    for name, text in facts(report):
        out.print(f"[cyan]{name:<{WIDTH}}[/]{plain(text)}")
    out.print()
    columns = {"train": "train", "held_back": "of these held back", "evaluation": "evaluate"}
    out.print(count_table(report.labels, columns, MOST))
    out.print()
    for note in report.notes:
        out.print(f"[bold]·[/] {plain(note)}")
    for warning in report.sentences("warning"):
        out.print(f"[yellow]![/] {plain(warning)}")
    if report.sheet is not None:
        out.print(f"[cyan]{'sheet':<{WIDTH}}[/]{plain(report.sheet)}")
    style = "bold red" if not report.usable else "bold yellow" if report.sentences("warning") else "bold green"
    out.print(f"[cyan]{'verdict':<{WIDTH}}[/][{style}]{plain(report.verdict)}[/]")


def facts(report: CheckReport) -> Iterator[tuple[str, str]]:
    """What the source holds, by name."""
    unread = report.images - report.readable
    yield "source", report.source
    yield "images", f"{report.images:,}{f', of which {unread:,} cannot be decoded' if unread else ''}"
    if sizes := report.sizes:
        words = [f"{name} {sizes[name][0]} x {sizes[name][1]}" for name in ("smallest", "median", "largest")]
        different = f"{sizes['distinct']:,} different, {sizes['not_square']:.0%} not square"
        same = f"all {sizes['median'][0]} x {sizes['median'][1]}"
        yield "sizes", same if sizes["distinct"] == 1 else f"{', '.join(words)} pixels; {different}"
    yield "modes", ", ".join(f"{name} {count:,}" for name, count in report.modes.items())
    if report.formats:
        yield "files", ", ".join(f"{name} {count:,}" for name, count in report.formats.items())
    yield "calibration", f"{report.held_back:,} images would be held back, {report.needed:,} are needed"
    yield "networks see", rules_in_words(report)
    if report.comparison and not any(each.differs for each in report.comparison):
        yield "parts", "to train and to evaluate on look alike"


def rules_in_words(report: CheckReport) -> str:
    """The rules for pixels."""
    rules = report.rules
    window = "" if rules["window"] is None else f", values {rules['window'][0]:g} to {rules['window'][1]:g}"
    inverted = ", inverted" if rules["invert"] else ""
    colour = "grey" if rules["channels"] == 1 else "RGB"
    size, page = f"{rules['size']} x {rules['size']} pixels", f"background {rules['background']}"
    return f"{size}, {colour}, {page}, fit {rules['fit']}{window}{inverted}"


def count_table(counts: Mapping[str, Mapping[str, int]], columns: Mapping[str, str], most: int | None = None) -> Table:
    """How many images each label has.

    Args:
        counts: by label.
        columns: heading of each count.
        most: labels that are shown; None for all.
    """
    from rich.table import Table

    from fedlmd.cli.show import plain

    table = Table("label", show_edge=False)
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for label, numbers in list(counts.items())[:most]:
        table.add_row(plain(label), *(f"{numbers[name]:,}" for name in columns))
    if most is not None and len(counts) > most:
        table.add_row(f"and {len(counts) - most:,} others")
    return table
