"""Coloured shapes as image files: a source that networks learn in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square", "triangle")


def shape(kind, seed, side=24):
    """A picture of one shape, its place, size and colour by the seed."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), "black")
    radius = int(rng.integers(side // 5, side // 3))
    x, y = rng.integers(radius + 1, side - radius - 1, size=2).tolist()
    colour = tuple(rng.integers(120, 256, size=3).tolist())
    left, top, right, bottom = x - radius, y - radius, x + radius, y + radius
    draw = ImageDraw.Draw(picture)
    if kind == "circle":
        draw.ellipse((left, top, right, bottom), colour)
    elif kind == "square":
        draw.rectangle((left, top, right, bottom), colour)
    elif kind == "triangle":
        draw.polygon(((x, top), (left, bottom), (right, bottom)), colour)
    else:
        draw.line((left, top, right, bottom), colour, 3)
        draw.line((left, bottom, right, top), colour, 3)
    return picture


def write_shapes(folder: Path, each: int, kinds=SHAPES) -> Path:
    """Write as many files of each shape into a folder of its name, no file as another; returns the folder."""
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True)
        for index in range(each):
            shape(kind, [number, index]).save(folder / kind / f"{index:03d}.png")
    return folder
