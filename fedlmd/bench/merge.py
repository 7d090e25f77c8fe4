"""Which merge of the sites' denoisers makes the best detector: methods by federations, beside central training."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlmd import artifacts
from fedlmd.answer import VERDICT, Answerer, references
from fedlmd.bench.federated import bytes_up, release_of, trained
from fedlmd.bench.merges import CENTRAL, FEDERATIONS, LABELS, METHODS, Budget, Kind, classifier_rounds, settings_of
from fedlmd.bench.record import record
from fedlmd.bench.tasks import Task, images_of
from fedlmd.data import LabelledImages
from fedlmd.detection import separation
from fedlmd.progress import Progress
from fedlmd.settings import DIGITS, to_mapping
from fedlmd.training import evaluate

__all__ = ["MergeBench", "figures_of", "measure"]

SCORES = (VERDICT, "mahalanobis", "one-step", "max-logit", "lmd")
TASK = Task("merge", "digits 0-4 against 5-9", LABELS, tuple(digit for digit in DIGITS if digit not in LABELS))
TWO_SITES = ("overlapping", "disjoint")

Rows = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class MergeBench:
    """What is measured.

    Args:
        budget: gradient steps of every federation.
        federations: names of those that are drawn.
        methods: names of those that are measured, where a federation has them; empty for all.
        sample: so many known and so many unknown test images are scored.
        dear: so many of them by LMD, which costs 16 times as much as the verdict.
    """

    budget: Budget = field(default_factory=Budget)
    federations: tuple[str, ...] = tuple(FEDERATIONS)
    methods: tuple[str, ...] = ()
    sample: int = 600
    dear: int = 100

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        if unknown := sorted(set(self.federations) - FEDERATIONS.keys()):
            raise ValueError(f"there is no federation {unknown[0]!r}; there are {', '.join(FEDERATIONS)}")
        if unknown := sorted(set(self.methods) - METHODS.keys()):
            raise ValueError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")

    def chosen(self, kind: Kind) -> list[str]:
        """The methods to measure on a kind of federation."""
        return [name for name in kind.methods if not self.methods or name in self.methods]


def measure(config: MergeBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Train, merge and measure; the last item is the result as JSON has it.

    Args:
        config: what to measure.
        output: runs, denoisers and figures are kept in it, so that a later call goes on.
    """
    images = images_of(TASK, {}, labels=LABELS, sample=config.sample)
    rows: Rows = {"central": {"fedavg": (yield from row(config, "central", CENTRAL, "fedavg", images, output))}}
    for name in config.federations:
        kind, rows[name] = FEDERATIONS[name], {}
        for method in config.chosen(kind):
            rows[name][method] = yield from row(config, name, kind, method, images, output)
    titles = {name: FEDERATIONS[name].title for name in config.federations}
    yield record(
        figures_of(rows),
        command_of(config),
        rows=rows,
        federations={"central": CENTRAL.title, **titles},
        methods={name: {"title": method.title, "group": method.group} for name, method in METHODS.items()},
        budget=asdict(config.budget),
        images={"known": len(images[0]), "unknown": len(images[1]), "lmd": config.dear},
    )


def command_of(config: MergeBench) -> str:
    """The command that measures this, but for where files lie and for budgets that are not the usual ones."""
    some = [] if config.federations == tuple(FEDERATIONS) else [f"--federation {name}" for name in config.federations]
    return " ".join(["fedlmd bench merge", *some, *(f"--method {name}" for name in config.methods)])


def row(
    config: MergeBench,
    name: str,
    kind: Kind,
    method: str,
    images: tuple[LabelledImages, LabelledImages],
    output: Path,
) -> Generator[Progress, None, dict[str, Any]]:
    """The figures of one method on one federation, made once, or kept from before."""
    folder = output / name / method
    path, key = folder / "figures.json", key_of(config, kind, method)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.pop("key") == key:
            return dict(before)
    first, sent = yield from classifier(kind, method, config.budget, output / name)
    run = settings_of(kind, METHODS[method], config.budget)
    run = replace(run, classifier=replace(run.classifier, steps=0))
    if METHODS[method].group == "one shot":
        run = replace(run, federation=replace(run.federation, rounds=1))
    release = yield from release_of(run, folder / "run", output / name, first, kind.liars)
    found = yield from figures(Answerer(artifacts.load(release)), images, config, kind)
    found |= {"bytes_up": sent + bytes_up(folder / "run"), "rounds": run.federation.rounds}
    path.write_text(json.dumps({**found, "key": key}) + "\n", encoding="utf-8")
    return found


def key_of(config: MergeBench, kind: Kind, method: str) -> str:
    """All that a method's figures were made from."""
    own, shared = (settings_of(kind, METHODS[name], config.budget) for name in (method, trainer(method)))
    return json.dumps([config.sample, config.dear, kind.liars, to_mapping(own), to_mapping(classifier_rounds(shared))])


def trainer(method: str) -> str:
    """The method whose rounds train the classifier that a method's denoiser belongs to."""
    return method if METHODS[method].whole else "fedavg"


def classifier(
    kind: Kind, method: str, budget: Budget, output: Path
) -> Generator[Progress, None, tuple[dict[str, Any], float]]:
    """The federation's classifier, trained before any denoiser; and the bytes that a worker sent for it."""
    of = trainer(method)
    run = classifier_rounds(settings_of(kind, METHODS[of], budget))
    folder = output / f"classifier-{of}"
    weights = yield from trained(run, folder, kind.liars)
    return weights, bytes_up(folder)


def figures(
    answerer: Answerer, images: tuple[LabelledImages, LabelledImages], config: MergeBench, kind: Kind
) -> Generator[Progress, None, dict[str, Any]]:
    """AUROC of every score, the classifier's accuracy, and what the sites call unknown."""
    found: dict[str, Any] = {}
    scores = yield from scored(answerer, images, config)
    for name, (known, unknown) in scores.items():
        found["auroc_" + name.replace("-", "_")] = separation(known, unknown).auroc
    found["accuracy"] = evaluate(answerer.networks.classifier, images[0]).accuracy
    known, unknown = scores[VERDICT]
    threshold = answerer.sketches[VERDICT].threshold(answerer.alpha)
    found["false_alarms"] = float((known > threshold).double().mean())
    found["found"] = float((unknown > threshold).double().mean())
    return found | elsewhere(answerer, known, images[0], kind)


def scored(
    answerer: Answerer, images: tuple[LabelledImages, LabelledImages], config: MergeBench
) -> Generator[Progress, None, dict[str, tuple[Tensor, Tensor]]]:
    """Scores of known and unknown images by name."""
    cheap, dear = [name for name in SCORES if name != "lmd"], ["lmd"]
    parts: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for side in images:
        found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
        for names, most in ((cheap, len(side)), (dear, min(config.dear, len(side)))):
            batches = torch.split(side.images(range(most)), 50)
            for done, batch in enumerate(batches, start=1):
                for name, of in answerer.scores(batch, names).items():
                    if name in names:
                        found[name].append(of)
                yield Progress("scoring", done, len(batches))
        for name in SCORES:
            parts[name].append(torch.cat(found[name]))
    return {name: (known, unknown) for name, (known, unknown) in parts.items()}


def elsewhere(answerer: Answerer, scores: Tensor, known: LabelledImages, kind: Kind) -> dict[str, float]:
    """Shares of known images that their own site and that other sites call unknown, in the mean over the sites.

    A site's own are the labels of its list. Other federations than those by lists have no labels that a site lacks.
    """
    own, others = [], []
    calibration, settings = answerer.release.card["calibration"], answerer.settings
    for number, listed in enumerate(kind.partition.lists):
        limit = references(calibration, f"site-{number}", settings)[VERDICT].threshold(answerer.alpha)
        mine = torch.isin(known.labels, torch.tensor([LABELS.index(name) for name in listed]))
        own.append(float((scores[mine] > limit).double().mean()))
        others.append(float((scores[~mine] > limit).double().mean()))
    if not own:
        return {}
    return {"unknown_to_own": sum(own) / len(own), "unknown_to_others": sum(others) / len(others)}


def figures_of(rows: Rows) -> dict[str, Any]:
    """The headline figures, of the score that is the denoiser's alone; the verdict's and LMD's beside them."""
    found: dict[str, Any] = {}
    there = [name for name in TWO_SITES if name in rows]
    for score, suffix in (("auroc_one_step", ""), ("auroc_verdict", "_verdict"), ("auroc_lmd", "_lmd")):
        top = rows["central"]["fedavg"][score]
        found[f"auroc_central{suffix}"] = top
        if there:
            many, single = (best(rows, there, score, group) for group in ("rounds", "one shot"))
            found[f"auroc_gap_two_sites{suffix}"] = top - many[1]
            found[f"auroc_gap_one_shot{suffix}"] = top - single[1]
            found[f"auroc_plain_averaging{suffix}"] = min(rows[name]["average-own"][score] for name in there)
            found |= {f"auroc_loss_{name}{suffix}": of for name, of in losses(rows, there, score).items()}
            found |= {f"best_two_sites{suffix}": many[0], f"best_one_shot{suffix}": single[0]}
        for name in rows.keys() - {"central", "honest", "poisoned", *there}:
            winner, worth = best(rows, [name], score, "rounds", "one shot")
            found |= {f"best_{name}{suffix}": winner, f"auroc_gap_{name}{suffix}": top - worth}
    for name in rows.keys() & {"honest", "poisoned"}:
        found |= {f"accuracy_{name}_{method}": of["accuracy"] for method, of in rows[name].items()}
        found |= {f"auroc_{name}_{method}": of["auroc_verdict"] for method, of in rows[name].items()}
    for method, suffix in (("4-bit", ""), ("8-bit", "_8_bit")):
        if ratios := [
            rows[of]["fedavg"]["bytes_up"] / rows[of][method]["bytes_up"] for of in having(rows, there, method)
        ]:
            found[f"bytes_ratio{suffix}"] = min(ratios)
    return found


def having(rows: Rows, federations: list[str], method: str) -> list[str]:
    """Those federations that a method was measured on."""
    return [name for name in federations if method in rows[name]]


def losses(rows: Rows, federations: list[str], score: str) -> dict[str, float]:
    """What updates in few bits cost in AUROC where they cost the most; "compressed" are those of the headline."""
    found = {}
    for method, name in (("4-bit", "compressed"), ("8-bit", "8_bit")):
        if measured := having(rows, federations, method):
            found[name] = max(float(rows[of]["fedavg"][score] - rows[of][method][score]) for of in measured)
    return found


def best(rows: Rows, federations: list[str], score: str, *groups: str) -> tuple[str, float]:
    """The method of some groups whose lowest AUROC over some federations is the highest, and that AUROC."""
    shared = set.intersection(*(set(rows[name]) for name in federations))
    lowest = {
        method: min(rows[name][method][score] for name in federations)
        for method in METHODS
        if method in shared and METHODS[method].group in groups
    }
    winner = max(lowest, key=lambda method: lowest[method])
    return winner, lowest[winner]
