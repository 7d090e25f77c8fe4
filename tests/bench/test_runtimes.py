from pathlib import Path

import pytest
import torch

from fedlmd.bench.runtimes import RUNTIMES, Runtime, eager, measure, mebibytes, medians, missing, question
from fedlmd.models import DenoiserConfig, UNet

BY_NAME = {runtime.name: runtime for runtime in RUNTIMES}
# Compiling takes a minute on a slow machine.
EACH = [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.compiler else []) for one in RUNTIMES]


@pytest.fixture(scope="module")
def network():
    """A small denoiser of which no layer is zero, as some are before training."""
    torch.manual_seed(0)
    network = UNet(DenoiserConfig(image_size=8, classes=3, widths=(16, 16))).eval().requires_grad_(False)
    for weights in network.parameters():
        weights.add_(0.1 * torch.randn_like(weights))
    return network


@pytest.mark.parametrize("runtime", EACH)
@pytest.mark.filterwarnings("ignore")  # of the other libraries' own parts
def test_every_runtime_gives_the_networks_velocities_for_any_batch(runtime, network, tmp_path, request):
    if needs := missing(runtime):
        pytest.skip(needs)
    if runtime.compiler:
        request.getfixturevalue("unchecked")  # the checks of shapes cannot be compiled
    run = runtime.build(network, tmp_path)
    tolerance = 0.1 if runtime.name == "bfloat16" else 2e-5
    with torch.inference_mode():
        for batch in (1, 5):
            asked = question(network, batch)
            velocities = network(*asked)
            assert velocities.std() > 0.3
            found = run(*asked)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, velocities, rtol=0, atol=tolerance * float(velocities.abs().max()))


def test_the_half_precision_of_bfloat16_shows_in_the_velocities(network, tmp_path):
    with torch.inference_mode():
        asked = question(network, 4)
        found = BY_NAME["bfloat16"].build(network, tmp_path)(*asked)
    assert (found - network(*asked)).abs().max() > 1e-3


def test_a_measurement_compares_what_is_there_and_names_what_is_missing(tmp_path):
    absent = Runtime("absent", eager, ("no-such-package-fedlmd",))
    chosen = (BY_NAME["eager"], BY_NAME["bfloat16"], absent)
    threads = torch.get_num_threads()
    *steps, result = measure(tmp_path, runtimes=chosen, batches=(1, 2))
    assert [(step.stage, step.metrics["batch"], step.done) for step in steps] == [
        ("eager", 1, 1),
        ("bfloat16", 1, 1),
        ("eager", 2, 2),
        ("bfloat16", 2, 2),
    ]
    figures = result["figures"]
    assert figures["eager_batch_1_speedup"] == figures["eager_batch_2_speedup"] == 1.0
    ratio = figures["eager_batch_2_ms"] / figures["bfloat16_batch_2_ms"]
    assert figures["bfloat16_batch_2_speedup"] == pytest.approx(ratio, abs=0.02)
    assert result["differences"]["eager"] == 0.0
    assert 1e-4 < result["differences"]["bfloat16"] < 0.2
    assert list(result["skipped"]) == ["absent"]
    assert "pip install no-such-package-fedlmd" in result["skipped"]["absent"]
    assert torch.get_num_threads() == threads


def test_runs_take_turns_until_the_first_has_had_its_time():
    now, order = 0.0, []

    def taking(name, seconds):
        def run(*asked):
            nonlocal now
            now += seconds
            order.append(name)

        return run

    runs = {"a": taking("a", 0.25), "b": taking("b", 0.5), "c": taking("c", 2.0)}
    assert medians(runs, (), seconds=1.75, clock=lambda: now) == {"a": 250.0, "b": 500.0, "c": 2000.0}
    assert "".join(order) == "abcbcacababcbcacababc"


def test_the_weight_of_packages_is_that_of_all_their_files(tmp_path, monkeypatch):
    for name, size in (("heavy", 3 * 2**20), ("light", 2**19)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "library.so").write_bytes(b"\0" * size)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{name}/library.so,,{size}\n{name}/gone.py,,7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert mebibytes(["heavy"]) == 3.0
    assert mebibytes(["heavy", "light"]) == 3.5
    assert not missing(Runtime("both", eager, ("heavy", "light")))


def test_without_a_compiler_the_note_says_what_to_install(monkeypatch):
    monkeypatch.setenv("CXX", str(Path("/nowhere/g++")))
    assert "install g++" in missing(Runtime("compile", eager, compiler=True))
