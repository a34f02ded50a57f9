"""A server in this process, of the small classifier and of a foreign model."""

from __future__ import annotations

import pytest
from foreign_model import write_foreign_model

from export.serving.limits import Limits
from export.serving.server import Server

pytest.importorskip("tensorflow_serving.apis", reason="the extra serve is not installed")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """The folder of the versions of the foreign model."""
    folder = tmp_path_factory.mktemp("foreign") / "foreign"
    write_foreign_model(folder / "7")
    return folder


@pytest.fixture(scope="session")
def server(pushed, foreign):
    limits = Limits(max_request_bytes=1 << 20, max_held_bytes=4 << 20, max_rows=32, client_seconds=2.0)
    running = Server({"small": pushed.parent, "foreign": foreign}, limits=limits)
    yield running
    running.stop()
