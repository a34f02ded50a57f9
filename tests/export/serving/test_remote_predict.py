"""Our client against our server, and against servers that fail in every way."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import numpy as np
import pytest

from bitkeras.errors import UserError
from export.predict import predict_files
from export.serving import remote_grpc, remote_predict, remote_rest
from export.serving.remote import is_listening
from export.serving.remote_predict import predict_by_server


@pytest.fixture(params=["REST", "gRPC"])
def address(request, server):
    return f"localhost:{server.rest_port}" if request.param == "REST" else f"grpc://localhost:{server.grpc_port}"


@pytest.fixture
def flaky():
    """A REST server that answers with one after another of `script`: (status, body), or None to hang up."""
    script, asked = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = script.pop(0)
            if answer is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}", script, asked
        running.shutdown()


@pytest.mark.parametrize("batch_size", [3, 16])
def test_answers_are_those_of_the_saved_model(address, pushed, paths, monkeypatch, batch_size):
    monkeypatch.setattr(remote_predict, "BATCH_SIZE", batch_size)
    got = json.loads(json.dumps(list(predict_by_server(address, paths, model_name="small"))))
    wanted = predict_files(pushed, paths)
    assert len(got) == len(wanted)
    for row, row_wanted in zip(got, wanted):
        assert row.keys() == row_wanted.keys()
        assert (row["path"], row["prediction"]) == (row_wanted["path"], row_wanted["prediction"])
        assert list(row["probabilities"]) == list(row_wanted["probabilities"])
        np.testing.assert_allclose(
            list(row["probabilities"].values()), list(row_wanted["probabilities"].values()), atol=1e-5
        )
        np.testing.assert_allclose(row["embedding"], row_wanted["embedding"], atol=1e-5)


def test_requests_stay_small(paths, images, monkeypatch):
    monkeypatch.setattr(remote_predict, "BATCH_BYTES", len(images[0]) + len(images[1]))
    batches = list(remote_predict._batches(paths))
    assert [path for batch, _ in batches for path in batch] == paths and len(batches) > 2
    assert [image for _, batch in batches for image in batch] == images


def test_a_server_of_several_models_wants_a_name(address, paths):
    with pytest.raises(UserError, match="serves foreign, small; pass --model_name"):
        list(predict_by_server(address, paths))


def test_refusals_are_told(address, paths, tmp_path):
    with pytest.raises(UserError, match=r"refused: Servable not found for request: Latest\(none\) \(NOT_FOUND\)"):
        list(predict_by_server(address, paths, model_name="none"))
    with pytest.raises(UserError, match=r"Specific\(small, 9\)"):
        list(predict_by_server(address, paths, model_name="small", version=9))
    with pytest.raises(UserError, match="absent.jpg does not exist"):
        list(predict_by_server(address, [tmp_path / "absent.jpg"], model_name="small"))


def test_no_server_is_told(monkeypatch, paths):
    monkeypatch.setattr(remote_rest, "NUM_RETRIES", 1)
    monkeypatch.setattr(remote_grpc, "NUM_ATTEMPTS", 2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        for server in (address, f"grpc://{address}"):
            assert not is_listening(server)
            with pytest.raises(UserError, match=f"{address} does not answer; start it"):
                list(predict_by_server(server, paths, model_name="small"))


ANSWER = {
    "outputs": {"classes": [["a", "b"]], "probabilities": [[0.25, 0.75]], "prediction": ["b"], "embedding": [[None]]}
}


def test_whether_anything_listens_is_seen_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert all(map(is_listening, (address, f"http://{address}", f"grpc://{address}")))
    assert not is_listening("grpc://localhost:none") and not is_listening("no.such.host.invalid:1")


@pytest.mark.parametrize("failure", [(429, {"error": "full"}), (503, b"<html>"), None])
def test_what_passes_is_tried_again(flaky, paths, failure):
    address, script, asked = flaky
    script += [failure, failure, (200, ANSWER)]
    (answer,) = predict_by_server(address, paths[:1], model_name="m")
    assert answer["probabilities"] == {"a": 0.25, "b": 0.75} and np.isnan(answer["embedding"]).all()
    assert len(asked) == 3 and asked[0] == asked[2]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((400, {"error": "bad image"}), "refused the file .*0.jpg: bad image"),
        ((500, {"error": "a defect"}), r"refused: a defect \(INTERNAL\)"),
        ((200, b"<html>hello"), "answers no JSON"),
    ],
)
def test_what_does_not_pass_is_told_at_once(flaky, paths, answer, told):
    address, script, asked = flaky
    script += [answer, answer]
    with pytest.raises(UserError, match=told):
        list(predict_by_server(address, paths[:1], model_name="m"))
    assert len(asked) <= 2


def test_which_of_several_images_was_refused_is_told(flaky, paths):
    address, script, asked = flaky
    script += [(400, {"error": "one is broken"}), (200, ANSWER), (400, {"error": "broken"})]
    with pytest.raises(UserError, match="refused the file .*1.jpg: broken"):
        list(predict_by_server(address, paths[:3], model_name="m"))
    assert [len(request["inputs"]) for request in asked] == [3, 1, 1]
