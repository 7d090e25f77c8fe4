"""Seconds and memory of looking at a folder of images and of loading it: a part of it, and all of it.

Each measurement is a process of its own, so that its largest memory is that of this work alone. All files are read once
before, so that the system has them in memory for every measurement alike, as far as it can.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import record
from benchmarks.resident import resident
from benchmarks.storage import Steps
from fedlmd.data import check, load, scan
from fedlmd.data.catalogue import FilesPart
from fedlmd.progress import Progress, drain

WORKS = ("check", "load")
"""What is measured: ``fedlmd.data.check``, and ``fedlmd.data.load`` of all parts."""


def measure(source: str, few: int = 1000) -> Steps:
    """Measure each work with a part of the images and with all of them.

    Args:
        source: a folder of image files.
        few: images of the part, spread evenly over all.

    Raises:
        ValueError: the source is no folder of image files, or has no more of them than ``few``.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        total = linked(source, Path(folder), few)
        cases = [(work, images, where) for work in WORKS for images, where in ((few, folder), (total, source))]
        for done, (work, images, where) in enumerate(cases):
            yield Progress("data", done, len(cases))
            rows.append({"work": work, "images": images, **in_process(where, work)})
        yield Progress("data", len(cases), len(cases))
    return record(figures_of(rows), "python -m benchmarks data", rows=rows)


def linked(source: str, folder: Path, few: int) -> int:
    """Make a folder of links to some of a source's images; returns how many the source has. Raises ValueError."""
    catalogue = scan(source)
    places: list[tuple[str, Path]] = []
    for split, part in catalogue.parts.items():
        if not isinstance(part, FilesPart):
            raise ValueError(f"{source} is no folder of image files; give one")
        for name, label in zip(part.paths, part.labels.tolist(), strict=True):
            within = catalogue.labels[label] if split == "all" else f"{split}/{catalogue.labels[label]}"
            places.append((within, Path(name)))
    if len(places) <= few:
        raise ValueError(f"{source} has {len(places)} images; give a folder with more than {few}")
    for number, place in enumerate(np.linspace(0, len(places) - 1, few).astype(int).tolist()):
        within, path = places[place]
        (folder / within).mkdir(parents=True, exist_ok=True)
        os.symlink(path.resolve(), folder / within / f"{number}{path.suffix}")
    for _, path in places:
        path.read_bytes()
    return len(places)


def in_process(source: str, work: str) -> dict[str, float]:
    """Measure one work in a new process."""
    command = [sys.executable, "-m", "benchmarks.data", source, work]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return figures


def timed(source: str, work: str) -> dict[str, float]:
    """Seconds and the largest memory of one work in this process.

    ``before_mib`` is the largest memory before it, with all libraries loaded; ``cpu_seconds`` are those of all threads.
    """
    before, start, cpu = resident("VmHWM"), time.monotonic(), time.process_time()
    if work == "check":
        drain(check(source))
    else:
        load(source, "all")
    seconds, cpu_seconds = round(time.monotonic() - start, 2), round(time.process_time() - cpu, 2)
    peak = round(resident("VmHWM"))
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "before_mib": round(before), "peak_mib": peak}


def figures_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What a page names: files per second of the larger folder, and how much memory its further files took."""
    figures: dict[str, float] = {}
    for work in WORKS:
        part, whole = (row for row in rows if row["work"] == work)
        figures[f"{work}_files_per_second"] = round(whole["images"] / whole["seconds"])
        figures[f"{work}_peak_mib"] = whole["peak_mib"]
        further = 2**20 * (whole["peak_mib"] - part["peak_mib"]) / (whole["images"] - part["images"])
        figures[f"{work}_bytes_per_further_image"] = round(further)
    return figures


if __name__ == "__main__":
    print(json.dumps(timed(*sys.argv[1:])))  # noqa: T201 - its output
