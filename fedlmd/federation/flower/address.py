"""The address of Flower's server, as options and environment variables give it: ``host:port``."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv6Address

# Where a server listens at all interfaces, and how its own machine reaches it.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
# The socket library raises no OSError for a name that is too long or has an empty part.
NAME = re.compile(r"(?!-)(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*(?<!-)\.?")


@dataclass(frozen=True)
class Address:
    """Where Flower's server listens, or is reached.

    Args:
        host: a name, an IPv4 address, or an IPv6 address without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in a text "host:port", in which an IPv6 address stands in brackets.

        Raises:
            ValueError: with one sentence, when the text has another form.
        """
        host, _, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        good = is_ipv6(host[1:-1]) if bracketed else bool(NAME.fullmatch(host))
        if not good or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise ValueError(
                f"the address of Flower's server is {text!r}; it is host:port with a port from 1 to 65535, such as "
                "192.168.1.10:9092 or [::1]:9092"
            )
        return cls(host[1:-1] if bracketed else host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> Address:
        """The address at which the server's own machine reaches it."""
        return Address(LOOPBACK.get(self.host, self.host), self.port)

    def why_taken(self) -> str | None:
        """Why no process can listen at the address now; None where one can."""
        try:
            infos = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, where in infos:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(where)
        except OSError as error:
            return error.strerror or str(error)
        return None


def is_ipv6(text: str) -> bool:
    """Whether a text is an IPv6 address."""
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
