"""Federated runs in one process, with both networks: from the sites' own denoisers to releases that answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.artifacts import half
from fedlmd.bench.federated import bytes_up, release_of
from fedlmd.data import PartitionConfig, load
from fedlmd.detection import OneStep, Union
from fedlmd.federation.events import EventLog
from fedlmd.federation.merge import LOCAL
from fedlmd.learner import Learner
from fedlmd.networks import build
from fedlmd.progress import Progress, Result
from fedlmd.settings import DataConfig, to_mapping
from fedlmd.site import Site

LISTS = (("0", "1"), ("1", "2"))


def finish(steps):
    """What a generator returns."""
    while True:
        try:
            assert isinstance(next(steps), Progress)
        except StopIteration as ended:
            return ended.value


@pytest.fixture(scope="module")
def runs(tiny_settings, tmp_path_factory):
    """A release of every merge, by its name, with the run's folder; and the settings that they share."""
    home = tmp_path_factory.mktemp("merges")
    calibration = replace(tiny_settings.calibration, images=20, described=200)
    data = DataConfig(partition=PartitionConfig("labels", 2, LISTS))
    base = replace(tiny_settings, data=data, calibration=calibration)
    base = replace(base, classifier=replace(base.classifier, steps=40))
    found = {}
    for merge in ("rounds", "partial", "average", "mixture", "union"):
        federation = replace(base.federation, rounds=2, merge=merge)
        settings = replace(base, federation=federation)
        path = finish(release_of(settings, home / merge, home))
        found[merge] = (artifacts.load(path), home / merge, settings)
    return found


def own_denoisers(settings, weights):
    """What each site's own training of the denoiser comes to, asked of the sites directly."""
    found = []
    for number in range(2):
        learner = Learner(Site(f"site-{number}", settings.data, number))
        config = {"settings": to_mapping(settings), "run": "again"}
        *_, last = learner.handle("denoiser", config, {**build(settings).weights(), **weights})
        assert isinstance(last, Result)
        found.append(last)
    return found


def classifier_of(run):
    return {name: array for name, array in run.items() if name.startswith("classifier.")}


@pytest.mark.parametrize("merge", ["rounds", "partial", "average", "mixture", "union"])
def test_the_release_of_every_merge_answers_and_shows_what_it_saw(runs, merge):
    release, folder, _ = runs[merge]
    answerer = Answerer(release, site="site-0")
    images = load("mnist", "eval", labels=["0", "1", "2"]).images(range(4))
    answers = answerer.answer(images)
    assert all(np.isfinite(answer.score) and 0 < answer.p_value <= 1 for answer in answers)
    assert answerer.explain(images[:1]).heat.shape == (28, 28)
    assert release.card["settings"]["federation"]["merge"] == merge
    assert EventLog(folder).final()["event"] == "finished"
    # An image gets the same scores whatever others come with it.
    alone = answerer.scores(images[:1], ["one-step", "lmd"])
    for name, scores in answerer.scores(images, ["one-step", "lmd"]).items():
        torch.testing.assert_close(scores[:1], alone[name], atol=1e-4, rtol=1e-4)


def test_one_shot_merges_hold_what_the_sites_trained_by_themselves(runs):
    release, folder, settings = runs["average"]
    final = {n: of for n, of in load_file(folder / "round-002.safetensors").items() if not n.startswith("strategy/")}
    assert final.keys() == classifier_of(final).keys()
    sites = own_denoisers(settings, final)
    counts = np.array([site.metrics["num-examples"] for site in sites], float)
    for name, array in half(sites[0].weights).items():
        mean = sum(count * site.weights[name] for count, site in zip(counts, sites, strict=True)) / counts.sum()
        np.testing.assert_allclose(release.weights[name], mean.astype(array.dtype), atol=2e-3)
    for merge in ("mixture", "union"):
        weights = runs[merge][0].weights
        for number, site in enumerate(sites):
            for name, array in half(site.weights).items():
                inner = name.removeprefix("denoiser.")
                np.testing.assert_array_equal(weights[f"denoiser.members.{number}.{inner}"], array)
        shares = np.array([site.metrics["labels"] for site in sites], float)
        np.testing.assert_allclose(weights["denoiser.shares"], shares / shares.sum(0), atol=1e-3)


def test_with_partial_sharing_the_sites_differ_in_their_own_layers_alone_and_send_less(runs):
    weights = runs["partial"][0].weights
    first = {name: array for name, array in weights.items() if name.startswith("denoiser.members.0.")}
    for name, array in first.items():
        other = weights[name.replace("members.0", "members.1")]
        local = name.replace("members.0.", "").startswith(LOCAL)
        if not local:
            np.testing.assert_array_equal(array, other, err_msg=name)
    moved = [n for n, a in first.items() if not np.array_equal(a, weights[n.replace("members.0", "members.1")])]
    assert moved


def test_what_a_worker_sends_is_its_part_of_every_round_and_its_denoiser_where_that_is_sent_once(runs):
    first, rounds = build(runs["rounds"][2]).weights(), 2
    size = {name: array.nbytes for name, array in first.items()}
    denoiser = sum(of for name, of in size.items() if name.startswith("denoiser."))
    local = sum(of for name, of in size.items() if name.startswith(LOCAL))
    every = sum(size.values())
    expected = {
        "rounds": rounds * every,
        "partial": rounds * (every - local) + denoiser,
        "average": rounds * (every - denoiser) + denoiser,
    }
    expected |= {"mixture": expected["average"], "union": expected["average"]}
    for merge, arrays in expected.items():
        # Beside the arrays only their names and shapes, and the figures of a round.
        assert arrays < bytes_up(runs[merge][1]) < arrays + 12_000 * (rounds + 1), merge


def test_the_union_is_the_lowest_of_the_sites_own_scores(runs):
    release, *_ = runs["union"]
    answerer = Answerer(release)
    assert isinstance(answerer.detectors["one-step"], Union)
    images = load("mnist", "eval", labels=["0", "1", "2"]).images(range(12))
    labels = answerer.networks.classifier(images).argmax(1)
    expected = torch.full((12,), torch.inf)
    for number, member in enumerate(answerer.networks.denoiser.members):
        like = answerer.detectors["one-step"].detectors[number]
        assert isinstance(like, OneStep)
        assert like.denoiser is member
        mean, std = (float(answerer.networks.denoiser.get_buffer(name)[number, 0]) for name in ("means", "stds"))
        holds = torch.tensor([str(int(label)) in LISTS[number] for label in labels])
        scores = (like.score(images) - mean) / std
        expected = torch.where(holds, torch.minimum(expected, scores), expected)
    torch.testing.assert_close(answerer.scores(images, ["one-step"])["one-step"], expected, atol=1e-4, rtol=1e-4)


def test_a_run_that_is_finished_is_not_done_again(runs):
    release, folder, settings = runs["union"]
    before = (folder / "events.jsonl").read_bytes()
    assert finish(release_of(settings, folder, folder.parent)).name == release.id
    assert (folder / "events.jsonl").read_bytes() == before
