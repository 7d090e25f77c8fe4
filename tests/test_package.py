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
FAB = PACKAGE / "federation" / "fab"
"""Flower's app bundle, which Flower imports under a name of its own."""


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [dotted(path) for path in SOURCES if FAB not in path.parents and path.name != "__main__.py"]


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
    # But for the warm trainer's program: it is there so that Flower's many short processes need not load the models.
    federation = [name for name in MODULES if name.startswith("fedlmd.federation") and not name.endswith(".warm")]
    loaded = json.loads(python(LIGHT, "fedlmd.artifacts", "fedlmd.progress", *federation).stdout)
    assert "fedlmd.artifacts" in loaded
    assert "flwr" in loaded
    assert "torch" not in loaded
    ours = {name.split(".")[1] for name in loaded if name.startswith("fedlmd.")}
    light = {"aggregation", "artifacts", "compression", "memory", "progress", "self_test", "statistics"}
    assert ours == {"federation", *light}


def test_releases_can_be_read_with_numpy_alone():
    loaded = json.loads(python(LIGHT, "fedlmd.artifacts", "fedlmd.progress").stdout)
    assert {"numpy", "safetensors"} <= set(loaded)
    assert {"torch", "flwr", "dacite", "jaxtyping"}.isdisjoint(loaded)


@pytest.mark.parametrize("core", ["learner", "answer", "pictures"])
def test_the_core_runs_without_flower_and_without_the_web(core):
    loaded = json.loads(python(LIGHT, f"fedlmd.{core}").stdout)
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
def test_every_module_has_a_docstring_and_lists_its_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    listed = "__all__" in [target.id for target in targets if isinstance(target, ast.Name)]
    only_a_docstring = len(tree.body) == 1
    assert listed or only_a_docstring or path.name == "__main__.py"


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


def test_the_tree_in_the_readme_names_the_files_that_there_are():
    named = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    if named is None:
        pytest.skip("README.md has no fenced block that starts with fedlmd/ yet")
    assert [name for name in sorted(named) if not (PACKAGE / name).exists()] == []
    inner = {
        folder for folder in named if folder.endswith("/") and any(n != folder and n.startswith(folder) for n in named)
    }
    for path in PACKAGE.rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts or path.name == "__init__.py":
            continue
        inside = str(path.relative_to(PACKAGE))
        # A folder without entries of its own stands for all that is in it.
        assert inside in named or any(inside.startswith(n) for n in named - inner if n.endswith("/")), inside


TESTS = sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_the_tests_mirror_the_package(path):
    if path.parts[0] == "journeys" or path == Path("test_package.py"):
        return
    name = path.stem.removeprefix("test_")
    candidates = [*(PACKAGE / path.parent).rglob(f"{name}.py"), *(PACKAGE / path.parent).rglob(f"{name}/__init__.py")]
    assert candidates, f"fedlmd/{path.parent} has no module {name}"
