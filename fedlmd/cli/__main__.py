"""``python -m fedlmd.cli`` is ``fedlmd``."""

from fedlmd.cli import main

if __name__ == "__main__":
    main()
