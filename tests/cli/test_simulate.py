from fedlmd.cli.simulate import SHOWN, short_line


def round_of(count):
    workers = [{"name": f"worker-{number}", "metrics": {"accuracy": 0.5}} for number in range(count)]
    metrics = {"accuracy": 0.5}
    return {
        "event": "round",
        "round": 1,
        "rounds": 2,
        "seconds": 3.0,
        "asked": count,
        "workers": workers,
        "refused": [],
        "metrics": metrics,
    }


def test_a_few_workers_are_named_and_many_are_counted():
    assert short_line(round_of(SHOWN)).count("worker-") == SHOWN
    line = short_line(round_of(1000))
    assert "1000 of 1000 workers averaged; mean accuracy 0.5" in line
    assert "worker-" not in line


def test_the_names_of_many_workers_are_left_out_of_every_other_event():
    answered = {"event": "calibrating", "step": "sums", "workers": ["a"] * 100, "refused": [{"name": "b"}]}
    assert short_line(answered) == '[bold]calibrating[/] {"step": "sums", "workers": "100 of them", "refused": 1}'
    finished = {"event": "finished", "release": "abc", "metrics": {"accuracy": 0.5, "workers": {"a": {}}}}
    assert short_line(finished) == '[bold]finished[/] {"release": "abc", "metrics": {"accuracy": 0.5}}'
