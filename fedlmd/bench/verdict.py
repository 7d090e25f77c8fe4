"""Whether a verdict can be trusted at every site: false alarms of federations drawn from the scores of one release."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedlmd import artifacts
from fedlmd.answer import CLASS, VERDICT, Answerer
from fedlmd.bench.alarms import ALPHAS, MODES, Run, references, summary
from fedlmd.bench.drift import drift_figures
from fedlmd.bench.federations import Worker, dirichlet, iid, label_lists, shifted
from fedlmd.bench.heat import PatchHeat, heat_in_patches
from fedlmd.bench.open_set import oscr
from fedlmd.bench.pool import Pool, keep, kept, key_of, score
from fedlmd.bench.record import record
from fedlmd.bench.tasks import with_content
from fedlmd.data import LabelledImages, label_names, load, some
from fedlmd.detection import Moments, Reference, Sketch, decide
from fedlmd.federation.messages import wire_size
from fedlmd.node import PRETRAINED_FOLDER
from fedlmd.progress import Progress
from fedlmd.statistics import sums_by_class

__all__ = ["HEADLINE", "VerdictBench", "calibration_bytes", "measure"]

HEADLINE = 0.05
"""The false-alarm rate that the figures are given for."""

COVERAGES = (0.8, 0.9, 0.95)
"""Shares of known images that are accepted when accuracy is measured on the accepted ones."""

KNOWN, SHIFTED = "known", "usps"
"""Pools of the known labels: test images of the release's source, and the same labels in another hand."""

FOREIGN = ("usps", "fashion", "notmnist")

TITLES = {
    "iid": "alike, with 400 to 20 calibration images",
    "label_skew": "two labels each",
    "dirichlet": "labels by Dir(0.5)",
    "shift": "the last one sees USPS",
}
"""The federations, in words."""

Steps = Generator[Progress, None, Any]


@dataclass(frozen=True)
class VerdictBench:
    """What is measured.

    Args:
        release: folder of the release whose scores are taken; it must know labels of MNIST.
        data: .npz files of other data sets by name: "usps" (known labels in another hand), "fashion", "notmnist"
            (unknown images).
        seeds: how many federations of each kind are drawn.
        sample: at most so many images of each kind are scored; None takes all.
        patched: images into which patches are pasted, to see whether the heat-maps find them; 2 or more.
    """

    release: Path = PRETRAINED_FOLDER
    data: Mapping[str, Path] = field(default_factory=dict)
    seeds: int = 20
    sample: int | None = None
    patched: int = 100

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if strange := sorted(self.data.keys() - set(FOREIGN)):
            raise ValueError(f"there is no use for a data set {strange[0]!r}; there is for {', '.join(FOREIGN)}")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; at least 1 is needed")
        if self.patched < 2:
            raise ValueError(f"patched is {self.patched}; a patch comes from another image, so at least 2 are needed")


def measure(config: VerdictBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Score all images once, draw the federations; the last item is the result as JSON has it.

    A worker's false alarms are counted over all seeds. It is *outside* when their number does not lie in the central
    99% interval of what workers with as many calibration and test images have whose threshold, made anew each time,
    keeps alpha exactly on average: so both the luck of the calibration and that of the test are allowed for, and a
    sound worker is outside in 1 of 100 cases. *Outside in one run* is the same of a single seed.

    Args:
        config: what to measure.
        output: ``pools/NAME.npz`` are kept in it, so that a later call goes on.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    answerer = Answerer(artifacts.load(config.release))
    pools: dict[str, Pool] = yield from pools_of(answerer, config, output)
    results = {}
    for kind, draw in draws(pools).items():
        results[kind] = yield from federation_results(kind, draw, pools, answerer, config)
    heat = yield from heat_figures(answerer, config)
    drift = drift_of(pools, config.seeds)
    missing = [name for name in ("usps", "fashion") if name not in config.data]
    notes = [f"{name} was not given: what needs it was left out" for name in missing]
    selective = selective_figures(pools)
    sent = {"calibration_bytes_per_worker": calibration_bytes(answerer), "sums_bytes_per_worker": sums_bytes(answerer)}
    figures = {**figures_of(results), **selective, **sent, **drift, **heat}
    told = {"seeds": config.seeds, "release": answerer.release.id, "images": {n: len(p) for n, p in pools.items()}}
    yield record(figures, command_of(config), federations=results, notes=notes, **told)


def command_of(config: VerdictBench) -> str:
    """The command that measures this, but for where files lie."""
    release = [] if config.release == PRETRAINED_FOLDER else ["--release FOLDER"]
    sample = [] if config.sample is None else [f"--images {config.sample}"]
    data = [f"--data {name}=FILE" for name in config.data]
    return " ".join(["fedlmd bench verdict", *release, *data, f"--seeds {config.seeds}", *sample])


def images_of(answerer: Answerer, config: VerdictBench) -> dict[str, LabelledImages]:
    """The images by their pool's name, all from test splits."""
    told = answerer.settings

    def read(source: str, labels: Sequence[str] | None) -> LabelledImages:
        found = load(source, "eval", image_size=told.image_size, channels=told.channels, labels=labels)
        return found if config.sample is None else some(found, config.sample)

    others = [name for name in label_names("mnist", "eval") if name not in told.labels]
    found = {KNOWN: read("mnist", told.labels)} | ({"unknown": read("mnist", others)} if others else {})
    for name, file in config.data.items():
        found[name] = with_content(read(str(file), told.labels if name == SHIFTED else None))
    return found


def pools_of(answerer: Answerer, config: VerdictBench, output: Path) -> Steps:
    """The pools by name, from before or scored now."""
    pools: dict[str, Pool] = {}
    for name, images in images_of(answerer, config).items():
        path, key = output / "pools" / f"{name}.npz", key_of(answerer, images)
        before = kept(path, key)
        for step in score(answerer, images) if before is None else [before]:
            if isinstance(step, Pool):
                pools[name] = step
            else:
                yield Progress(f"scoring {name}", step, len(images))
        if before is None:
            keep(path, pools[name], key)
    return pools


def draws(pools: Mapping[str, Pool]) -> dict[str, Callable[[np.random.Generator], list[Worker]]]:
    """How the federations of each kind are drawn, those for which there are images."""
    known = pools[KNOWN]
    found: dict[str, Callable[[np.random.Generator], list[Worker]]] = {
        "iid": lambda rng: iid(known, rng),
        "label_skew": lambda rng: label_lists(known, rng),
        "dirichlet": lambda rng: dirichlet(known, rng),
    }
    return found | ({"shift": lambda rng: shifted(known, pools[SHIFTED], rng)} if SHIFTED in pools else {})


def federation_results(
    kind: str,
    draw: Callable[[np.random.Generator], list[Worker]],
    pools: Mapping[str, Pool],
    answerer: Answerer,
    config: VerdictBench,
) -> Steps:
    """All federations of one kind: rates of false alarms, power, and what the three verdicts amount to."""
    strangers = {name: pool for name, pool in pools.items() if name not in (KNOWN, SHIFTED)}
    runs, words = [], []
    for seed in range(config.seeds):
        workers = draw(np.random.default_rng([seed, *kind.encode()]))
        runs.append(Run.of(workers, strangers))
        words.append(verdicts(workers, strangers, answerer.settings.calibration.alpha_uncertain))
        yield Progress(kind, seed + 1, config.seeds)
    rates = {mode: {str(alpha): summary(runs, mode, alpha) for alpha in ALPHAS} for mode in MODES}
    return {
        "title": TITLES[kind],
        "workers": [
            {part: float(np.mean([getattr(run, part)[worker] for run in runs])) for part in ("calibration", "test")}
            for worker in range(len(runs[0].test))
        ],
        "rates": rates,
        "verdicts": {
            name: {word: float(np.mean([of[name][word] for of in words])) for word in words[0][name]}
            for name in words[0]
        },
    }


def verdicts(
    workers: Sequence[Worker], strangers: Mapping[str, Pool], alpha_uncertain: float
) -> dict[str, dict[str, float]]:
    """Shares of the three verdicts, and of images called known under a wrong label, with shrunk calibration."""
    compared, labelled = references(workers, "shrunk"), references(workers, "shrunk", losses=True)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in (KNOWN, *strangers)}
    for worker, of, label in zip(workers, compared, labelled, strict=True):
        for name, pool in {KNOWN: worker.test, **strangers}.items():
            said = words_of(pool, of, label, alpha_uncertain)
            wrong = {"known, wrong label": float(((said == "known") & ~pool.right).mean())} if name == KNOWN else {}
            shares = {word: float((said == word).mean()) for word in ("known", "uncertain", "unknown")}
            parts[name].append(shares | wrong)
    return {
        name: {word: float(np.mean([of[word] for of in found])) for word in found[0]} for name, found in parts.items()
    }


def words_of(pool: Pool, scores: Reference, losses: Reference, alpha_uncertain: float) -> NDArray[np.str_]:
    """The verdict on each image of a pool, as an answer has it."""
    plausible = (losses.p_values(pool.losses) > HEADLINE).sum(1)
    values = zip(scores.p_values(pool.scores).tolist(), plausible.tolist(), strict=True)
    return np.array([decide(p_value, HEADLINE, alpha_uncertain, count) for p_value, count in values])


def heat_figures(answerer: Answerer, config: VerdictBench) -> Steps:
    """Where the heat-maps of known images with a pasted patch point; no detector is fitted to test images."""
    images = some(images_of(answerer, config)[KNOWN], config.patched).images()
    for step in heat_in_patches(answerer, images):
        if isinstance(step, PatchHeat):
            return step.figures
        yield step
    return {}


def drift_of(pools: Mapping[str, Pool], seeds: int) -> dict[str, float | int | None]:
    """How soon unknown digits are noticed; nothing where there are none, or too few known ones to calibrate with."""
    known = torch.from_numpy(pools[KNOWN].scores)
    calibration = min(1000, len(known) // 2)
    if "unknown" not in pools or not calibration:
        return {}
    return drift_figures(known, torch.from_numpy(pools["unknown"].scores), calibration, range(seeds))


def selective_figures(pools: Mapping[str, Pool]) -> dict[str, float]:
    """Open-set classification of a stream that is half known and half unknown digits.

    ``selective_accuracy_at_C``: of the images that score no higher than a share C of the known ones, the share that
    gets its right class; an unknown one never does. ``accuracy_at_C``: the same of the known ones alone.
    """
    known = pools[KNOWN]
    figures = {"accuracy": float(known.right.mean())}
    if "unknown" not in pools:
        return figures
    unknown = pools["unknown"]
    scores = (torch.from_numpy(pool.scores) for pool in (known, unknown))
    figures["oscr"] = oscr(next(scores), torch.from_numpy(known.right), next(scores))
    for coverage in COVERAGES:
        limit = np.quantile(known.scores, coverage, method="higher")
        accepted = known.scores <= limit
        right, strange = float((known.right & accepted).mean()), float((unknown.scores <= limit).mean())
        figures[f"accuracy_at_{coverage}"] = right / float(accepted.mean())
        figures[f"selective_accuracy_at_{coverage}"] = right / (float(accepted.mean()) + strange)
    return figures


def figures_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a README or a check names, all for the one alpha; shrunk calibration where none is named."""
    figures: dict[str, float] = {}
    for kind, of in results.items():
        told = {mode: of["rates"][mode][str(HEADLINE)] for mode in MODES}
        for mode, summed in told.items():
            figures[f"sites_outside_{kind}_{mode}"] = summed["outside"]
            figures[f"false_alarm_rate_{kind}_{mode}"] = summed["rate"]
        figures[f"sites_outside_{kind}"] = told["shrunk"]["outside"]
        figures[f"outside_in_one_run_{kind}"] = told["shrunk"]["outside_in_one_run"]
        figures |= {f"found_{name}_{kind}": share for name, share in told["shrunk"]["found"].items()}
    return figures


def calibration_bytes(answerer: Answerer) -> int:
    """Bytes that leave a worker for its calibration, whatever its number of images: moments and sketches."""
    names = [name for name in answerer.choices if name != VERDICT]
    sketch = asdict(Sketch.of(torch.linspace(-1, 1, 500)))
    # The two figures beside the scores are the accuracy and the loss.
    moments = {name: asdict(Moments(500, 0.5, 0.5)) for name in (*names, "accuracy", "loss")}
    return wire_size(moments) + wire_size(dict.fromkeys((*names, VERDICT, CLASS), sketch))


def sums_bytes(answerer: Answerer) -> int:
    """Bytes that leave a worker for the Gaussians of the embeddings, whatever its number of images; 0 without any."""
    gaussians = answerer.networks.gaussians
    if gaussians is None:
        return 0
    classes, size = gaussians.means.shape
    return sum(array.nbytes for array in sums_by_class(np.zeros((1, size)), np.zeros(1, dtype=int), classes).values())
