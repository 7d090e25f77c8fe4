"""ONNX files as encoders, as torch.onnx writes them."""

import warnings

import numpy as np
import onnx
import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape
from tests.models.encoders.conftest import Means


def exported(module, path):
    """Write a network for any number of images of 8 x 8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 3, 8, 8),),
            path,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )


def drawn(path, node, dimensions, data=onnx.TensorProto.FLOAT, weights=()):
    """Write a graph of one node, from "x" to "y"."""
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(end, data, dimensions) for end in "x"]
    out = [helper.make_tensor_value_info("y", data, None)]
    graph = helper.make_graph([node], "graph", ends, out, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return model


IDENTITY = onnx.helper.make_node("Identity", ["x"], ["y"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    exported(Means(), folder / "means.onnx")
    drawn(folder / "one.onnx", IDENTITY, [1, 3, "height", "width"])
    drawn(folder / "two.onnx", IDENTITY, [2, 3, 8, 8])
    drawn(folder / "pooled.onnx", onnx.helper.make_node("Flatten", ["x"], ["y"]), ["n", 3, 8, 8])
    return folder


def load(files, weights, **fields):
    return load_encoder(EncoderConfig("onnx", weights=weights, **fields), folder=files)


def test_the_first_output_is_the_map(files, images):
    encoder = load(files, "means.onnx")
    torch.testing.assert_close(encoder(images), Means()(images)[0], rtol=0, atol=1e-6)
    assert encoder(images[:0]).shape == (0, 4, 4, 4)
    assert shape(encoder, 8) == (4, 4, 4)


def test_layers_choose_among_the_outputs(files, images):
    fine, coarse = Means()(images)
    both = load(files, "means.onnx", layers=(0, 1))(images)
    torch.testing.assert_close(both[:, :4], fine, rtol=0, atol=1e-6)
    torch.testing.assert_close(both[:, 4:, ::2, ::2], coarse, rtol=0, atol=1e-6)
    with pytest.raises(EncoderError, match=r"layers is \(2,\), but the ONNX file has the outputs 0 to 1"):
        load(files, "means.onnx", layers=(2,))


def test_a_file_for_single_images_of_any_size_encodes_several(files, images):
    encoder = load(files, "one.onnx")
    for size in (5, 8):
        assert torch.equal(encoder(images[..., :size, :size]), images[..., :size, :size])


def test_a_file_for_batches_of_one_size_is_refused(files):
    with pytest.raises(EncoderError, match="takes batches of 2 images alone; export it with a dynamic first dimension"):
        load(files, "two.onnx")


def test_images_of_another_size_than_the_files_are_refused(files):
    with pytest.raises(
        EncoderError, match="takes images of 8 x 8 alone, these have 12 x 12; set image_size to its size"
    ):
        shape(load(files, "means.onnx"), 12)


def test_a_file_that_gives_a_vector_is_refused(files, images):
    with pytest.raises(EncoderError, match=r"is a tensor \(1, 192\) .*take the output of a layer before the pooling"):
        load(files, "pooled.onnx")(images)


def test_grey_images_are_refused(files):
    with pytest.raises(EncoderError, match="the encoder takes images of 3 channels, these have 1"):
        load(files, "means.onnx")(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("data", "dimensions"),
    [
        (onnx.TensorProto.FLOAT, [1, 1, 8, 8]),
        (onnx.TensorProto.UINT8, [1, 3, 8, 8]),
        (onnx.TensorProto.FLOAT, ["n", 192]),
    ],
)
def test_inputs_that_are_no_rgb_images_are_refused(tmp_path, data, dimensions):
    drawn(tmp_path / "x.onnx", IDENTITY, dimensions, data)
    with pytest.raises(EncoderError, match=r"the ONNX file's input 'x' is tensor.*takes float32 images \(N, 3, H, W\)"):
        load(tmp_path, "x.onnx")


def test_a_file_that_is_no_graph_is_refused(files):
    (files / "text.onnx").write_text("no graph")
    with pytest.raises(EncoderError, match=r"text.onnx' is no ONNX graph that ONNX Runtime runs"):
        load(files, "text.onnx")


@pytest.mark.parametrize("place", ["", "../", "../encoders/"])
def test_weights_in_a_second_file_are_refused_wherever_it_lies(folder, monkeypatch, images, place):
    """The digest would not hold for them."""
    weights = onnx.numpy_helper.from_array(np.ones((3, 8, 8), np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    model = drawn(folder / "inside.onnx", node, ["n", 3, 8, 8], weights=[weights])
    assert torch.equal(load(folder, "inside.onnx")(images), images + 1)
    onnx.save(model, folder / "beside.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    (folder.parent / "weights.data").write_bytes((folder / "weights.data").read_bytes())
    (tensor,) = model.graph.initializer
    tensor.external_data[0].value = f"{place}weights.data"
    (folder / "beside.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(folder)
    with pytest.raises(EncoderError, match="weights must lie in the file itself"):
        load(folder, "beside.onnx")
