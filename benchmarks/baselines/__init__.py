"""Detectors of the literature that the product is measured against."""
