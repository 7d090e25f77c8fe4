"""All settings of a run: one TOML file, read once, checked whole, an unknown key being an error.

Each part of the program has its settings beside its code; this package composes them.
"""

from fedlmd.settings.errors import SettingsError
from fedlmd.settings.plan import plan_of
from fedlmd.settings.settings import DIGITS, Settings, from_mapping, merge, read, to_mapping, with_preset

__all__ = [
    "DIGITS",
    "Settings",
    "SettingsError",
    "from_mapping",
    "merge",
    "plan_of",
    "read",
    "to_mapping",
    "with_preset",
]
