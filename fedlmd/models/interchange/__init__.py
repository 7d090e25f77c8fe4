"""Denoisers from diffusers and for diffusers. Needs the extra ``diffusers``, which is imported when it is used."""

from fedlmd.models.interchange.checkpoint import Checkpoint, read_checkpoint
from fedlmd.models.interchange.folder import write_folder
from fedlmd.models.interchange.network import DiffusersDenoiser

__all__ = ["Checkpoint", "DiffusersDenoiser", "read_checkpoint", "write_folder"]
