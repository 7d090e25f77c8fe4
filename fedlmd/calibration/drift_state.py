"""A drift watch as JSON, which a node keeps over a restart. It holds counts and evidence, no image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from fedlmd.calibration.drift import Alarm, DriftConfig, DriftWatch
from fedlmd.calibration.repeats import RepeatsWatch, moment, whole

FORMAT = 1

ARRAYS = ("cells", "evidence", "peak", "begun")


def to_json(watch: DriftWatch) -> dict[str, Any]:
    """A watch as JSON."""
    alarm = watch.alarm
    return {
        "format": FORMAT,
        "release": watch.release,
        "count": watch.count,
        "started": watch.started.isoformat(),
        "config": settings_of(watch.config),
        **{name: getattr(watch, name).tolist() for name in ARRAYS},
        "alarm": None if alarm is None else {**asdict(alarm), "time": alarm.time.isoformat()},
        "alarms": watch.alarms,
        "repeats": watch.repeats.to_json(),
    }


def from_json(data: object, config: DriftConfig) -> DriftWatch:
    """The watch of which ``to_json`` gave the data, through JSON.

    Raises:
        ValueError: when the data are wrong, or the watch had another configuration; the message names the part.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ValueError(f"it is no drift watch of format {FORMAT}")
    if data.get("config") != settings_of(config):
        raise ValueError("it was tested with other settings than now")
    try:
        watch = DriftWatch(str(data["release"]), whole(data["count"]), moment(data["started"]), config)
        for name in ARRAYS:
            setattr(watch, name, numbers(data[name], getattr(watch, name)))
        watch.images = int(watch.cells.sum())
        watch.alarms = whole(data["alarms"])
        if (alarm := data["alarm"]) is not None:
            watch.alarm = Alarm(whole(alarm["image"]), whole(alarm["since"]), moment(alarm["time"]))
        # Absent in the file of an earlier version.
        if "repeats" in data:
            watch.repeats = RepeatsWatch.from_json(data["repeats"])
    except KeyError as error:
        raise ValueError(f"{error} is missing in it") from None
    except (OverflowError, TypeError) as error:
        raise ValueError(f"a part of it is not what it must be: {error}") from None
    return watch


def settings_of(config: DriftConfig) -> dict[str, Any]:
    """Settings as JSON gives them back: lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def numbers(values: object, like: np.ndarray) -> np.ndarray:
    """Finite numbers of 0 or more, of an array's shape and kind. Raises ValueError."""
    array = np.asarray(values)
    if array.shape != like.shape or array.dtype.kind not in ("i", like.dtype.kind):
        raise ValueError(f"it holds {values!r:.60} where {len(like)} numbers must be")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError("a number of it is negative or not finite")
    return array.astype(like.dtype)
