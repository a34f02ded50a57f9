"""`bitkeras serve` as a process: foreign clients, abuse, a change of versions under load, the end."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from small_servable import build_servable
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.push import write_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
CLIENT_SECONDS = 3


class Process:
    """A running `bitkeras serve`."""

    def __init__(self, push_dir: Path, log: Path, *flags: str):
        self.push_dir, self.log = push_dir, log
        command = [sys.executable, "-m", "pipelines.cli", "serve", f"--push_dir={push_dir}", "--grpc_port=0"]
        command += ["--rest_port=0", f"--client_seconds={CLIENT_SECONDS}", *flags]
        environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
        )
        self.started = self.process.stdout.readline()
        ports = re.fullmatch(r"serving small on grpc://127\.0\.0\.1:(\d+) http://127\.0\.0\.1:(\d+)\n", self.started)
        assert ports, (self.started, log.read_text())
        self.grpc_address, self.rest_port = f"127.0.0.1:{ports[1]}", int(ports[2])

    def call(self, method: str, path: str, body=None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        connection.request(method, path, body=body)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text)

    def predict(self, image: bytes) -> tuple[int, dict]:
        return self.call("POST", "/v1/models/small:predict", rest_body(image))

    def memory(self, kind: str = "VmRSS") -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1024

    def num_threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def available(self) -> list[int]:
        rows = self.call("GET", "/v1/models/small")[1]["model_version_status"]
        return [int(row["version"]) for row in rows if row["state"] == "AVAILABLE"]

    def assert_well(self, image: bytes) -> None:
        """Healthy, answering, and nothing left in memory."""
        assert self.available() and self.predict(image)[0] == 200 and self.process.poll() is None
        deadline = time.monotonic() + 10
        while self.gauge("held_bytes") or self.gauge("in_flight") or self.gauge("queued"):
            assert time.monotonic() < deadline

    def gauge(self, name: str) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        connection.request("GET", "/monitoring/prometheus/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(re.search(rf"^bitkeras:serving:{name} (\S+)$", text, re.MULTILINE)[1])


def rest_body(image: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode()


def grpc_request(image: bytes) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "small"})
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image]))
    return request


@pytest.fixture(scope="module")
def serving(pushed, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    shutil.copytree(pushed, folder / "small" / "1")
    running = Process(folder / "small", folder / "log.txt")
    # What TensorFlow and protobuf take with their first requests is not what abuse takes.
    for image in images:
        running.predict(image)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def well(serving, images):
    """Around a test of abuse: it answers, and takes no more memory on the way than its limits come to.

    256 MB of requests in memory, and two that are unpacked: 64 MB as bytes, as text, as a value, and decoded.
    """
    Path(f"/proc/{serving.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = serving.memory()
    serving.assert_well(images[0])
    yield serving
    serving.assert_well(images[0])
    taken = serving.memory("VmHWM") - before
    assert taken < 256 + 2 * 4 * 64, taken


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(serving, pushed, images, tmp_path, loaded):
    def curl(path, *options):
        url = f"http://127.0.0.1:{serving.rest_port}{path}"
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "60", "-w", "\n%{http_code}", *options, url],
            capture_output=True,
            text=True,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    (tmp_path / "ask.json").write_bytes(rest_body(images[0]))
    wanted = loaded.signatures["serving_default"](image_bytes=tf.constant(images[:1]))["probabilities"]
    status, answer = curl("/v1/models/small:predict", "-d", f"@{tmp_path / 'ask.json'}")
    assert status == 200
    np.testing.assert_allclose([row["probabilities"] for row in answer["predictions"]], wanted, atol=1e-5)
    assert curl("/v1/models/small")[1]["model_version_status"][0]["state"] == "AVAILABLE"
    assert curl("/v1/models/small/metadata")[1]["model_spec"]["version"] == "1"
    assert curl("/v1/models/none")[0] == 404
    assert curl("/v1/models/small:predict", "-d", "{")[0] == 400
    assert curl("/v1/models/../../etc/passwd", "--path-as-is")[0] == 400
    # Too large, with and without asking first; the answer comes in each case.
    (tmp_path / "large").write_bytes(bytes(100_000_000))
    for expect in ("Expect: 100-continue", "Expect:"):
        assert curl("/v1/models/small:predict", "--data-binary", f"@{tmp_path / 'large'}", "-H", expect)[0] == 413


@pytest.mark.skipif("BITKERAS_OVMSCLIENT_PYTHON" not in os.environ, reason="no Python with ovmsclient is named")
def test_ovmsclient(serving, images, tmp_path, loaded):
    """Its protobuf is too old for TensorFlow's, so BITKERAS_OVMSCLIENT_PYTHON is of an environment of its own."""
    (tmp_path / "image.jpg").write_bytes(images[0])
    script = Path(__file__).with_name("ovmsclient_session.py")
    rest_address = f"127.0.0.1:{serving.rest_port}"
    command = [os.environ["BITKERAS_OVMSCLIENT_PYTHON"], script, serving.grpc_address, rest_address]
    done = subprocess.run([*command, tmp_path / "image.jpg"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = loaded.signatures["serving_default"](image_bytes=tf.constant(images[:1]))["probabilities"]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == 2
    for row in said:
        assert row["states"] == {"1": "AVAILABLE"} and row["missing"] == "ModelNotFoundError"
        assert row["inputs"] == {"image_bytes": "DT_STRING"}
        np.testing.assert_allclose(row["probabilities"], wanted, atol=1e-5)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb() -> bytes:
    """A PNG of 50,000 x 50,000 black pixels: 7.5 GB unpacked; its rows would be a few MB, so it ends early."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_not_unpacked(well):
    for _ in range(5):
        status, answer = well.predict(bomb())
        assert status == 200 and [row["status"] for row in answer["predictions"]] == ["unreadable"]
    with grpc.insecure_channel(well.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(grpc_request(bomb()), timeout=30)
        assert tf.make_ndarray(answer.outputs["status"]).tolist() == [b"unreadable"]


def test_malformed_bodies_are_refused(well):
    rng = np.random.default_rng(0)
    bodies = [b"", b"{", b"[" * 1_000_000, b'{"instances": ' + b"[" * 60_000_000, b"null", b'{"inputs": 1e999}']
    bodies += [rng.bytes(size) for size in (1, 100, 100_000)]
    bodies += [b'{"instances": [' + b"[]," * 20_000_000 + b"[]]}"]
    for body in bodies:
        status, answer = well.call("POST", "/v1/models/small:predict", body)
        assert status == 400 and set(answer) == {"error"} and len(answer["error"]) < 1000
    status, answer = well.call("POST", "/v1/models/small:predict", b'{"inputs": ["' + b"a" * 60_000_000 + b'"]}')
    assert status == 200 and answer["outputs"]["status"] == ["unreadable"]
    with grpc.insecure_channel(well.grpc_address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for body in (b"\xff" * 1000, *(rng.bytes(size) for size in (10, 1000, 1_000_000))):
            with pytest.raises(grpc.RpcError) as refused:
                call(body, timeout=30)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(100_000_000), timeout=60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "name", ["..", "../1", "%2e%2e", "/etc/passwd", "small/../small", "small%00", "a" * 60_000, "\\..\\small", "~"]
)
def test_tricks_in_names_find_nothing(serving, name):
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/metadata"):
        assert serving.call("GET", path)[0] in (400, 404)
    assert serving.call("POST", f"/v1/models/{name}:predict", b"{}")[0] in (400, 404)


def test_ten_thousand_tiny_requests(well):
    def ask(number_of_requests):
        connection = http.client.HTTPConnection("127.0.0.1", well.rest_port, timeout=60)
        statuses = []
        for _ in range(number_of_requests):
            connection.request("POST", "/v1/models/small:predict", body=b'{"instances": ["x"]}')
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        return statuses

    before = well.num_threads()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        statuses = [status for part in pool.map(ask, [500] * 20) for status in part]
    assert len(statuses) == 10_000 and set(statuses) == {200}
    assert well.num_threads() - before <= 25


def test_sixty_four_slow_clients(well, images):
    heads = [b"", b"POST /v1/mod", b"POST /v1/models/small:predict HTTP/1.1\r\nContent-Length: 60000000\r\n\r\n{"]
    slow = []
    for number in range(64):
        slow.append(socket.create_connection(("127.0.0.1", well.rest_port), timeout=30))
        slow[-1].sendall(heads[number % 3])
    # At most four bodies of 60 MB are promised room; the others are told so at once, and no memory is taken for them.
    started = time.monotonic()
    assert well.available() == [1] and time.monotonic() - started < 2
    assert well.predict(images[0])[0] == 200 and time.monotonic() - started < 4
    assert well.num_threads() < 64 + 150
    while time.monotonic() - started < CLIENT_SECONDS + 3:
        time.sleep(0.1)
    for client in slow:
        client.settimeout(0.2)
        try:
            while client.recv(4096):
                pass
        except ConnectionError:
            pass  # cut; a client that still hangs would raise TimeoutError
        client.close()


def test_sixty_four_slow_clients_of_grpc(well, images):
    with grpc.insecure_channel(well.grpc_address) as channel:
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        go = threading.Event()

        class Waiting:
            def __iter__(self):
                return self

            def __next__(self):
                go.wait(60)
                raise StopIteration

        calls = [call.future(Waiting(), timeout=60) for _ in range(64)]
        time.sleep(0.5)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(grpc_request(images[0]), timeout=10).model_spec.version.value == 1
        go.set()
        for slow in calls:
            slow.cancel()


def test_the_log_tells_requests_and_no_traceback(serving):
    log = serving.log.read_text()
    assert "Traceback" not in log and "code=OK" in log and "b64" not in log
    for line in log.splitlines():
        assert len(line) < 400


def test_predict_command_prints_the_same_from_everywhere(serving, images, tmp_path):
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(image)

    def predict(*flags):
        command = [sys.executable, "-m", "pipelines.cli", "predict", *flags, *map(str, paths)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    local = predict(f"--push_dir={serving.push_dir}", "--json")
    assert local[0] == 0 and len(local[1].splitlines()) == len(images)
    for server in (f"127.0.0.1:{serving.rest_port}", f"grpc://{serving.grpc_address}"):
        code, out, errors = predict(f"--server={server}", "--json")
        assert code == 0, errors
        for got, wanted in zip(map(json.loads, out.splitlines()), map(json.loads, local[1].splitlines())):
            assert got.keys() == wanted.keys() and got["prediction"] == wanted["prediction"]
            np.testing.assert_allclose(got["embedding"], wanted["embedding"], atol=1e-5)


def test_versions_change_under_load_without_a_failed_or_wrong_answer(serving, images, loaded):
    other = build_servable()
    other.head_bias.assign(-3 * other.head_bias)
    staged = serving.push_dir / ".tmp-2"
    write_model(other, staged)
    wanted = {1: loaded, 2: tf.saved_model.load(str(staged))}
    wanted = {
        version: model.signatures["serving_default"](image_bytes=tf.constant(images[:1]))["probabilities"].numpy()
        for version, model in wanted.items()
    }
    assert np.abs(wanted[1] - wanted[2]).max() > 0.05
    stop, faults, seen, body = threading.Event(), [], [], rest_body(images[0])

    def by_rest():
        connection = http.client.HTTPConnection("127.0.0.1", serving.rest_port, timeout=30)
        while not stop.is_set():
            connection.request("POST", "/v1/models/small:predict", body=body)
            response = connection.getresponse()
            answer = json.loads(response.read())
            got = np.array([row["probabilities"] for row in answer.get("predictions", [])])
            right = [version for version, value in wanted.items() if np.allclose(got, value, atol=1e-5)]
            (seen if response.status == 200 and right else faults).append((response.status, *right))

    def by_grpc():
        with grpc.insecure_channel(serving.grpc_address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                try:
                    response = stub.Predict(grpc_request(images[0]), timeout=30)
                except grpc.RpcError as error:
                    faults.append(error)
                    continue
                version = response.model_spec.version.value
                got = tf.make_ndarray(response.outputs["probabilities"])
                (seen if np.allclose(got, wanted[version], atol=1e-5) else faults).append((0, version))

    threads = [threading.Thread(target=target) for target in (by_rest, by_grpc) * 4]
    for thread in threads:
        thread.start()
    # Forward, with a version that does not load after it; back to the first by removing; forward again.
    for newest in (2, 1, 2):
        if newest == 2:
            os.rename(staged, serving.push_dir / "2")
            shutil.copytree(serving.push_dir / "2", serving.push_dir / ".tmp-3")
            (serving.push_dir / ".tmp-3" / "variables" / "variables.index").write_bytes(b"damaged")
            os.rename(serving.push_dir / ".tmp-3", serving.push_dir / "3")
        else:
            shutil.rmtree(serving.push_dir / "3")
            os.rename(serving.push_dir / "2", staged)
        deadline = time.monotonic() + 30
        while serving.available() != [newest]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not faults and {version for _, version in seen} == {1, 2} and len(seen) > 100
    told = [line for line in serving.log.read_text().splitlines() if "version=3 does not load" in line]
    assert len(told) == 2  # once for each time it came


def test_sigterm_answers_what_has_come_and_ends_with_0(serving, images):
    """The last test: the server is gone after it."""
    stop, answered, refused = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            try:
                answered.append(serving.predict(images[0])[0])
            except (ConnectionRefusedError, ConnectionResetError) as error:
                refused.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(answered) < 50:
        time.sleep(0.01)
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0
    stop.set()
    for thread in threads:
        thread.join(30)
    # Who was let in was answered; who came later found the door shut.
    assert set(answered) == {200} and len(refused) == 8
    assert "Traceback" not in serving.log.read_text() and serving.process.stdout.read() == ""
