"""What each choice of the detector buys: every one of them varied by itself, on one release."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.baselines.factory import MeasuredDetector, ReleaseScore
from benchmarks.paired import difference
from benchmarks.record import record
from benchmarks.scores import Scores, batch_count, batches_of, key_of, load_scores, save_scores, stored_scores
from benchmarks.storage import Steps
from benchmarks.tasks import Task, images_of
from benchmarks.two_stage import TwoStage
from benchmarks.variants import SUMS, Variant, detector_of, variants
from fedlmd.data import LabelledImages
from fedlmd.detection import LMD, fuse, separation
from fedlmd.inference import Predictor
from fedlmd.progress import Progress
from fedlmd.release import SHIPPED, VERDICT, load_release
from fedlmd.settings import DIGITS, Settings

DEFAULT = "digits-0-4"
"""The release that is measured by default."""

TWO_STAGES = "two-stages"
"""The file of the two stages' scores."""


@dataclass(frozen=True)
class AblationBench:
    """What is measured.

    Args:
        release: a shipped release's name, or the folder of one; it must know some of MNIST's digits, not all.
        sample: so many images of each kind are scored; 2 or more.
    """

    release: str = DEFAULT
    sample: int = 300

    def __post_init__(self) -> None:
        """Refuse samples that have no standard error."""
        if self.sample < 2:
            raise ValueError(f"sample is {self.sample}; at least 2 images of each kind are needed")


@dataclass(frozen=True)
class Row:
    """One variant in figures.

    Args:
        group: the score and which of its choices is varied.
        variant: what was chosen.
        default: whether the release has chosen so.
        auroc: in [0, 1].
        difference: of the AUROC from that of the group's default, on the same images.
        error: standard error of that difference.
        nfe: evaluations of the denoiser per image.
        gflop: per image; what the scores of a sum share is counted with each of them.
        ms: per image, in batches.
    """

    group: str
    variant: str
    default: bool
    auroc: float
    difference: float
    error: float
    nfe: float
    gflop: float
    ms: float


def measure(config: AblationBench, output: Path) -> Steps:
    """Score the images with every variant; returns the result as JSON has it.

    Args:
        config: what to measure.
        output: ``scores/VARIANT.npz`` are stored in it, so that a later call continues.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    predictor = Predictor(load_release(SHIPPED.get(config.release, Path(config.release))))
    settings = predictor.settings
    images = images_of(task_of(settings), {}, labels=settings.labels, rules=settings.pixel_rules, sample=config.sample)
    every = [variant for variant in variants(settings.detectors) if variant.score in predictor.detectors]
    stages = two_stages(predictor)
    scores = yield from all_scores(every, predictor, images, output)
    scores[TWO_STAGES] = yield from stages_scores(stages, predictor, scores, images, output)
    rows = rows_of(every, scores, predictor)
    return record(
        figures_of(rows) | second_stage_figures(stages, scores, predictor),
        command_of(config),
        rows=[asdict(row) for row in rows],
        two_stages=asdict(stages.config),
        release=predictor.release.id,
        images={"known": len(images[0]), "unknown": len(images[1])},
    )


def command_of(config: AblationBench) -> str:
    """The command that measures this, but for where files lie."""
    name = config.release if config.release in SHIPPED else "FOLDER"
    release = [] if name == DEFAULT else [f"--release {name}"]
    return " ".join(["python -m benchmarks ablation", *release, f"--images {config.sample}"])


def task_of(settings: Settings) -> Task:
    """The digits that a release knows against all others.

    Raises:
        ValueError: when it knows all of them, or anything else.
    """
    others = tuple(digit for digit in DIGITS if digit not in settings.labels)
    if not others or not set(settings.labels) <= set(DIGITS):
        known = ", ".join(settings.labels)
        raise ValueError(f"the release knows {known}; take one that knows some of the digits 0 to 9 and no others")
    return Task("ablation", "known digits against all others", settings.labels, others)


def all_scores(
    every: Sequence[Variant], predictor: Predictor, images: tuple[LabelledImages, LabelledImages], output: Path
) -> Generator[Progress, None, dict[str, Scores]]:
    """The scores of all variants by their names, each made once, or stored before."""
    scores: dict[str, Scores] = {}
    distinct = {variant.name: variant for variant in every}
    for kind in dict.fromkeys(variant.score for variant in every):
        detectors = {n: detector_of(variant, predictor) for n, variant in distinct.items() if variant.score == kind}
        total, done = sum(batch_count(measured, *images) for measured in detectors.values()), 0
        for name, measured in detectors.items():
            path, key = scores_file(output, name), key_of(predictor.release.id, measured, *images)
            progress = Progress(kind, done, total)
            scores[name] = yield from stored_scores(path, key, measured, predictor.networks, images, progress)
            done += batch_count(measured, *images)
    return scores


def scores_file(output: Path, name: str) -> Path:
    """Where the scores of a variant are stored."""
    return output / "scores" / f"{name}.npz"


def two_stages(predictor: Predictor) -> TwoStage:
    """The release's verdict, and LMD where that is uncertain."""
    lmd: LMD = predictor.detectors["lmd"]  # type: ignore[assignment]
    first = ReleaseScore(predictor, VERDICT)
    return TwoStage(first, predictor.references[VERDICT], lmd, predictor.scale["lmd"])


def stages_scores(
    stages: TwoStage,
    predictor: Predictor,
    scores: Mapping[str, Scores],
    images: tuple[LabelledImages, LabelledImages],
    output: Path,
) -> Generator[Progress, None, Scores]:
    """The scores of the two stages; unlike others' their cost differs from image to image, so all images count."""
    measured = MeasuredDetector(stages, stages.lmd.config.evaluations, settings=repr(predictor.settings.detectors))
    path, key = scores_file(output, TWO_STAGES), key_of(predictor.release.id, measured, *images)
    if (stored := load_scores(path, key)) is not None:
        return stored
    total, done, seconds = batch_count(measured, *images), 0, 0.0
    parts, drawn = [], []
    for part in images:
        batches = []
        for chosen in batches_of(measured, part):
            batch = part.images(chosen).to(predictor.networks.device)
            start = time.perf_counter()
            batches.append(stages.both_stages(batch))
            seconds += time.perf_counter() - start
            done += 1
            yield Progress("two stages", done, total)
        parts.append(torch.cat([batch.scores for batch in batches]))
        drawn.append(float(torch.cat([batch.drawn for batch in batches]).double().mean()))
    # The cost is that of a stream that is half known and half unknown.
    share = sum(drawn) / 2 / stages.lmd.config.reconstructions
    first, lmd = summed(predictor.settings.detectors.verdict, scores, predictor), scores["lmd"]
    evaluations = first.evaluations + share * lmd.evaluations
    made = Scores(parts[0], parts[1], seconds, first.gflop + share * lmd.gflop, evaluations)
    save_scores(path, made, key)
    return made


def summed(names: Sequence[str], scores: Mapping[str, Scores], predictor: Predictor) -> Scores:
    """The sum of several scores on the scale of the release's card, and what its parts cost together."""
    parts, scale = [scores[name] for name in names], {name: predictor.scale[name] for name in names}
    known = fuse({name: scores[name].known for name in names}, scale)
    unknown = fuse({name: scores[name].unknown for name in names}, scale)
    costs = (sum(getattr(part, cost) for part in parts) for cost in ("seconds", "gflop", "evaluations"))
    return Scores(known, unknown, *costs)


def rows_of(every: Sequence[Variant], scores: Mapping[str, Scores], predictor: Predictor) -> list[Row]:
    """All variants in figures, group by group."""
    rows = [
        row(f"{each.score}: {each.choice}", each.value, scores[each.name], scores[each.score], default=each.default)
        for each in every
        if each.choice
    ]
    default = predictor.settings.detectors.verdict
    verdict = summed(default, scores, predictor)
    sums = {frozenset(names): names for names in (*SUMS, default) if set(names) <= scores.keys()}
    for names in sums.values():
        whole = summed(names, scores, predictor)
        rows.append(row("verdict", " + ".join(names), whole, verdict, default=set(names) == set(default)))
    rows.append(row("stages", "one", verdict, verdict, default=True))
    rows.append(row("stages", "two: lmd where in doubt", scores[TWO_STAGES], verdict, default=False))
    return rows


def row(group: str, variant: str, scores: Scores, reference: Scores, *, default: bool) -> Row:
    """One variant in figures, compared with the release's own choice."""
    auroc = separation(scores.known, scores.unknown).auroc
    known = torch.stack([part.known.double() for part in (scores, reference)])
    unknown = torch.stack([part.unknown.double() for part in (scores, reference)])
    change = difference(known, unknown)
    cost = (scores.evaluations, scores.gflop, scores.milliseconds)
    return Row(group, variant, default, auroc, change.value, change.error, *cost)


def figures_of(rows: list[Row]) -> dict[str, float]:
    """The AUROC of every variant, by the names of its group and itself."""
    return {f"auroc_{slug(row.group)}_{slug(row.variant)}": row.auroc for row in rows}


def slug(words: str) -> str:
    """Words as part of a figure's name: "0.75+0.8" becomes "0_75_0_8"."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def second_stage_figures(stages: TwoStage, scores: Mapping[str, Scores], predictor: Predictor) -> dict[str, float]:
    """Shares of images that go to the second stage, and what two stages cost."""
    first = summed(predictor.settings.detectors.verdict, scores, predictor)
    uncertain = {"known": stages.uncertain(first.known), "unknown": stages.uncertain(first.unknown)}
    shares = {f"second_stage_{kind}": float(images.double().mean()) for kind, images in uncertain.items()}
    return shares | {"nfe_two_stages": scores[TWO_STAGES].evaluations}
