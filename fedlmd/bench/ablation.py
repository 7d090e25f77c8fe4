"""What each choice of the detector buys: every one of them varied by itself, on one release."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fedlmd import artifacts
from fedlmd.answer import VERDICT, Answerer
from fedlmd.bench.contenders import AnswererScore, Contender
from fedlmd.bench.paired import difference
from fedlmd.bench.record import record
from fedlmd.bench.scores import Scores, batches_of, keep, kept, key_of, score
from fedlmd.bench.tasks import Task, images_of
from fedlmd.bench.two_stage import TwoStage
from fedlmd.bench.variants import SUMS, Variant, contender_of, variants
from fedlmd.data import LabelledImages
from fedlmd.detection import LMD, fuse, separation
from fedlmd.node import SHIPPED
from fedlmd.progress import Progress
from fedlmd.settings import DIGITS, Settings

__all__ = ["DEFAULT", "AblationBench", "Row", "command_of", "measure", "rows_of", "summed", "task_of"]

DEFAULT = "digits-0-4"
"""The release that is measured where none is named."""

TWO_STAGES = "two-stages"
"""The file of the two stages' scores."""

Steps = Generator[Progress, None, Any]


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


def measure(config: AblationBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Score the images with every variant; the last item is the result as JSON has it.

    Args:
        config: what to measure.
        output: ``scores/VARIANT.npz`` are kept in it, so that a later call goes on.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    answerer = Answerer(artifacts.load(SHIPPED.get(config.release, Path(config.release))))
    told = answerer.settings
    shape = {"image_size": told.image_size, "channels": told.channels, "sample": config.sample}
    known, unknown = images_of(task_of(told), {}, labels=told.labels, **shape)
    every = [of for of in variants(told.detector) if of.score in answerer.detectors]
    stages = two_stages(answerer)
    found: dict[str, Scores] = yield from all_scores(every, answerer, known, unknown, output)
    found[TWO_STAGES] = yield from stages_scores(stages, answerer, found, (known, unknown), output)
    rows = rows_of(every, found, answerer)
    figures = figures_of(rows) | second_looks(stages, found, answerer)
    yield record(
        figures,
        command_of(config),
        rows=[asdict(row) for row in rows],
        two_stages=asdict(stages.config),
        release=answerer.release.id,
        images={"known": len(known), "unknown": len(unknown)},
    )


def command_of(config: AblationBench) -> str:
    """The command that measures this, but for where files lie."""
    name = config.release if config.release in SHIPPED else "FOLDER"
    release = [] if name == DEFAULT else [f"--release {name}"]
    return " ".join(["fedlmd bench ablation", *release, f"--images {config.sample}"])


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
    every: list[Variant], answerer: Answerer, known: LabelledImages, unknown: LabelledImages, output: Path
) -> Steps:
    """The scores of all variants by their names, each made once, or kept from before."""
    found: dict[str, Scores] = {}
    distinct = {variant.name: variant for variant in every}
    for kind in dict.fromkeys(variant.score for variant in every):
        named = {name: variant for name, variant in distinct.items() if variant.score == kind}
        for done, (name, variant) in enumerate(named.items()):
            contender = contender_of(variant, answerer)
            path, key = scores_file(output, name), key_of(answerer.release.id, contender, known, unknown)
            before = kept(path, key)
            steps = iter([before]) if before else score(contender, answerer.networks, known, unknown)
            batches = sum(len(batches_of(contender, images)) for images in (known, unknown))
            for step in steps:
                if isinstance(step, Scores):
                    found[name] = step
                else:
                    yield Progress(kind, done * batches + step, len(named) * batches)
            if before is None:
                keep(path, found[name], key)
            yield Progress(kind, (done + 1) * batches, len(named) * batches)
    return found


def scores_file(output: Path, name: str) -> Path:
    """Where the scores of a variant are kept."""
    return output / "scores" / f"{name}.npz"


def two_stages(answerer: Answerer) -> TwoStage:
    """The release's verdict, and LMD where that leaves doubt."""
    lmd: LMD = answerer.detectors["lmd"]  # type: ignore[assignment]
    first = AnswererScore(answerer, VERDICT)
    return TwoStage(first, answerer.sketches[VERDICT], lmd, answerer.scale["lmd"])


def stages_scores(
    stages: TwoStage,
    answerer: Answerer,
    found: Mapping[str, Scores],
    images: tuple[LabelledImages, LabelledImages],
    output: Path,
) -> Steps:
    """The scores of the two stages; unlike others' their cost differs from image to image, so all images count."""
    contender = Contender(stages, stages.lmd.config.evaluations, settings=repr(answerer.settings.detector))
    path, key = scores_file(output, TWO_STAGES), key_of(answerer.release.id, contender, *images)
    before = kept(path, key)
    if before is not None:
        return before
    first, lmd = summed(answerer.settings.detector.verdict, found, answerer), found["lmd"]
    total, done, spent = sum(len(batches_of(contender, part)) for part in images), 0, 0.0
    scores, looks = [], []
    for part in images:
        judged = []
        for chosen in batches_of(contender, part):
            batch = part.images(chosen).to(answerer.networks.device)
            start = time.perf_counter()
            judged.append(stages.judge(batch))
            spent += time.perf_counter() - start
            done += 1
            yield Progress("two stages", done, total)
        scores.append(torch.cat([of.scores for of in judged]))
        looks.append(float(torch.cat([of.drawn for of in judged]).double().mean()))
    # Of a stream that is half known and half unknown.
    share = sum(looks) / 2 / stages.lmd.config.reconstructions
    evaluations = first.evaluations + share * lmd.evaluations
    made = Scores(scores[0], scores[1], spent, first.gflop + share * lmd.gflop, evaluations)
    keep(path, made, key)
    return made


def summed(names: tuple[str, ...], found: Mapping[str, Scores], answerer: Answerer) -> Scores:
    """The sum of several scores on the scale of the release's card, and what its parts cost together."""
    parts, scale = [found[name] for name in names], {name: answerer.scale[name] for name in names}
    known = fuse({name: found[name].known for name in names}, scale)
    unknown = fuse({name: found[name].unknown for name in names}, scale)
    costs = (sum(getattr(part, cost) for part in parts) for cost in ("seconds", "gflop", "evaluations"))
    return Scores(known, unknown, *costs)


def rows_of(every: list[Variant], found: Mapping[str, Scores], answerer: Answerer) -> list[Row]:
    """All variants in figures, group by group."""
    rows = [
        row(f"{of.score}: {of.choice}", of.value, found[of.name], found[of.score], default=of.default)
        for of in every
        if of.choice
    ]
    own = answerer.settings.detector.verdict
    verdict = summed(own, found, answerer)
    listed = {frozenset(names): names for names in (*SUMS, own) if set(names) <= found.keys()}
    for names in listed.values():
        whole = summed(names, found, answerer)
        rows.append(row("verdict", " + ".join(names), whole, verdict, default=set(names) == set(own)))
    rows.append(row("stages", "one", verdict, verdict, default=True))
    rows.append(row("stages", "two: lmd where in doubt", found[TWO_STAGES], verdict, default=False))
    return rows


def row(group: str, variant: str, scores: Scores, own: Scores, *, default: bool) -> Row:
    """One variant in figures, beside the release's own choice."""
    auroc = separation(scores.known, scores.unknown).auroc
    known, unknown = (
        torch.stack([getattr(of, kind).double() for of in (scores, own)]) for kind in ("known", "unknown")
    )
    beside = difference(known, unknown)
    cost = (scores.evaluations, scores.gflop, scores.milliseconds)
    return Row(group, variant, default, auroc, beside.value, beside.error, *cost)


def figures_of(rows: list[Row]) -> dict[str, float]:
    """The AUROC of every variant, by the names of its group and itself."""
    return {f"auroc_{slug(row.group)}_{slug(row.variant)}": row.auroc for row in rows}


def slug(words: str) -> str:
    """Words as part of a figure's name: "0.75+0.8" becomes "0_75_0_8"."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def second_looks(stages: TwoStage, found: Mapping[str, Scores], answerer: Answerer) -> dict[str, float]:
    """Shares of images that the first stage leaves in doubt, and what two stages cost."""
    first = summed(answerer.settings.detector.verdict, found, answerer)
    doubtful = {kind: stages.doubtful(getattr(first, kind)) for kind in ("known", "unknown")}
    shares = {f"second_stage_{kind}": float(of.double().mean()) for kind, of in doubtful.items()}
    return shares | {"nfe_two_stages": found[TWO_STAGES].evaluations}
