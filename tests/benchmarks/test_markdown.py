import json
from pathlib import Path

import pytest

from benchmarks.commands.options import RESULTS
from benchmarks.commands.tables import PAGES
from benchmarks.markdown import TABLES, MarkdownError, number, results_at, rewritten
from benchmarks.scale import figures_of
from fedlmd.release import VERDICT
from tests.benchmarks.test_merge import MERGES
from tests.benchmarks.test_results import measured
from tests.benchmarks.test_scale import MEASURED

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


@pytest.fixture(scope="module")
def trust():
    workers = [{"rate": rate, "low": 0.04, "high": 0.06, "outside": rate > 0.06} for rate in (0.04, 0.07)]
    told = {"rate": 0.048, "workers": workers, "outside": 1, "outside_in_one_run": 0.01, "found": {"unknown": 0.9}}
    rates = {mode: {"0.01": {"rate": 0.01}, "0.05": told} for mode in ("pooled", "own", "shrunk")}
    words = {"known": 0.8, "uncertain": 0.15, "unknown": 0.05, "known, wrong label": 0.001}
    strange = {"known": 0.02, "uncertain": 0.08, "unknown": 0.9}
    kind = {"title": "alike", "rates": rates, "verdicts": {"known": words, "unknown": strange}}
    return {"federations": {"iid": kind}}


@pytest.fixture(scope="module")
def faults():
    row = {"title": "none", "outcome": "it ends", "survived": True, "seconds": 0.0, "rounds_lost": 0, "by_hand": False}
    row |= {"problems": [], "skipped": None}
    killed = {**row, "title": "killed", "outcome": "it goes on", "seconds": 61.4, "rounds_lost": 1, "by_hand": True}
    lost = {**row, "title": "lost", "survived": False, "problems": ["it hung", "no release"]}
    return {"faults": [row, killed, lost, {**row, "title": "full", "survived": False, "skipped": "no rights"}]}


@pytest.fixture(scope="module")
def ablation():
    cost = {"nfe": 3.0, "gflop": 0.4, "ms": 2.04}
    own = {
        "group": "one-step: levels",
        "variant": "0.8",
        "default": True,
        "auroc": 0.98,
        "difference": 0.0,
        "error": 0.0,
    }
    other = {**own, "variant": "0.5", "default": False, "auroc": 0.91, "difference": -0.07, "error": 0.0123}
    return {"rows": [{**own, **cost}, {**other, **cost}, {**own, **cost, "group": "lmd: steps", "variant": "8"}]}


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages_are_those_of_the_measurements(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    results = results_at(ROOT / "benchmarks" / "results" / "detection.json")
    assert rewritten(text, results) == text, "run: python -m benchmarks tables"


def test_some_page_has_tables():
    assert any("<!-- table: " in (ROOT / page).read_text(encoding="utf-8") for page in PAGES)


def test_the_tables_of_trust_need_what_bench_verdict_wrote(tmp_path, trust):
    page = "<!-- table: federations -->\n<!-- /table -->\n<!-- table: words -->\n<!-- /table -->\n"
    (tmp_path / "detection.json").write_text('{"tasks": {}}')
    with pytest.raises(MarkdownError, match="run: python -m benchmarks verdict"):
        rewritten(page, results_at(tmp_path / "detection.json"))
    (tmp_path / "verdict.json").write_text(json.dumps(trust))
    new = rewritten(page, results_at(tmp_path / "detection.json"))
    assert "| alike | **own, shrunk** | 0.0100 | 0.0480 | 0.0700 | 1 of 2 | 1.0% | 90.0% |" in new
    assert "| alike | known | 80.00% | 15.00% | 5.00% | 0.100% |" in new
    assert "| alike | unknown digits | 2.00% | 8.00% | 90.00% |  |" in new


def test_the_table_of_choices_needs_what_bench_ablation_wrote(tmp_path, ablation):
    page = "<!-- table: ablation -->\n<!-- /table -->\n"
    (tmp_path / "detection.json").write_text('{"tasks": {}}')
    with pytest.raises(MarkdownError, match=r"needs benchmarks/results/ablation.json; run: python -m .* ablation"):
        rewritten(page, results_at(tmp_path / "detection.json"))
    (tmp_path / "ablation.json").write_text(json.dumps(ablation))
    own, other, steps = cells(rewritten(page, results_at(tmp_path / "detection.json")))[2:]
    assert own == ["one-step: levels", "**0.8**", "0.9800", "", "3", "2.04"]
    assert other == ["", "0.5", "0.9100", "-0.0700 ± 0.0123", "3", "2.04"]
    assert steps[:2] == ["lmd: steps", "**8**"]


def test_the_table_of_faults_says_what_was_not_survived_and_what_was_not_tried(tmp_path, faults):
    page = "<!-- table: faults -->\n<!-- /table -->\n"
    (tmp_path / "detection.json").write_text('{"tasks": {}}')
    with pytest.raises(MarkdownError, match=r"needs benchmarks/results/faults.json; run: python -m benchmarks faults"):
        rewritten(page, results_at(tmp_path / "detection.json"))
    (tmp_path / "faults.json").write_text(json.dumps(faults))
    assert cells(rewritten(page, results_at(tmp_path / "detection.json")))[2:] == [
        ["killed", "it goes on", "61", "1", "yes"],
        ["lost", "**it hung; no release**", "", "", "no"],
        ["full", "**no rights**", "", "", "no"],
    ]


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


def test_every_table_has_as_many_cells_in_each_row(result, trust, ablation, faults):
    scale = {**MEASURED, "figures": figures_of(MEASURED)}
    beside = {"trust": trust, "ablation": ablation, "faults": faults, "scale": scale, "merge": MERGES}
    beside["photos"] = json.loads((RESULTS / "photos.json").read_text())
    for name, make in TABLES.items():
        rows = cells(make({**result, **beside}))
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
    assert [number(value) for value in (0, 0.013907, 2.35, 48, 999.4, 1241.7, 67_912.0)] == [
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
