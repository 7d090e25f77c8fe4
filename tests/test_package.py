"""What holds for the package as a whole."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fedlmd"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FAB = PACKAGE / "federation" / "flower" / "fab"
"""Flower's app bundle, which Flower imports under a name of its own."""


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


STANDALONE = PACKAGE / "models" / "interchange" / "standalone.py"
"""Part of a file that diffusers imports from an exported folder."""

RUN = ("__main__.py", STANDALONE.name)
MODULES = [dotted(path) for path in SOURCES if FAB not in path.parents and path.name not in RUN]


def python(program, *arguments):
    """What a fresh interpreter says; the last line of its output is JSON."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


LIGHT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def test_flowers_processes_need_no_torch_and_nothing_of_the_layers_above():
    federation = [name for name in MODULES if name.startswith("fedlmd.federation")]
    loaded = json.loads(python(LIGHT, *federation).stdout)
    assert "flwr" in loaded
    assert "torch" not in loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("fedlmd.")}
    assert rooms == {"calibration", "choices", "federation", "progress", "release"}


def test_releases_and_calibration_need_numpy_alone():
    loaded = json.loads(python(LIGHT, "fedlmd.release", "fedlmd.calibration", "fedlmd.progress").stdout)
    assert "numpy" in loaded
    assert {"torch", "flwr", "dacite"}.isdisjoint(loaded)


def test_the_core_runs_without_flower_and_without_the_web():
    loaded = json.loads(python(LIGHT, "fedlmd.worker.worker", "fedlmd.inference").stdout)
    assert {"flwr", "fastapi", "uvicorn", "typer"}.isdisjoint(loaded)


IMPORT_ALL = """
import importlib, json, logging, os, random, signal, sys, threading
import numpy, torch, flwr.serverapp, flwr.clientapp, fastapi, typer, rich.console

def state():
    return {
        "argv": list(sys.argv),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "threads": [thread.name for thread in threading.enumerate()],
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "handlers": repr(logging.getLogger().handlers),
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
        "random": [hash(random.getstate()), hash(numpy.random.get_state()[1].tobytes()),
                   hash(torch.get_rng_state().numpy().tobytes())],
    }

before = state()
names = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    names[name] = [item for item in getattr(module, "__all__", []) if not hasattr(module, item)]
print(json.dumps({"changed": [key for key, value in state().items() if value != before[key]], "missing": names}))
"""


@pytest.fixture(scope="module")
def imported():
    return python(IMPORT_ALL, *MODULES)


def test_importing_every_module_does_nothing_that_can_be_seen(imported):
    assert json.loads(imported.stdout)["changed"] == []
    assert imported.stdout.count("\n") == 1
    assert imported.stderr == ""


def test_every_name_that_a_module_lists_exists(imported):
    missing = json.loads(imported.stdout)["missing"]
    assert len(missing) == len(MODULES)
    assert {name: items for name, items in missing.items() if items} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_docstring_and_packages_alone_list_their_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    listed = "__all__" in [target.id for target in targets if isinstance(target, ast.Name)]
    package = path.name == "__init__.py" and len(tree.body) > 1
    assert listed == (package or (FAB in path.parents and len(tree.body) > 1))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_has_more_than_three_hundred_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def imports_between_rooms():
    """Pairs of entries at the top of the package of which the first imports the second."""
    pairs = set()
    for path in SOURCES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "fedlmd":
                pairs |= {(room, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedlmd."):
                pairs.add((room, node.module.split(".")[1]))
    return {(room, other) for room, other in pairs if room != other}


def test_a_stranger_sees_at_most_seventeen_entries_and_ninety_imports_between_them():
    entries = [path for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert len(entries) <= 17
    assert len(imports_between_rooms()) <= 90


def tree_of(readme):
    """The paths that a README's tree names, below ``fedlmd/``: files, and folders with a slash at the end.

    One entry on a line, indented or drawn with lines, its name before its description; names that share a line are
    separated by commas.
    """
    found = re.search(r"^```\w*\n(fedlmd/[^\n]*\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if not found:
        return None
    named, above = set(), []
    for line in found[1].splitlines()[1:]:
        text = line.lstrip(" │├└─|`-\N{NO-BREAK SPACE}")
        column = len(line) - len(text)
        above = [(at, folder) for at, folder in above if at < column]
        for name in re.split(r"\s{2,}|\s#", text)[0].split(", "):
            named.add("".join(folder for _, folder in above) + name)
            if name.endswith("/"):
                above = [*above, (column, name)]
    return named


INDENTED = """
```
fedlmd/
  cli.py      the verbs
  data/
    a.py, b.py
    deep/     one
      c.py
  z.py
```
"""

DRAWN = """
```text
fedlmd/
├── cli.py  # the verbs
├── data/
│   ├── a.py
│   ├── b.py
│   └── deep/
│       └── c.py
└── z.py
```
"""


@pytest.mark.parametrize("readme", [INDENTED, DRAWN])
def test_a_tree_is_read_with_its_folders_drawn_or_indented(readme):
    assert tree_of(readme) == {"cli.py", "data/", "data/a.py", "data/b.py", "data/deep/", "data/deep/c.py", "z.py"}


def test_another_tree_is_not_the_packages():
    assert tree_of(INDENTED.replace("fedlmd", "elsewhere")) is None


def test_the_tree_in_the_readme_has_a_line_for_each_entry_of_the_package():
    named = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    entries = {
        path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")
    }
    assert named == entries


TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))
APART = {"docs", "journeys"}
"""Folders of tests that mirror no code."""


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_the_tests_mirror_the_code(path):
    if path.parts[0] in APART or path == Path("test_package.py"):
        return
    home = ROOT if path.parts[0] == "benchmarks" else PACKAGE
    # "main" is a package that runs: its __main__.py, or its __init__.py with ``main``.
    name = path.stem.removeprefix("test_").replace("main", "__main__")
    candidates = [*(home / path.parent).rglob(f"{name}.py"), *(home / path.parent).rglob(f"{name}/__init__.py")]
    assert candidates, f"{home.name}/{path.parent} has no module {name}"
