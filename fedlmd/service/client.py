"""A client of a node's REST service, for the command line, the demo and the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import httpx


class NodeError(RuntimeError):
    """A node did not respond, or refused; the message is the node's own where it sent one."""


@final
@dataclass(frozen=True)
class NodeClient:
    """One node.

    Args:
        url: such as "http://127.0.0.1:9000".
        timeout: seconds that a response may take.
    """

    url: str
    timeout: float = 60.0

    def health(self) -> dict[str, Any]:
        """State of the node: release, training, drift."""
        return self.ask("GET", "/health")

    def workers(self) -> list[dict[str, Any]]:
        """The workers that announced themselves to the server."""
        return list[Any](self.ask("GET", "/v1/workers"))

    def start_run(self, order: dict[str, Any]) -> str:
        """Start a federated run at the server, or resume one (``{"resume": id}``); returns its id."""
        return str(self.ask("POST", "/v1/runs", json=order)["run"])

    def stop_run(self, run: str) -> None:
        """Stop a federated run."""
        self.ask("DELETE", f"/v1/runs/{run}")

    def infer(self, image: bytes, **query: str | float | bool) -> dict[str, Any]:
        """The node's prediction of one image, given as the bytes of a file."""
        return self.ask("POST", "/infer", files={"image": ("image.png", image)}, params=query)

    def drift(self) -> dict[str, Any]:
        """State of the node's drift watch."""
        return self.ask("GET", "/v1/drift")

    def reset_drift(self) -> dict[str, Any]:
        """Acknowledge the alarm of the node's drift watch; returns the state of the new watch."""
        return self.ask("DELETE", "/v1/drift")

    def events(self, run: str) -> Iterator[dict[str, Any]]:
        """A run's events from the first to the last, as they come."""
        try:
            with self.connection() as http, http.stream("GET", f"/v1/runs/{run}/events") as response:
                if response.is_error:
                    response.read()
                    raise NodeError(sentence(response))
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except httpx.HTTPError as error:
            raise NodeError(f"the server at {self.url} went away: {error}") from None

    def federate(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Start a federated run and yield its events; the last one says that it finished.

        Raises:
            NodeError: when it failed or was stopped, with its reason.
        """
        ended: dict[str, Any] | None = None
        for event in self.events(self.start_run(order)):
            # A run that was resumed has failed or been stopped before: only the last such event is its end.
            if ended:
                yield ended
            ended = event if event["event"] in ("failed", "stopped") else None
            if ended is None:
                yield event
        if ended:
            raise NodeError(f"the run {ended['event']}: {ended.get('reason', 'no reason given')}")

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own arguments
        """One request.

        Raises:
            NodeError: when there is no response, or it is an error.
        """
        try:
            with self.connection() as http:
                response = http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise NodeError(f"no node answers at {self.url} ({error}); start one with: fedlmd serve") from None
        if response.is_error:
            raise NodeError(sentence(response))
        body: dict[str, Any] = response.json()
        return body

    def connection(self) -> httpx.Client:
        """A connection for one request, without the proxies that the environment names: nodes are reached directly."""
        return httpx.Client(base_url=self.url, timeout=self.timeout, trust_env=False)


def sentence(response: httpx.Response) -> str:
    """The message of a node's error."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the node answered {response.status_code}"
