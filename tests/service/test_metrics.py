"""The figures for Prometheus, read with its own parser and compared with those of the REST service."""

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

ROUND = {
    "round": 2,
    "rounds": 3,
    "asked": 3,
    "aggregated": True,
    "seconds": 12.5,
    "refused": [{"name": "c", "reason": "out of memory"}],
    "metrics": {"accuracy": 0.75},
    "workers": [
        {
            "name": "a",
            "metrics": {
                "num-examples": 100,
                "accuracy": 0.5,
                "evaluation-loss": 1.25,
                "classifier-loss": 0.5,
                "denoiser-loss": 0.125,
                "classifier-norm": 3.5,
                "denoiser-norm": 2.25,
                "bytes-down": 2048,
                "bytes-up": 512,
                "seconds-loading": 0.75,
                "seconds-training": 9.0,
                "seconds-transfer": 1.75,
                "seconds-waiting": 2.5,
                "seconds-reply": 11.5,
            },
        },
        {
            "name": 'a "b"\\',
            "metrics": {"num-examples": 300, "accuracy": 1, "classifier-loss": [1.0], "only": {"x": 1}},
        },
    ],
}


def scraped(client, read=text_string_to_metric_families, **headers):
    """Value by name and labels."""
    reply = client.get("/metrics", headers=headers)
    assert reply.status_code == 200
    figures = {}
    for family in read(reply.text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in figures
            figures[key] = sample.value
    return figures


def values(figures, name):
    """The values of one figure by its labels' values."""
    return {tuple(value for _, value in key[1:]): value for key, value in figures.items() if key[0] == name}


def test_predictions_are_counted_by_verdict_with_their_p_values_and_seconds(client, digit):
    watched = [client.post("/infer", files={"image": digit}).json() for _ in range(3)]
    unwatched = client.post("/infer", files={"image": digit}, params={"watch": False}).json()
    other = client.post("/infer", files={"image": digit}, params={"detector": "lmd"}).json()
    assert client.post("/infer", files={"image": b"no image"}).status_code == 422
    figures = scraped(client)
    counts = values(figures, "fedlmd_answers_total")
    words = [reply["verdict"] for reply in (*watched, unwatched, other)]
    assert counts == {(word,): words.count(word) for word in ("known", "uncertain", "unknown")}
    assert figures[("fedlmd_p_value_count",)] == 3
    assert figures[("fedlmd_p_value_sum",)] == pytest.approx(sum(reply["p_value"] for reply in watched))
    for (limit,), count in values(figures, "fedlmd_p_value_bucket").items():
        assert count == sum(reply["p_value"] <= float(limit) for reply in watched)
    assert figures[("fedlmd_infer_seconds_count",)] == 5
    worked = sum(reply["seconds"] for reply in (*watched, unwatched, other))
    assert worked - 0.001 <= figures[("fedlmd_infer_seconds_sum",)] < worked + 5


def test_a_worker_shows_its_release_jobs_drift_and_memory_and_no_runs(client, host, digit):
    figures = scraped(client)
    assert values(figures, "fedlmd_node_info") == {(host.name, "worker", version_in(figures)): 1}
    assert values(figures, "fedlmd_release_info") == {(host.current,): 1}
    [release] = client.get("/v1/releases").json()
    assert figures[("fedlmd_release_accuracy",)] == release["metrics"]["accuracy"]
    assert values(figures, "fedlmd_jobs") == {(s,): 0 for s in ("running", "finished", "failed", "cancelled")}
    assert figures[("fedlmd_training",)] == 0
    assert not any(
        key[0].startswith(("fedlmd_run", "fedlmd_worker", "fedlmd_round", "fedlmd_drift")) for key in figures
    )
    resident = figures[("process_resident_memory_bytes",)]
    assert resident == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    client.post("/infer", files={"image": digit})
    watch, figures = client.get("/v1/drift").json(), scraped(client)
    assert values(figures, "fedlmd_drift_state") == {("steady",): 1, ("drifting",): 0, ("repeating",): 0}
    assert figures[("fedlmd_drift_images",)] == watch["images"] == 1
    assert figures[("fedlmd_drift_alarms_total",)] == watch["alarms"]
    repeats = [figures[(f"fedlmd_repeats_{name}",)] for name in ("in_a_row", "share", "alarm")]
    assert repeats == [1, 0, 0]
    assert figures[("fedlmd_drift_evidence",)] == pytest.approx(watch["evidence"], abs=0.01)


def version_in(figures):
    [key] = [key for key in figures if key[0] == "fedlmd_node_info"]
    return dict(key[1:])["version"]


def test_a_training_is_shown_while_it_goes_on(host, client):
    with host.working:
        figures = scraped(client)
    assert figures[("fedlmd_training",)] == 1
    assert values(figures, "fedlmd_training_progress") == {("classifier",): 0.5}


def test_a_server_without_a_run_or_a_release_says_so(server):
    figures = scraped(server)
    assert values(figures, "fedlmd_runs") == {(s,): 0 for s in ("running", "finished", "failed", "stopped")}
    assert figures[("fedlmd_releases",)] == 0
    assert not any(key[0] in ("fedlmd_run_state", "fedlmd_release_info") for key in figures)


def test_a_server_shows_the_newest_run_as_its_event_log_has_it(server, runs):
    for _ in range(2):
        server.post("/v1/runs", json={})
        runs.add(f"run-{len(runs.orders)}", "failed")
    server.post("/v1/runs", json={})
    runs.add("run-3", "round", **{**ROUND, "round": 1, "workers": []})
    runs.add("run-3", "refused", worker="c", reason="out of memory")
    runs.add("run-3", "round", **ROUND)
    figures = scraped(server)
    assert values(figures, "fedlmd_runs") == {("running",): 1, ("failed",): 2, ("finished",): 0, ("stopped",): 0}
    assert values(figures, "fedlmd_run_state") == {("running",): 1, ("failed",): 0, ("finished",): 0, ("stopped",): 0}
    assert (figures[("fedlmd_run_round",)], figures[("fedlmd_run_rounds",)]) == (1, 3)  # as the list of runs says
    assert figures[("fedlmd_updates_refused_total",)] == 1
    last = {name: figures[(f"fedlmd_round_{name}",)] for name in ("asked", "workers", "aggregated", "seconds")}
    assert last == {"asked": 3, "workers": 2, "aggregated": 1, "seconds": 12.5}
    second = 'a "b"\\'
    assert values(figures, "fedlmd_worker_accuracy") == {("a",): 0.5, (second,): 1}
    assert values(figures, "fedlmd_worker_images") == {("a",): 100, (second,): 300}
    assert values(figures, "fedlmd_worker_evaluation_loss") == {("a",): 1.25}
    assert values(figures, "fedlmd_worker_loss") == {("classifier", "a"): 0.5, ("denoiser", "a"): 0.125}
    assert values(figures, "fedlmd_worker_update_norm") == {("classifier", "a"): 3.5, ("denoiser", "a"): 2.25}
    assert values(figures, "fedlmd_worker_bytes") == {("down", "a"): 2048, ("up", "a"): 512}
    parts = {"loading": 0.75, "training": 9.0, "transfer": 1.75, "waiting": 2.5}
    assert values(figures, "fedlmd_worker_seconds") == {(part, "a"): seconds for part, seconds in parts.items()}


def test_openmetrics_is_sent_to_a_client_that_accepts_it(server, runs):
    server.post("/v1/runs", json={})
    runs.add("run-1", "round", **ROUND)
    plain = scraped(server)
    open_too = scraped(server, open_families, Accept="application/openmetrics-text; version=1.0.0")
    assert {key for key in plain if key[0].startswith("fedlmd_worker")} <= open_too.keys()
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")
