"""Curves for TensorBoard, read back from the files byte by byte."""

import struct
import sys
from datetime import UTC, datetime

import pytest

from fedlmd.federation.tensorboard import Scalar, TensorBoard, scalars

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def happened(second, event, **fields):
    return {"time": START.replace(second=second).isoformat(timespec="milliseconds"), "event": event, **fields}


def round_event(number, losses, **changes):
    workers = [{"name": name, "metrics": {"classifier-loss": loss, "curve": [1.0]}} for name, loss in losses.items()]
    mean = {"classifier-loss": sum(losses.values()) / len(losses)}
    fields = {"round": number, "asked": 3, "seconds": 2.5, "refused": [{"name": "c", "reason": "late"}]}
    return happened(number, "round", **{**fields, "workers": workers, "metrics": mean, **changes})


FINISHED = happened(9, "finished", metrics={"accuracy": 0.5, "workers": {"a": {"accuracy": 0.25}}})


def test_a_round_is_a_point_for_each_figure_of_each_worker_and_of_their_mean():
    assert list(scalars(round_event(1, {"a": 0.5, "b": 1.5}))) == [
        Scalar("classifier-loss/a", 0.5),
        Scalar("classifier-loss/b", 1.5),
        Scalar("classifier-loss/all", 1.0),
        Scalar("round/seconds", 2.5),
        Scalar("round/asked", 3),
        Scalar("round/workers", 2),
        Scalar("round/refused", 1),
    ]


def test_the_end_of_a_run_has_the_figures_of_the_release():
    assert list(scalars(FINISHED)) == [Scalar("release-accuracy/a", 0.25), Scalar("release-accuracy/all", 0.5)]


def test_other_events_have_no_point():
    assert list(scalars(happened(0, "refused", round=1, worker="a", reason="late"))) == []


def records(path):
    """The events of a file: a length, its checksum, as many bytes, their checksum."""
    from tensorboardX.crc32c import crc32c  # noqa: PLC0415 - an optional extra
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415

    def masked(data):
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        content = data[12 : 12 + length]
        sums = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length : 16 + length])
        assert sums == (masked(data[:8]), masked(content))
        yield Event.FromString(content)
        data = data[16 + length :]


def curves(folder):
    """What TensorBoard shows: (step, seconds, value) of each tag, less what a later file supersedes."""
    points = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix):
        for event in records(path):
            if event.HasField("session_log"):
                points = {tag: [point for point in curve if point[0] < event.step] for tag, curve in points.items()}
            for value in event.summary.value:
                points.setdefault(value.tag, []).append((event.step, event.wall_time, value.simple_value))
    return points


def at(second):
    return START.replace(second=second).timestamp()


def test_the_files_hold_the_values_at_the_rounds_and_times_of_the_events(tmp_path):
    pytest.importorskip("tensorboardX")
    events = [happened(0, "started"), round_event(1, {"a": 0.5, "b": 1.5}), round_event(2, {"a": 0.25}), FINISHED]
    assert list(TensorBoard(tmp_path).log("run-1", iter(events))) == events
    points = curves(tmp_path / "run-1")
    assert points["classifier-loss/a"] == [(1, at(1), 0.5), (2, at(2), 0.25)]
    assert points["classifier-loss/b"] == [(1, at(1), 1.5)]
    assert points["classifier-loss/all"] == [(1, at(1), 1.0), (2, at(2), 0.25)]
    assert points["release-accuracy/all"] == [(2, at(9), 0.5)]


def test_a_round_that_was_repeated_supersedes_the_first(tmp_path):
    pytest.importorskip("tensorboardX")
    events = [
        round_event(1, {"a": 4.0}),
        round_event(2, {"a": 3.0}),
        happened(3, "failed", reason="gone"),
        happened(3, "resumed", round=1, rounds=2, skipped=[]),
        round_event(2, {"a": 2.0}),
    ]
    for _ in TensorBoard(tmp_path).log("run-1", iter(events)):
        pass
    assert curves(tmp_path / "run-1")["classifier-loss/a"] == [(1, at(1), 4.0), (2, at(2), 2.0)]


def test_without_the_package_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"pip install 'fedlmd\[tensorboard\]'"):
        TensorBoard(tmp_path)
