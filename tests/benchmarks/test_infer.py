import json

from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.infer import figures_of


def test_the_ratio_is_that_of_neighbouring_measurements():
    figures = figures_of({"model": [100.0, 200.0, 50.0], "infer": [90.0, 160.0, 50.0]})
    assert figures == {"model_images_per_second": 100, "infer_images_per_second": 90, "ratio": 0.9}


def test_both_rates_are_measured_on_files_of_the_shipped_digits(tmp_path):
    file = tmp_path / "infer.json"
    result = CliRunner().invoke(app, ["infer", "--images", "20", "--repeats", "1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    measured = json.loads(file.read_text())
    assert measured["command"] == "python -m benchmarks infer"
    assert all(value > 0 for value in measured["figures"].values())
