"""Simulated workers exchange Flower's messages, as the federation's tests do."""

from tests.federation.conftest import flower_task  # noqa: F401 - a fixture
