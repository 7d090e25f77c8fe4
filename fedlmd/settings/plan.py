"""From the settings of a run to the plan that Flower's processes carry out."""

from __future__ import annotations

from pathlib import Path

from fedlmd.federation.plan import Plan
from fedlmd.models import DENOISERS
from fedlmd.settings.settings import Settings, to_mapping


def plan_of(run: str, settings: Settings, releases: Path) -> Plan:
    """The plan of a run; ``releases`` is the folder of the server's releases."""
    mapping = to_mapping(settings)
    # Each worker has its own source of images.
    del mapping["data"]
    return Plan(run, str(releases.absolute()), mapping, DENOISERS[settings.models.denoiser_network].local_layers)
