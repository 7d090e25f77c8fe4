"""One node of the cluster: its folder, its trainer, its Flower processes and its REST service, put together."""

from fedlmd.node.config import NodeConfig
from fedlmd.node.host import Node, run
from fedlmd.node.releases import PRETRAINED_FOLDER, SHIPPED

__all__ = ["PRETRAINED_FOLDER", "SHIPPED", "Node", "NodeConfig", "run"]
