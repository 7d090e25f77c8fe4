"""Parent-death guard: become a program that ends when its parent does.

Usage: ``python -m fedlmd.federation.flower.parent_guard PARENT PROGRAM ARGUMENT...``

A parent that is killed cannot stop its child processes. On Linux the kernel can: it then sends SIGTERM to this process
when the thread that started it ends. Setting that here, in a program of its own between fork and exec, needs no
``preexec_fn``, which is unsafe where threads run. On other systems this only becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the program ``arguments[1:]``, which ends with the process whose id is ``arguments[0]``."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died before the call.
        if os.getppid() != int(arguments[0]):
            raise SystemExit("the parent is gone")
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - a list of arguments, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
