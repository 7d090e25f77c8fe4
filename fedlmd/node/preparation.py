"""What a server settles with the workers' announcements before a run: rules for pixels, labels, enough images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fedlmd.calibration import needed
from fedlmd.data import DataError, Facts
from fedlmd.federation.worker_list import AnnouncedWorker
from fedlmd.service.contract import Refused
from fedlmd.settings import Settings

LARGEST_SHARE = 0.5
"""The most of its images that a worker can hold back."""


def wait_for_images(
    workers: Callable[[], Sequence[AnnouncedWorker]],
    needed_workers: int,
    seconds: float,
    report: Callable[[int], None],
    ended: Callable[[], bool],
) -> list[AnnouncedWorker]:
    """The workers that can take part, once there are enough of them or the time is over.

    Args:
        workers: gives the announced workers.
        needed_workers: how many to wait for.
        seconds: how long to wait at most.
        report: called with their number whenever it has changed.
        ended: whether the run was stopped meanwhile.

    Raises:
        Refused: when there is none in time that lets the server know what its images look like.
    """
    deadline, reported = time.monotonic() + seconds, -1
    while len(ready := [worker for worker in workers() if is_ready(worker)]) < needed_workers:
        if len(ready) != reported:
            reported = len(ready)
            report(reported)
        if time.monotonic() >= deadline or ended():
            break
        time.sleep(0.5)
    if not any(worker.images is not None for worker in ready):
        why = f"no worker with usable images has connected within {seconds:.0f} s"
        if ready:
            why = "all connected workers keep back what their images look like (data.announce)"
        raise Refused(
            f"{why}, so the rules for pixels cannot be chosen; connect another, or set image_size, channels and the "
            "section images"
        )
    return ready


def is_ready(worker: AnnouncedWorker) -> bool:
    """Whether a worker can take part in a run."""
    return worker.connected and worker.problem is None


def settle(settings: Settings, workers: Sequence[AnnouncedWorker]) -> tuple[Settings, tuple[str, ...]]:
    """The settings of a run with these workers, without "auto"; and what is to be said of the choice.

    Args:
        settings: of the run.
        workers: all that announced themselves.

    Raises:
        Refused: when labels of workers, or of a worker and the run, differ only in case; or there are too few images.
    """
    ready = [worker for worker in workers if is_ready(worker)]
    refuse_other_case(settings.labels, ready)
    refuse_too_few(settings, ready)
    facts = []
    for worker in ready:
        try:
            if worker.images is not None:
                facts.append(Facts.from_json(worker.images))
        except DataError as error:
            raise Refused(f"worker {worker.name!r}: {error}") from None
    settings, notes = settings.resolved(facts)
    return settings, (*absences(workers), *notes)


def absences(workers: Sequence[AnnouncedWorker]) -> list[str]:
    """Of each worker that takes no part in a run although it is there: why."""
    reasons = [(worker.name, worker.refused or (worker.connected and worker.problem)) for worker in workers]
    return [f"worker {name!r} takes no part: {reason}" for name, reason in reasons if reason]


def refuse_other_case(labels: Sequence[str], workers: Sequence[AnnouncedWorker]) -> None:
    """Refuse labels that differ only in case, such as "cat" at one worker and "Cat" at another. Raises Refused."""
    owners = {label.casefold(): (label, "the run") for label in labels}
    for worker in workers:
        for label in worker.label_names or ():
            other, owner = owners.setdefault(label.casefold(), (label, f"worker {worker.name!r}"))
            if other != label and label not in labels:
                raise Refused(
                    f"worker {worker.name!r} has the label {label!r} and {owner} has {other!r}: "
                    "if they are one, give them one name"
                )


def refuse_too_few(settings: Settings, workers: Sequence[AnnouncedWorker]) -> None:
    """Refuse a run of which no verdict could ever say unknown, where all workers let their counts be known.

    Raises:
        Refused: when there are too few images, whatever share of them is held back to calibrate with.
    """
    counts = [worker.labels for worker in workers if isinstance(worker.labels, dict)]
    if not counts or len(counts) < len(workers):
        return
    images = sum(count.get(label, 0) for count in counts for label in settings.labels)
    alpha = settings.calibration.alpha
    if images * LARGEST_SHARE < needed(alpha):
        raise Refused(
            f"the workers have {images} images of these labels to train on; at alpha = {alpha:g} a verdict needs "
            f"{needed(alpha)} images to calibrate with, a share data.held_back of them: add images, or raise "
            "calibration.alpha"
        )
