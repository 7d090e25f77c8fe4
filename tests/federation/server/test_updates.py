import numpy as np

from fedlmd.federation.compression import change, compress, quantise
from fedlmd.federation.messages import Reply
from fedlmd.federation.server.updates import restored

START = {"v": np.linspace(-2, 2, 600, dtype=np.float32), "w": np.array([[0.5, -0.5]], np.float32)}
TRAINED = {name: array + np.float32(0.25) for name, array in START.items()}


def test_a_quantised_change_becomes_whole_weights():
    for bits in (8, 4):
        update, _ = compress(change(TRAINED, START), {}, bits)
        reply = restored(Reply("a", {"num-examples": 3}, update), START, bits)
        assert (reply.worker, reply.metrics, reply.error) == ("a", {"num-examples": 3}, None)
        assert reply.weights.keys() == START.keys()
        for name, array in TRAINED.items():
            assert reply.weights[name].dtype == np.float32
            np.testing.assert_allclose(reply.weights[name], array, rtol=0, atol=1e-6)


def test_a_broken_change_becomes_an_error():
    eight = quantise(change(TRAINED, START))
    assert restored(Reply("a", weights=TRAINED), START, 8).error.startswith("'scales' is missing")
    assert restored(Reply("a", weights=eight), START, 4).error.startswith("this run takes changes of weights in 4 bits")
    part = quantise({"v": START["v"]})
    assert restored(Reply("a", weights=part), START, 8).error == "'w' is missing (1 of 2 arrays are)"
