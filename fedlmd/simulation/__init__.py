"""A federation of many workers on one machine, by Flower's simulation engine."""
