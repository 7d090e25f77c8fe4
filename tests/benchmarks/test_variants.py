from dataclasses import asdict, replace
from itertools import groupby

import pytest
import torch

from benchmarks.variants import SUMS, LMDBy, detector_of, lmd_with, variants
from fedlmd.detection import LMD, DetectorConfig, LMDConfig, OneStepConfig, mse
from fedlmd.diffusion import InpaintingConfig
from tests.diffusion.exact import SCHEDULE

OWN = DetectorConfig().chosen(latents=False)


def flat(settings):
    """Every single setting by its path."""
    paths = {}
    for name, value in asdict(settings).items():
        if name in ("one_step", "lmd"):
            inner = dict(value)
            inner |= inner.pop("inpainting", {})
            paths |= {f"{name}.{key}": setting for key, setting in inner.items()}
        else:
            paths[name] = value
    return paths


def test_a_variant_differs_from_the_release_in_the_one_choice_that_it_names():
    own = flat(OWN)
    for variant in variants(OWN):
        changed = flat(variant.settings)
        differing = {name.split(".")[1] for name in own if changed[name] != own[name]}
        if variant.value == "whole, start 0.85":
            assert differing == {"mask", "start"}
        else:
            assert differing == (set() if variant.default or variant.choice == "summary" else {variant.choice})


def test_every_choice_has_the_releases_own_once_and_another():
    for _, group in groupby((each for each in variants(OWN) if each.choice), lambda each: (each.score, each.choice)):
        choices = list(group)
        assert sum(variant.default for variant in choices) == 1
        assert len({variant.value for variant in choices}) == len(choices) > 1


def test_a_value_that_the_release_alone_has_is_added():
    own = replace(OWN, one_step=OneStepConfig(levels=(0.42,)), lmd=replace(OWN.lmd, reconstructions=3))
    defaults = {(each.score, each.choice): each.value for each in variants(own) if each.default and each.choice}
    assert defaults["one-step", "levels"] == "0.42"
    assert defaults["lmd", "reconstructions"] == "3"


def test_the_same_score_has_one_name_and_different_ones_have_different_files(predictor):
    identities = {}
    for variant in variants(predictor.settings.detectors):
        identity = detector_of(variant, predictor).identity
        assert identities.setdefault(variant.name, identity) == identity
        assert not set(variant.name) & set("/\\ ,")
    assert set(OWN.calibrated) <= set(identities)
    assert len(set(identities.values())) == len(identities)


def test_a_mask_that_hides_everything_starts_below_the_highest_level_and_no_higher_than_set():
    assert lmd_with(LMDConfig(), "mask", "whole").inpainting.start == 0.85
    low = LMDConfig(inpainting=InpaintingConfig(steps=8, start=0.5))
    assert lmd_with(low, "mask", "whole").inpainting.start == 0.5
    assert lmd_with(low, "steps", 3).inpainting == InpaintingConfig(steps=3, start=0.5)


def test_the_detector_of_a_variant_scores_as_its_settings_say(predictor):
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    by_name = {variant.name: variant for variant in variants(predictor.settings.detectors)}
    for name in ("one-step", "lmd", "mahalanobis"):
        own = detector_of(by_name[name], predictor).detector.score(images)
        torch.testing.assert_close(own, predictor.scores(images, [name])[name])
    lowest = detector_of(by_name["lmd-summary-minimum"], predictor)
    assert (lowest.detector.score(images) <= detector_of(by_name["lmd"], predictor).detector.score(images)).all()
    assert lowest.evaluations == 4


@pytest.mark.parametrize(("summary", "expected"), [("mean", [0.42, 1.36]), ("minimum", [0.01, 0.04])])
def test_other_summaries_by_hand(summary, expected):
    distances = iter([torch.tensor(values) for values in ([0.01, 0.04], [1.0, 0.04], [0.25, 4.0])])
    config = LMDConfig(cells=2, reconstructions=3, condition="none", inpainting=InpaintingConfig(1))
    lmd = LMD(lambda x, t, label=None: torch.zeros_like(x), SCHEDULE, lambda a, b: next(distances), config)
    torch.testing.assert_close(LMDBy(lmd, summary).score(torch.zeros(2, 1, 8, 8)), torch.tensor(expected))


def test_a_summary_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="choose one of mean, minimum"):
        LMDBy(LMD(lambda x, t, label=None: x, SCHEDULE, mse, LMDConfig(condition="none")), "mode")


def test_the_sums_are_of_scores_that_there_are():
    assert len(set(map(frozenset, SUMS))) == len(SUMS)
    assert all(set(names) <= set(OWN.calibrated) for names in SUMS)
