"""The tables of detection on photographs, from rows by hand."""

from benchmarks.photos_table import figure_cells, heat_cells, photos_cells, way_cells


def row(task, unknown, **more):
    scores = {"verdict": {"unknown": unknown, "far_mnist": 1.0, "far_tiles": unknown}, "lmd": {"unknown": 0.5}}
    scores["one-step"] = {"unknown": 0.75}
    figures = {"accuracy": 0.9, "false_alarms": 0.05, "detected": 0.5, "minutes_train": 2.0, "ms_per_verdict_p50": 90.0}
    return {"task": task, "scores": scores, **figures, **more}


def test_each_group_has_its_mean_and_spread_and_far_images_their_lowest():
    rows = [row("sign-0", 0.9, rivals={"vim": {"unknown": 0.8}}), row("sign-1", 0.8), row("tiles", 0.7)]
    head, cells = photos_cells(rows)
    by_name = {each[0]: each[1:] for each in cells}
    assert head == [
        "AUROC of",
        "sign language, 6 known of 10",
        "CIFAR-10, 6 known of 10",
        "magnetic tiles",
        "far images",
    ]
    assert by_name["**verdict**"] == ["0.850 ± 0.071", "", "0.700", "0.900 (lowest 0.700)"]
    assert by_name["lmd"] == ["0.500 ± 0.000", "", "0.500", ""]
    assert by_name["ViM"] == ["0.800", "", "", ""]
    assert "thumbnail" not in by_name


def test_groups_that_were_not_measured_are_left_out_of_the_figures():
    head, cells = figure_cells([row("tiles", 0.7)])
    assert head == ["", "magnetic tiles"]
    assert cells[0] == ["accuracy", "0.900"]


def test_the_ways_to_learn_one_task_stand_side_by_side():
    rows = [row("sign-0-iid", 0.95, bytes_per_round=11_900_000), row("sign-0", 0.96), row("sign-1", 0.5)]
    _, cells = way_cells(rows)
    assert cells == [
        ["one site", "0.900", "0.960", "0.750", "0.500", ""],
        ["two sites, images divided at random, 4 rounds", "0.900", "0.950", "0.750", "0.500", "11.9"],
    ]


def test_heat_of_all_and_of_unknown_defects():
    heat = {"tiles": 9, "over_chance": 1.5, "pixel_auroc": 0.9, "aupro": 0.6}
    heat |= {f"unknown_{name}": value / 2 for name, value in heat.items()}
    head, cells = heat_cells([row("sign-0", 0.5), row("tiles", 0.5, heat=heat)])
    assert head[1] == "all kinds (9 tiles)"
    assert [each[1:] for each in cells] == [["1.50", "0.75"], ["0.90", "0.45"], ["0.60", "0.30"]]
