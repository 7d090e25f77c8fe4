import json
from dataclasses import asdict, replace

import pytest

from fedlmd.federation.announcement import LARGEST, Announcement, AnnouncementError, name_problem

PLAIN = Announcement("ward-7", "5f0c", "0.1.0", "1.42.0", 1_790_000_000.5)
FULL = replace(
    PLAIN,
    name="Krankenhaus Süd, 7",
    labels={"Häuser": 3, "猫": 0},
    images={"sizes": [[28, 28]], "depth": {"bits": 8, "share": 0.5}},
    problem="it holds no image",
    doing={"stage": "classifier", "done": 3, "total": 10},
    leaving=True,
)


@pytest.mark.parametrize("sent", [PLAIN, FULL, replace(PLAIN, labels=("cat", "dog"))])
def test_an_announcement_is_read_as_it_was_written(sent):
    assert Announcement.from_json(sent.to_json()) == sent


def changed(**fields):
    return json.dumps({**asdict(PLAIN), **fields}).encode()


def nested(depth):
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is JSON in UTF-8"),
        (b"\xff\xfe", "is JSON in UTF-8"),
        (b"{", "is JSON in UTF-8"),
        (b"[" * 100_000, "is JSON in UTF-8"),
        (b'{"a":' * 50_000, "is JSON in UTF-8"),
        (b"9" * 10_000, "is JSON in UTF-8"),
        (b"[]", "is a JSON object"),
        (b"null", "is a JSON object"),
        (b" " * (LARGEST + 1), "at most 262,144 bytes"),
        (b"{}", "lacks 'clock'; its fields are name, instance"),
        (changed(more=1), "has the unknown field 'more'"),
        (changed(name=7), "'name' is a text of 1 to 100 characters"),
        (changed(name="x" * 101), "'name' is a text of 1 to 100 characters"),
        (changed(name=""), "'name' is a text of 1 to 100 characters"),
        (changed(name="\ud800"), "is JSON in UTF-8"),
        (changed(instance=None), "'instance' is a text"),
        (changed(version=["0.1.0"]), "'version' is a text"),
        (changed(clock="now"), "'clock' is a number of seconds"),
        (changed(clock=True), "'clock' is a number of seconds"),
        (changed(clock=-1), "'clock' is a number of seconds"),
        (changed(clock=10**400), "'clock' is a number of seconds"),
        (changed(clock=float("nan")), "is JSON in UTF-8"),
        (changed(clock=float("inf")), "is JSON in UTF-8"),
        (b'{"clock": 1e999}', "is JSON in UTF-8 with finite numbers"),
        (changed(labels="cat"), "'labels' is null, a list of labels or an object"),
        (changed(labels=[1]), "a label being a text of 1 to 255 characters"),
        (changed(labels=[["cat"]]), "a label being a text of 1 to 255 characters"),
        (changed(labels=["x" * 256]), "a label being a text of 1 to 255 characters"),
        (changed(labels={"cat": "3"}), "'labels' is null, a list of labels or an object"),
        (changed(labels={"cat": -1}), "'labels' is null, a list of labels or an object"),
        (changed(labels={"cat": 1.5}), "'labels' is null, a list of labels or an object"),
        (changed(labels={"cat": True}), "'labels' is null, a list of labels or an object"),
        (changed(labels={"cat": 10**300}), "'labels' is null, a list of labels or an object"),
        (changed(labels=[str(i) for i in range(10_001)]), "10,000 at most"),
        (changed(images=[]), "'images' is null or an object"),
        (changed(images=nested(8)), "nested at most 8 levels deep"),
        (changed(images=nested(900)), "nested at most 8 levels deep"),
        (
            changed(images={"a": "x" * 5_000}),
            "'images' is null or an object, nested at most 8 levels deep, of at most 4,096 bytes",
        ),
        (changed(images={"a": "\udfff"}), "is JSON in UTF-8"),
        (changed(problem=0), "'problem' is null or a text"),
        (changed(problem="x" * 1001), "'problem' is null or a text of 1 to 1000 characters"),
        (changed(doing="training"), "'doing' is null or an object of stage, done and total"),
        (changed(doing={"stage": "a", "done": 1}), "'doing' is null or an object of stage, done and total"),
        (changed(doing={"stage": "a", "done": [1], "total": 2}), "'doing' is null or an object of stage"),
        (changed(doing={"stage": {}, "done": 1, "total": 2}), "'doing' is null or an object"),
        (changed(leaving=1), "'leaving' is true or false"),
    ],
    ids=range(46),
)
def test_an_announcement_of_another_form_is_refused_in_one_sentence(data, words):
    with pytest.raises(AnnouncementError) as refused:
        Announcement.from_json(data)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_that_no_float_holds_is_refused(number):
    data = changed(images={"a": 1.5}).replace(b"1.5", number.encode())
    with pytest.raises(AnnouncementError, match="is JSON in UTF-8 with finite numbers"):
        Announcement.from_json(data)


def test_a_sentence_of_the_worker_that_cannot_be_written_is_replaced_not_raised():
    assert Announcement.from_json(replace(PLAIN, problem="no file \udcff").to_json()).problem == "no file ?"


@pytest.mark.parametrize("name", ["client1", "Krankenhaus Süd, 7", "猫" * 100])
def test_most_names_can_be_had(name):
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ('a "b"', "without quotation marks"),
        ("a\\b", "without quotation marks"),
        ("", "1 to 100 printable"),
        ("  ", "1 to 100 printable"),
        ("a\nb", "1 to 100 printable"),
        ("a\u2028b", "1 to 100 printable"),
        ("\ud800", "1 to 100 printable"),
        ("x" * 101, "1 to 100 printable"),
    ],
)
def test_a_name_that_cannot_be_shown_or_passed_on_is_refused(name, words):
    assert words in name_problem(name)
