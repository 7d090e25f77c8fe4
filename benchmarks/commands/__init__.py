"""The commands, one file each: options in, measurement, tables and JSON out."""
