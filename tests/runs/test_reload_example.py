"""The example that loads a promoted network anew: what it refuses, and a store that is away."""

import base64
import hmac
import importlib.util
import json
import runpy
import socket
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from deepsort_reid.core.errors import StoreError

EXAMPLE = Path(__file__).parents[2] / "examples" / "reload_on_promotion.py"
SECRET = "a secret of this test"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module, which loads nothing yet."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    spec = importlib.util.spec_from_file_location("reload_on_promotion", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Receiver, "log_message", lambda *_: None)
    return module


@pytest.fixture
def port(example: ModuleType) -> Iterator[int]:
    """A port at which it answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), example.Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield server.server_address[1]
        server.shutdown()


def status(port: int, body: bytes, **headers: str) -> int:
    """The status of what it answers to a call, whose sender waits for it."""
    lines = [f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items()]
    with socket.create_connection(("127.0.0.1", port), 10) as caller:
        caller.sendall(f"POST / HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body)
        return int(caller.recv(1000).split()[1])


@pytest.mark.parametrize(
    ("length", "expected"),
    [("-1", 411), ("many", 411), ("70000", 413), ("0" * 20 + "70000", 413), ("2", 401)],
)
def test_a_call_of_a_wrong_size_is_refused_before_it_is_read(
    port: int, length: str, expected: int
) -> None:
    assert status(port, b"{}", Content_Length=length) == expected


def test_a_caller_that_sends_less_than_it_says_is_left(
    example: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example.Receiver, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", port), 10) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}")
        assert caller.recv(1000) == b""  # it has hung up


def test_a_store_that_is_away_is_asked_again(
    example: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, answers = threading.Event(), iter([StoreError("it is away"), "network"])

    def load() -> str:
        answer = next(answers)
        if isinstance(answer, StoreError):
            raise answer
        loaded.set()
        return answer

    monkeypatch.setattr(example, "load", load)
    monkeypatch.setattr(example, "WAITS", (0, 0))
    data = {"name": example.MODEL, "alias": example.ALIAS, "version": "2"}
    body, sent = json.dumps({"data": data}).encode(), str(int(time.time()))
    digest = hmac.digest(SECRET.encode(), f"1.{sent}.".encode() + body, "sha256")
    signed = {
        "X_MLflow_Delivery_Id": "1", "X_MLflow_Timestamp": sent,
        "X_MLflow_Signature": f"v1,{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    assert status(port, body, Content_Length=str(len(body)), **signed) == 204
    assert loaded.wait(10)


def test_without_a_secret_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "")
    with pytest.raises(SystemExit, match="WEBHOOK_SECRET is not set"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
