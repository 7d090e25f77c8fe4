"""Each kind of event is one sentence, with lines for few workers and counts and means for many."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

import fedlmd
from fedlmd.cli.event_lines import SENTENCES, SHOWN, event_line
from fedlmd.federation.events import RESUMED

ROUND = {"event": "round", "round": 2, "rounds": 6, "seconds": 30.0, "metrics": {}, "refused": []}
METRICS = {"accuracy": 0.5, "classifier-loss": 0.25, "num-examples": 70}
TRAFFIC = {"bytes-down": 2_824_771, "bytes-up": 720_507}


def printed(event):
    """An event as the terminal shows it."""
    text = io.StringIO()
    Console(file=text, highlight=False, soft_wrap=True, emoji=False).print(event_line(event))
    return text.getvalue().removesuffix("\n")


def test_a_round_is_a_line_and_one_for_each_worker_by_name():
    workers = [{"name": "b", "metrics": METRICS}, {"name": "a", "metrics": METRICS}]
    lines = printed({**ROUND, "workers": workers}).splitlines()
    assert lines[0] == "round 2/6  30 s, about 120 s of rounds left, then calibration"
    assert lines[1:] == [f"    {name}: accuracy before 0.5, classifier loss 0.25, images 70" for name in "ab"]


def test_a_round_has_what_a_worker_received_and_sent():
    worker = {"name": "a", "metrics": {**METRICS, **TRAFFIC}}
    line = printed({**ROUND, "workers": [worker]}).splitlines()[1]
    assert line.endswith("images 70, received 2.82 MB, sent 0.72 MB")


def test_few_bytes_are_kilobytes():
    reply = {"asked": 1, "workers": ["a"], "refused": [], "bytes-up": [1_234]}
    line = printed({"event": "calibrating", "step": "moments", **reply})
    assert line.endswith("of the scores from 1 of 1 worker, 1.2 kB received")


def test_the_last_round_says_what_comes_next():
    line = printed({**ROUND, "round": 6, "workers": []})
    assert line == "round 6/6  30 s, the last; calibration comes next"


def test_a_round_counts_the_workers_that_were_refused_or_late():
    worker = {"name": "a", "metrics": METRICS}
    refused = [{"name": "b", "reason": "it holds a NaN"}]
    lines = printed({**ROUND, "asked": 4, "workers": [worker], "refused": refused}).splitlines()
    assert lines[2:] == ["    of 4 workers: 1 refused, 2 did not reply in time"]


def test_a_few_workers_of_a_round_are_named_and_many_are_counted():
    def round_of(count):
        workers = [{"name": f"worker-{number}", "metrics": {**METRICS, **TRAFFIC}} for number in range(count)]
        return {**ROUND, "asked": count, "workers": workers, "metrics": {"accuracy": 0.5, "classifier-loss": 0.25}}

    assert printed(round_of(SHOWN)).count("worker-") == SHOWN
    assert printed(round_of(1000)).splitlines()[1:] == [
        "    1000 of 1000 workers averaged: mean accuracy before 0.5, classifier loss 0.25, images 70000, "
        "each received 2.82 MB, each sent 0.72 MB"
    ]


def test_a_figure_that_is_not_finite_is_named_so():
    worker = {"name": "a", "metrics": {"classifier-loss": None}}
    assert printed({**ROUND, "workers": [worker]}).endswith("a: classifier loss not finite")


REPLIES = {"asked": 3, "workers": ["a", "b"], "refused": [{"name": "c[/]", "reason": "it ran\nout of memory"}]}


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        ({"event": "submitted", "run": "r-1", "rounds": 1}, ["submitted: run r-1, 1 round"]),
        (
            {"event": "submitted", "run": "r-1", "rounds": 6, "workers": 70},
            ["submitted: run r-1, 6 rounds, 70 workers"],
        ),
        (
            {"event": "started", "run": "r-1", "rounds": 6, "pid": 3},
            ["started: 6 rounds of training, then calibration"],
        ),
        (
            {"event": "waiting", "round": 1, "connected": 1, "needed": 2},
            ["waiting for workers before round 1: 1 of 2 are connected"],
        ),
        (
            {"event": "waiting", "connected": 0, "needed": 2},
            ["waiting for workers before the calibration: 0 of 2 are connected"],
        ),
        (
            {"event": "refused", "round": 2, "worker": "a[red]", "reason": "it holds a NaN"},
            ["refused in round 2: a[red]: it holds a NaN"],
        ),
        (
            {"event": "kept", "round": 2, "good": 1, "needed": 2, "asked": 3},
            ["round 2 changed nothing: 1 of 3 workers sent a good update, 2 needed"],
        ),
        (
            {"event": "held", "round": 2, "updates": 3, "bytes": 3_000_000},
            ["held in round 2: 3 updates in memory, 3.00 MB"],
        ),
        (
            {"event": "calibrating", "step": "sums", **REPLIES, "bytes-up": [1_000_000] * 2},
            [
                "calibration, step 1 of 3: sums of each class from 2 of 3 workers, 2.00 MB received",
                r"    refused c[/]: it ran\nout of memory",
            ],
        ),
        (
            {"event": "calibrating", "step": "thresholds", **REPLIES, "refused": [], "bytes-up": []},
            ["calibration, step 3 of 3: quantiles of the scores from 2 of 3 workers"],
        ),
        (
            {"event": "calibrating", "step": "denoiser", **REPLIES, "refused": []},
            ["merging: the denoisers from 2 of 3 workers"],
        ),
        (
            {"event": "installed", "release": "abc", **REPLIES},
            ["installed: release abc at 2 of 3 workers", r"    refused c[/]: it ran\nout of memory"],
        ),
        ({"event": "failed", "reason": "no room", "kind": "OSError"}, ["failed: no room"]),
        ({"event": "stopped", "reason": "the run was stopped"}, ["stopped: the run was stopped"]),
        (
            {"event": "resumed", "round": 2, "rounds": 6, "skipped": ["round-003.safetensors is missing"]},
            ["resumed after round 2 of 6", "    round-003.safetensors is missing"],
        ),
    ],
    ids=lambda part: part["event"] if isinstance(part, dict) else "",
)
def test_each_kind_of_event_is_a_sentence(event, lines):
    assert printed({"time": "t", **event}).splitlines() == lines


FINISHED = {
    "event": "finished",
    "release": "abc",
    "installed": ["a"] * 900,
    "metrics": {"accuracy": 0.98765, "loss": 0.125, "images": 2000, "workers": {"a": {"accuracy": 0.5}}},
}


def test_a_finished_run_has_its_release_and_figures():
    line = "finished: release abc, accuracy 0.9877, loss 0.1250 on 2000 images"
    assert printed(FINISHED) == line
    assert printed({**FINISHED, "workers": 3, "expected": 3}) == line


def test_a_run_that_finished_with_fewer_workers_says_so_in_yellow():
    event = {**FINISHED, "workers": 2, "expected": 3}
    assert printed(event).endswith(" on 2000 images, with 2 of 3 workers")
    assert "[yellow]with 2 of 3 workers[/]" in event_line(event)


def test_many_refused_workers_are_counted_by_reason():
    refused = [{"name": f"w{number}", "reason": "out of memory" if number % 2 else "late"} for number in range(31)]
    event = {"event": "calibrating", "step": "sums", "asked": 100, "workers": ["a"] * 69, "refused": refused}
    assert printed(event).splitlines()[1:] == [
        "    refused 16 workers: late",
        "    refused 15 workers: out of memory",
    ]


def test_an_event_of_an_unknown_kind_or_with_other_fields_shows_what_it_has():
    event = {"time": "t", "event": "merged[b]", "pid": 3, "step": 2, "who": ["a", "b"], "all": [0] * 99, "note": "x\ny"}
    assert printed(event) == r'merged[b]: step 2, who ["a", "b"], all 99 items, note x\ny'
    assert printed({"event": "finished", "release": "abc"}) == "finished: release abc"
    assert printed({"event": "ping"}) == "ping"


def test_an_event_that_brings_its_sentence_shows_that_alone():
    event = {"time": "t", "event": "promise", "sentence": "4.2% of 500 [known] images", "images": 500}
    assert printed(event) == "promise: 4.2% of 500 [known] images"
    notes = {"time": "t", "event": "images", "notes": ["they become [grey]", "they become 28 pixels high"]}
    assert printed(notes) == "images: they become [grey]\n    they become 28 pixels high"


def appended_events():
    """The kinds that the package writes to event logs without sentences in them."""
    for path in Path(fedlmd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append"):
                continue
            keywords = [keyword.arg for keyword in node.keywords]
            if keywords and not {"sentence", "notes"} & {*keywords} and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_every_kind_that_the_package_writes_has_a_sentence():
    assert {*appended_events(), RESUMED} <= set(SENTENCES)
    assert set(SENTENCES) <= {*appended_events(), RESUMED}
