import itertools
import weakref

import numpy as np
import pytest

from fedlmd.federation.server.norms import FIRST, NormBound, update_norm


def evaluated(bound, norms):
    """Which norms of a round were accepted, None standing for a reply without a good update."""
    replies = bound.warm_up(norms, lambda norm: norm)
    return [norm for norm in replies if norm is not None and bound.check(norm) is None]


def test_the_norm_is_that_of_all_changes_together_and_exact_where_single_precision_overflows():
    sent = {"a": np.ones((2, 2), np.float32), "b": np.zeros(1, np.float32)}
    assert update_norm({"a": np.full((2, 2), 2, np.float32), "b": np.full(1, 12, np.float32)}, sent) == np.sqrt(148)
    assert update_norm(sent, sent) == 0.0
    large = {"b": np.full(1, 3e38, np.float32)}
    assert update_norm(large, {"b": -large["b"]}) == 2 * float(np.float32(3e38))


@pytest.mark.parametrize("order", list(itertools.permutations([1.0, 2.0, 200.0])))
def test_in_a_first_round_the_largest_of_three_is_refused_in_whatever_order_they_come(order):
    assert sorted(evaluated(NormBound(10.0), order)) == [1.0, 2.0]


def test_two_of_five_are_refused_even_when_they_come_first():
    assert evaluated(NormBound(10.0), [200.0, 300.0, 1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    # An update that is not too large but late is compared with the same median.
    assert evaluated(NormBound(10.0), [200.0, *[1.0] * 8, 200.0, 9.0]) == [*[1.0] * 8, 9.0]


def test_replies_without_an_update_are_passed_on_but_not_counted():
    bound = NormBound(10.0)
    assert list(bound.warm_up([None, 200.0, None, 1.0, 2.0, None], lambda norm: norm)) == [
        None, 200.0, None, 1.0, 2.0, None,
    ]  # fmt: skip
    assert evaluated(bound, [None, 200.0, None, 1.0, 2.0]) == [1.0, 2.0]


def test_the_bound_is_the_ratio_times_the_median_and_lets_the_bound_itself_pass():
    bound = NormBound(10.0)
    assert [bound.check(norm) for norm in (1.0, 3.0, 5.0, 30.0)] == [None] * 4
    # 10 times the median of the first three is 30; that of all four is 4.
    assert bound.check(40.1) == (
        "it changes the weights by 40.1, more than 10 times as much as updates do (4, median of 4);"
        " max_norm_ratio sets this bound"
    )
    assert bound.check(40.0) is None


def test_of_two_workers_none_is_refused_before_a_round_has_shown_usual_norms():
    bound = NormBound(10.0)
    assert evaluated(bound, [1.0, 100.0]) == [1.0, 100.0]
    bound = NormBound(10.0)
    assert evaluated(bound, [1.0, 1.0]) == [1.0, 1.0]
    assert evaluated(bound, [100.0, 1.0]) == [1.0]


def test_a_minority_that_always_sends_too_much_is_refused_in_every_round():
    bound = NormBound(10.0)
    for number in range(50):
        usual = 5.0 / (1 + number)  # norms fall as training goes on
        assert evaluated(bound, [100 * usual, usual, 100 * usual, usual, usual]) == [usual] * 3


def test_updates_do_not_wait_once_enough_norms_are_known():
    bound, taken = NormBound(10.0), []
    evaluated(bound, [1.0] * 8)
    replies = bound.warm_up((taken.append(norm) or norm for norm in (1.0, 2.0, 3.0)), lambda norm: norm)
    assert (next(replies), taken) == (1.0, [1.0])


def test_updates_that_change_nothing_do_not_cause_the_others_to_be_refused():
    assert evaluated(NormBound(10.0), [0.0, 0.0, 0.0, 1.0]) == [0.0, 0.0, 0.0, 1.0]


def test_with_ratio_0_no_update_is_refused_or_waits():
    bound = NormBound(0.0)
    assert bound.lacking == 0
    assert evaluated(bound, [1.0, 1.0, 1.0, 1e9]) == [1.0, 1.0, 1.0, 1e9]


def test_the_accepted_norms_outlive_the_process():
    bound, again = NormBound(10.0), NormBound(10.0)
    evaluated(bound, [1.0, 2.0, 3.0])
    again.load_state(bound.state)
    np.testing.assert_array_equal(again.state["norms"], [1.0, 2.0, 3.0])
    assert again.lacking == bound.lacking == 5
    assert (again.check(20.1) is None, again.check(20.0) is None) == (False, True)
    again.load_state({})  # a run of a time when norms were not kept
    assert len(again.state["norms"]) == 4


class Update:
    """Something large that came from a worker."""


def test_none_of_the_first_updates_is_kept_once_it_was_yielded():
    there, seen = weakref.WeakSet(), []

    def replies():
        for _ in range(40):
            update = Update()
            there.add(update)
            yield update

    for _ in NormBound(10.0).warm_up(replies(), lambda update: 1.0):
        seen.append(len(there))
    assert seen[0] == FIRST
    assert max(seen[FIRST:]) <= 2  # the one in use, and the one before it
