"""A package of somebody else: installed beside fedlmd, it brings a detector, a strategy, a data source and networks."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fedlmd.settings import SettingsError, from_mapping

ROOT = Path(__file__).parents[2]

MODULE = '''
"""A plug-in."""
import torch
import torch.nn.functional as F
from torch import nn

from fedlmd.data import LabelledImages
from fedlmd.models import Classifier, DenoiserNetwork


class Brightness:
    def __init__(self, scale):
        self.scale = scale

    def score(self, images):
        return self.scale * images.mean((1, 2, 3))


def brightness(inputs):
    return Brightness(inputs.config.options["brightness"]["scale"])


def stripes(split):
    generator = torch.Generator().manual_seed(0 if split == "train" else 1)
    labels = torch.arange(240) % 2
    pixels = torch.randint(0, 60, (240, 1, 14, 14), generator=generator, dtype=torch.uint8)
    pixels[labels == 0, :, ::2] += 150
    pixels[labels == 1, :, :, ::2] += 150
    return LabelledImages(pixels, labels, ("rows", "columns"))


class Flat(Classifier):
    """One convolution."""

    def __init__(self, config):
        super().__init__(config)
        self.convolution = nn.Conv2d(config.channels, config.widths[-1], 5, stride=2)
        self.build_head(config.widths[-1])

    def maps(self, images):
        return [F.relu(self.convolution(images))]


class Tiny(DenoiserNetwork):
    """Two convolutions that do not look at the label."""

    local_layers = ("out.",)

    def __init__(self, config):
        super().__init__(config)
        self.inner = nn.Conv2d(config.channels, 8, 3, padding=1)
        self.out = nn.Conv2d(8, config.channels, 3, padding=1)

    def forward(self, x_t, t, label=None):
        return self.out(F.silu(self.inner(x_t)))
'''

STRATEGY = '''
"""A strategy of the plug-in: half of the way from the old weights to FedAvg's."""
from fedlmd.federation.strategies import Strategy


def build(config, expected, events):
    from fedlmd.federation.server.guard import Guard

    class Halfway(Guard):
        def combined(self, number):
            share = config.strategy_options["share"]
            mean = super().combined(number)
            return {name: self.sent[name] + share * (array - self.sent[name]) for name, array in mean.items()}

    return Halfway(config, expected, events)


HALFWAY = Strategy("visitor_strategy:build")
'''

ENTRY_POINTS = """
[fedlmd.detectors]
brightness = visitor:brightness
[fedlmd.sources]
stripes = visitor:stripes
[fedlmd.classifiers]
flat = visitor:Flat
[fedlmd.denoisers]
tiny = visitor:Tiny
[fedlmd.strategies]
halfway = visitor_strategy:HALFWAY
"""

WHEEL = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

RUN = """
import json, sys
from pathlib import Path
from benchmarks.federated import release_of
from fedlmd.data import PixelRules, load
from fedlmd.inference import Predictor
from fedlmd.progress import drain
from fedlmd.release import load_release
from fedlmd.settings import from_mapping

settings = from_mapping(json.loads(sys.argv[1]))
path = drain(release_of(settings, Path(sys.argv[2]) / "run", Path(sys.argv[2])))
predictor = Predictor(load_release(path))
known = load("stripes", "eval", rules=PixelRules(14))
predictions = predictor.predict(known.images())
white = predictor.predict(known.images()[:4] * 0 + 1)
print(json.dumps({
    "choices": predictor.choices,
    "networks": [type(network).__name__ for network in predictor.networks.parts().values()],
    "accuracy": sum(p.label == known.names[i] for p, i in zip(predictions, known.labels.tolist())) / len(known),
    "alarms": sum(p.is_ood for p in predictions) / len(known),
    "white": [p.is_ood for p in white],
    "strategy": predictor.release.card["training"]["strategy"],
}))
"""

SETTINGS = {
    "labels": ["rows", "columns"],
    "image_size": 14,
    "data": {"source": "stripes", "partition": {"kind": "iid", "workers": 2}, "held_back": 0.3},
    "models": {"classifier_network": "flat", "denoiser_network": "tiny", "classifier": [8], "denoiser": [8]},
    "classifier": {"steps": 60, "batch_size": 32, "warmup": 2, "ema": 0.5, "learning_rate": 0.02},
    "denoiser": {"steps": 4, "batch_size": 8},
    "detector": {
        "calibrated": ["energy", "brightness"],
        "verdict": ["brightness"],
        "options": {"brightness": {"scale": 2.0}},
    },
    "federation": {"rounds": 3, "strategy": "halfway", "strategy_options": {"share": 0.5}},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that pip has installed the plug-in's wheel into."""
    home = tmp_path_factory.mktemp("plugin")
    wheel = home / "visitor-1.0-py3-none-any.whl"
    files = {
        "visitor.py": MODULE,
        "visitor_strategy.py": STRATEGY,
        "visitor-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: visitor\nVersion: 1.0\n",
        "visitor-1.0.dist-info/WHEEL": WHEEL,
        "visitor-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    record = "".join(f"{name},,\n" for name in [*files, "visitor-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, "visitor-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", home / "lib"]
    subprocess.run([*command, wheel], check=True)
    return home / "lib"


def test_an_installed_plug_in_takes_part_in_a_whole_run(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, json.dumps(SETTINGS), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["choices"] == ["energy", "brightness", "verdict"]
    assert result["networks"] == ["Flat", "Tiny"]
    assert result["strategy"] == "halfway"
    assert result["accuracy"] > 0.9
    assert result["alarms"] < 0.2
    assert result["white"] == [True] * 4


def test_without_the_plug_in_its_names_are_unknown_and_those_that_there_are_are_listed():
    with pytest.raises(SettingsError, match="there is no classifier 'flat'; there are cnn"):
        from_mapping(SETTINGS)
