import json
from datetime import UTC, datetime

import pytest

from fedlmd.calibration.repeats import IN_A_ROW, MOST, WINDOW, Repeats, RepeatsWatch

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def observe(watch, images, seen=()):
    """Observe images, each a letter or a number; returns the numbers of those that raised an alarm."""
    known, raised = set(seen), []
    for number, image in enumerate(images, 1):
        if watch.observe(str(image).encode(), NOW, repeated=image in known):
            raised.append(number)
        known.add(image)
    return raised


def test_a_watch_that_has_seen_nothing_reports_nothing():
    assert RepeatsWatch().report() == Repeats(0, 0, 0.0, None)


def test_identical_images_in_a_row_raise_one_alarm():
    watch = RepeatsWatch()
    assert observe(watch, ["a", *["b"] * 150]) == [1 + IN_A_ROW]
    report = watch.report()
    assert (report.images, report.in_a_row, report.share) == (151, 150, 1.0)
    assert (report.alarm.image, report.alarm.in_a_row, report.alarm.time) == (21, 20, NOW)


def test_one_identical_image_less_raises_none():
    watch = RepeatsWatch()
    assert observe(watch, [*["a"] * (IN_A_ROW - 1), "b", *["a"] * (IN_A_ROW - 1)]) == []
    assert watch.report().in_a_row == IN_A_ROW - 1


@pytest.mark.parametrize("length", [2, 10, 40])
def test_a_loop_of_images_raises_an_alarm_when_more_than_half_of_the_window_are_repeats(length):
    watch = RepeatsWatch()
    assert observe(watch, [number % length for number in range(300)]) == [length + MOST + 1]


def test_a_loop_of_five_hundred_images_is_noticed_when_it_comes_again():
    assert observe(RepeatsWatch(), [number % 500 for number in range(1000)]) == [500 + MOST + 1]


def test_every_image_twice_is_half_of_all_and_no_alarm():
    watch = RepeatsWatch()
    assert observe(watch, [number // 2 for number in range(1000)]) == []
    assert (watch.report().share, watch.report().in_a_row) == (0.5, 2)


def test_the_share_is_that_of_the_latest_predictions():
    watch = RepeatsWatch()
    observe(watch, ["a"] * 10)
    assert watch.report().share == 0.9
    observe(watch, range(WINDOW))
    assert watch.report().share == 0.0


@pytest.mark.parametrize("images", [0, 15, 40])
def test_a_watch_goes_on_from_its_json_but_for_the_last_image(images):
    before = RepeatsWatch()
    observe(before, ["a"] * images)
    text = json.dumps(before.to_json(), allow_nan=False)
    after = RepeatsWatch.from_json(json.loads(text))
    assert after.report() == before.report()
    observe(after, ["a"])
    assert after.report().in_a_row == 1
    assert after.report().images == images + 1
