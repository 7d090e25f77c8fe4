"""The code of the package's U-Net as one file that needs torch and diffusers alone."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from fedlmd.models import denoiser as networks

HEAD = '''"""The U-Net of fedlmd as a model of diffusers; needs torch and diffusers. Licence: Apache-2.0."""

from __future__ import annotations
'''

LEFT_OUT = ("__future__", "jaxtyping")
"""Modules that the file does not import: it has the first already, and its annotations are never evaluated."""


def code() -> str:
    """The source of ``FedLMDUNet`` and of all that it uses of this package."""
    model = import_module("fedlmd.models.interchange.standalone")  # it imports diffusers, an optional extra
    return re.sub(r"\n{4,}", "\n\n\n", "\n\n".join([HEAD, source(networks), source(model)]))


def source(module: ModuleType) -> str:
    """A module's source without its docstring; in the place of an import from this package is what it imports."""
    text = inspect.getsource(module)
    lines = text.splitlines()
    docstring, *statements = ast.parse(text).body
    for statement in reversed(statements):  # from the last, so that the numbers of the lines before it stay right
        if isinstance(statement, ast.ImportFrom) and not is_kept(statement):
            lines[statement.lineno - 1 : statement.end_lineno] = definitions(statement)
    return "\n".join(lines[docstring.end_lineno :]).strip() + "\n"


def is_kept(statement: ast.ImportFrom) -> bool:
    """Whether the file has the same import."""
    module = statement.module or ""
    return module not in LEFT_OUT and module.partition(".")[0] != "fedlmd"


def definitions(statement: ast.ImportFrom) -> Iterator[str]:
    """Sources of what an import takes from this package; none of the networks, whose module the file has whole."""
    module = statement.module or ""
    if module not in (*LEFT_OUT, networks.__name__):
        for name in statement.names:
            yield f"\n{inspect.getsource(getattr(import_module(module), name.name))}\n"
