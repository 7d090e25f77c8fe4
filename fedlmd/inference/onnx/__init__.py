"""A release as an ONNX graph, and what goes around the graph."""

from fedlmd.inference.onnx.folder import NAMES, write_folder
from fedlmd.inference.onnx.graph import OnnxError, graph_of, optional
from fedlmd.inference.onnx.runtime import TOLERANCE, largest_difference, run_graph

__all__ = [
    "NAMES",
    "TOLERANCE",
    "OnnxError",
    "graph_of",
    "largest_difference",
    "optional",
    "run_graph",
    "write_folder",
]
