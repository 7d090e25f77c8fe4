import socket

import pytest

from fedlmd.federation.flower.address import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9092", "127.0.0.1", 9092),
        ("server:1", "server", 1),
        ("gpu-7.lab.example.org:65535", "gpu-7.lab.example.org", 65535),
        ("my_server.local.:80", "my_server.local.", 80),
        ("[::1]:9092", "::1", 9092),
        ("[2001:db8::7]:9092", "2001:db8::7", 9092),
        ("0.0.0.0:9092", "0.0.0.0", 9092),
    ],
)
def test_an_address_is_read_and_written_in_the_same_form(text, host, port):
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9092",
        "server",
        "server:",
        ":9092",
        "server:0",
        "server:65536",
        "server:-1",
        "server:٣",
        "http://server:9092",
        "server:9092/path",
        "::1:9092",
        "[::1]",
        "[server]:9092",
        "two words:9092",
        "-x:9092",
        "server:9092\nx",
        "server..lab:9092",
        "a" * 64 + ".lab:9092",
        ".".join(["lab"] * 64) + ":9092",
    ],
)
def test_another_form_is_refused_with_the_form_that_is_allowed(text):
    with pytest.raises(ValueError, match=r"it is host:port with a port from 1 to 65535, such as .*\[::1\]:9092"):
        Address.parse(text)


def test_the_servers_own_machine_reaches_it_by_the_loopback_address():
    assert str(Address.parse("0.0.0.0:9").local) == "127.0.0.1:9"
    assert str(Address.parse("[::]:9").local) == "[::1]:9"
    assert str(Address.parse("server:9").local) == "server:9"


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_that_is_taken_is_known_for_both_families(family, host):
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with taken:
        address = Address(host, taken.getsockname()[1])
        assert "in use" in address.why_taken()
    assert address.why_taken() is None
    assert Address("no-such-host.invalid", 9092).why_taken() is not None
