"""All settings of a run: one TOML file, read once, checked whole, an unknown key being an error.

Each part of the program has its settings beside the thing that they set; this package composes them.
"""

from fedlmd.settings.federation import FederationConfig
from fedlmd.settings.parts import CalibrationConfig, DataConfig, DetectorConfig, ModelConfig
from fedlmd.settings.run import DIGITS, Settings, SettingsError, from_mapping, merge, read, to_mapping

__all__ = [
    "DIGITS",
    "CalibrationConfig",
    "DataConfig",
    "DetectorConfig",
    "FederationConfig",
    "ModelConfig",
    "Settings",
    "SettingsError",
    "from_mapping",
    "merge",
    "read",
    "to_mapping",
]
