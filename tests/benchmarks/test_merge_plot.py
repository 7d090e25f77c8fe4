"""The picture of merges."""

import io

import pytest
from PIL import Image

from benchmarks.merge_plot import merge_picture
from tests.benchmarks.test_merge import MERGES, ROWS


def test_it_has_room_for_every_merge_and_is_not_blank():
    pytest.importorskip("matplotlib")
    few = {**MERGES, "rows": {name: ROWS[name] for name in ("central", "single")}}
    tall, flat = (Image.open(io.BytesIO(merge_picture(result))) for result in (MERGES, few))
    assert tall.height > 2 * flat.height
    assert len(tall.getcolors(maxcolors=1_000_000)) > 50
