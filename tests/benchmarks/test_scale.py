"""What the scale benchmark measures, on few workers; and the figures that docs/million-clients.md computes with."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quickstart, scale
from benchmarks.markdown import overhead_table, scale_table
from benchmarks.plots import memory_picture
from benchmarks.scale import ScaleBench, figures_of, measure
from fedlmd.calibration import LEVELS
from fedlmd.calibration.class_gaussians import sums_by_class
from fedlmd.federation.compression import quantise
from fedlmd.federation.messages import wire_size
from fedlmd.models.networks import build
from fedlmd.progress import drain
from fedlmd.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "million-clients.md"

MEASURED = {
    "memory": {
        "fedavg": [
            {"workers": 10, "rss_mib": 200.0, "allocated_mib": 50.0},
            {"workers": 1000, "rss_mib": 210.0, "allocated_mib": 55.0},
        ],
        "flower": [
            {"workers": 10, "rss_mib": 200.0, "allocated_mib": 40.0},
            {"workers": 1000, "rss_mib": 3000.0, "allocated_mib": 2800.0},
        ],
        "median": [{"workers": 10, "rss_mib": 250.0, "allocated_mib": 120.0}],
    },
    "simulation": {"workers": 1000, "averaged": 1000, "actors": 2, "seconds": 321.5},
    "overhead": {
        "ours": [9.0, 4.0, 5.0, 4.5],
        "quickstart": [20.0, 12.0, 14.0, 13.0],
        "quickstart_train_only": [9.0, 7.0],
    },
}


def test_the_figures_are_ratios_and_medians_without_the_first_round():
    assert figures_of(MEASURED) == {
        "memory_ratio_1000_over_10": 1.05,
        "memory_ratio_1000_over_10_allocated": 1.1,
        "memory_ratio_1000_over_10_flower": 15.0,
        "memory_ratio_1000_over_10_flower_allocated": 70.0,
        "seconds_1000_workers_round": 321.5,
        "round_overhead_seconds": 4.5,
        "round_overhead_flower_quickstart_seconds": 13.0,
        "round_overhead_flower_quickstart_train_only_seconds": 7.0,
    }


def test_the_tables_have_a_row_for_each_server_and_round_and_a_blank_where_nothing_was_measured():
    result = {"scale": {**MEASURED, "figures": figures_of(MEASURED)}}
    text = scale_table(result)
    assert "| memory of the server's process | 10 workers | 1,000 workers |" in text
    assert "| Flower's FedAvg | 200 MiB | 3,000 MiB |" in text
    assert "| our server, median | 250 MiB |  |" in text
    text = overhead_table(result)
    assert "| Flower's quickstart, training and evaluation | 13.0 s |" in text
    assert "| 1,000 simulated workers, 2 at a time, one step of each network | 322 s |" in text


def test_the_picture_is_a_png():
    pytest.importorskip("matplotlib")
    assert memory_picture(MEASURED["memory"]).startswith(b"\x89PNG")


def test_a_part_that_was_measured_is_not_measured_again(tmp_path):
    (tmp_path / "memory.json").write_text(json.dumps(MEASURED["memory"]))
    result = drain(measure(ScaleBench(tmp_path, parts=("memory",))))
    assert result["figures"]["memory_ratio_1000_over_10"] == 1.05
    assert result["command"] == "python -m benchmarks scale"


@pytest.mark.slow
def test_flowers_quickstart_goes_through_its_rounds(tmp_path):
    seconds = list(quickstart.seconds_of_rounds(tmp_path / "q", evaluating=False))
    assert len(seconds) == quickstart.ROUNDS
    assert min(seconds) > 0.5


def figure(words):
    """The number before some words of the page."""
    found = re.search(rf"([\d.,]*\d) {words}", " ".join(PAGE.read_text(encoding="utf-8").split()))
    assert found, words
    return float(found[1].replace(",", ""))


def test_the_page_on_a_million_clients_computes_with_the_sizes_of_this_model():
    weights = build(Settings().networks).weights()
    assert figure("weights in 83 arrays") == sum(array.size for array in weights.values())
    assert len(weights) == 83
    whole, small = (sum(array.nbytes for array in arrays.values()) for arrays in (weights, quantise(weights)))
    assert (figure("bytes as float32"), figure("bytes in 8 bits")) == (whole, small)
    models = Settings().models.chosen(latents=False)
    embedding = np.zeros((1, models.views * models.classifier[-1]))
    sums = sums_by_class(embedding, np.zeros(1, np.int64), 10)
    assert figure("bytes of sums") == sum(array.nbytes for array in sums.values())
    scores = ("max-logit", "mahalanobis", "one-step", "lmd", "verdict", "class")
    sketch = wire_size({name: {"count": 500, "values": [0.5] * len(LEVELS)} for name in scores})
    assert figure("bytes of sketches") == sketch


def test_the_page_on_a_million_clients_adds_up():
    harmonic = np.cumsum(1 / np.arange(1, 1301))
    assert figure("times the mean when all 1,000") == round(harmonic[999], 2)
    assert figure("times the mean when the first 1,000") == round(harmonic[1299] - harmonic[299], 2)
    assert figure("% of all clients take part") == round(100 * (1 - 0.999**60), 1)
    assert figure("bits for the sum of 1,000") == 8 + math.ceil(math.log2(1000))
    assert figure("GB in 8 bits from 1,000") == round(1000 * figure("bytes in 8 bits") / 1e9, 2)
    assert scale.WORKERS[-1] == 1000


def test_the_page_on_a_million_clients_has_the_figures_that_were_measured():
    rows = json.loads((PAGE.parents[1] / "benchmarks" / "results" / "scale.json").read_text(encoding="utf-8"))["memory"]
    ours, flowers = ({int(row["workers"]): row for row in rows[name]} for name in ("fedavg", "flower"))
    assert figure("MiB at most for 1,000 updates") == round(ours[1000]["rss_mib"])
    assert figure("MiB for ten") == round(ours[10]["rss_mib"])
    assert figure("MiB; it takes") == round(flowers[1000]["rss_mib"])
    assert figure("ms an update") == round(ours[1000]["seconds"])
