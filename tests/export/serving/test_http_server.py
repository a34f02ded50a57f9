"""Sockets: slow clients, sizes, keep-alive, and the end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

import pytest
from foreign_model import waiting_service

from export.serving.http_connections import BoundedHTTPServer
from export.serving.http_handler import make_handler

ASK = b"POST /v1/models/waits:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n" + b'{"instances": [1]}'


@pytest.fixture
def listen(tmp_path):
    running = []

    def start(*, max_connections=16, client_seconds=30.0, **limits):
        limits = {"client_seconds": client_seconds, "max_connections": max_connections, **limits}
        service, model = waiting_service(tmp_path, **limits)
        server = BoundedHTTPServer(
            ("127.0.0.1", 0),
            make_handler(service),
            max_connections=max_connections,
            client_seconds=client_seconds,
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append((server, model))
        return server, model, service

    yield start
    for server, model in running:
        model.go.set()
        server.drain(5)


def connect(server) -> socket.socket:
    client = socket.create_connection(server.server_address, timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def read_answer(client) -> tuple[int, dict, dict]:
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, dict(response.getheaders()), json.loads(response.read())


def is_cut(client) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def num_handlers() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_a_connection_answers_many_requests_without_waiting_for_acknowledgements(listen):
    server, model, _ = listen()
    model.go.set()
    client = connect(server)
    started = time.monotonic()
    for _ in range(50):
        client.sendall(ASK)
        status, headers, answer = read_answer(client)
        assert status == 200 and answer == {"predictions": [1.0]} and "Connection" not in headers
    # With Nagle's algorithm each takes 40 ms.
    assert time.monotonic() - started < 50 * 0.03
    client.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", ASK[:-1], ASK.replace(b"18", b"9999")])
def test_slow_clients_are_cut_also_when_they_drip(listen, sent):
    server, model, _ = listen(client_seconds=0.4)
    client = connect(server)
    client.sendall(sent)
    started = time.monotonic()
    while time.monotonic() - started < 10:
        try:
            if sent:
                client.sendall(b"x" if sent.startswith(b"POST /v1/mod") and len(sent) < 20 else b"")
            client.settimeout(0.1)
            if client.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert 0.3 < time.monotonic() - started < 5 and model.runs == 0


def test_slow_clients_keep_nobody_out_and_hold_few_threads(listen):
    server, model, _ = listen(max_connections=8)
    model.go.set()
    before = num_handlers()
    slow = [connect(server) for _ in range(64)]
    for client in slow:
        client.sendall(b"POST /v1/models/waits:predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
    time.sleep(0.2)
    assert num_handlers() - before <= 9
    client = connect(server)
    client.sendall(ASK)
    assert read_answer(client)[0] == 200
    # The first to come are cut for those that follow.
    assert sum(is_cut(client) for client in slow[:50]) == 50
    for client in slow:
        client.close()


def test_where_all_connections_are_being_answered_a_further_one_is_told(listen):
    server, model, _ = listen(max_connections=3)
    clients = [connect(server) for _ in range(3)]
    for number, client in enumerate(clients):
        client.sendall(ASK)
        while sum(not c.awaits_client for c in server._connections.values()) <= number:
            time.sleep(0.005)
    further = connect(server)
    assert read_answer(further)[0] == 503
    model.go.set()
    assert [read_answer(client)[0] for client in clients] == [200] * 3


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 2000000", 413),
        (b"Content-Length: 99999999999999999999999999", 400),
        (b"Content-Length: -1", 400),
        (b"Content-Length: 1_0", 400),
        (b"Content-Length: 1\r\nContent-Length: 2", 400),
        (b"X: 1", 400),
        (b"Transfer-Encoding: chunked", 411),
        (b"Content-Length: 5\r\nContent-Encoding: gzip", 411),
        (b"Content-Length: 2000000\r\nExpect: 100-continue", 413),
        (b"X: " + b"y" * 70_000, 431),
        (b"\r\n".join(b"X: 1" for _ in range(200)), 431),
    ],
)
def test_heads_that_promise_no_body_within_the_limits_are_refused(listen, head, status):
    server, model, _ = listen(max_request_bytes=1 << 20)
    client = connect(server)
    client.sendall(b"POST /v1/models/waits:predict HTTP/1.1\r\n" + head + b"\r\n\r\n")
    got, headers, answer = read_answer(client)
    assert got == status and set(answer) == {"error"} and headers["Connection"] == "close" and model.runs == 0
    client.close()


@pytest.mark.parametrize(
    "line", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"G" * 70_000]
)
def test_what_is_no_http_is_told_in_json_or_cut(listen, line):
    server, *_ = listen(client_seconds=1.0)
    client = connect(server)
    client.sendall(line)
    client.shutdown(socket.SHUT_WR)
    received = b"".join(iter(lambda: client.recv(65536), b""))
    assert b'{"error"' in received and b"<html" not in received.lower()


def test_a_body_beyond_the_limit_gets_its_answer_while_it_is_still_being_sent(listen):
    server, *_ = listen(max_request_bytes=1 << 20)
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    connection.request("POST", "/v1/models/waits:predict", body=b"x" * (30 << 20))
    assert connection.getresponse().status == 413


def test_bodies_share_one_budget_of_bytes(listen):
    server, model, service = listen(max_request_bytes=1 << 20, max_held_bytes=1 << 20)
    first = connect(server)
    first.sendall(b"POST /v1/models/waits:predict HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{")
    while not service.held.bytes:
        time.sleep(0.005)
    second = connect(server)
    second.sendall(b"POST /v1/models/waits:predict HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)
    assert read_answer(second)[0] == 429
    first.close()
    while service.held.bytes:
        time.sleep(0.005)


def test_draining_answers_what_has_come_and_says_close(listen):
    server, model, _ = listen()
    idle, asked = connect(server), connect(server)
    asked.sendall(ASK)
    while not model.running:
        time.sleep(0.005)
    drained = threading.Thread(target=server.drain, args=[20])
    drained.start()
    assert is_cut(idle) and drained.is_alive()
    model.go.set()
    status, headers, _ = read_answer(asked)
    assert status == 200 and headers["Connection"] == "close"
    drained.join(10)
    assert not drained.is_alive()
    with pytest.raises(ConnectionError):
        connect(server)
