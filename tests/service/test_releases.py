def test_the_card_of_the_current_release_is_given(predicting, trained):
    card = predicting.get("/v1/release").raise_for_status().json()
    assert card["id"] == trained.current
    assert card["settings"]["labels"] == ["0", "1", "2"]


def test_without_a_release_there_is_no_card(server):
    reply = server.get("/v1/release")
    assert reply.status_code == 503
    assert "no release yet" in reply.json()["error"]
    assert server.get("/v1/releases").json() == []


def test_the_releases_are_listed_and_one_is_chosen(client, host):
    first = host.current
    second = client.post("/train-worker-on-labels-list", json={"labels_list": [1, 2], "seed": 5}).json()["release"]
    listed = client.get("/v1/releases").json()
    assert {release["id"]: release["current"] for release in listed} == {first: False, second: True}
    assert {tuple(release["labels"]) for release in listed} == {("0", "1", "2"), ("1", "2")}
    assert all(release["size"] > 1000 and release["metrics"]["images"] for release in listed)
    chosen = client.put("/v1/release", json={"release": first}).raise_for_status().json()
    assert (chosen["id"], chosen["current"]) == (first, True)
    assert client.get("/health").json()["release"] == host.current == first


def test_an_unknown_release_cannot_be_chosen(predicting, trained):
    before = trained.current
    reply = predicting.put("/v1/release", json={"release": "nothing"})
    assert (reply.status_code, "'nothing'" in reply.json()["error"]) == (404, True)
    assert predicting.put("/v1/release", json={"release": ""}).status_code == 422
    assert predicting.put("/v1/release", json={}).json() == {"error": "release: it is missing"}
    assert trained.current == before


def test_a_damaged_release_is_named_and_not_blamed_on_the_client(client, host):
    weights = host.home / host.current / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    host.predictors.clear()
    reply = client.get("/v1/release")
    assert reply.status_code == 500
    assert "damaged" in reply.json()["error"]
