"""Images per second of ``fedlmd infer`` on files, beside those of the same release on the same pixels in memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from benchmarks.storage import Steps
from fedlmd.cli.answers import answers
from fedlmd.cli.image_files import image_files
from fedlmd.data import PassedOver, export, load
from fedlmd.inference import Predictor
from fedlmd.progress import Progress, drain
from fedlmd.release import SHIPPED, load_release

BATCH = 64


def measure(images: int = 1000, repeats: int = 5, threads: int = 2) -> Steps:
    """Measure both rates by turns, without the time that loading the release takes.

    Args:
        images: PNG files of MNIST's test digits, as many of each digit; a multiple of 10.
        repeats: how often each is measured; the medians count.
        threads: of torch, and that decode.
    """
    torch.set_num_threads(threads)
    predictor = Predictor(load_release(SHIPPED["digits-0-4"]))
    with tempfile.TemporaryDirectory() as folder:
        drain(export("mnist", Path(folder) / "digits", limit=images // 10))
        files = list(image_files([str(Path(folder) / "digits" / "eval")], PassedOver(), patterns=False))
        pixels = load(str(Path(folder) / "digits"), "eval").images()
        rates: dict[str, list[float]] = {"model": [], "infer": []}
        for done in range(repeats):
            yield Progress("infer", done, repeats)
            batches = torch.split(pixels, BATCH)
            rates["model"].append(rate(lambda: sum(len(predictor.predict(batch)) for batch in batches)))  # noqa: B023 - called at once
            by_file = answers(predictor, files, batch_size=BATCH, threads=threads)
            rates["infer"].append(rate(lambda: sum(map(len, by_file))))  # noqa: B023 - as above
        yield Progress("infer", repeats, repeats)
    rows = [{"what": what, "images_per_second": [round(each, 1) for each in every]} for what, every in rates.items()]
    return record(figures_of(rates), "python -m benchmarks infer", rows=rows)


def rate(work: Callable[[], int]) -> float:
    """Images per second of work that returns their number."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def figures_of(rates: dict[str, list[float]]) -> dict[str, Any]:
    """The medians, and the median of the ratios of neighbouring measurements."""
    ratios = [infer / model for model, infer in zip(rates["model"], rates["infer"], strict=True)]
    return {
        "model_images_per_second": round(statistics.median(rates["model"])),
        "infer_images_per_second": round(statistics.median(rates["infer"])),
        "ratio": round(statistics.median(ratios), 3),
    }
