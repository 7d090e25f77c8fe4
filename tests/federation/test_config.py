"""Settings of federated training: what cannot work is refused with the reason."""

import pytest

from fedlmd.federation.config import FederationConfig


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rounds": 0}, "rounds is 0; it is 1 or more"),
        ({"min_replies": 4}, "it lies between 1 and min_workers 3"),
        ({"min_replies": 0}, "it lies between 1 and min_workers 3"),
        ({"wait_seconds": 0}, "wait_seconds is 0"),
        ({"round_timeout": float("nan")}, "round_timeout is nan"),
        ({"max_failed_rounds": 0}, "max_failed_rounds is 0"),
        ({"max_norm_ratio": 1.0}, "max_norm_ratio is 1.0; it is above 1, or 0 to refuse no update"),
        ({"max_norm_ratio": float("inf")}, "max_norm_ratio is inf"),
        ({"strategy": "fedprox", "mu": -1}, "mu is -1; it is 0 or more"),
        ({"strategy": "fedadam", "server_rate": 0}, "server_rate is 0; it is above 0"),
        ({"trim": 0.5}, "trim is 0.5; it lies in \\(0, 0.5\\)"),
        ({"byzantine": -1}, "byzantine is -1; it is 0 or more"),
        ({"server_ema": 1}, "server_ema is 1; it lies in \\[0, 1\\)"),
        ({"strategy": "median"}, "min_replies is 2; median needs 3 updates: set min_replies to 3"),
        ({"strategy": "trimmed-mean"}, "min_replies is 2; trimmed-mean needs 5 updates"),
        ({"strategy": "krum", "byzantine": 2}, "min_replies is 2; krum needs 7 updates"),
        ({"strategy": "median", "min_replies": 3, "compression": "8-bit"}, "median takes whole weights"),
        ({"merge": "sum"}, "merge is 'sum'; choose one of rounds, partial, average, mixture, union"),
        ({"compression": "2-bit"}, "compression is '2-bit'; choose one of none, 8-bit, 4-bit"),
        ({"strategy": "fedsgd"}, "there is no strategy 'fedsgd'; there are fedavg, fedprox"),
        ({"initial": "own"}, 'with the merge "rounds" all workers start from common weights'),
        ({"initial": "own", "merge": "partial"}, 'with the merge "partial" all workers start from common weights'),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(change, words):
    with pytest.raises(ValueError, match=words):
        FederationConfig(**{"min_workers": 3, "min_replies": 2, **change})
