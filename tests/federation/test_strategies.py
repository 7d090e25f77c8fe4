"""The strategies that a run can name."""

from fedlmd.federation.config import FederationConfig
from fedlmd.federation.strategies import STRATEGIES


def least_replies(name, **options):
    return STRATEGIES[name].least_replies(FederationConfig(**options))


def test_the_fewest_updates_are_those_with_which_a_byzantine_update_can_be_left_out():
    assert [least_replies(name) for name in ("fedavg", "fedprox", "fedadam")] == [1, 1, 1]
    assert least_replies("median") == 3
    assert [least_replies("krum", byzantine=byzantine) for byzantine in (0, 1, 2)] == [3, 5, 7]
    for trim in (0.49, 0.34, 0.2, 0.1, 0.07, 1e-6):
        least = least_replies("trimmed-mean", trim=trim)
        assert (int(trim * least), int(trim * (least - 1))) == (1, 0)
