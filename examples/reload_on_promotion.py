"""A service that loads the network in production anew whenever MLflow says that it has changed.

    MLFLOW_TRACKING_URI=https://mlflow.example.org WEBHOOK_SECRET=... \
        uv run examples/reload_on_promotion.py 8000 [ADDRESS]

docs/production.md says how MLflow comes to call it. It checks who calls by the signature.
"""

import base64
import hmac
import json
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deepsort_reid import Extractor
from deepsort_reid.core.errors import StoreError
from deepsort_reid.runs.mlflow.registry import bring_registered

SECRET = os.environ.get("WEBHOOK_SECRET", "").encode()
MODEL, ALIAS = "deepsort-reid", "production"
OLDEST = 300  # seconds since a call was signed
LARGEST = 1 << 16  # bytes of a call
WAITS = (0, 1, 10, 60, 600, 3600)  # seconds before each try to load
LOADING = threading.Lock()  # one after the other, so that the last one gets the newest network
extractor: Extractor | None = None  # what the service embeds crops with


def load() -> Extractor:
    """The network that the alias names now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        bring_registered(f"models:/{MODEL}@{ALIAS}", path)
        return Extractor(path)


def reload() -> bool:
    """Load the network anew, and go on with the old one while the store does not answer."""
    global extractor
    for wait in WAITS:
        time.sleep(wait)
        try:
            with LOADING:
                extractor = load()
            return True
        except StoreError as error:
            print(error, flush=True)
    return False


class Receiver(BaseHTTPRequestHandler):
    """Answers MLflow's calls."""

    timeout = 10  # seconds that a caller may be silent

    def do_POST(self) -> None:
        """Load the network anew if a call is MLflow's and says that the alias was moved."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(411)
            return
        if len(length) > 9 or int(length) > LARGEST:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        if not is_signed(body, {name.lower(): text for name, text in self.headers.items()}):
            self.send_error(401)
            return
        call = json.loads(body)
        self.send_response(204)  # before the network is loaded: MLflow waits for 30 s, then repeats
        self.end_headers()
        if call["data"].get("name") == MODEL and call["data"].get("alias") == ALIAS:
            done = "loaded" if reload() else "given up: restart the service for"
            print(done, "version", call["data"]["version"], flush=True)


def is_signed(body: bytes, headers: dict[str, str]) -> bool:
    """Whether a call bears the signature of whoever has the secret, and is not an old one."""
    identity, sent = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    if not sent.isdecimal() or abs(time.time() - int(sent)) > OLDEST:
        return False
    digest = hmac.digest(SECRET, f"{identity}.{sent}.".encode() + body, "sha256")
    expected = f"v1,{base64.b64encode(digest).decode()}"
    return hmac.compare_digest(expected.encode(), headers.get("x-mlflow-signature", "").encode())


if __name__ == "__main__":
    if not SECRET:
        sys.exit("WEBHOOK_SECRET is not set; expected the secret that MLflow signs its calls with")
    port, address, *_ = [*sys.argv[1:], "127.0.0.1"]
    extractor = load()
    print("loaded at start", flush=True)
    ThreadingHTTPServer((address, int(port)), Receiver).serve_forever()
