"""The picture of merges."""

import io

import pytest
from PIL import Image

from fedlmd.bench.merge_plot import merge_picture
from fedlmd.bench.merges import CENTRAL, FEDERATIONS, METHODS
from tests.bench.test_merge import ROWS


def test_it_has_room_for_every_merge_and_is_not_blank():
    pytest.importorskip("matplotlib")
    result = {
        "rows": ROWS,
        "federations": {"central": CENTRAL.title, **{name: kind.title for name, kind in FEDERATIONS.items()}},
        "methods": {name: {"title": method.title} for name, method in METHODS.items()},
    }
    few = {**result, "rows": {name: ROWS[name] for name in ("central", "single")}}
    tall, flat = (Image.open(io.BytesIO(merge_picture(of))) for of in (result, few))
    assert tall.height > 2 * flat.height
    assert len(tall.getcolors(maxcolors=1_000_000)) > 50
