import json
import logging
import threading

import numpy as np
import pytest

from fedlmd.node.drift import REMEMBERED, PersistentDriftWatch

ONE, OTHER = "aaaabbbbcccc", "ddddeeeeffff"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "drift.json"


def observe(watch, p_values, release=ONE, first=0):
    """Observe distinct images, each given by its number."""
    for number, p in enumerate(p_values, first):
        watch.observe(release, 500, float(p), str(number).encode())


def test_a_node_without_a_file_begins_without_a_warning(path, caplog):
    watch = PersistentDriftWatch(path)
    assert watch.look(ONE) is None
    watch.save()
    assert not path.exists()
    assert caplog.text == ""


def test_a_restart_goes_on_where_the_file_left_off(path):
    before = PersistentDriftWatch(path)
    observe(before, np.random.default_rng(0).random(300))
    before.save()
    after = PersistentDriftWatch(path)
    assert after.look(ONE) == before.look(ONE)
    assert after.look(ONE).images == 300
    observe(after, [0.002] * 30, first=300)
    report = after.look(ONE)
    assert report.state == "drifting"
    assert report.alarm.since in range(295, 302)


def test_an_alarm_is_in_the_file_and_in_the_log_before_the_response(path, caplog):
    watch = PersistentDriftWatch(path, every=1e9)
    observe(watch, [0.5] * 10)
    observe(watch, [0.002] * 10, first=10)
    assert json.loads(path.read_text())["alarm"]["since"] == 11
    assert PersistentDriftWatch(path).look(ONE).state == "drifting"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"release {ONE} can account for, since about image 11" in record.getMessage()


def test_the_file_is_written_now_and_then_not_at_every_image(path):
    watch = PersistentDriftWatch(path, every=1e9)
    observe(watch, [0.5] * 10)
    assert sum(json.loads(path.read_text())["cells"]) == 1
    watch.every = 0.0
    observe(watch, [0.5], first=10)
    assert sum(json.loads(path.read_text())["cells"]) == 11


def test_another_release_begins_another_watch(path):
    watch = PersistentDriftWatch(path)
    observe(watch, [0.002] * 30)
    assert watch.look(ONE).state == "drifting"
    assert watch.look(OTHER) is None
    observe(watch, [0.5], release=OTHER)
    assert (watch.look(OTHER).state, watch.look(OTHER).images, watch.look(OTHER).alarms) == ("steady", 1, 0)
    assert PersistentDriftWatch(path).look(ONE) is None


def test_a_reset_is_kept(path):
    watch = PersistentDriftWatch(path)
    observe(watch, [0.002] * 30)
    assert watch.reset(ONE, 500).state == "steady"
    again = PersistentDriftWatch(path).look(ONE)
    assert (again.state, again.images, again.alarms) == ("steady", 0, 1)


def test_an_image_that_came_lately_does_not_count_again(path):
    watch = PersistentDriftWatch(path)
    for _ in range(50):
        watch.observe(ONE, 500, 1 / 501, b"the same")
    assert (watch.look(ONE).images, watch.look(ONE).alarm) == (1, None)
    observe(watch, [0.5] * REMEMBERED)
    watch.observe(ONE, 500, 1 / 501, b"the same")
    assert watch.look(ONE).images == REMEMBERED + 2
    assert len(watch.digests) == REMEMBERED


def send(watch, *images, release=ONE):
    for image in images:
        watch.observe(release, 500, 0.5, image)


def test_a_frozen_camera_raises_an_alarm_once_though_the_drift_test_stays_steady(path, caplog):
    watch = PersistentDriftWatch(path, every=1e9)
    observe(watch, [0.5] * 5)
    send(watch, *[b"stuck"] * 19)
    assert watch.look(ONE).state == "steady"
    assert caplog.records == []
    send(watch, *[b"stuck"] * 131)
    report = watch.look(ONE)
    assert (report.state, report.alarm, report.images) == ("repeating", None, 6)
    assert (report.repeats.images, report.repeats.in_a_row, report.repeats.share) == (155, 150, 1.0)
    assert (report.repeats.alarm.image, report.repeats.alarm.in_a_row) == (25, 20)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "20 identical ones in a row" in record.getMessage()
    assert "is the camera stuck" in record.getMessage()


def test_a_recording_that_is_played_again_and_again_raises_an_alarm(path, caplog):
    watch = PersistentDriftWatch(path)
    send(watch, *[str(number % 10).encode() for number in range(60)])
    assert watch.look(ONE).state == "steady"
    send(watch, b"0")
    report = watch.look(ONE)
    assert (report.state, report.images, report.repeats.in_a_row) == ("repeating", 10, 1)
    assert report.repeats.alarm.image == 61
    assert len(caplog.records) == 1


def test_an_alarm_of_repeats_is_kept_over_a_restart_and_stays_until_a_reset(path):
    watch = PersistentDriftWatch(path, every=1e9)
    send(watch, *[b"stuck"] * 30)
    watch.save()
    again = PersistentDriftWatch(path)
    assert again.look(ONE) == watch.look(ONE)
    observe(again, [0.5] * 200)
    assert (again.look(ONE).state, again.look(ONE).repeats.in_a_row) == ("repeating", 1)
    anew = again.reset(ONE, 500)
    assert (anew.state, anew.repeats.images, anew.repeats.share, anew.repeats.alarm) == ("steady", 0, 0.0, None)
    send(again, *[b"stuck"] * 20)
    assert again.look(ONE).state == "repeating"


def test_an_alarm_of_repeats_is_in_the_file_before_the_response(path):
    watch = PersistentDriftWatch(path, every=1e9)
    send(watch, *[b"stuck"] * 20)
    assert json.loads(path.read_text())["repeats"]["alarm"]["image"] == 20


def test_repeats_do_not_raise_an_alarm_for_another_release(path):
    watch = PersistentDriftWatch(path)
    send(watch, *[b"stuck"] * 30)
    send(watch, *[b"stuck"] * 10, release=OTHER)
    assert (watch.look(OTHER).state, watch.look(OTHER).repeats.in_a_row) == ("steady", 10)


def test_drift_goes_before_repeats(path):
    watch = PersistentDriftWatch(path)
    send(watch, *[b"stuck"] * 30)
    observe(watch, [0.002] * 30)
    report = watch.look(ONE)
    assert report.state == "drifting"
    assert report.repeats.alarm is not None


def test_the_file_of_an_earlier_version_is_read_without_repeats(path):
    watch = PersistentDriftWatch(path)
    observe(watch, [0.5] * 10)
    watch.save()
    kept = json.loads(path.read_text())
    del kept["repeats"]
    path.write_text(json.dumps(kept))
    report = PersistentDriftWatch(path).look(ONE)
    assert (report.images, report.repeats.images) == (10, 0)


def test_no_image_and_no_digest_is_in_the_file(path):
    watch = PersistentDriftWatch(path)
    watch.observe(ONE, 500, 0.5, b"a secret picture")
    watch.save()
    [digest] = watch.digests
    text = path.read_text()
    assert "secret" not in text
    assert digest.hex() not in text


def test_images_from_many_threads_all_count(path):
    watch = PersistentDriftWatch(path, every=0.0)

    def observe_some(thread):
        for number in range(25):
            watch.observe(ONE, 500, 0.5, f"{thread} {number}".encode())

    threads = [threading.Thread(target=observe_some, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.look(ONE).images == 200
    assert PersistentDriftWatch(path).look(ONE).images == 200
    assert [file.name for file in path.parent.iterdir()] == ["drift.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", '{"format": 1}', "\0" * 100, "[" * 100_000, '{"format": 2, "release": "a"}'],
    ids=["empty", "torn", "null", "parts missing", "zeros", "deep", "of a later version"],
)
def test_a_damaged_file_is_named_in_the_log_and_a_fresh_watch_begins(path, text, caplog):
    path.write_text(text)
    watch = PersistentDriftWatch(path)
    [record] = caplog.records
    assert str(path) in record.getMessage()
    assert "the watch begins anew" in record.getMessage()
    observe(watch, [0.5] * 3)
    watch.save()
    assert PersistentDriftWatch(path).look(ONE).images == 3
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_written_stops_no_prediction(tmp_path, caplog):
    watch = PersistentDriftWatch(tmp_path / "gone" / "drift.json", every=0.0)
    observe(watch, [0.5] * 3)
    assert watch.look(ONE).images == 3
    assert "cannot be written" in caplog.text
