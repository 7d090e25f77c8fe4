"""The REST service of a node, and its client."""
