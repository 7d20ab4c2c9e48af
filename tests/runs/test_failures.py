"""What a user reads when a store fails: why, and what to do, in one line without secrets."""

import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.exceptions import MlflowException

from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.secrets import masked
from deepsort_reid.runs.deliver import deliver_all
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow import failures, registry, store
from tests.support.stores import forget_mlflow
from tests.support.web_server import web_server

PAGE = b"<!DOCTYPE html><title>Sign in</title>" + b"secret" * 1000
NO_SERVER = "; no MLflow server answers there: correct MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A repository without a store; one try for each request."""
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))  # where MLflow looks for credentials too
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store.import_mlflow()
    return tmp_path


@pytest.fixture
def why(monkeypatch):
    """Opens a store that fails; what of the one line follows its address."""

    def attempt(uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(StoreError) as caught:
            store.open_store()
        before = f"MLflow store {masked(uri)} cannot be opened: "
        line = str(caught.value)
        assert line.startswith(before)
        assert "secret" not in line
        return line.removeprefix(before)

    return attempt


@pytest.fixture
def answering(why):
    """The same of a server that answers with a status and a page."""

    def attempt(status, address=""):
        with web_server(PAGE) as server:
            server.statuses, server.says_length = [status] * 3, status < 400
            return why(server.url.rpartition("/")[0].replace("://", f"://{address}"))

    return attempt


@pytest.mark.parametrize(
    ("variables", "address", "remedy"),
    [
        ({}, "", "set {0} and {1}, or {2}"),
        ({"USERNAME": "ada"}, "", "set {1} too"),
        ({"PASSWORD": "secret"}, "", "set {0} too"),
        ({"USERNAME": "ada", "PASSWORD": "secret"}, "", "correct {0} and {1}"),
        ({"TOKEN": "secret"}, "", "correct {2}"),
        ({"USERNAME": "ada", "PASSWORD": "secret", "TOKEN": "secret"}, "", "correct {0} and {1}"),
        ({}, "ada:secret@", "correct MLFLOW_TRACKING_URI"),
    ],
)
def test_who_is_not_known_is_told_which_variables_to_set(
    answering, monkeypatch, variables, address, remedy
):
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    names = (failures.USER, failures.PASSWORD, failures.TOKEN)
    assert answering(401, address) == (
        f"it answers 401 unauthorized to experiments/get-by-name; {remedy.format(*names)}"
    )


def test_credentials_of_mlflow_s_own_file(answering, root):
    (root / ".mlflow").mkdir()
    (root / ".mlflow/credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = secret\n"
    )
    assert answering(401).endswith("; correct ~/.mlflow/credentials")


@pytest.mark.parametrize(
    ("variables", "whom"),
    [({"USERNAME": "ada", "PASSWORD": "secret"}, "the user of MLFLOW_TRACKING_USERNAME"),
     ({}, "a user that you name")],
)  # fmt: skip
def test_who_may_not_is_told_which_permission_is_lacking(answering, monkeypatch, variables, whom):
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    assert answering(403) == (
        f"it answers 403 forbidden to experiments/get-by-name; give {whom} the permission EDIT on "
        "the experiment and the registered model"
    )


def test_a_name_that_the_server_does_not_take_for_its_own(why, monkeypatch):
    """MLflow's own word, which is no page, is passed on."""
    body = "Invalid Host header - possible DNS rebinding attack detected"
    failure = MlflowException(
        "API request to endpoint /api/2.0/mlflow/experiments/get-by-name failed with error code "
        f"403 != 200. Response body: '{body}'"
    )

    def fail(*_):
        raise failure

    monkeypatch.setattr("mlflow.MlflowClient.get_experiment_by_name", fail)
    assert why("http://mlflow:5000") == (
        f"it answers 403 forbidden to experiments/get-by-name ({body}); name it in the server's "
        "--allowed-hosts"
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, "API request to endpoint was successful but the response body was not in a valid "
         "JSON format" + NO_SERVER),
        (302, "it answers 302 found to experiments/get-by-name" + NO_SERVER),
        (404, "it answers 404 not found to experiments/get-by-name" + NO_SERVER),
        (407, "it answers 407 proxy authentication required to experiments/get-by-name; write the "
         "proxy's user and password into its address, HTTP_PROXY or HTTPS_PROXY"),
        (413, "it answers 413 request entity too large to experiments/get-by-name; let the proxy "
         "before the server take larger files (nginx: client_max_body_size)"),
        (429, "it answers 429 too many requests to experiments/get-by-name; start the server, or "
         "correct or unset MLFLOW_TRACKING_URI"),
        (500, "it answers 500 internal server error to experiments/get-by-name; the server's log "
         "says why"),
        (502, "it answers 502 bad gateway to experiments/get-by-name; start the server behind the "
         "proxy"),
    ],
)  # fmt: skip
def test_answers_of_others_than_mlflow(answering, status, line):
    assert answering(status) == line


# TLS


@contextmanager
def tls_server(folder):
    """A server whose certificate nobody has signed."""
    names = [str(folder / name) for name in ("cert.pem", "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # clients that hang up are the test

    with Server(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*names)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", names[0]
        server.shutdown()
        thread.join()


def test_a_certificate_that_is_not_trusted(why, root, monkeypatch):
    with tls_server(root) as (uri, certificate):
        assert why(uri) == (
            "its certificate is not trusted (self-signed certificate); set "
            "MLFLOW_TRACKING_SERVER_CERT_PATH to the file with the certificate of its authority, "
            "or correct the server's name in MLFLOW_TRACKING_URI"
        )
        assert why(uri.replace("https:", "http:")) == (
            "the connection is closed without an answer; start the server, or write https:// in "
            "MLFLOW_TRACKING_URI if it speaks TLS"
        )
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", certificate)
        assert why(uri).startswith("it answers 500 ")  # it is trusted now
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/no/such.pem")
        assert why(uri).startswith("Could not find a suitable TLS CA certificate bundle")


def test_https_to_a_server_without_it(why):
    with web_server(PAGE) as server:
        uri = server.url.rpartition("/")[0].replace("http:", "https:")
        assert why(uri).endswith(
            "; write http:// in MLFLOW_TRACKING_URI if the server speaks no TLS"
        )


# Packages


def test_a_database_whose_package_is_not_installed(why, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    assert why("postgresql://ada:secret@127.0.0.1:9/runs") == (
        "the package psycopg is not installed; `uv sync --extra postgres` installs it"
    )


def test_a_database_that_does_not_answer(why):
    line = why("postgresql://ada:secret@127.0.0.1:9/runs")
    assert line.startswith("connection failed: ")
    assert "Background" not in line
    assert line.endswith("; correct or unset MLFLOW_TRACKING_URI")


def s3_error(code, message):
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")


def s3_errors():
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError

    keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return [
        (s3_error("SignatureDoesNotMatch", "Check your key."),
         f"S3: SignatureDoesNotMatch: Check your key.; correct {keys}"),
        (s3_error("AccessDenied", "Access Denied"),
         "S3: AccessDenied: Access Denied; give the user of AWS_ACCESS_KEY_ID the right to write "
         "there"),
        (NoCredentialsError(), f"S3: Unable to locate credentials; set {keys}"),
        (EndpointConnectionError(endpoint_url="http://s3/x?key=1"),
         'S3: Could not connect to the endpoint URL: "http://s3/x?***"; start it, or correct '
         "AWS_ENDPOINT_URL_S3 or MLFLOW_S3_ENDPOINT_URL"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"),
         "the package boto3 is not installed; `uv sync --extra s3` installs it"),
    ]  # fmt: skip


def test_artifacts_that_cannot_be_brought_to_s3(root, monkeypatch):
    """The records are there, the file waits, and the command says why."""
    run = RunFolder("key")
    run.begin("my run")
    run.end("FINISHED")
    (root / "file.txt").write_text("text")
    run.keep(root / "file.txt", "")
    for error, line in s3_errors():

        def fail(*_, error=error):
            raise RuntimeError("Failed to upload") from error

        with monkeypatch.context() as patch:
            patch.setattr("mlflow.MlflowClient.log_artifact", fail)
            (outcome,) = deliver_all(store.tracking_uri())
        assert outcome == ("my run", f"1 files (0.0 MB) wait: {line}", False, False)
    (outcome,) = deliver_all(store.tracking_uri())
    assert outcome == ("my run", "delivered", True, False)


# Other uses of the same lines


def test_weights_out_of_a_registry_that_does_not_know_us(root, monkeypatch):
    with web_server(PAGE) as server:
        server.statuses, server.says_length = [401] * 3, False
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url.rpartition("/")[0])
        with pytest.raises(StoreError, match=r"401 unauthorized .*; set MLFLOW_TRACKING_USERNAME"):
            registry.bring_registered("models:/deepsort-reid@best", root / "model.pth")


def test_reason_is_the_innermost_that_a_user_understands():
    error = RuntimeError("a long story\nin lines")
    assert failures.reason(error) == "a long story in lines"
    error.__cause__ = FileNotFoundError(2, "No such file or directory", "/x")
    assert failures.reason(error) == "no such file or directory (/x)"
    assert len(failures.reason(RuntimeError("x" * 999))) == 200
    address = "x" * 180 + "://ada:" + "secret" * 9 + "@host"  # cut in the middle of the password
    assert "secret" not in failures.reason(RuntimeError(address))
    assert failures.reason(RuntimeError()) == "RuntimeError"
