"""``python -m fedlmd.cli`` is ``fedlmd``."""

from fedlmd.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
