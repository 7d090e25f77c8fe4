import json
from pathlib import Path

import pytest

from fedlmd.answer import VERDICT
from fedlmd.bench.markdown import TABLES, MarkdownError, number, rewritten
from tests.bench.test_results import measured

ROOT = Path(__file__).parents[2]

PAGE = """# A page

<!-- table: detection -->
| old |
<!-- /table -->

In between.

<!-- table: cost -->
<!-- /table -->
The end.
"""


@pytest.fixture(scope="module")
def result():
    cost = {
        "gflop_per_verdict": 0.4196,
        "ms_per_verdict_p50": 12.19,
        "sgemm_fraction": 0.494,
        "lmd_paper_seconds": 830.4,
        "cost_ratio_lmd_paper": 67_912.0,
        "threads": 1,
    }
    tasks = {"mnist64-0": measured(0.95), "mnist64-1": measured(0.97), "fashion": measured(0.99)}
    tasks["usps"] = {"detectors": {}, "verdict": {"called_unknown": 0.213, "accuracy_elsewhere": 0.75}}
    return {"tasks": tasks, "cost": cost, "figures": {"release_mib": 1.337}}


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_tables_of_the_readme_are_those_of_the_measurement():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    file = ROOT / "benchmarks" / "detection.json"
    if "<!-- table: " not in readme:
        return  # nothing is marked, so nothing can differ
    assert file.exists(), "the README has tables of a measurement that is not there"
    assert rewritten(readme, json.loads(file.read_text(encoding="utf-8"))) == readme, "run: fedlmd bench tables"


def test_only_what_is_marked_changes_and_once_is_enough(result):
    new = rewritten(PAGE, result)
    assert "| old |" not in new
    assert new.startswith("# A page\n\n<!-- table: detection -->\n| AUROC of |")
    assert "<!-- /table -->\n\nIn between.\n\n<!-- table: cost -->\n| cost |" in new
    assert new.endswith("<!-- /table -->\nThe end.\n")
    assert rewritten(new, result) == new
    assert rewritten("no table", result) == "no table"


def test_a_figure_that_was_changed_by_hand_shows(result):
    page = rewritten(PAGE, result)
    assert rewritten(page.replace("0.9600", "0.9700"), result) == page


def test_every_table_has_as_many_cells_in_each_row(result):
    for name, make in TABLES.items():
        rows = cells(make(result))
        assert len(rows) > 2, name
        assert len({len(row) for row in rows}) == 1, name


def test_the_detectors_table_gives_means_costs_and_the_best_in_bold(result):
    head, _, verdict, *others = cells(TABLES["detection"](result))
    assert head == ["AUROC of", "6 digits against 4", "Fashion-MNIST", "NFE", "GFLOP", "ms", "images"]
    assert verdict == [f"**{VERDICT}**", "**0.9600**", "**0.9900**", "3", "0.4", "2", "all"]
    assert others[0] == ["lmd", "0.9100", "0.9400", "48", "0.4", "2", "20"]


def test_the_verdicts_table_gives_deviations_over_the_splits(result):
    text = TABLES["verdict"](result)
    split, fashion = cells(text)[2:]
    assert split[:4] == ["6 digits against 4", "0.9900 ± 0.0000", "0.9000 ± 0.0000", "0.9600 ± 0.0141"]
    assert fashion[0] == "Fashion-MNIST"
    assert "(USPS): 21.3% are called unknown; the class is right for 75.0%" in text


def test_costs_are_told_to_three_digits():
    assert [number(of) for of in (0, 0.013907, 2.35, 48, 999.4, 1241.7, 67_912.0)] == [
        "0",
        "0.0139",
        "2.35",
        "48",
        "999",
        "1,240",
        "67,900",
    ]


def test_wrong_markers_are_refused(result):
    with pytest.raises(MarkdownError, match="no table 'speed'; there are detection, verdict, cost"):
        rewritten("<!-- table: speed -->\n<!-- /table -->\n", result)
    with pytest.raises(MarkdownError, match="opened but not closed"):
        rewritten("<!-- table: cost -->\n| a |\n", result)
    with pytest.raises(MarkdownError, match="opened but not closed"):
        rewritten("<!-- table: cost -->\n| a |\n<!-- table: detection -->\n<!-- /table -->\n", result)
