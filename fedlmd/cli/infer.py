"""The command ``fedlmd infer``: predictions of image files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from fedlmd.cli.options import CORES, Alpha, JsonFile, ReleaseFolder, Threads, open_release

if TYPE_CHECKING:
    from fedlmd.cli.answers import Answer
    from fedlmd.cli.rows import Rows
    from fedlmd.inference import Predictor
    from fedlmd.release import Release

FORMATS = ("table", "jsonl", "csv")

FEW = 100
"""With more files than this, a bar shows the progress."""

DRAWN = 20
"""Images that ``--picture`` draws at most."""


Images = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image files, folders with images below them, quoted patterns such as 'scans/**/*.png', or - for the "
        "bytes of one image on standard input.",
        show_default=False,
    ),
]
Listing = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="Read paths from this file, one on a line; - is standard input."),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Paths of --from end with a zero byte, as find -print0 writes them.")
]
Form = Annotated[
    str,
    typer.Option(
        "--format", click_type=click.Choice(FORMATS), help="Form of the rows on standard output, one for each file."
    ),
]
Worker = Annotated[
    str | None,
    typer.Option(help="Worker of a federated release whose calibration counts; all workers' without it."),
]
Picture = Annotated[
    Path | None,
    typer.Option(help=f"Draw what the detector computed into this PNG file, of the first {DRAWN} images."),
]


@dataclass
class Tally:
    """What is kept of the answers that were written.

    Args:
        keep: whether every answer is kept, for ``--json``.
        done: how many files were answered, those with a problem too.
        verdicts: how many images got each verdict.
        changes: how many images were changed in which way when they were decoded.
        drawn: the first images, for the picture.
        kept: each file's answer as JSON, where they are kept.
    """

    keep: bool
    done: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    drawn: list[Answer] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def predicted(self) -> int:
        """How many images were predicted."""
        return self.verdicts.total()

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        from fedlmd.cli.rows import as_json

        self.done += 1
        self.changes.update(answer.changes)
        if answer.prediction is not None:
            self.verdicts[answer.prediction.verdict] += 1
            if len(self.drawn) < DRAWN:
                self.drawn.append(answer)
        if self.keep:
            self.kept[answer.name] = as_json(answer)

    def sentences(self) -> Iterator[str]:
        """What is said at the end: of several files their verdicts, and what was changed in images."""
        if self.done > 1:
            verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(self.verdicts.items()))
            bad = self.done - self.predicted
            yield f"{self.done:,} files: {verdicts or 'none predicted'}" + (f", {bad:,} with an error" if bad else "")
        if self.changes:
            changes = "; ".join(f"{count:,} {change}" for change, count in self.changes.most_common())
            yield f"of {self.predicted:,} {'image' if self.predicted == 1 else 'images'} {changes}"


def infer(
    release: ReleaseFolder,
    images: Images = None,
    listing: Listing = None,
    null: Null = False,
    form: Form = "table",
    alpha: Alpha = None,
    detector: Annotated[str, typer.Option(help="The score that decides.")] = "verdict",
    worker: Worker = None,
    picture: Picture = None,
    batch_size: Annotated[int, typer.Option(help="Files that are scored at once.", min=1)] = 64,
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Predict images: the class, and whether the image is out of distribution.

    A file that cannot be predicted is named on standard error, the others are predicted, and the exit status is 1.
    """
    import torch

    from fedlmd.cli.answers import answers
    from fedlmd.cli.image_files import image_files
    from fedlmd.cli.show import console, is_output, plain, write
    from fedlmd.data import PassedOver
    from fedlmd.inference import Predictor

    torch.set_num_threads(threads)
    paths = asked_paths(images or [], listing, null)
    if form != "table" and is_output(json_file):
        raise ValueError(f"--format {form} and --json - both write to standard output; give --json a file, or leave it")
    opened, passed_over = open_release(release), PassedOver()
    refuse_unknown_worker(opened, worker)
    predictor = Predictor(opened, worker)
    files = list(image_files(paths, passed_over, patterns=listing is None))
    for sentence in passed_over.sentences():
        console().print(plain(sentence))
    tally = Tally(keep=json_file is not None)
    follow(
        answers(predictor, files, alpha=alpha, detector=detector, batch_size=batch_size, threads=threads),
        rows_of(form, predictor.settings.labels, json_file),
        tally,
        len(files),
        bar=len(files) > FEW and not sys.stdout.isatty() and not is_output(json_file),
    )
    for sentence in tally.sentences():
        console().print(plain(sentence))
    if picture is not None and tally.drawn:
        draw(predictor, tally, picture)
    write(tally.kept, json_file)
    if tally.predicted < tally.done or not files:
        raise typer.Exit(1)


def asked_paths(images: list[str], listing: str | None, null: bool) -> list[str]:
    """The paths of the arguments or of ``--from``. Raises ValueError where it is not exactly one of the two."""
    from fedlmd.cli.image_files import listed_paths

    if bool(images) == (listing is not None):
        raise ValueError("give either images (files, folders, patterns, or - for an image on standard input) or --from")
    if listing is None:
        if null:
            raise ValueError("--null says how --from separates paths; give --from, or leave it")
        return images
    paths = listed_paths(listing, null)
    if not paths:
        raise ValueError(f"{'standard input' if listing == '-' else listing} lists no path; give one on each line")
    return paths


def refuse_unknown_worker(release: Release, worker: str | None) -> None:
    """Refuse the name of a worker that the release has no calibration of. Raises ValueError."""
    calibration = release.card.get("calibration")
    names = list(calibration.get("sites", {})) if isinstance(calibration, dict) else []
    if worker is not None and worker not in names:
        there = f"it has those of {', '.join(names)}" if names else "it has one for all images; leave --worker out"
        raise ValueError(f"release {release.id} has no calibration of a worker {worker!r}; {there}")


def rows_of(form: str, labels: Sequence[str], json_file: Path | None) -> Rows:
    """How and where the answers are written."""
    from fedlmd.cli.rows import csv_rows, jsonl_rows, table_rows
    from fedlmd.cli.show import console_beside

    if form == "table":
        return table_rows(console_beside(json_file), labels)
    # Taken before a bar is shown: Rich puts a stream of its own in the place of standard output.
    stream = typer.get_binary_stream("stdout")
    return jsonl_rows(stream) if form == "jsonl" else csv_rows(stream)


def follow(batches: Iterable[list[Answer]], rows: Rows, tally: Tally, total: int, *, bar: bool = False) -> None:
    """Write and count the answers of each batch, and name the files with a problem.

    Args:
        batches: of answers.
        rows: writes a batch.
        tally: counts.
        total: how many files there are.
        bar: whether a bar shows the progress; not where rows go to a terminal, as they would be written over it.
    """
    from fedlmd.cli.show import bars, console, plain, show
    from fedlmd.progress import Progress

    shown, tasks = bars() if bar else None, dict[str, Any]()
    try:
        with shown or nullcontext():
            err = shown.console if shown else console()
            for batch in batches:
                rows(batch)
                for answer in batch:
                    tally.add(answer)
                    if answer.problem is not None:
                        err.print(f"[bold red]error:[/] {plain(answer.name)}: {plain(answer.problem)}")
                if shown:
                    show(shown, tasks, Progress("images", tally.done, total))
    except KeyboardInterrupt:
        console().print(f"stopped: {tally.done:,} of {total:,} files were answered")
        raise


def draw(predictor: Predictor, tally: Tally, picture: Path) -> None:
    """Draw what the detector computed for the first images into a PNG file."""
    from fedlmd.cli.show import console, visible
    from fedlmd.data import to_unit_range
    from fedlmd.inference import Row, gallery, png

    rows = []
    for answer in tally.drawn:
        if answer.pixels is not None and answer.prediction is not None:
            image, title = to_unit_range(answer.pixels), visible(Path(answer.name).name)
            rows.append(Row(image, predictor.explain(image[None]), answer.prediction, title))
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(png(gallery(rows)))
    if len(rows) < tally.predicted:
        console().print(f"the picture shows the first {len(rows)} of {tally.predicted:,} images")
