import numpy as np
import pytest
from scipy import stats

from fedlmd.data.check.compare import LABELS, chi_square, compare, difference_sentence, kolmogorov_smirnov
from fedlmd.data.check.measure import ROW, STATISTICS


def part(count, evaluation, rng, labels=(0.5, 0.5), **shifts):
    rows = np.zeros(count, dtype=ROW)
    rows["readable"], rows["evaluation"] = True, evaluation
    rows["label"] = rng.choice(len(labels), count, p=labels)
    for name in STATISTICS:
        rows[name] = rng.normal(size=count) + shifts.get(name, 0)
    return rows


def both(train, evaluation):
    return {each.name: each for each in compare(np.concatenate([train, evaluation]))}


@pytest.mark.parametrize("sizes", [(300, 200), (40, 900), (5000, 1000)])
@pytest.mark.parametrize("shift", [0, 0.1, 1])
def test_the_two_sample_test_agrees_with_scipys(sizes, shift):
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=sizes[0]), rng.normal(size=sizes[1]) + shift
    exact = stats.ks_2samp(first, second, method="asymp")
    distance, p = kolmogorov_smirnov(first, np.ones(sizes[0]), second)
    assert distance == pytest.approx(exact.statistic)
    assert p == pytest.approx(exact.pvalue, rel=0.2, abs=0.02)


def test_equal_weights_of_any_size_change_nothing():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=100), rng.normal(size=80)
    assert kolmogorov_smirnov(first, np.full(100, 0.3), second) == pytest.approx(
        kolmogorov_smirnov(first, np.ones(100), second)
    )


def test_the_test_of_label_shares_agrees_with_scipys():
    first, second = np.array([50.0, 30.0, 0.0, 20.0]), np.array([40.0, 50.0, 0.0, 22.0])
    kept = np.stack([first, second])[:, [0, 1, 3]]
    distance, p = chi_square(first, second)
    assert p == pytest.approx(stats.chi2_contingency(kept).pvalue, rel=0.05)
    assert distance == pytest.approx(np.abs(first / 100 - second / 112).sum() / 2)


def test_parts_drawn_alike_are_not_called_different():
    rng = np.random.default_rng(3)
    results = [both(part(400, False, rng), part(100, True, rng)) for _ in range(50)]
    assert not any(each.differs for result in results for each in result.values())


def test_another_device_is_called_different_by_what_it_changes():
    rng = np.random.default_rng(4)
    result = both(part(2000, False, rng), part(400, True, rng, brightness=0.8, sharpness=-1.2))
    assert {name for name, each in result.items() if each.differs} == {"brightness", "sharpness"}
    assert result["brightness"].evaluation - result["brightness"].train == pytest.approx(0.8, abs=0.2)
    sentence = difference_sentence(tuple(result.values()))
    assert "the evaluation part is drawn otherwise than the training part" in sentence
    assert sentence.index("sharpness") < sentence.index("brightness")
    assert "false-alarm rate" in sentence


def test_a_trifle_in_many_images_is_not_called_a_difference():
    rng = np.random.default_rng(5)
    result = both(part(60_000, False, rng), part(60_000, True, rng, brightness=0.1))
    assert result["brightness"].p < 1e-6
    assert not result["brightness"].differs


def test_other_shares_of_labels_alone_do_not_look_like_another_device():
    rng = np.random.default_rng(6)
    train, evaluation = part(3000, False, rng, (0.9, 0.1)), part(1000, True, rng, (0.5, 0.5))
    for rows in (train, evaluation):
        rows["brightness"] += 3 * rows["label"]
    result = both(train, evaluation)
    assert [name for name, each in result.items() if each.differs] == [LABELS]
    assert result[LABELS].effect == pytest.approx(0.4, abs=0.05)
    assert "another device" not in difference_sentence(tuple(result.values()))


def test_parts_without_a_label_in_common_are_compared_by_labels_alone():
    rng = np.random.default_rng(7)
    assert list(both(part(50, False, rng, (1.0, 0.0)), part(50, True, rng, (0.0, 1.0)))) == [LABELS]


def test_nothing_is_compared_where_one_part_is_empty():
    rng = np.random.default_rng(8)
    assert compare(part(50, False, rng)) == ()
    assert difference_sentence(()) is None
