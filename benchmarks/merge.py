"""Which merge of the workers' denoisers makes the best detector: methods by federations, and central training."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.federated import bytes_up, release_of, trained
from benchmarks.merges import CENTRAL, FEDERATIONS, LABELS, METHODS, Budget, Kind, classifier_rounds, settings_of
from benchmarks.record import record
from benchmarks.storage import Steps, load_json, save_json
from benchmarks.tasks import Task, images_of
from fedlmd.data import LabelledImages
from fedlmd.detection import separation
from fedlmd.inference import Predictor, references
from fedlmd.progress import Progress
from fedlmd.release import VERDICT, load_release
from fedlmd.settings import DIGITS, to_mapping
from fedlmd.training import evaluate

SCORES = (VERDICT, "mahalanobis", "one-step", "max-logit", "lmd")
TASK = Task("merge", "digits 0-4 against 5-9", LABELS, tuple(digit for digit in DIGITS if digit not in LABELS))
TWO_WORKERS = ("overlapping", "disjoint")

Rows = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class MergeBench:
    """What is measured.

    Args:
        budget: gradient steps of every federation.
        federations: names of those that are drawn.
        methods: names of those that are measured, where a federation has them; empty for all.
        sample: so many known and so many unknown test images are scored.
        expensive: so many of them by LMD, which costs 16 times as much as the verdict.
    """

    budget: Budget = field(default_factory=Budget)
    federations: tuple[str, ...] = tuple(FEDERATIONS)
    methods: tuple[str, ...] = ()
    sample: int = 600
    expensive: int = 100

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        if unknown := sorted(set(self.federations) - FEDERATIONS.keys()):
            raise ValueError(f"there is no federation {unknown[0]!r}; there are {', '.join(FEDERATIONS)}")
        if unknown := sorted(set(self.methods) - METHODS.keys()):
            raise ValueError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")

    def chosen(self, kind: Kind) -> list[str]:
        """The methods to measure on a kind of federation."""
        return [name for name in kind.methods if not self.methods or name in self.methods]


def measure(config: MergeBench, output: Path) -> Steps:
    """Train, merge and measure; returns the result as JSON has it.

    Args:
        config: what to measure.
        output: runs, denoisers and figures are stored in it, so that a later call continues.
    """
    images = images_of(TASK, {}, labels=LABELS, sample=config.sample)
    rows: Rows = {"central": {"fedavg": (yield from row(config, "central", CENTRAL, "fedavg", images, output))}}
    for name in config.federations:
        kind, rows[name] = FEDERATIONS[name], {}
        for method in config.chosen(kind):
            rows[name][method] = yield from row(config, name, kind, method, images, output)
    titles = {name: FEDERATIONS[name].title for name in config.federations}
    return record(
        figures_of(rows),
        command_of(config),
        rows=rows,
        federations={"central": CENTRAL.title, **titles},
        methods={name: {"title": method.title, "group": method.group} for name, method in METHODS.items()},
        budget=asdict(config.budget),
        images={"known": len(images[0]), "unknown": len(images[1]), "lmd": config.expensive},
    )


def command_of(config: MergeBench) -> str:
    """The command that measures this, without paths of files and budgets."""
    some = [] if config.federations == tuple(FEDERATIONS) else [f"--federation {name}" for name in config.federations]
    return " ".join(["python -m benchmarks merge", *some, *(f"--method {name}" for name in config.methods)])


def row(
    config: MergeBench,
    name: str,
    kind: Kind,
    method: str,
    images: tuple[LabelledImages, LabelledImages],
    output: Path,
) -> Steps:
    """The figures of one method on one federation, made once, or stored before."""
    folder = output / name / method
    path, key = folder / "figures.json", key_of(config, kind, method)
    if path.exists():
        stored: dict[str, Any] = load_json(path)
        if stored.pop("key") == key:
            return stored
    first, sent = yield from classifier(kind, method, config.budget, output / name)
    run = settings_of(kind, METHODS[method], config.budget)
    run = replace(run, classifier=replace(run.classifier, steps=0))
    if METHODS[method].group == "one shot":
        run = replace(run, federation=replace(run.federation, rounds=1))
    release = yield from release_of(run, folder / "run", output / name, first, kind.byzantine)
    measured = yield from figures(Predictor(load_release(release)), images, config, kind)
    measured |= {"bytes_up": sent + bytes_up(folder / "run"), "rounds": run.federation.rounds}
    save_json(path, {**measured, "key": key})
    return measured


def key_of(config: MergeBench, kind: Kind, method: str) -> str:
    """All that a method's figures were made from."""
    of_method, of_classifier = (settings_of(kind, METHODS[n], config.budget) for n in (method, trainer(method)))
    return json.dumps(
        [
            config.sample,
            config.expensive,
            kind.byzantine,
            to_mapping(of_method),
            to_mapping(classifier_rounds(of_classifier)),
        ]
    )


def trainer(method: str) -> str:
    """The method whose rounds train the classifier that a method's denoiser belongs to."""
    return method if METHODS[method].whole else "fedavg"


def classifier(
    kind: Kind, method: str, budget: Budget, output: Path
) -> Generator[Progress, None, tuple[dict[str, Any], float]]:
    """The federation's classifier, trained before any denoiser; and the bytes that a worker sent for it."""
    name = trainer(method)
    run = classifier_rounds(settings_of(kind, METHODS[name], budget))
    folder = output / f"classifier-{name}"
    weights = yield from trained(run, folder, kind.byzantine)
    return weights, bytes_up(folder)


def figures(
    predictor: Predictor, images: tuple[LabelledImages, LabelledImages], config: MergeBench, kind: Kind
) -> Steps:
    """AUROC of every score, the classifier's accuracy, and what the workers call unknown."""
    measured: dict[str, Any] = {}
    scores = yield from scored(predictor, images, config)
    for name, (known, unknown) in scores.items():
        measured["auroc_" + name.replace("-", "_")] = separation(known, unknown).auroc
    measured["accuracy"] = evaluate(predictor.networks.classifier, images[0]).accuracy
    known, unknown = scores[VERDICT]
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    measured["false_alarms"] = float((known > threshold).double().mean())
    measured["found"] = float((unknown > threshold).double().mean())
    return measured | called_unknown(predictor, known, images[0], kind)


def scored(
    predictor: Predictor, images: tuple[LabelledImages, LabelledImages], config: MergeBench
) -> Generator[Progress, None, dict[str, tuple[Tensor, Tensor]]]:
    """Scores of known and unknown images by name."""
    cheap, expensive = [name for name in SCORES if name != "lmd"], ["lmd"]
    parts: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for side in images:
        batched: dict[str, list[Tensor]] = {name: [] for name in SCORES}
        for names, most in ((cheap, len(side)), (expensive, min(config.expensive, len(side)))):
            batches = torch.split(side.images(range(most)), 50)
            for done, batch in enumerate(batches, start=1):
                scores = predictor.scores(batch, names)
                for name in names:
                    batched[name].append(scores[name])
                yield Progress("scoring", done, len(batches))
        for name in SCORES:
            parts[name].append(torch.cat(batched[name]))
    return {name: (known, unknown) for name, (known, unknown) in parts.items()}


def called_unknown(predictor: Predictor, scores: Tensor, known: LabelledImages, kind: Kind) -> dict[str, float]:
    """Shares of known images that their own worker and that other workers call unknown, in the mean over the workers.

    A worker's own are the labels of its list. In federations without lists no worker lacks a label.
    """
    own, others = [], []
    calibration, settings = predictor.release.card["calibration"], predictor.settings
    for number, listed in enumerate(kind.partition.lists):
        limit = references(calibration, f"worker-{number}", settings)[VERDICT].threshold(predictor.alpha)
        mine = torch.isin(known.labels, torch.tensor([LABELS.index(name) for name in listed]))
        own.append(float((scores[mine] > limit).double().mean()))
        others.append(float((scores[~mine] > limit).double().mean()))
    if not own:
        return {}
    return {"unknown_to_own": sum(own) / len(own), "unknown_to_others": sum(others) / len(others)}


def figures_of(rows: Rows) -> dict[str, Any]:
    """The headline figures, of the score that is the denoiser's alone; the verdict's and LMD's beside them."""
    two = [name for name in TWO_WORKERS if name in rows]
    summary: dict[str, Any] = {}
    for score, suffix in (("auroc_one_step", ""), ("auroc_verdict", "_verdict"), ("auroc_lmd", "_lmd")):
        by_name = score_figures(rows, two, score)
        summary |= {f"{name}{suffix}": value for name, value in by_name.items()}
    for name in rows.keys() & {"honest", "poisoned"}:
        summary |= {f"accuracy_{name}_{method}": measured["accuracy"] for method, measured in rows[name].items()}
        summary |= {f"auroc_{name}_{method}": measured["auroc_verdict"] for method, measured in rows[name].items()}
    for method, suffix in (("4-bit", ""), ("8-bit", "_8_bit")):
        kinds = having(rows, two, method)
        if ratios := [rows[kind]["fedavg"]["bytes_up"] / rows[kind][method]["bytes_up"] for kind in kinds]:
            summary[f"bytes_ratio{suffix}"] = min(ratios)
    return summary


def score_figures(rows: Rows, two: list[str], score: str) -> dict[str, Any]:
    """The headline figures of one score.

    Args:
        rows: everything that was measured.
        two: the federations of two workers among them.
        score: its key in the rows.
    """
    top = rows["central"]["fedavg"][score]
    summary: dict[str, Any] = {"auroc_central": top}
    if two:
        many, single = (best(rows, two, score, group) for group in ("rounds", "one shot"))
        summary |= {"auroc_gap_two_sites": top - many[1], "auroc_gap_one_shot": top - single[1]}
        summary["auroc_plain_averaging"] = min(rows[name]["average-own"][score] for name in two)
        summary |= {f"auroc_loss_{name}": loss for name, loss in losses(rows, two, score).items()}
        summary |= {"best_two_sites": many[0], "best_one_shot": single[0]}
    for name in rows.keys() - {"central", "honest", "poisoned", *two}:
        winner, auroc = best(rows, [name], score, "rounds", "one shot")
        summary |= {f"best_{name}": winner, f"auroc_gap_{name}": top - auroc}
    return summary


def having(rows: Rows, federations: list[str], method: str) -> list[str]:
    """Those federations that a method was measured on."""
    return [name for name in federations if method in rows[name]]


def losses(rows: Rows, federations: list[str], score: str) -> dict[str, float]:
    """What updates in few bits cost in AUROC where they cost the most; "compressed" are those of the headline."""
    most = {}
    for method, name in (("4-bit", "compressed"), ("8-bit", "8_bit")):
        if measured := having(rows, federations, method):
            most[name] = max(float(rows[kind]["fedavg"][score] - rows[kind][method][score]) for kind in measured)
    return most


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
