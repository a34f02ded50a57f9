"""How much `bitkeras serve` takes, how fast it answers, and what it does past that: the tables of serving.md.

    python docs/results/serving.py --work_dir=/tmp/serving --backbone=R50x1 --image_size=224 --seconds=25

Two versions of one network with random weights are written first (`--only_make` ends there); their answers to sixteen
JPEGs of 600x450 are known from the SavedModels themselves, and every answer of the server is compared with them.
Clients run on the same machine, in one process beside the server. At a given rate requests are sent at random times
whether or not others have been answered, and a latency counts from the time at which its request was due.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

CLASS_NAMES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
NUM_IMAGES = 16


def make_versions(work_dir: Path, backbone: str, image_size: int) -> None:
    """`made/1` and `made/2`, the images, and what each version answers to them."""
    import tensorflow as tf

    from bitkeras.backbones import build_backbone
    from bitkeras.data.phantom import write_phantoms
    from bitkeras.evaluation.novelty import fit_familiar
    from export.push import write_model
    from export.servable import Servable

    tf.keras.utils.set_random_seed(0)
    encoder = build_backbone(backbone, norm="batch")
    num_features, rng = encoder.output_shape[-1], np.random.default_rng(0)
    images = sorted(write_phantoms(work_dir / "images", num_images=100, seed=0, image_size=(600, 450)).rglob("*.jpg"))
    encoded = [path.read_bytes() for path in images[:NUM_IMAGES]]
    familiar = fit_familiar(*(rng.normal(size=[100, num_features]).astype(np.float32) for _ in range(2)))
    probabilities = []
    for version in (1, 2):
        kernel = rng.normal(size=[num_features, len(CLASS_NAMES)]) / np.sqrt(num_features)
        known = {"class_names": CLASS_NAMES, "image_size": image_size, "familiar": familiar}
        servable = Servable(encoder, kernel, np.zeros(len(CLASS_NAMES)), **known)
        folder = work_dir / "made" / str(version)
        write_model(servable, folder)
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
        probabilities.append(serve(image_bytes=tf.constant(encoded))["probabilities"].numpy())
    np.savez(work_dir / "known.npz", probabilities=probabilities)


class Server:
    """`bitkeras serve` of version 1, in a process of its own."""

    def __init__(self, work_dir: Path):
        shutil.rmtree(work_dir / "served", ignore_errors=True)
        shutil.copytree(work_dir / "made" / "1", work_dir / "served" / "1")
        self.push_dir = work_dir / "served"
        command = [sys.executable, "-m", "pipelines.cli", "serve", f"--push_dir={self.push_dir}", "--grpc_port=0"]
        self.log = (work_dir / "log.txt").open("w")
        self.process = subprocess.Popen([*command, "--rest_port=0"], stdout=subprocess.PIPE, stderr=self.log, text=True)
        told = self.process.stdout.readline()
        self.grpc_port, self.rest_port = map(int, re.findall(r":(\d+)(?: |$)", told))

    def memory(self) -> float:
        """Largest resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Client:
    """Sends image i and says (code, seconds, version it is the answer of or None)."""

    def __init__(self, protocol: str, server: Server, work_dir: Path):
        self.encoded = [path.read_bytes() for path in sorted((work_dir / "images").rglob("*.jpg"))[:NUM_IMAGES]]
        self.known = np.load(work_dir / "known.npz")["probabilities"]
        self.rest_port, self.connections = server.rest_port, threading.local()
        self.send = self.by_rest if protocol == "REST" else self.by_grpc
        self.bodies = [
            json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode() for image in self.encoded
        ]
        if protocol == "gRPC":
            import grpc
            import tensorflow as tf
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

            channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
            self.stub, self.grpc, self.to_array = (
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                grpc,
                tf.make_ndarray,
            )
            self.requests = [predict_pb2.PredictRequest(model_spec={"name": "served"}) for _ in self.encoded]
            for request, image in zip(self.requests, self.encoded):
                request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image]))

    def by_rest(self, index: int) -> tuple[str, np.ndarray | None]:
        """(code, probabilities)."""
        if not hasattr(self.connections, "own"):
            self.connections.own = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=120)
        connection = self.connections.own
        connection.request("POST", "/v1/models/served:predict", body=self.bodies[index])
        response = connection.getresponse()
        answer = json.loads(response.read())
        got = np.array(answer["predictions"][0]["probabilities"]) if response.status == 200 else None
        return str(response.status), got

    def by_grpc(self, index: int) -> tuple[str, np.ndarray | None]:
        """(code, probabilities)."""
        try:
            response = self.stub.Predict(self.requests[index], timeout=120)
        except self.grpc.RpcError as error:
            return error.code().name, None
        return "OK", self.to_array(response.outputs["probabilities"])[0]

    def ask(self, index: int, due: float) -> tuple[str, float, int | None]:
        """One request, with its time from `due` on, and the version whose answer it got."""
        try:
            code, got = self.send(index)
        except (OSError, http.client.HTTPException) as error:
            code, got = type(error).__name__, None
            self.connections.__dict__.clear()
        seconds = time.perf_counter() - due
        if got is None:
            return code, seconds, None
        right = [version for version in (1, 2) if np.allclose(got, self.known[version - 1][index], atol=1e-4)]
        return code, seconds, right[0] if right else 0


def closed_loop(client: Client, seconds: float, num_clients: int) -> list[tuple]:
    """Each client asks again when it has been answered."""
    end = time.perf_counter() + seconds

    def work(offset: int) -> list[tuple]:
        rows = []
        while time.perf_counter() < end:
            rows.append(client.ask((len(rows) + offset) % NUM_IMAGES, time.perf_counter()))
        return rows

    with concurrent.futures.ThreadPoolExecutor(num_clients) as pool:
        return [row for rows in pool.map(work, range(num_clients)) for row in rows]


def open_loop(client: Client, seconds: float, rate: float, midway=None) -> list[tuple]:
    """Requests at random times, `rate` a second, however the server is doing; `midway` is called after a quarter."""
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1 / rate, size=max(1, round(seconds * rate)))
    waiting, started = [], time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(400) as pool:
        for number, due in enumerate(started + np.cumsum(gaps)):
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(pool.submit(client.ask, number % NUM_IMAGES, due))
            if midway and number == len(gaps) // 4:
                midway()
        return [row.result() for row in waiting]


def watch_health(server: Server, stop: threading.Event) -> list[float]:
    """Seconds of a status request, five times a second; an error is infinite."""
    taken = []
    while not stop.wait(0.2):
        began = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
            connection.request("GET", "/v1/models/served")
            healthy = connection.getresponse().status == 200
            connection.close()
        except OSError:
            healthy = False
        taken.append(time.perf_counter() - began if healthy else np.inf)
    return taken


def told(name: str, work, *arguments) -> tuple[str, list[tuple]]:
    """A line of the table about `work(*arguments)`, and its rows; the rate counts until the last answer."""
    started = time.perf_counter()
    rows = work(*arguments)
    seconds = time.perf_counter() - started
    good = [row[1] for row in rows if row[2]]
    shed = sum(row[0] in ("429", "RESOURCE_EXHAUSTED") for row in rows)
    wrong = sum(row[2] == 0 for row in rows)
    p50, p99 = (1000 * np.quantile(good, [0.5, 0.99])) if good else (np.nan, np.nan)
    failed = len(rows) - len(good) - shed - wrong
    line = f"| {name} | {len(good) / seconds:.1f} | {p50:.0f} | {p99:.0f} | {len(good)} | {shed} | {failed} | {wrong} |"
    print(line, dict(Counter(row[0] for row in rows)), file=sys.stderr, flush=True)
    return line, rows


def measure(work_dir: Path, seconds: float) -> None:
    """Prints the tables."""
    server = Server(work_dir)
    lines, health = [], []
    for protocol in ("REST", "gRPC"):
        client = Client(protocol, server, work_dir)
        closed_loop(client, 3, 4)
        line, rows = told(f"{protocol}, four clients that wait for their answers", closed_loop, client, seconds, 4)
        lines.append(line)
        rate = len(rows) / seconds
        for load in (0.5, 1.0):
            lines.append(told(f"{protocol}, {100 * load:.0f} % of that", open_loop, client, seconds, load * rate)[0])
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            watched = pool.submit(watch_health, server, stop)
            lines.append(told(f"{protocol}, 300 %", open_loop, client, seconds, 3 * rate)[0])
            stop.set()
            health += watched.result()

    def publish() -> None:
        shutil.copytree(work_dir / "made" / "2", server.push_dir / ".tmp-2")
        os.rename(server.push_dir / ".tmp-2", server.push_dir / "2")

    # Longer: beside requests, a version takes its time to load.
    line, rows = told("gRPC, 50 %, version 2 published", open_loop, client, 3 * seconds, 0.5 * rate, publish)
    lines.append(line)
    versions = Counter(row[2] for row in rows)
    memory = server.memory()
    print("| load | answers/s | p50, ms | p99, ms | right | shed | failed | wrong |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    print(f"\nof version 1: {versions[1]}, of version 2: {versions[2]}; exit status after SIGTERM: {server.stop()}")
    print(
        f"status under 300 %: {len(health)} asked, slowest {1000 * max(health):.0f} ms; largest memory {memory:.0f} MB"
    )


def main() -> None:
    """Make, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True)
    parser.add_argument("--backbone", default="R50x1")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--only_make", action="store_true")
    options = parser.parse_args()
    if not (options.work_dir / "known.npz").exists():
        make_versions(options.work_dir, options.backbone, options.image_size)
    if not options.only_make:
        measure(options.work_dir, options.seconds)


if __name__ == "__main__":
    main()
