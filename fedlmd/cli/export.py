"""The command ``fedlmd export``: a release in a form that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedlmd.cli.options import CORES, ReleaseFolder, Threads, open_release

OnnxForm = Annotated[bool, typer.Option("--onnx", help="As an ONNX graph; needs the extra onnx.")]
Output = Annotated[
    Path | None, typer.Option(help="Folder to write; it must be empty or new. Without it: RELEASE's id and -onnx.")
]
ComparedWorker = Annotated[
    str | None,
    typer.Option(help="Worker of a federated release whose calibration sets the thresholds; all workers' without it."),
]


def export(
    release: ReleaseFolder,
    onnx: OnnxForm = False,
    output: Output = None,
    worker: ComparedWorker = None,
    threads: Threads = CORES,
) -> None:
    """Write a release as an ONNX graph of images to probabilities and verdict, with what goes around it.

    The folder gets model.onnx, model.json (labels, rules for pixels, thresholds) and README.md with the code that runs
    them. ONNX Runtime, where it is installed, has to give the release's outputs on the images of its self-test.
    """
    import torch

    from fedlmd.cli.infer import refuse_unknown_worker
    from fedlmd.cli.show import console, plain
    from fedlmd.inference import Predictor
    from fedlmd.inference.onnx import NAMES, write_folder

    if not onnx:
        raise ValueError("say in which form the release is written: --onnx")
    torch.set_num_threads(threads)
    opened = open_release(release)
    refuse_unknown_worker(opened, worker)
    folder = output or Path(f"{opened.id}-onnx")
    difference = write_folder(Predictor(opened, worker), folder)
    size = sum((folder / name).stat().st_size for name in NAMES)
    console().print(f"written to {plain(folder)}: {', '.join(NAMES)}, {size / 1e6:.1f} MB")
    if difference is None:
        console().print("the graph was not run: onnxruntime is not installed")
    else:
        console().print(f"ONNX Runtime's outputs on the self-test are off by {difference:.1e} of the largest at most")
