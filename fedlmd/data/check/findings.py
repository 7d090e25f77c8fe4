"""What a user should know of a source before training: errors, by which it cannot be trained on, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from fedlmd.calibration import too_few
from fedlmd.data.check.compare import Comparison, difference_sentence
from fedlmd.data.check.copies import Copies, Pair
from fedlmd.data.check.measure import Measurements
from fedlmd.data.choice import Choice, choose_rules
from fedlmd.data.config import AUTO, DataConfig, ImagesConfig
from fedlmd.data.facts import Facts
from fedlmd.data.labels import label_notes

LISTED = 5
"""At most so many labels are listed in a sentence."""

FEWEST = 2
"""So many images are needed to evaluate on, and of each label to train on and to hold one back."""

Level = Literal["error", "warning"]


def chosen_by_default(facts: Sequence[Facts]) -> Choice:
    """The rules for pixels of a run that leaves all of them open."""
    return choose_rules(AUTO, AUTO, ImagesConfig(), facts)


@dataclass(frozen=True)
class CheckConfig:
    """What a source is checked for.

    Args:
        data: gives ``held_back``, ``evaluation`` and ``strict``.
        alpha: false-alarm rate, in (0, 1): by it follows how many images calibration needs.
        images: at most so many held-back images are scored, 2 or more.
        labels: those that a run learns; None for all that the source has.
        choose: the rules for pixels by the facts of the images.
        sheet: PNG file that gets the contact sheet; None for none.
    """

    data: DataConfig = field(default_factory=DataConfig)
    alpha: float = 0.05
    images: int = 500
    labels: tuple[str, ...] | None = None
    choose: Callable[[Sequence[Facts]], Choice] = chosen_by_default
    sheet: Path | None = None


@dataclass(frozen=True)
class Finding:
    """Something that a user should know.

    Args:
        level: "error" where the source cannot be trained on.
        kind: what it is about, such as "copies".
        sentence: what it is, and how to mend it.
    """

    level: Level
    kind: str
    sentence: str


@dataclass(frozen=True)
class Seen:
    """All that findings are made from.

    Args:
        measured: the images.
        labels: by label how many images can be decoded: "train", "evaluation" and "held_back", which is a part of
            "train".
        copies: images with the same pixels.
        comparison: of the parts to train and to evaluate on.
        config: what the source is checked for.
    """

    measured: Measurements
    labels: dict[str, dict[str, int]]
    copies: Copies
    comparison: tuple[Comparison, ...]
    config: CheckConfig

    @property
    def learnt(self) -> list[str]:
        """The labels that a run would learn here: those with images to train on."""
        wanted = self.labels if self.config.labels is None else self.config.labels
        return [label for label in wanted if label in self.labels and self.labels[label]["train"]]

    def total(self, key: str) -> int:
        """Images of the labels that a run would learn."""
        return sum(self.labels[label][key] for label in self.learnt)


def findings(seen: Seen) -> tuple[Finding, ...]:
    """What a user should know, errors first."""
    parts = (too_little, left_out, label_findings, copy_findings, other_findings)
    return tuple(sorted((each for part in parts for each in part(seen)), key=lambda each: each.level != "error"))


def too_little(seen: Seen) -> Iterator[Finding]:
    """Why the source cannot be trained on."""
    config, rows = seen.config, seen.measured.rows
    if not rows["readable"].any():
        yield Finding("error", "damaged", f"none of the {len(rows):,} images can be decoded")
        return
    if config.labels is not None and not seen.learnt:
        names = f"{listed(config.labels)}; the source has {listed(list(seen.labels))}"
        yield Finding("error", "labels", f"it has no image to train on of any label of the run, {names}")
        return
    if config.labels is None and len(seen.learnt) < FEWEST:
        names = f" ({listed(seen.learnt)})" if seen.learnt else ""
        yield Finding("error", "labels", f"it has {len(seen.learnt)} label with images to train on{names}; give two")
    if (count := seen.total("evaluation")) < FEWEST:
        are = "is" if count == 1 else "are"
        sentence = f"there {are} {plural(count)} to evaluate on, at least {FEWEST} are needed: add images of each label"
        yield Finding("error", "evaluation", sentence)
    held = min(seen.total("held_back"), config.images)
    if (reason := too_few(held, config.alpha, images=config.images, held_back=config.data.held_back)) is not None:
        yield Finding("error", "calibration", f"{reason}; in a federation the images of all workers count together")


def left_out(seen: Seen) -> Iterator[Finding]:
    """What is not loaded; errors where the run is strict."""
    level: Level = "error" if seen.config.data.strict else "warning"
    yield from (Finding(level, "passed over", each) for each in seen.measured.catalogue.missed(strict=False))
    yield from (Finding(level, "damaged", each) for each in seen.measured.damaged.sentences())


def label_findings(seen: Seen) -> Iterator[Finding]:
    """Labels that are missing, alike or too small."""
    labels, learnt, wanted = seen.labels, seen.learnt, seen.config.labels
    missing = [label for label in wanted or () if label not in learnt]
    empty = [label for label in labels if wanted is None and not labels[label]["train"]]
    single = [label for label in learnt if labels[label]["train"] < FEWEST]
    unheld = [label for label in learnt if not labels[label]["held_back"]]
    unseen = [label for label in learnt if seen.total("evaluation") and not labels[label]["evaluation"]]
    elsewhere = "training on this source alone is refused then; in a federation other workers may have them"
    share = f"data.held_back, now {seen.config.data.held_back:g}"
    for sentence in label_notes(seen.measured.catalogue.labels):
        yield Finding("warning", "labels", sentence)
    for kind, what, names, mend in (
        ("labels", "no image to train on", missing if learnt else [], elsewhere),
        ("labels", "no image to train on", empty, "add some, or leave the labels out"),
        ("labels", "one image to train on", single, "add images"),
        ("calibration", "no image is held back for calibration", unheld, f"add images, or raise {share}"),
        ("evaluation", "no image to evaluate on", unseen, "its accuracy is not seen"),
    ):
        if names:
            yield Finding("warning", kind, f"{what} of {listed(names)}: {mend}")


def copy_findings(seen: Seen) -> Iterator[Finding]:
    """Images with the same pixels."""
    copies = seen.copies
    if copies.contradictory:
        level: Level = "error" if seen.config.data.strict else "warning"
        pair = named_pair(seen.measured, copies.contradictory_examples[0], labelled=True)
        what = f"{plural(copies.contradictory)} under two or more labels with the same pixels"
        yield Finding(level, "contradiction", f"{what} ({pair}): keep one label")
    if copies.leaked:
        pair = named_pair(seen.measured, copies.leaked_examples[0])
        sentence = (
            f"{plural(copies.leaked)} to evaluate on {'is' if copies.leaked == 1 else 'are'} among those to train on "
            f"({pair}): accuracy and false-alarm rate look better than they are; remove the copies"
        )
        yield Finding("warning", "leak", sentence)
    if copies.repeated:
        pair = named_pair(seen.measured, copies.repeated_examples[0])
        what = f"{plural(copies.repeated)} {'repeats' if copies.repeated == 1 else 'repeat'} another of the same part"
        yield Finding("warning", "copies", f"{what}, pixel by pixel ({pair}): keep one of each")


def other_findings(seen: Seen) -> Iterator[Finding]:
    """Nearly blank images, and a part to evaluate on that is drawn otherwise."""
    blank = np.flatnonzero(seen.measured.rows["blank"])
    if len(blank):
        what = f"{plural(len(blank))} {'is' if len(blank) == 1 else 'are'} nearly of one colour"
        yield Finding("warning", "blank", f"{what} (such as {seen.measured.images.name(int(blank[0]))})")
    if (sentence := difference_sentence(seen.comparison)) is not None:
        yield Finding("warning", "comparison", sentence)


def named_pair(measured: Measurements, pair: Pair, *, labelled: bool = False) -> str:
    """The names of two images, and their labels where asked for."""
    names = [measured.images.name(position) for position in pair]
    if labelled:
        labels = [measured.catalogue.labels[int(measured.rows["label"][position])] for position in pair]
        names = [f"{name}, {label!r}" for name, label in zip(names, labels, strict=True)]
    return f"such as {names[0]} and {names[1]}"


def plural(count: int) -> str:
    """A number of images."""
    return f"{count:,} {'image' if count == 1 else 'images'}"


def listed(labels: Sequence[str]) -> str:
    """Some labels, and how many others there are."""
    names = ", ".join(map(repr, labels[:LISTED]))
    return f"{names} and {len(labels) - LISTED:,} others" if len(labels) > LISTED else names
