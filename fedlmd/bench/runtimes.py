"""What other ways of running the denoiser on a CPU would gain over plain torch, and what they weigh."""

from __future__ import annotations

import importlib
import os
import shutil
import statistics
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlmd import artifacts, networks, settings
from fedlmd.bench.record import record
from fedlmd.models import UNet
from fedlmd.node import PRETRAINED_FOLDER
from fedlmd.progress import Progress

__all__ = ["BATCHES", "RUNTIMES", "Runtime", "measure", "mebibytes", "medians", "missing", "question"]

# One image; one image at the three noise levels of a verdict; a batch of an evaluation.
BATCHES = (1, 3, 64)
# Seconds of eager torch's own work that each batch size is measured for.
SECONDS = 0.5

Question = tuple[Tensor, Tensor, Tensor]
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Runtime:
    """A way of running the denoiser.

    Args:
        name: as the result has it.
        build: makes the callable ``(x_t, t, label) -> v`` from the network and a folder for files.
        packages: what has to be installed beside the program's own dependencies, to run the network and to export it.
        compiler: whether it compiles C++ where it runs.
    """

    name: str
    build: Callable[[UNet, Path], Run]
    packages: tuple[str, ...] = ()
    compiler: bool = False


def eager(network: UNet, folder: Path) -> Run:  # noqa: ARG001 - a runtime's signature
    """The network as the program runs it."""
    return network


def bfloat16(network: UNet, folder: Path) -> Run:  # noqa: ARG001 - a runtime's signature
    """The network under autocast, as training has it on processors with matrix tiles; float32 comes out."""

    def run(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            v: Tensor = network(x_t, t, label)
        return v.float()

    return run


def compiled(network: UNet, folder: Path) -> Run:  # noqa: ARG001 - a runtime's signature
    """The network through TorchInductor (Ansel et al. 2024), compiled anew for every batch size."""
    run: Run = torch.compile(network, dynamic=False)
    return run


def onnxruntime(network: UNet, folder: Path) -> Run:
    """The network exported to ONNX once, for any batch size, and run by ONNX Runtime on torch's number of threads."""
    runtime = importlib.import_module("onnxruntime")
    file = folder / "denoiser.onnx"
    some = torch.export.Dim("images", min=1, max=65536)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own parts
        program = torch.onnx.export(
            network, question(network, 3), dynamo=True, dynamic_shapes=({0: some},) * 3, verbose=False
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program; use a version of torch whose exporter does")
    program.save(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*given: Tensor) -> Tensor:
        arrays = [tensor.numpy() for tensor in given]
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return run


def openvino(network: UNet, folder: Path) -> Run:  # noqa: ARG001 - a runtime's signature
    """The network compiled by OpenVINO for every batch size, on torch's number of threads.

    In single precision by request: by itself it computes in bfloat16 wherever the processor can. One graph for
    any batch size was slower on one thread than eager torch, hence one for each.
    """
    ov = importlib.import_module("openvino")
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    graphs: dict[int, Any] = {}

    def run(*given: Tensor) -> Tensor:
        batch = len(given[0])
        if batch not in graphs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporter's, of its own parts
                exported = torch.export.export(network, question(network, batch))
            graphs[batch] = ov.Core().compile_model(ov.convert_model(exported), "CPU", hints)
        # Copied, since the next call writes its result to the same place.
        return torch.from_numpy(graphs[batch]([tensor.numpy() for tensor in given])[0].copy())

    return run


RUNTIMES = (
    Runtime("eager", eager),
    Runtime("bfloat16", bfloat16),
    Runtime("compile", compiled, compiler=True),
    Runtime("onnxruntime", onnxruntime, ("onnxruntime", "flatbuffers", "onnx", "onnxscript", "onnx-ir", "ml-dtypes")),
    Runtime("openvino", openvino, ("openvino",)),
)


def measure(
    output: Path, *, runtimes: Sequence[Runtime] = RUNTIMES, batches: Sequence[int] = BATCHES
) -> Iterator[Progress | dict[str, Any]]:
    """Time the shipped release's denoiser in every runtime that is at hand; the last item is the result as JSON.

    All run on one thread, in turns, and what is compared is the processor's time: neighbours on a shared machine then
    slow them all alike.

    Args:
        output: folder for exported networks.
        runtimes: the first is the one that the others are compared with.
        batches: images at once.
    """
    output.mkdir(parents=True, exist_ok=True)
    release = artifacts.load(PRETRAINED_FOLDER)
    built = networks.build(settings.from_mapping(release.card["settings"]), release.weights).for_answers()
    if not isinstance(built.denoiser, UNet):
        raise ValueError(f"release {release.id} holds several sites' denoisers; measure one that holds a single one")
    network = built.denoiser.cpu()
    skipped = {runtime.name: needs for runtime in runtimes if (needs := missing(runtime))}
    present = [runtime for runtime in runtimes if runtime.name not in skipped]
    figures: dict[str, float] = {f"{one.name}_mib": mebibytes(one.packages) for one in present if one.packages}
    differences = {runtime.name: 0.0 for runtime in present}
    with one_thread(), torch.inference_mode():
        runs = {runtime.name: runtime.build(network, output) for runtime in present}
        for number, batch in enumerate(batches, start=1):
            asked = question(network, batch)
            reference = network(*asked)
            for name, run in runs.items():  # compiles, too, what is compiled at the first call
                differences[name] = max(differences[name], float((run(*asked) - reference).abs().max()))
            times = medians(runs, asked)
            first = next(iter(times.values()))
            for name, milliseconds in times.items():
                speedup = first / milliseconds
                figures[f"{name}_batch_{batch}_ms"] = round(milliseconds, 3)
                figures[f"{name}_batch_{batch}_speedup"] = round(speedup, 2)
                yield Progress(name, number, len(batches), {"batch": batch, "ms": milliseconds, "speedup": speedup})
    yield record(figures, "fedlmd bench runtimes", differences=differences, skipped=skipped)


def medians(
    runs: dict[str, Run],
    asked: Question,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Median milliseconds of each run, all taking turns, each round in another order.

    Args:
        runs: by name, all warm.
        asked: what each is asked.
        seconds: rounds go on until the first of the runs has taken so long; 5 rounds are the fewest.
        clock: gives seconds; by default the processor time of this process, all its threads together.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    while len(times[names[0]]) < 5 or sum(times[names[0]]) < seconds:
        turn = len(times[names[0]]) % len(names)
        for name in names[turn:] + names[:turn]:
            start = clock()
            runs[name](*asked)
            times[name].append(clock() - start)
    return {name: 1000 * statistics.median(of) for name, of in times.items()}


def question(network: UNet, batch: int) -> Question:
    """Noisy images, noise levels and labels, the same at every call."""
    config, generator = network.config, torch.Generator().manual_seed(0)
    x_t = torch.randn(batch, config.channels, config.image_size, config.image_size, generator=generator)
    t = torch.tensor([749, 799, 849]).repeat(batch)[:batch]
    return x_t, t, torch.arange(batch) % (config.classes + 1)


def missing(runtime: Runtime) -> str:
    """What a runtime needs and does not find here, as a sentence; empty where it can run."""
    absent = [name for name in runtime.packages if not installed(name)]
    if absent:
        return f"not installed: {', '.join(absent)}; pip install {' '.join(absent)}"
    if runtime.compiler and not shutil.which(os.environ.get("CXX", "g++")):
        return "there is no C++ compiler; install g++, or name another in the environment variable CXX"
    if runtime.compiler and not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "the C headers of Python are missing; install python3-dev"
    return ""


def installed(package: str) -> bool:
    """Whether a package is there."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def mebibytes(packages: Sequence[str]) -> float:
    """What the files of installed packages take on disk, in MiB, without what these depend on."""
    files = [Path(str(file.locate())) for package in packages for file in distribution(package).files or ()]
    return round(sum(file.stat().st_size for file in files if file.exists()) / 2**20, 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
