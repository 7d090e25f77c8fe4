"""The merge benchmark: small runs end with the result that JSON and the README's table take."""

import json
from dataclasses import replace

import pytest

from benchmarks import federated, merge
from benchmarks.markdown import merge_table
from benchmarks.merge import MergeBench, figures_of, measure
from benchmarks.merges import CENTRAL, FEDERATIONS, METHODS, Budget
from fedlmd.data import load, some
from fedlmd.models import ModelConfig
from fedlmd.progress import Progress, drain


def row(one_step, lmd, bytes_up=8e6, **more):
    return {
        "auroc_one_step": one_step,
        "auroc_lmd": lmd,
        "auroc_verdict": 0.99,
        "accuracy": 0.9,
        "bytes_up": bytes_up,
        **more,
    }


ROWS = {
    "central": {"fedavg": row(0.97, 0.95)},
    "overlapping": {
        "fedavg": row(0.96, 0.93),
        "fedprox": row(0.95, 0.94),
        "8-bit": row(0.955, 0.94, 2e6),
        "4-bit": row(0.953, 0.94, 1e6),
        "average-own": row(0.6, 0.5),
        "mixture": row(0.965, 0.9),
        "union": row(0.94, 0.95),
    },
    "disjoint": {
        "fedavg": row(0.9, 0.9),
        "fedprox": row(0.94, 0.9),
        "8-bit": row(0.91, 0.9, 1e6),
        "4-bit": row(0.91, 0.9, 5e5),
        "average-own": row(0.7, 0.4),
        "mixture": row(0.95, 0.9),
        "union": row(0.93, 0.9),
    },
    "single": {"fedavg": row(0.8, 0.9), "mixture": row(0.91, 0.9)},
}


MERGES = {
    "rows": ROWS,
    "federations": {"central": CENTRAL.title, **{name: kind.title for name, kind in FEDERATIONS.items()}},
    "methods": {name: {"title": method.title} for name, method in METHODS.items()},
}
"""What such a measurement writes."""


def test_gaps_are_those_of_the_method_that_is_best_where_it_is_worst():
    figures = figures_of(ROWS)
    assert (figures["best_two_sites"], figures["best_one_shot"]) == ("fedprox", "mixture")
    assert figures["auroc_gap_two_sites"] == pytest.approx(0.97 - 0.94)
    assert figures["auroc_gap_one_shot"] == pytest.approx(0.97 - 0.95)
    assert figures["auroc_plain_averaging"] == 0.6
    assert figures["auroc_plain_averaging_lmd"] == 0.4
    assert figures["auroc_loss_8_bit"] == pytest.approx(0.005)
    assert figures["auroc_loss_compressed"] == pytest.approx(0.007)
    assert (figures["bytes_ratio"], figures["bytes_ratio_8_bit"]) == (pytest.approx(8.0), pytest.approx(4.0))
    assert (figures["best_single"], figures["auroc_gap_single"]) == ("mixture", pytest.approx(0.06))


def test_a_part_of_the_federations_gives_a_part_of_the_figures():
    figures = figures_of({"central": ROWS["central"], "single": ROWS["single"]})
    assert "auroc_gap_two_sites" not in figures
    assert figures["auroc_central"] == 0.97


def test_an_unknown_federation_is_refused_by_name():
    with pytest.raises(ValueError, match="there is no federation 'mars'"):
        MergeBench(federations=("mars",))
    with pytest.raises(ValueError, match="there is no method 'magic'; there are fedavg, "):
        MergeBench(methods=("fedavg", "magic"))


def test_a_part_of_the_methods_is_measured_where_a_federation_has_them():
    some = MergeBench(federations=("overlapping",), methods=("union", "fedavg", "krum"))
    assert some.chosen(FEDERATIONS["overlapping"]) == ["fedavg", "union"]
    assert MergeBench().chosen(FEDERATIONS["overlapping"]) == list(FEDERATIONS["overlapping"].methods)
    assert merge.command_of(some) == (
        "python -m benchmarks merge --federation overlapping --method union --method fedavg --method krum"
    )
    assert merge.command_of(MergeBench()) == "python -m benchmarks merge"


@pytest.fixture
def small(monkeypatch):
    """A federation of two workers with few images and two methods, in a few steps of small networks."""
    kind = replace(FEDERATIONS["disjoint"], rounds=1, methods=("fedavg", "mixture"))
    monkeypatch.setitem(merge.FEDERATIONS, "single", kind)
    monkeypatch.setattr(federated, "load_few", lambda source, split, **form: some(load(source, split, **form), 1000))
    models = ModelConfig((8, 16), (8, 16), views=1)
    return MergeBench(Budget(8, 8, 40, models=models), ("single",), sample=10, expensive=2)


def test_a_measurement_can_be_stopped_and_goes_on_and_ends_with_a_result(small, tmp_path):
    steps = measure(small, tmp_path)
    for step in steps:
        assert isinstance(step, Progress)
        if (tmp_path / "single" / "fedavg" / "figures.json").exists():
            break
    steps.close()
    stored = (tmp_path / "single" / "fedavg" / "figures.json").read_bytes()
    result = drain(measure(small, tmp_path))
    assert (tmp_path / "single" / "fedavg" / "figures.json").read_bytes() == stored
    result = json.loads(json.dumps(result))
    assert result["command"] == "python -m benchmarks merge --federation single"
    rows = result["rows"]["single"]
    assert rows.keys() == {"fedavg", "mixture"}
    for measured in rows.values():
        assert all(0 <= measured[name] <= 1 for name in measured if name.startswith(("auroc_", "unknown_")))
    # With a single round either sends the classifier twice and the denoiser once.
    assert rows["mixture"]["bytes_up"] == pytest.approx(rows["fedavg"]["bytes_up"], rel=0.01)
    table = merge_table({"merge": result})
    assert table.count("\n") == 2 + 3
    assert "| mixture |" in table
