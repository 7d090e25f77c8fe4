"""Look at a whole source before training: what it holds, what is wrong with it, and whether it can be trained on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from fedlmd.calibration import needed
from fedlmd.data.catalogue import PassedOver
from fedlmd.data.check.compare import Comparison, compare
from fedlmd.data.check.copies import Copies, copies_of
from fedlmd.data.check.findings import CheckConfig, Finding, Level, Seen, findings
from fedlmd.data.check.measure import Measurements, measure_all
from fedlmd.data.check.sheet import draw_sheet
from fedlmd.data.facts import facts_of
from fedlmd.data.labels import label_notes
from fedlmd.data.partition import PartitionConfig
from fedlmd.data.sources import scan
from fedlmd.data.survey import division_note
from fedlmd.progress import Progress

BLANKS = 5
"""At most so many nearly blank images are kept as examples."""


@dataclass(frozen=True)
class CheckReport:
    """What was seen of a source. Numbers and names; no image.

    Args:
        source: as messages name it.
        images: how many it lists.
        readable: how many of them can be decoded.
        divided: whether it has a part of its own to evaluate on; else one is split off.
        sizes: "smallest", "median" and "largest" as [width, height] by number of pixels, "distinct" (how many sizes
            there are) and "not_square" (share of the images); empty where no image can be decoded.
        modes: number of images by mode.
        formats: number of images by the end of their file's name; empty where images are no files of their own.
        labels: counts by label, see ``Seen``.
        held_back: images that would be kept for calibration, of the labels that a run would learn.
        needed: how many the false-alarm rate needs.
        passed_over: "reason", "count" and "example" of what is not loaded.
        damaged: the same of images that cannot be decoded.
        copies: how many images have the same pixels, see ``Copies``, with names for positions.
        blank: the "count" of images that are nearly of one colour, and names of some as "examples".
        comparison: of the parts to train and to evaluate on; empty where a part is split off at random.
        rules: the rules for pixels that a run would use.
        notes: what was guessed and chosen, one sentence each.
        findings: what a user should know, errors first.
        sheet: the contact sheet's file.
    """

    source: str
    images: int
    readable: int
    divided: bool
    sizes: dict[str, Any]
    modes: dict[str, int]
    formats: dict[str, int]
    labels: dict[str, dict[str, int]]
    held_back: int
    needed: int
    passed_over: tuple[dict[str, Any], ...]
    damaged: tuple[dict[str, Any], ...]
    copies: dict[str, Any]
    blank: dict[str, Any]
    comparison: tuple[Comparison, ...]
    rules: dict[str, Any]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    sheet: str | None

    def sentences(self, level: Level) -> list[str]:
        """The sentences of one level."""
        return [finding.sentence for finding in self.findings if finding.level == level]

    @property
    def usable(self) -> bool:
        """Whether the source can be trained on."""
        return not self.sentences("error")

    @property
    def verdict(self) -> str:
        """The result in one line."""
        if not self.usable:
            return f"not usable: {'; '.join(self.sentences('error'))}"
        count = len(self.sentences("warning"))
        return f"usable, with {count} {'warning' if count == 1 else 'warnings'}" if count else "usable"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {**asdict(self), "usable": self.usable, "verdict": self.verdict}


def check(
    source: str, *, root: Path | None = None, config: CheckConfig | None = None
) -> Generator[Progress, None, CheckReport]:
    """Read every image of a source once and say what a user should know before training.

    Beside its name, some 70 bytes are kept of each image.

    Args:
        source: as for ``load``.
        root: the data root, as for ``load``.
        config: what to check for.

    Yields:
        One step for each ``fedlmd.data.check.measure.CHUNK`` images, and for each label of the contact sheet.

    Raises:
        DataError: the source is missing or of no layout that is known.
        OSError: the contact sheet cannot be written.
    """
    config = config or CheckConfig()
    if config.sheet is not None:
        # Before the work: a folder that cannot be written must not cost the report.
        config.sheet.parent.mkdir(parents=True, exist_ok=True)
    measured = yield from measure_all(scan(source, root=root), config.data.evaluation)
    copies = copies_of(measured.rows)
    comparison = compare(measured.rows) if measured.catalogue.divided else ()
    seen = Seen(measured, label_counts(measured, config.data.held_back), copies, comparison, config)
    choice = config.choose([facts_of(measured.looks)])
    drawn = config.sheet if measured.rows["readable"].any() else None
    if drawn is not None:
        yield from draw_sheet(measured, copies, choice.rules, drawn)
    return report_of(seen, asdict(choice.rules), choice.notes, drawn)


def report_of(seen: Seen, rules: dict[str, Any], notes: Sequence[str], sheet: Path | None) -> CheckReport:
    """The report of what was seen."""
    measured, catalogue, config = seen.measured, seen.measured.catalogue, seen.config
    readable, blank = measured.rows[measured.rows["readable"]], np.flatnonzero(measured.rows["blank"])
    formats, name = counted(measured.suffixes, measured.rows["suffix"]), measured.images.name
    # Labels that look alike are among the warnings.
    alike = label_notes(catalogue.labels)
    return CheckReport(
        source=catalogue.name,
        images=len(measured.rows),
        readable=len(readable),
        divided=catalogue.divided,
        sizes=sizes_of(readable) if len(readable) else {},
        modes=counted(measured.modes, readable["mode"]),
        formats={suffix: count for suffix, count in formats.items() if suffix},
        labels=seen.labels,
        held_back=seen.total("held_back"),
        needed=needed(config.alpha),
        passed_over=entries(catalogue.passed_over),
        damaged=entries(measured.damaged),
        copies=named_copies(measured, seen.copies),
        blank={"count": len(blank), "examples": [name(position) for position in blank[:BLANKS].tolist()]},
        comparison=seen.comparison,
        rules=rules,
        notes=(
            *(note for note in catalogue.notes if note not in alike),
            *division_note(catalogue, config.data),
            *partition_note(config.data.partition),
            *notes,
        ),
        findings=findings(seen),
        sheet=None if sheet is None else str(sheet),
    )


def partition_note(config: PartitionConfig) -> list[str]:
    """That several workers divide the source, where they do."""
    if config.kind == "none":
        return []
    return [f"the run divides the source among {config.workers} workers; all counts here are those of the whole"]


def sizes_of(readable: NDArray[Any]) -> dict[str, Any]:
    """The sizes of images that can be decoded, see ``CheckReport``."""
    sides = np.stack([readable["width"], readable["height"]], axis=1)
    order = np.argsort(sides.astype(np.int64).prod(axis=1), kind="stable")
    return {
        "smallest": sides[order[0]].tolist(),
        "median": sides[order[len(order) // 2]].tolist(),
        "largest": sides[order[-1]].tolist(),
        "distinct": len(np.unique(sides, axis=0)),
        "not_square": float((sides[:, 0] != sides[:, 1]).mean()),
    }


def label_counts(measured: Measurements, held_back: float) -> dict[str, dict[str, int]]:
    """How many images each label has, and how many of them ``split_held_back`` would hold back."""
    rows, names = measured.rows[measured.rows["readable"]], measured.catalogue.labels
    train, evaluation = (
        np.bincount(rows["label"][rows["evaluation"] == part], minlength=len(names)).tolist() for part in (False, True)
    )
    held = [max(0, min(round(held_back * count), count - 1)) for count in train]
    return {
        name: {"train": train[number], "evaluation": evaluation[number], "held_back": held[number]}
        for number, name in enumerate(names)
    }


def counted(names: list[str], numbers: Int[np.ndarray, " n"]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return dict(sorted(zip(names, counts, strict=True), key=lambda pair: -pair[1]))


def entries(passed_over: PassedOver) -> tuple[dict[str, Any], ...]:
    """What was passed over, by reason."""
    return tuple(
        {"reason": reason, "count": count, "example": passed_over.examples[reason]}
        for reason, count in passed_over.counts.most_common()
    )


def named_copies(measured: Measurements, copies: Copies) -> dict[str, Any]:
    """Copies with the names of the examples."""
    name = measured.images.name
    return {
        field: [list(map(name, pair)) for pair in value] if isinstance(value, tuple) else value
        for field, value in vars(copies).items()
    }
