"""Repeated images in a stream of predictions: a frozen camera, or a recording that is played again and again.

The drift watch counts an image once however often it comes, as its test assumes independent draws. So it stays steady
in front of a camera that sends the same image for ever, which is watched for here. Images from a sensor have noise:
one that is identical to an earlier one in every pixel was not taken anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar, final

IN_A_ROW = 20
"""So many identical images in a row raise an alarm."""

WINDOW = 100
"""Number of latest predictions whose repeats are counted."""

MOST = 50
"""More repeats than so many in the window raise an alarm."""


@dataclass(frozen=True)
class RepeatsAlarm:
    """An alarm that images are repeated."""

    image: int
    """Number of the prediction that raised the alarm, from 1, repeats included."""
    in_a_row: int
    """How many images up to that one were identical: 20 from a frozen camera, fewer from a recording that is played
    again and again."""
    time: datetime
    """When the alarm was raised."""


@dataclass(frozen=True)
class Repeats:
    """Whether the same images come again and again."""

    # The REST service describes its responses by these fields, those of the class above, and their docstrings.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    images: int
    """Predictions since `started`, repeats included."""
    in_a_row: int
    """How many of the latest ones were of identical images; 1 where the last differs from the one before it."""
    share: float
    """Share of repeats among the latest 100 predictions: of images that are one of the 1000 before them."""
    alarm: RepeatsAlarm | None
    """Raised by 20 identical images in a row, or by more than 50 repeats among the latest 100 predictions; null before.
    It stays until `DELETE /v1/drift` or another release."""


@final
class RepeatsWatch:
    """Counts repeats in a stream of predictions. It knows images by a digest, of which it keeps the last.

    Attributes:
        images: predictions so far.
        in_a_row: how many of the latest ones were of identical images.
        recent: of the latest ones, whether each was a repeat.
        alarm: the alarm; None before one.
    """

    def __init__(self) -> None:
        self.images, self.in_a_row = 0, 0
        self.recent: deque[bool] = deque(maxlen=WINDOW)
        self.last: bytes | None = None
        self.alarm: RepeatsAlarm | None = None

    def observe(self, digest: bytes, now: datetime, *, repeated: bool) -> bool:
        """Count a prediction; whether it raised an alarm. After an alarm predictions are counted, none raises another.

        Args:
            digest: of the image.
            now: the time.
            repeated: whether the image is one of the latest.
        """
        self.images += 1
        self.in_a_row = self.in_a_row + 1 if digest == self.last else 1
        self.last = digest
        self.recent.append(repeated)
        if self.alarm is not None or (self.in_a_row < IN_A_ROW and sum(self.recent) <= MOST):
            return False
        self.alarm = RepeatsAlarm(self.images, self.in_a_row, now)
        return True

    def report(self) -> Repeats:
        """The state of the watch."""
        share = sum(self.recent) / len(self.recent) if self.recent else 0.0
        return Repeats(self.images, self.in_a_row, share, self.alarm)

    def to_json(self) -> dict[str, Any]:
        """The watch as JSON, without the digest: after a restart the first image counts as a new one."""
        alarm = self.alarm and {**asdict(self.alarm), "time": self.alarm.time.isoformat()}
        recent = [int(repeated) for repeated in self.recent]
        return {"images": self.images, "in_a_row": self.in_a_row, "recent": recent, "alarm": alarm}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RepeatsWatch:
        """The watch of which ``to_json`` gave the data. Raises KeyError, TypeError or ValueError where it is none."""
        watch = cls()
        watch.images, watch.in_a_row = whole(data["images"]), whole(data["in_a_row"])
        watch.recent.extend(bool(whole(repeated)) for repeated in data["recent"])
        if (alarm := data["alarm"]) is not None:
            watch.alarm = RepeatsAlarm(whole(alarm["image"]), whole(alarm["in_a_row"]), moment(alarm["time"]))
        return watch


def whole(value: object) -> int:
    """A count. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def moment(value: object) -> datetime:
    """A time with its zone. Raises ValueError."""
    time = datetime.fromisoformat(str(value))
    if time.tzinfo is None:
        raise ValueError(f"{value!r:.40} is a time without a zone")
    return time
