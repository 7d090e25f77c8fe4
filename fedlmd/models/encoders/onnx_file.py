"""An ONNX file as encoder, run by ONNX Runtime; the extra ``onnx`` installs it.

Settings: ``name = "onnx"``, ``weights`` a file with all weights inside. It has one input, float32 RGB images
(N, 3, H, W) in [-1, 1]; its first output is the map (N, D, h, w), or ``layers`` are the outputs that are taken.
"""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.models.encoders.encoder import (
    Encoder,
    EncoderError,
    EncoderSource,
    check_colour,
    encoded,
    imported,
    last_line,
)


@final
class OnnxEncoder:
    """A graph of ONNX Runtime. Images are encoded one by one, so that their maps do not depend on each other.

    Args:
        session: the loaded graph.
        outputs: names of the outputs that are taken.
        digest: SHA-256 of the file.
    """

    def __init__(self, session: Any, outputs: list[str], digest: str) -> None:  # noqa: ANN401 - of a package without types
        (self.input,) = session.get_inputs()
        self.session, self.outputs, self.digest = session, outputs, digest

    def __call__(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d h w"]:
        """Encode images, see ``Encoder``."""
        check_colour(images)
        sizes = self.input.shape[2:]
        if any(isinstance(size, int) and size != actual for size, actual in zip(sizes, images.shape[2:], strict=True)):
            raise EncoderError(
                f"the ONNX file takes images of {sizes[0]} x {sizes[1]} alone, these have {images.shape[2]} x "
                f"{images.shape[3]}; set image_size to its size, or export it with dynamic height and width"
            )
        return encoded(self.maps, images.detach().cpu().float(), 1).to(images.device)

    def maps(self, images: Float[Tensor, "1 3 s s"]) -> list[Tensor]:
        """The outputs of one image."""
        arrays = self.session.run(self.outputs, {self.input.name: images.contiguous().numpy()})
        return [torch.from_numpy(array) for array in arrays]


def onnx(source: EncoderSource) -> Encoder:
    """The graph of an ONNX file.

    Raises:
        EncoderError: the extra ``onnx`` is not installed, or the file is no such graph.
    """
    session = opened(source)
    problem = wrong_inputs(session.get_inputs())
    if problem:
        raise EncoderError(f"{problem}; the encoder 'onnx' takes float32 images (N, 3, H, W)")
    names = [output.name for output in session.get_outputs()]
    layers = source.layers or (0,)
    if layers[-1] >= len(names):
        raise EncoderError(f"layers is {layers}, but the ONNX file has the outputs 0 to {len(names) - 1}")
    return OnnxEncoder(session, [names[layer] for layer in layers], source.digest)


def opened(source: EncoderSource) -> Any:  # noqa: ANN401 - of a package without types
    """A session of ONNX Runtime on as many threads as torch computes on. Raises EncoderError."""
    runtime = imported("onnxruntime", "onnx", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # errors are raised, too
    # Weights in a second file would not be part of the digest: they are looked for where there can be no file.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(source.path))
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(source.path.read_bytes(), options, providers=providers)
    except Exception as error:  # the runtime's exceptions have no common base but this
        raise EncoderError(
            f"the encoder's file {str(source.path)!r} is no ONNX graph that ONNX Runtime runs; weights must lie in "
            f"the file itself (torch.onnx.export: external_data=False): {last_line(error)}"
        ) from error


def wrong_inputs(inputs: list[Any]) -> str:
    """What is wrong with a graph's inputs; empty where they are one batch of images."""
    if len(inputs) != 1:
        return f"the ONNX file has {len(inputs)} inputs"
    (only,) = inputs
    if only.type != "tensor(float)" or len(only.shape) != 4 or (isinstance(only.shape[1], int) and only.shape[1] != 3):
        return f"the ONNX file's input {only.name!r} is {only.type} {only.shape}"
    if isinstance(only.shape[0], int) and only.shape[0] != 1:
        return (
            f"the ONNX file takes batches of {only.shape[0]} images alone; export it with a dynamic first dimension "
            "(torch.onnx.export: dynamic_shapes)"
        )
    return ""
