"""Whether a verdict holds at every worker: false alarms of federations drawn from the scores of one release."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.alarms import ALPHAS, MODES, Run, references, summary
from benchmarks.drift import LONGEST, drift_figures
from benchmarks.federations import DrawnWorker, dirichlet, iid, label_lists, shifted
from benchmarks.heat import heat_in_patches
from benchmarks.open_set import oscr
from benchmarks.pool import Pool, stored_pool
from benchmarks.record import record
from benchmarks.storage import Steps
from benchmarks.tasks import with_content
from fedlmd.calibration import Moments, Reference, Sketch, decide, sums_by_class
from fedlmd.data import LabelledImages, evaluation_split, label_names, load, some
from fedlmd.federation.messages import wire_size
from fedlmd.inference import CLASS, Predictor
from fedlmd.progress import Progress
from fedlmd.release import PRETRAINED_FOLDER, VERDICT, load_release

HEADLINE = 0.05
"""The false-alarm rate that the figures are given for."""

COVERAGES = (0.8, 0.9, 0.95)
"""Shares of known images that are accepted when accuracy is measured on the accepted ones."""

KNOWN, SHIFTED = "known", "usps"
"""Pools of the known labels: test images of the release's source, and the same labels in other handwriting."""

FOREIGN = ("usps", "fashion", "notmnist")

TITLES = {
    "iid": "alike, with 400 to 20 calibration images",
    "label_skew": "two labels each",
    "dirichlet": "labels by Dir(0.5)",
    "shift": "the last one sees USPS",
}
"""The federations, in words."""


@dataclass(frozen=True)
class VerdictBench:
    """What is measured.

    Args:
        release: folder of the release whose scores are taken; it must know labels of MNIST.
        data: .npz files of other data sets by name: "usps" (known labels in other handwriting), "fashion", "notmnist"
            (unknown images).
        seeds: how many federations of each kind are drawn.
        sample: at most so many images of each kind are scored; None takes all.
        patched: images into which patches are pasted, to see whether the heat-maps find them; 2 or more.
        stream: images of each stream that the drift watch is measured on.
    """

    release: Path = PRETRAINED_FOLDER
    data: Mapping[str, Path] = field(default_factory=dict)
    seeds: int = 20
    sample: int | None = None
    patched: int = 100
    stream: int = LONGEST

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if unused := sorted(self.data.keys() - set(FOREIGN)):
            raise ValueError(f"there is no use for a data set {unused[0]!r}; there is for {', '.join(FOREIGN)}")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; at least 1 is needed")
        if self.patched < 2:
            raise ValueError(f"patched is {self.patched}; a patch comes from another image, so at least 2 are needed")


def measure(config: VerdictBench, output: Path) -> Steps:
    """Score all images once, draw the federations; returns the result as JSON has it.

    A worker's false alarms are counted over all seeds. It is *outside* when their number does not lie in the central
    99% interval of what workers with as many calibration and test images have whose threshold, made anew each time,
    keeps alpha exactly on average: that allows for chance in calibration and in test, and a correctly calibrated worker
    is outside in 1 of 100 cases. *Outside in one run* is the same of a single seed.

    Args:
        config: what to measure.
        output: ``pools/NAME.npz`` are stored in it, so that a later call continues.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    predictor = Predictor(load_release(config.release))
    pools: dict[str, Pool] = yield from pools_of(predictor, config, output)
    results = {}
    for kind, draw in draws(pools).items():
        results[kind] = yield from federation_results(kind, draw, pools, predictor, config)
    heat = yield from heat_figures(predictor, config)
    drift = drift_of(pools, config)
    missing = [name for name in ("usps", "fashion") if name not in config.data]
    notes = [f"{name} was not given: what needs it was left out" for name in missing]
    selective = selective_figures(pools)
    sent = {
        "calibration_bytes_per_worker": calibration_bytes(predictor),
        "sums_bytes_per_worker": sums_bytes(predictor),
    }
    figures = {**figures_of(results), **selective, **sent, **drift, **heat}
    setup = {"seeds": config.seeds, "release": predictor.release.id, "images": {n: len(p) for n, p in pools.items()}}
    return record(figures, command_of(config), federations=results, notes=notes, **setup)


def command_of(config: VerdictBench) -> str:
    """The command that measures this, without paths of files."""
    release = [] if config.release == PRETRAINED_FOLDER else ["--release FOLDER"]
    sample = [] if config.sample is None else [f"--images {config.sample}"]
    data = [f"--data {name}=FILE" for name in config.data]
    return " ".join(["python -m benchmarks verdict", *release, *data, f"--seeds {config.seeds}", *sample])


def images_of(predictor: Predictor, config: VerdictBench) -> dict[str, LabelledImages]:
    """The images by their pool's name, all from test splits."""
    settings = predictor.settings

    def read(source: str, labels: Sequence[str] | None) -> LabelledImages:
        images = load(source, evaluation_split(source), rules=settings.pixel_rules, labels=labels)
        return images if config.sample is None else some(images, config.sample)

    others = [name for name in label_names("mnist", "eval") if name not in settings.labels]
    by_pool = {KNOWN: read("mnist", settings.labels)} | ({"unknown": read("mnist", others)} if others else {})
    for name, file in config.data.items():
        by_pool[name] = with_content(read(str(file), settings.labels if name == SHIFTED else None))
    return by_pool


def pools_of(predictor: Predictor, config: VerdictBench, output: Path) -> Generator[Progress, None, dict[str, Pool]]:
    """The pools by name, stored before or scored now."""
    pools: dict[str, Pool] = {}
    for name, images in images_of(predictor, config).items():
        path = output / "pools" / f"{name}.npz"
        pools[name] = yield from stored_pool(path, predictor, images, f"scoring {name}")
    return pools


def draws(pools: Mapping[str, Pool]) -> dict[str, Callable[[np.random.Generator], list[DrawnWorker]]]:
    """How the federations of each kind are drawn, those for which there are images."""
    known = pools[KNOWN]
    by_kind: dict[str, Callable[[np.random.Generator], list[DrawnWorker]]] = {
        "iid": lambda rng: iid(known, rng),
        "label_skew": lambda rng: label_lists(known, rng),
        "dirichlet": lambda rng: dirichlet(known, rng),
    }
    return by_kind | ({"shift": lambda rng: shifted(known, pools[SHIFTED], rng)} if SHIFTED in pools else {})


def federation_results(
    kind: str,
    draw: Callable[[np.random.Generator], list[DrawnWorker]],
    pools: Mapping[str, Pool],
    predictor: Predictor,
    config: VerdictBench,
) -> Steps:
    """All federations of one kind: rates of false alarms, power, and what the three verdicts amount to."""
    unknown = {name: pool for name, pool in pools.items() if name not in (KNOWN, SHIFTED)}
    runs, words = [], []
    for seed in range(config.seeds):
        workers = draw(np.random.default_rng([seed, *kind.encode()]))
        runs.append(Run.of(workers, unknown))
        words.append(verdicts(workers, unknown, predictor.settings.calibration.alpha_uncertain))
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
            name: {word: float(np.mean([shares[name][word] for shares in words])) for word in words[0][name]}
            for name in words[0]
        },
    }


def verdicts(
    workers: Sequence[DrawnWorker], unknown: Mapping[str, Pool], alpha_uncertain: float
) -> dict[str, dict[str, float]]:
    """Shares of the three verdicts, and of images called known under a wrong label, with shrunk calibration."""
    compared, labelled = references(workers, "shrunk"), references(workers, "shrunk", losses=True)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in (KNOWN, *unknown)}
    for worker, scores, losses in zip(workers, compared, labelled, strict=True):
        for name, pool in {KNOWN: worker.test, **unknown}.items():
            verdict = words_of(pool, scores, losses, alpha_uncertain)
            wrong = {"known, wrong label": float(((verdict == "known") & ~pool.right).mean())} if name == KNOWN else {}
            shares = {word: float((verdict == word).mean()) for word in ("known", "uncertain", "unknown")}
            parts[name].append(shares | wrong)
    return {
        name: {word: float(np.mean([part[word] for part in shares])) for word in shares[0]}
        for name, shares in parts.items()
    }


def words_of(pool: Pool, scores: Reference, losses: Reference, alpha_uncertain: float) -> NDArray[np.str_]:
    """The verdict on each image of a pool, as a prediction has it."""
    plausible = (losses.p_values(pool.losses) > HEADLINE).sum(1)
    values = zip(scores.p_values(pool.scores).tolist(), plausible.tolist(), strict=True)
    return np.array([decide(p_value, HEADLINE, alpha_uncertain, count) for p_value, count in values])


def heat_figures(predictor: Predictor, config: VerdictBench) -> Steps:
    """How much heat lies on a patch pasted into known images; no detector is fitted to test images."""
    images = some(images_of(predictor, config)[KNOWN], config.patched).images()
    return (yield from heat_in_patches(predictor, images)).figures


def drift_of(pools: Mapping[str, Pool], config: VerdictBench) -> dict[str, float | int | None]:
    """How soon unknown digits are noticed; nothing where there are none, or too few known ones to calibrate with."""
    known = pools[KNOWN].scores
    calibration = min(1000, len(known) // 2)
    if "unknown" not in pools or not calibration:
        return {}
    return drift_figures(known, pools["unknown"].scores, calibration, range(config.seeds), length=config.stream)


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
        right, wrong = float((known.right & accepted).mean()), float((unknown.scores <= limit).mean())
        figures[f"accuracy_at_{coverage}"] = right / float(accepted.mean())
        figures[f"selective_accuracy_at_{coverage}"] = right / (float(accepted.mean()) + wrong)
    return figures


def figures_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a README or a check names, all for the one alpha; shrunk calibration where none is named."""
    figures: dict[str, float] = {}
    for kind, result in results.items():
        rates = {mode: result["rates"][mode][str(HEADLINE)] for mode in MODES}
        for mode, summed in rates.items():
            figures[f"sites_outside_{kind}_{mode}"] = summed["outside"]
            figures[f"false_alarm_rate_{kind}_{mode}"] = summed["rate"]
        figures[f"sites_outside_{kind}"] = rates["shrunk"]["outside"]
        figures[f"outside_in_one_run_{kind}"] = rates["shrunk"]["outside_in_one_run"]
        figures |= {f"found_{name}_{kind}": share for name, share in rates["shrunk"]["found"].items()}
    return figures


def calibration_bytes(predictor: Predictor) -> int:
    """Bytes that leave a worker for its calibration, whatever its number of images: moments and sketches."""
    names = [name for name in predictor.choices if name != VERDICT]
    sketch = asdict(Sketch.of(np.linspace(-1, 1, 500)))
    # The two figures beside the scores are the accuracy and the loss.
    moments = {name: asdict(Moments(500, 0.5, 0.5)) for name in (*names, "accuracy", "loss")}
    return wire_size(moments) + wire_size(dict.fromkeys((*names, VERDICT, CLASS), sketch))


def sums_bytes(predictor: Predictor) -> int:
    """Bytes that leave a worker for the Gaussians of the embeddings, whatever its number of images; 0 without any."""
    gaussians = predictor.inputs.gaussians
    if gaussians is None:
        return 0
    classes, size = gaussians.means.shape
    return sum(array.nbytes for array in sums_by_class(np.zeros((1, size)), np.zeros(1, dtype=int), classes).values())
