"""The folder of an exported release: the graph, model.json with what goes around it, and how to run both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from fedlmd.calibration import Reference
from fedlmd.data import to_unit_range
from fedlmd.inference.onnx.graph import (
    IMAGES,
    IS_OOD,
    OPSET,
    PROBABILITIES,
    OnnxError,
    graph_of,
    output_names,
    parts_of_verdict,
)
from fedlmd.inference.onnx.runtime import TOLERANCE, largest_difference, outputs_of, run_graph
from fedlmd.inference.predictor import Predictor
from fedlmd.release import LOGITS, VERDICT, finite, patterns
from fedlmd.release.self_test import RECIPE

MODEL, ABOUT, README = "model.onnx", "model.json", "README.md"
NAMES = (MODEL, ABOUT, README)
"""The files of the folder."""

FORMAT = 1

ALPHAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""False-alarm rates of which model.json has the thresholds; every other one follows from its points and tails."""

DESCRIPTIONS = {
    LOGITS: "of each label, in the order of labels",
    PROBABILITIES: "of each label, summing to 1",
    VERDICT: "the OOD score that decides; higher is further from the known images",
    IS_OOD: "whether the image is called unknown: the score exceeds the threshold",
}

TEXT = """# {labels} labels and the unknown, as an ONNX graph

Release {release} of fedlmd {version}. `{model}` takes `images`, float32 (N, {channels}, {size}, {size}) in [-1, 1],
any number N of them, and gives {outputs}.
`{about}` has the labels, the rules for pixels, the thresholds, and the points and tails from which p-values follow.

These lines, saved as `predict.py` in this folder, predict an image file: `pip install onnxruntime pillow`, then
`python predict.py image.png`.

```python
import json, sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps

about = json.load(open("{about}", encoding="utf-8"))
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}")
pixels = np.asarray({fitted}, np.float32)
images = {pixels}.reshape(1, {size}, {size}, {channels}).transpose(0, 3, 1, 2) / 127.5 - 1
session = onnxruntime.InferenceSession("{model}")
names = [output.name for output in session.get_outputs()]
found = {{name: values[0] for name, values in zip(names, session.run(names, {{"{images}": images}}))}}
calibration = about["references"]["{verdict}"]
p_value = [1.0, *calibration["tails"]][np.searchsorted(calibration["points"], found["{verdict}"])]
print(about["labels"][found["logits"].argmax()], "unknown" if found["is_ood"] else "known", p_value)
```

An image of {size} x {size} pixels with 8 bits gives what fedlmd gives, to about 1e-5. One of another size, with more
bits or with transparency is brought to this form by fedlmd's own steps, which `fedlmd.data.decode_image` has; the
lines above are close to them for photographs and scans of 8 bits.
"""


def write_folder(predictor: Predictor, folder: Path) -> float | None:
    """Write the graph of a release, what goes around it, and a README with the code that runs it.

    The graph is run by ONNX Runtime first, where that is installed, on the images of the self-test.

    Args:
        predictor: the release.
        folder: new or empty.

    Returns:
        The largest difference from the release's outputs, as a share of the largest output of its kind; None where ONNX
        Runtime is not installed.

    Raises:
        OnnxError: the folder is not empty, the release has no graph, or its graph gives something else.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OnnxError(f"{folder} is there and not empty; choose a folder that is empty or does not exist")
    graph, images = graph_of(predictor), self_test_images(predictor)
    difference = checked(predictor, graph, images)
    about = json.dumps(finite(about_graph(predictor, images)), indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(graph)
    (folder / ABOUT).write_text(about + "\n", encoding="utf-8", errors="backslashreplace")
    (folder / README).write_text(readme(predictor), encoding="utf-8")
    return difference


def checked(predictor: Predictor, graph: bytes, images: Float32[np.ndarray, "n c h w"]) -> float | None:
    """The largest difference under ONNX Runtime, None where that is missing. Raises OnnxError above ``TOLERANCE``."""
    if find_spec("onnxruntime") is None:
        return None
    difference = largest_difference(predictor, images, run_graph(graph, images))
    if not difference <= TOLERANCE:
        raise OnnxError(
            f"the graph of release {predictor.release.id} gives outputs that are off by {difference:.1e} of the "
            f"largest; {TOLERANCE:.0e} at most is allowed, so it is not written"
        )
    return difference


def self_test_images(predictor: Predictor) -> Float32[np.ndarray, "n c h w"]:
    """The images of the self-test in [-1, 1]."""
    rules = predictor.settings.pixel_rules
    return to_unit_range(torch.from_numpy(patterns(rules.channels, rules.size))).numpy()


def about_graph(predictor: Predictor, images: Float32[np.ndarray, "n c h w"]) -> dict[str, Any]:
    """What goes around the graph, as JSON."""
    settings, reference = predictor.settings, predictor.references[VERDICT]
    outputs = outputs_of(predictor, images)
    parts = {name: f"score of the detector {name}, a part of the verdict" for name in parts_of_verdict(predictor)}
    return {
        "format": FORMAT,
        "release": predictor.release.id,
        "fedlmd": version("fedlmd"),
        "opset": OPSET,
        "input": {"name": IMAGES, "type": "float32", "shape": ["N", *images.shape[1:]], "range": [-1, 1]},
        "outputs": {name: (DESCRIPTIONS | parts)[name] for name in outputs},
        "labels": list(settings.labels),
        "pixel_rules": asdict(settings.pixel_rules),
        "verdict": {name: asdict(each) for name, each in settings.detectors.scaled(predictor.scale).items()},
        "alpha": predictor.alpha,
        "alpha_uncertain": settings.calibration.alpha_uncertain,
        "threshold": reference.threshold(predictor.alpha),
        "thresholds": {str(alpha): reference.threshold(alpha) for alpha in ALPHAS},
        "references": {VERDICT: as_steps(reference), "class": as_steps(predictor.classes)},
        "self_test": {
            "recipe": RECIPE,
            "images": len(images),
            "digest": hashlib.sha256(images.astype("<f4").tobytes()).hexdigest(),
            "outputs": {name: values.tolist() for name, values in outputs.items()},
        },
    }


def as_steps(reference: Reference) -> dict[str, list[float]]:
    """A reference as JSON: the p-value of a score is ``[1, *tails][number of points below the score]``."""
    return {"points": reference.points.tolist(), "tails": reference.tails.tolist()}


def readme(predictor: Predictor) -> str:
    """What the folder is, and the code that predicts an image file."""
    rules = predictor.settings.pixel_rules
    square = f"({rules.size}, {rules.size}), Image.Resampling.HAMMING"
    fitted = {
        "pad": f'ImageOps.pad(image, {square}, color="{rules.background}")',
        "crop": f"ImageOps.fit(image, {square})",
        "stretch": f"image.resize({square})",
    }[rules.fit]
    return TEXT.format(
        labels=len(predictor.settings.labels),
        release=predictor.release.id,
        version=version("fedlmd"),
        model=MODEL,
        about=ABOUT,
        images=IMAGES,
        channels=rules.channels,
        size=rules.size,
        mode={1: "L", 3: "RGB"}[rules.channels],
        fitted=fitted,
        pixels="(255 - pixels)" if rules.invert else "pixels",
        outputs=", ".join(f"`{name}`" for name in output_names(predictor)),
        verdict=VERDICT,
    )
