import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.plots import PlotError, apart, cost_picture, figure, rates_picture, roc, roc_picture
from fedlmd.detection import separation


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    names = {"verdict": 3.0, "lmd": 1.0, "max-logit": 2.0}
    return {
        name: (torch.randn(80, generator=generator), shift + torch.randn(60, generator=generator))
        for name, shift in names.items()
    }


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


def test_a_roc_curve_goes_through_the_points_drawn_by_hand():
    false, true = roc(torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 5.0]))
    assert false.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0][: len(false)]
    assert true.tolist() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0, 1.0])


def test_the_area_under_a_roc_curve_is_the_auroc(scores):
    for known, unknown in scores.values():
        false, true = roc(known.round(decimals=1), unknown.round(decimals=1))
        area = separation(known.round(decimals=1), unknown.round(decimals=1)).auroc
        assert np.trapezoid(true, false) == pytest.approx(area)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_names_that_meet_are_moved_apart_in_their_order():
    boxes = [(0.0, 0.0, 50.0, 10.0), (0.0, 2.0, 50.0, 12.0), (0.0, 3.0, 50.0, 13.0), (200.0, 2.0, 250.0, 12.0)]
    moves = apart(boxes, [], -100.0, 100.0)
    placed = [(box[1] + move, box[3] + move) for box, move in zip(boxes, moves, strict=True)]
    assert placed[0][1] <= placed[1][0] + 0.5
    assert placed[1][1] <= placed[2][0] + 0.5
    assert moves[3] == 0


def test_names_leave_marks_free_and_stay_in_the_frame():
    [move] = apart([(0.0, 0.0, 50.0, 10.0)], [(20.0, 6.0, 30.0, 16.0)], -100.0, 100.0)
    assert 10 + move <= 6.5
    [move] = apart([(0.0, -5.0, 50.0, 5.0)], [], 0.0, 100.0)
    assert move == 5


def test_pictures_without_the_extra_are_refused_with_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'fedlmd\[bench\]'"):
        figure(1.0, 1.0)


def test_roc_curves_are_drawn(scores):
    pytest.importorskip("matplotlib")
    assert size(roc_picture("Digits", scores)) == (1600, 704)
    # Without the emphasised one, and with one alone.
    assert size(roc_picture("Digits", {"lmd": scores["lmd"]})) == (1600, 704)


def test_detection_against_cost_is_drawn_even_for_a_perfect_detector():
    pytest.importorskip("matplotlib")
    points = {"verdict": (0.4, 1.0), "lmd": (5.0, 0.9), "energy": (0.01, 0.95), "max-logit": (0.01, 0.95)}
    assert size(cost_picture("Digits", points)) == (1280, 800)
    assert size(cost_picture("Digits", {"verdict": (0.4, 0.3)})) == (1280, 800)


def test_false_alarms_are_drawn_for_every_kind_of_federation():
    pytest.importorskip("matplotlib")
    workers = [{"rate": 0.05 + i / 100, "low": 0.04, "high": 0.06} for i in range(5)]
    kind = {"title": "alike", "rates": {mode: {"0.05": {"workers": workers}} for mode in ("pooled", "own", "shrunk")}}
    wide, narrow = (size(rates_picture(of, 0.05)) for of in ({"a": kind, "b": kind}, {"a": kind}))
    assert narrow == (624, 576)
    assert wide == (1120, 576)
