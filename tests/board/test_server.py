"""The requests that the board answers."""

from __future__ import annotations

import socket

import pytest

from tiedexp.board.server import HostCheck


def ask(host: str, header: str) -> tuple[str, list[bytes]]:
    """(status, body) of a request with this Host header to a board that listens on `host`."""
    statuses: list[str] = []

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"the runs"]

    body = list(HostCheck(app, host)({"HTTP_HOST": header}, lambda status, headers: statuses.append(status)))
    return statuses[0], body


@pytest.mark.parametrize(
    ("host", "header"),
    [
        ("localhost", "localhost:6006"),
        ("localhost", "LOCALHOST"),
        ("localhost", "127.0.0.1:6006"),
        ("localhost", "127.8.9.10"),
        ("localhost", "[::1]:6006"),
        ("gpu-box", "gpu-box:6006"),
        ("192.168.0.7", "192.168.0.7:6006"),
        ("fe80::1", "[fe80::1]:6006"),
        ("0.0.0.0", "192.168.0.7:6006"),
        ("0.0.0.0", f"{socket.gethostname()}:6006"),
        ("::", "[fe80::1]"),
    ],
)
def test_names_of_this_machine(host, header):
    assert ask(host, header) == ("200 OK", [b"the runs"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "192.168.0.7", "0.0.0.0", "::"])
@pytest.mark.parametrize(
    "header", ["evil.example", "evil.example:6006", "localhost.evil.example", "", "[", "127.0.0.1.evil.example"]
)
def test_other_names(host, header):
    status, body = ask(host, header)
    assert status == "403 Forbidden"
    assert b"the runs" not in body


def test_addresses_of_others_where_it_listens_to_one():
    assert ask("localhost", "192.168.0.7")[0] == "403 Forbidden"
