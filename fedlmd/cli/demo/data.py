"""What the demo learns, and what it shows as unknown: the digits, or labels of a source that the user names."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fedlmd.calibration import too_few
from fedlmd.cli.demo.labels import UNKNOWN, DemoError, choose_labels, chosen_note, given_labels, listed, shortened
from fedlmd.cli.demo.steps import Note
from fedlmd.cli.demo.toml import settings_text, with_source
from fedlmd.data import AUTO, DataError, LabelledImages, Raw, Survey, decode_image, load, scan, survey
from fedlmd.data.formats import from_array
from fedlmd.data.sources import SOURCES
from fedlmd.models import EncoderConfig
from fedlmd.node.own_images import share_of
from fedlmd.settings import DIGITS, Settings, from_mapping, read
from fedlmd.settings.encoder import PIXELS, chosen_encoder
from fedlmd.worker.images import WorkerConfig

SETTINGS, PHOTOGRAPHS = (Path(__file__).parent / name for name in ("demo.toml", "photographs.toml"))
NOUNS = {"sign-digits": "sign"}
"""What messages call an image of a shipped source; those of other sources are called images."""

FEWEST = 2
"""Images that each worker needs to calibrate with, and likewise to evaluate on."""


@dataclass(frozen=True)
class Request:
    """What the user asks of the demo.

    Args:
        settings: TOML file with other settings than the demo's.
        data: the source; None for that of the settings, which is the digits where they name none.
        labels: those to learn, comma separated; "" for the default.
        unknown: those to be unknown, comma separated; "" for the default.
        pretrained: whether the detector's diffusion model is taken from the shipped release.
    """

    settings: Path | None = None
    data: str | None = None
    labels: str = ""
    unknown: str = ""
    pretrained: bool = False


@dataclass(frozen=True)
class Subject:
    """What the demo learns, and what it shows as unknown.

    Args:
        settings: TOML file that every node reads.
        source: of all images.
        labels: those that are learnt.
        unknown: those that no worker is shown.
        root: the workers' data root; None for that of their homes.
        noun: what messages call one of the images.
    """

    settings: Path
    source: str
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    root: Path | None = None
    noun: str = "digit"

    def test_images(self) -> tuple[LabelledImages, LabelledImages]:
        """Images that no worker has seen: of the labels learnt, and of the others. Raises DataError."""
        settings = read(self.settings)
        rules, config = settings.pixel_rules, settings.data
        known, unknown = (
            load(self.source, "eval", rules=rules, root=self.root, labels=labels, config=config)
            for labels in (self.labels, self.unknown)
        )
        return known, unknown

    def example(self, *, known: bool, seed: int) -> tuple[str, bytes]:
        """Label and file of a random image that no worker has seen. Raises DataError where none can be decoded."""
        settings, catalogue = read(self.settings), scan(self.source, root=self.root)
        part = catalogue.part("eval", settings.data.evaluation)
        numbers = [catalogue.labels.index(label) for label in (self.labels if known else self.unknown)]
        places = np.flatnonzero(np.isin(part.labels, numbers))
        for place in np.random.default_rng(seed).permutation(places).tolist():
            try:
                raw = part.raw(place)
                decode_image(raw, settings.pixel_rules)
            except DataError:
                continue
            return catalogue.labels[int(part.labels[place])], as_file(raw)
        raise DataError(f"{catalogue.name} has no test image that can be decoded")

    def title(self, label: str, *, known: bool) -> str:
        """The heading of an image in the picture."""
        if self.noun == "digit":
            return "a digit of a known class" if known else "a digit that no worker has seen"
        kind = "a known class" if known else "a class that no worker has seen"
        return f"{'an' if self.noun == 'image' else 'a'} {self.noun} of {kind} ({label})"


def as_file(raw: Raw) -> bytes:
    """An image as the bytes of a file: those that it has, or of an array a PNG, or a TIFF where PNG cannot hold it."""
    if isinstance(raw, bytes):
        return raw
    image, file = from_array(raw), BytesIO()
    if not isinstance(image, np.ndarray):
        image.save(file, "PNG")
    elif image.ndim == 2 and image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= 65535:
        Image.fromarray(image.astype(np.uint16)).save(file, "PNG")
    elif image.ndim == 2:
        Image.fromarray(image.astype(np.float32)).save(file, "TIFF")
    else:
        raise DataError("an image with more than 8 bits in several channels cannot be sent to a node")
    return file.getvalue()


def subject_of(request: Request, output: Path, workers: int) -> Generator[Note, None, Subject]:
    """What the demo learns, by what the user asks; the generator returns it.

    Args:
        request: what is asked.
        output: folder that gets the settings of a demo with other images than the digits.
        workers: number of workers.

    Raises:
        DemoError: the request cannot be met.
        DataError: the source cannot be used, or a label is not there.
        SettingsError: the settings cannot be used.
    """
    file = request.settings or SETTINGS
    named = read(file).data.source
    source = request.data or (None if named == "mnist" else named)
    if source is not None:
        if request.pretrained:
            raise DemoError(
                "--pretrained takes the shipped detector, which knows digits; leave it out for other images"
            )
        return (yield from own(source, request, output, workers))
    if request.labels or request.unknown:
        raise DemoError("--labels and --unknown choose among the labels of --data; add --data mnist for the digits")
    return digits(file, workers)


def digits(settings: Path, workers: int) -> Subject:
    """The demo of the shipped digits. Raises DemoError where the settings are for another number of workers."""
    chosen = read(settings)
    refuse_other_number(chosen, workers, "give so many ports, or --data mnist, which divides the digits by the ports")
    labels = chosen.labels
    return Subject(settings, "mnist", labels, tuple(label for label in DIGITS if label not in labels))


def own(source: str, request: Request, output: Path, workers: int) -> Generator[Note, None, Subject]:
    """The demo of another source, as ``load`` takes it; its settings are written into the output folder."""
    path, root = place(source)
    looked_at = survey(path, root=root, config=read(request.settings or SETTINGS).data)
    file = request.settings or settings_for(looked_at)
    base, mapping = read(file), tomllib.loads(file.read_text(encoding="utf-8-sig"))
    present = {label: sum(counts.values()) for label, counts in looked_at.labels.items()}
    yield Note(f"{source}: {listed(present)}")
    yield from map(Note, looked_at.notes)
    given = given_labels(request.labels) or (base.labels if request.settings and "labels" in mapping else ())
    usual = UNKNOWN.get(path, ())
    known, others = choose_labels(tuple(present), given, given_labels(request.unknown), usual)
    yield Note(chosen_note(known, others, by_rule=not given and not request.unknown, usual=usual))
    refuse_few(looked_at, known, others)
    mapping = with_source(mapping, path, known, workers, keep=request.settings is not None)
    settings = from_mapping(mapping)
    refuse_other_number(settings, workers, "give so many ports, or leave [data.partition] out of the settings")
    settings, notes = settings.resolved([looked_at.facts])
    yield from map(Note, (*notes, shares_note(looked_at, settings, workers, root), steps_note(settings)))
    subject = Subject(output / "demo.toml", path, known, others, root, NOUNS.get(path, "image"))
    output.mkdir(parents=True, exist_ok=True)
    subject.settings.write_text(settings_text(mapping, settings, source), encoding="utf-8")
    yield Note(f"the settings of the run and of all nodes are in {subject.settings}")
    return subject


def settings_for(looked_at: Survey) -> Path:
    """The demo's settings for images that look like this."""
    encoder, _ = chosen_encoder(EncoderConfig(), AUTO, [looked_at.facts])
    return SETTINGS if encoder.name == PIXELS else PHOTOGRAPHS


def place(source: str) -> tuple[str, Path | None]:
    """A source as all nodes can name it, and the data root that it lies in; None for one that has a name."""
    if source in SOURCES:
        return source, None
    path = os.path.realpath(source)
    return path, Path(path).parent


def refuse_few(looked_at: Survey, known: Sequence[str], unknown: Sequence[str]) -> None:
    """Refuse labels without an image to train or to evaluate on. Raises DemoError."""
    for label, counts in looked_at.labels.items():
        train, held = counts.get("train", 0), counts.get("eval", 0)
        if (label in known and not train) or (label in (*known, *unknown) and not held):
            raise DemoError(
                f"label {label!r} has {train} images to train on and {held} to evaluate on; "
                "add images of it, or leave it out with --labels and --unknown"
            )


def refuse_other_number(settings: Settings, workers: int, mend: str) -> None:
    """Refuse settings that divide their source among another number of workers. Raises DemoError."""
    divided = settings.data.partition
    if divided.kind != "none" and divided.workers != workers:
        raise DemoError(
            f"the settings divide the images among {divided.workers} workers, but there are {workers + 1} ports, one "
            f"for the server and {workers} for workers; {mend}"
        )


def shares_note(looked_at: Survey, settings: Settings, workers: int, root: Path | None) -> str:
    """How many images each worker has, as a sentence. Raises DemoError where they are too few."""
    calibration, data = settings.calibration, settings.data
    held_back, shares = 0, []
    for worker in range(workers):
        config = WorkerConfig(f"client{worker + 1}", data, worker, root)
        counts = {label: each for label, each in share_of(looked_at, config).items() if label in settings.labels}
        train = {label: each.get("train", 0) for label, each in counts.items()}
        held = sum(min(round(data.held_back * count), max(0, count - 1)) for count in train.values())
        evaluated = sum(each.get("eval", 0) for each in counts.values())
        if min(held, evaluated) < FEWEST:
            raise DemoError(
                f"{config.name} would have {held} images to calibrate with and {evaluated} to evaluate on, and needs "
                f"{FEWEST} of each; add images of each label, or raise data.held_back and data.evaluation in --settings"
            )
        held_back += min(held, calibration.images)
        shares.append(f"{config.name} has {sum(train.values()):,} images of {shortened(list(train))}")
    if reason := too_few(held_back, calibration.alpha, images=calibration.images, held_back=data.held_back):
        raise DemoError(reason)
    return f"to train on, {'; '.join(shares)}"


def steps_note(settings: Settings) -> str:
    """How long each worker trains, as a sentence."""
    parts = [(part, settings.training_of(part)) for part in ("classifier", "denoiser")]
    if all(isinstance(each.steps, str) for _, each in parts):
        steps = f"until each image came up {parts[0][1].passes:g} times, {parts[0][1].fewest} steps at least,"
    else:
        steps = " and ".join(f"{each.steps:,} steps of {each.batch_size} images ({part})" for part, each in parts)
    return f"each worker trains {steps} in {settings.federation.rounds} rounds (--settings changes that)"
