"""The Flower app that points at the installed package ``fedlmd``."""
