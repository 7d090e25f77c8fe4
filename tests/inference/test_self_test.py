import pytest
import torch

from fedlmd.calibration import Moments
from fedlmd.inference import detectors, self_test_outputs, self_test_scores
from fedlmd.inference.self_test import EXPENSIVE
from fedlmd.models import build
from fedlmd.release import VERDICT, patterns
from fedlmd.settings import from_mapping, merge, to_mapping

SCALE = dict.fromkeys(("max-logit", "one-step", "lmd"), Moments(10, 0.0, 1.0))


def outputs_of(tiny_settings, verdict, steps):
    lmd = {"reconstructions": 1, "inpainting": {"steps": steps}}
    changes = {"detector": {"calibrated": list(SCALE), "verdict": verdict, "lmd": lmd}}
    settings = from_mapping(merge(to_mapping(tiny_settings), changes))
    networks = build(settings.networks).for_inference()
    return settings, self_test_outputs(settings, networks, detectors(settings, networks))


@pytest.mark.parametrize(
    ("verdict", "steps", "names"),
    [
        (["lmd"], 2, {"logits", "lmd", VERDICT}),
        (["lmd", "max-logit"], 1000, {"logits", "max-logit"}),
        (["lmd"], 1000, {"logits", "one-step"}),
    ],
)
def test_a_self_test_has_the_scores_of_the_verdict_without_an_expensive_lmd(tiny_settings, verdict, steps, names):
    settings, outputs = outputs_of(tiny_settings, verdict, steps)
    assert (settings.detector.lmd.evaluations > EXPENSIVE) == (steps == 1000)
    assert set(self_test_scores(outputs, settings, SCALE)) == names


def test_the_verdict_of_a_self_test_is_the_standardised_score(tiny_settings):
    settings, outputs = outputs_of(tiny_settings, ["max-logit"], 2)
    scores = self_test_scores(outputs, settings, {"max-logit": Moments(10, 2.0, 4.0)})
    assert scores[VERDICT] == pytest.approx((scores["max-logit"] - 2) / 4)
    assert scores["logits"].shape == (len(patterns(1, 28)), 3)
    torch.testing.assert_close(torch.from_numpy(scores["max-logit"]), -outputs["logits"].max(1).values)
