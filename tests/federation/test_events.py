import subprocess
import sys
import threading
import time

import pytest

from fedlmd.federation.events import EventLog, follow_events


def test_events_are_followed_up_to_the_first_final_one(tmp_path):
    log = EventLog(tmp_path)

    def write():
        for event in ("started", "round", "finished", "afterthought"):
            time.sleep(0.05)
            log.append(event, text="ä")

    writer = threading.Thread(target=write)
    writer.start()
    got = [event for event in follow_events(log.path, silence=60, poll=0.01) if event]
    writer.join()
    assert [event["event"] for event in got] == ["started", "round", "finished"]
    assert got[0]["text"] == "ä"
    assert log.final()["event"] == "finished"


def test_silence_yields_none(tmp_path):
    assert next(follow_events(tmp_path / "events.jsonl", silence=0.05, poll=0.01)) is None


def test_an_incomplete_line_is_read_once_it_is_complete(tmp_path):
    log = EventLog(tmp_path)
    log.append("started")
    with log.path.open("a") as file:
        file.write('{"event": "fini')
    follower = follow_events(log.path, silence=0.05, poll=0.01)
    assert next(follower)["event"] == "started"
    assert next(follower) is None
    assert len(log.read()) == 1
    with log.path.open("a") as file:
        file.write('shed"}\n')
    assert next(follower)["event"] == "finished"


def test_the_lock_shows_whether_the_writer_lives(tmp_path):
    log = EventLog(tmp_path)
    assert not log.is_held()
    with log.held():
        assert log.is_held()
        log.append("started")
        assert log.is_held()
    assert not log.is_held()


def test_the_lock_of_a_killed_writer_is_released(tmp_path):
    code = "import sys, time, pathlib; from fedlmd.federation.events import EventLog\n"
    code += "with EventLog(pathlib.Path(sys.argv[1])).held():\n print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline()
        assert EventLog(tmp_path).is_held()
        writer.kill()
    assert not EventLog(tmp_path).is_held()


def test_a_log_that_does_not_exist_has_no_events(tmp_path):
    assert EventLog(tmp_path).read() == []
    assert EventLog(tmp_path).final() is None


def test_a_run_that_was_resumed_is_followed_beyond_its_first_end(tmp_path):
    log = EventLog(tmp_path)
    for event in ("started", "failed", "afterthought", "resumed"):
        log.append(event)
    assert log.final() is None
    assert not log.has_started()
    for event in ("started", "stopped", "failed"):
        log.append(event)
    assert log.final()["event"] == "stopped"
    assert log.has_started()
    assert [event["event"] for event in log.attempt()] == ["resumed", "started", "stopped", "failed"]
    followed = [event["event"] for event in follow_events(log.path, silence=60) if event]
    assert followed == ["started", "failed", "afterthought", "resumed", "started", "stopped"]


def test_an_incomplete_line_of_a_killed_writer_is_cut_off(tmp_path):
    log = EventLog(tmp_path)
    log.mend()
    log.append("started")
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b'{"event": "rou')
    log.mend()
    assert log.path.read_bytes() == whole
    log.mend()
    assert log.path.read_bytes() == whole


def test_a_line_for_which_the_disk_has_no_room_is_not_written_at_all(tmp_path):
    log = EventLog(tmp_path)
    log.append("started")
    whole = log.path.read_bytes()
    code = "import sys, pathlib, resource; from fedlmd.federation.events import EventLog\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    code += "EventLog(pathlib.Path(sys.argv[1])).append('round', notes='x' * 2000)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 28] No space left on device")
    assert log.path.read_bytes() == whole


def test_what_json_or_utf_8_cannot_hold_is_written_as_null_and_as_an_escape(tmp_path):
    log = EventLog(tmp_path)
    log.append("failed", reason="no image at b\udcff.png", metrics={"loss": float("nan"), "rates": [float("inf"), 1.0]})
    assert "NaN" not in log.path.read_text()
    [event] = log.read()
    assert event["metrics"] == {"loss": None, "rates": [None, 1.0]}
    assert event["reason"] == "no image at b\udcff.png"


NEWLINES = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj\nk"


def test_a_text_with_any_kind_of_newline_is_one_event(tmp_path):
    log = EventLog(tmp_path)
    log.append("failed", reason=NEWLINES, worker="\ud800 \U0001f600")
    assert log.path.read_bytes().isascii()
    assert log.path.read_bytes().count(b"\n") == 1
    [event], [followed] = log.read(), list(follow_events(log.path, silence=60))
    assert event == followed
    assert (event["reason"], event["worker"]) == (NEWLINES, "\ud800 \U0001f600")


@pytest.mark.parametrize(
    "line", [b"no JSON", b"\xff\xfe", b"", b"[1]", b"null", b'{"time": 1}', b'{"event": 3}', b"[" * 100_000]
)
def test_a_line_that_is_no_event_is_damaged_and_the_others_are_read(tmp_path, line):
    log = EventLog(tmp_path)
    log.append("started")
    with log.path.open("ab") as file:
        file.write(line + b"\n")
    log.append("finished")
    for events in (log.read(), list(follow_events(log.path, silence=60))):
        assert [event["event"] for event in events] == ["started", "damaged", "finished"]
        assert events[1]["bytes"] == len(line) + 1
    assert log.final()["event"] == "finished"


def test_long_texts_are_cut_off(tmp_path):
    log = EventLog(tmp_path)
    refused = [{"name": "w" * 101, "reason": "r" * 501}]
    log.append("calibrating", refused=refused, notes=["n" * 5_000], workers=["w" * 100])
    [event] = log.read()
    assert event["refused"] == [{"name": "w" * 99 + "…", "reason": "r" * 499 + "…"}]
    assert len(event["notes"][0]) == 4_000
    assert event["workers"] == ["w" * 100]
