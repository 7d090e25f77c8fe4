"""Requests to Flower's server on workers: a worker announces itself, the server's node reads the list."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedlmd.federation.announcement import PATH, Announcement
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.worker_list import AnnouncedWorker

Outcome = Literal["accepted", "refused", "unreachable"]
TIMEOUT = 5.0
LARGEST_RESPONSE = 64 * 2**20
"""Bytes of a response that are read: more than the longest list has."""


@dataclass(frozen=True)
class Answer:
    """How a server responded to an announcement.

    Args:
        outcome: "accepted", "refused" by the server, or "unreachable": no server of this package responded.
        reason: why it is not accepted, in one sentence.
    """

    outcome: Outcome
    reason: str | None = None


class NoServer(RuntimeError):  # noqa: N818 - the name says it
    """No server of this package responds at an address; the text says in one sentence what does."""


def announce(address: Address, sent: Announcement, timeout: float = TIMEOUT) -> Answer:
    """Announce a worker to a server.

    Args:
        address: of Flower's server.
        sent: the announcement.
        timeout: seconds without a byte after which the server counts as unreachable.
    """
    try:
        status, body = request(address, "POST", sent.to_json(), {"Content-Type": "application/json"}, timeout)
    except NoServer as error:
        return Answer("unreachable", str(error))
    if body.get("accepted") is True:
        return Answer("accepted")
    reason = body.get("reason", body.get("error"))
    if isinstance(reason, str) and status in (200, 400, 413):
        return Answer("refused", " ".join(reason.split())[:500])
    return Answer("unreachable", no_fedlmd(address, f"it answers {status}"))


def list_workers(address: Address, token: str, timeout: float = TIMEOUT) -> list[AnnouncedWorker]:
    """The workers that announced themselves to a server on this machine.

    Raises:
        EngineError: when the server does not respond.
    """
    try:
        status, body = request(address, "GET", None, {"Authorization": f"Bearer {token}"}, timeout)
        if status != 200:
            raise NoServer(f"Flower's server at {address} does not list its workers (it answers {status})")
        return [AnnouncedWorker.from_json(fields) for fields in body["workers"]]
    except NoServer as error:
        raise EngineError(str(error)) from None


def request(
    address: Address, method: str, body: bytes | None, headers: Mapping[str, str], timeout: float
) -> tuple[int, dict[str, Any]]:
    """One request, through no proxy and following no redirection; returns the status and the JSON object.

    Raises:
        NoServer: when there is no such response.
    """
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        connection.request(method, PATH, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        data = json.loads(response.read(LARGEST_RESPONSE))
    except socket.gaierror:
        raise NoServer(f"the name {address.host!r} of the server is not known here; check --superlink") from None
    except ConnectionRefusedError:
        raise NoServer(f"nothing listens at {address}; start the server, or check --superlink") from None
    except TimeoutError:
        raise NoServer(f"{address} does not respond within {timeout:g} s; check --superlink and the network") from None
    except (http.client.HTTPException, ConnectionError):
        raise NoServer(no_fedlmd(address, "it does not speak HTTP, or only with TLS")) from None
    except OSError as error:
        raise NoServer(f"{address} cannot be reached ({error.strerror or error}); check --superlink") from None
    except (ValueError, RecursionError):
        raise NoServer(no_fedlmd(address, f"it answers {response.status} without JSON")) from None
    finally:
        connection.close()
    if not isinstance(data, dict):
        raise NoServer(no_fedlmd(address, f"it answers {response.status} with other JSON"))
    return response.status, data


def no_fedlmd(address: Address, why: str) -> str:
    """The sentence for an address at which something else listens."""
    return (
        f"what listens at {address} is no fedlmd server ({why}); --superlink names the port of Flower's server, by "
        "default 9092, and not that of the REST service"
    )
