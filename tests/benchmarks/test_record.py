from benchmarks.record import record


def test_a_result_says_what_made_it():
    result = record({"a": 1.5}, "python -m benchmarks a", rounds=[1, 2])
    assert (result["figures"], result["command"], result["rounds"]) == ({"a": 1.5}, "python -m benchmarks a", [1, 2])
    assert set(result["versions"]) == {"fedlmd", "flwr", "torch"}
    assert result["date"].count("-") == 2
    assert "cores" in result["machine"]
