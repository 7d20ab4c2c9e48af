"""Why a store has failed, and what a user can do about it, in one line without secrets."""

import os
import re
import sqlite3
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.secrets import CREDENTIALS, masked

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

LONGEST = 200  # characters of a reason
ABORTED = "Connection aborted"  # in the word of urllib3

# What MLflow answers when a request is at fault, and sending it again would not help.
REFUSALS = frozenset({
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
})  # fmt: skip

USER, PASSWORD, TOKEN = (f"MLFLOW_TRACKING_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN"))
NO_SERVER = "no MLflow server answers there: correct MLFLOW_TRACKING_URI"
NO_TRUST = (
    "set MLFLOW_TRACKING_SERVER_CERT_PATH to the file with the certificate of its authority, or "
    "correct the server's name in MLFLOW_TRACKING_URI"
)
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
BEHIND = "start the server behind the proxy"

# By the status of an answer that is not MLflow's own word.
REMEDIES = {
    HTTPStatus.NOT_FOUND: NO_SERVER,
    HTTPStatus.METHOD_NOT_ALLOWED: NO_SERVER,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "write the proxy's user and password into its "
    "address, HTTP_PROXY or HTTPS_PROXY",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "let the proxy before the server take larger files "
    "(nginx: client_max_body_size)",
    HTTPStatus.INTERNAL_SERVER_ERROR: "the server's log says why",
    HTTPStatus.BAD_GATEWAY: BEHIND,
    HTTPStatus.SERVICE_UNAVAILABLE: BEHIND,
    HTTPStatus.GATEWAY_TIMEOUT: BEHIND,
}

# By what S3 answers.
S3_REMEDIES = {
    "AccessDenied": f"give the user of {KEYS.partition(' ')[0]} the right to write there",
    "NoSuchBucket": "make the bucket",
    "NoCredentialsError": f"set {KEYS}",
    "PartialCredentialsError": f"set {KEYS}",
    "EndpointConnectionError": "start it, or correct AWS_ENDPOINT_URL_S3 or MLFLOW_S3_ENDPOINT_URL",
    "InvalidAccessKeyId": f"correct {KEYS}",
    "SignatureDoesNotMatch": f"correct {KEYS}",
    "InvalidToken": "renew AWS_SESSION_TOKEN",
    "ExpiredToken": "renew AWS_SESSION_TOKEN",
}

# The extra that brings a package.
EXTRAS = {
    "boto3": "s3",
    "botocore": "s3",
    "google": "gs",
    "psycopg": "postgres",
    "psycopg2": "postgres",
}


def explained(error: BaseException, uri: str) -> str:
    """Why a store has failed, and what to do, where that is known.

    Args:
        error: what the store's client has raised.
        uri: the store's address.
    """
    if isinstance(error, StoreError):
        error = error.__cause__ or error
    known = remedy(error, uri)
    return f"{reason(error)}; {known}" if known else reason(error)


def reason(error: BaseException) -> str:
    """Why it failed: the operating system's word where there is one, or the server's."""
    chain = list(causes(error))
    told = _s3(chain) or _missing(chain)
    if told:
        return told[0]
    if status := http_status(chain):
        return masked(f"it answers {status} {status.phrase.lower()}{_of_request(str(error))}")
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection ({(cause.reason or str(cause)).lower().replace('_', ' ')})"
        if isinstance(cause, OSError) and cause.strerror:
            place = f" ({cause.filename})" if cause.filename else ""
            return masked(f"{cause.strerror.lower()}{place}")
        if isinstance(cause, TimeoutError | sqlite3.Error):
            return masked(str(cause))
    if ABORTED in str(error):
        return "the connection is closed without an answer"
    # MLflow and SQLAlchemy put much before the word of who has failed.
    wraps = re.match(r"API request to \S+ failed with exception|\(psycopg\w*\.", str(error))
    return shortened(chain[-1] if wraps else error)


def _of_request(text: str) -> str:
    """What was asked of MLflow, and the words that came back, where they are few and no page."""
    asked = re.search(r"API request to (?:endpoint )?\S*?/mlflow(?:-artifacts)?/(\S+)", text)
    said = re.search(r"Response body: '([^'<]{1,80})'$", text)
    return (f" to {asked[1]}" if asked else "") + (f" ({said[1]})" if said else "")


def shortened(error: BaseException) -> str:
    """What an exception says, without what is of no use to a user."""
    unwanted = r"\.? Response body:| \[SQL: | \(Background on "
    words = re.split(unwanted, " ".join(str(error).split()))[0] or type(error).__name__
    words = masked(words)  # before it is cut: half an address is not known for one
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def remedy(error: BaseException, uri: str) -> str | None:
    """What a user can do about a failure; None where only the reason is known."""
    chain = list(causes(error))
    if told := _s3(chain) or _missing(chain):
        return told[1]
    status = http_status(chain)
    if status == HTTPStatus.UNAUTHORIZED:
        return _sign_in(uri)
    if status == HTTPStatus.FORBIDDEN and "Invalid Host header" in str(chain[0]):
        return "name it in the server's --allowed-hosts"
    if status == HTTPStatus.FORBIDDEN:
        who = credentials(uri)[0]
        whom = f"the user of {who}" if who else "a user that you name"
        return f"give {whom} the permission EDIT on the experiment and the registered model"
    if status and 300 <= status < 400:
        return NO_SERVER
    if status:
        return REMEDIES.get(status)
    return _of_connection(chain, uri)


def _of_connection(chain: list[BaseException], uri: str) -> str | None:
    """What to do where a connection could not be made or used."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return NO_TRUST
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return "write http:// in MLFLOW_TRACKING_URI if the server speaks no TLS"
    if "not in a valid JSON format" in str(chain[0]):
        return NO_SERVER
    if uri.startswith("http://") and ABORTED in str(chain[0]):
        return "start the server, or write https:// in MLFLOW_TRACKING_URI if it speaks TLS"
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that have led to it, the first of them last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def http_status(chain: list[BaseException]) -> HTTPStatus | None:
    """The status of an answer that was an error; None of an answer in MLflow's own form."""
    for cause in chain:
        response = getattr(cause, "response", None)
        found = re.search(r"failed with error code (\d{3})|too many (\d{3}) error", str(cause))
        number = (found and (found[1] or found[2])) or getattr(response, "status_code", None)
        if number and int(number) in HTTPStatus.__members__.values():
            return HTTPStatus(int(number))
    return None


def credentials(uri: str) -> tuple[str | None, str | None]:
    """The variables that hold a client's user and password, or token; None where there is none.

    Returns:
        where the user's name stands, and where what proves it does. The same twice for a token and
        an address with a name in it.
    """
    from mlflow.utils.credentials import read_mlflow_creds

    if CREDENTIALS.search(uri):
        return ("MLFLOW_TRACKING_URI",) * 2
    known = read_mlflow_creds()
    if os.environ.get(TOKEN) and not (known.username and known.password):
        return TOKEN, TOKEN
    file = "~/.mlflow/credentials"
    return (
        (USER if os.environ.get(USER) else file) if known.username else None,
        (PASSWORD if os.environ.get(PASSWORD) else file) if known.password else None,
    )


def _sign_in(uri: str) -> str:
    """What to do about a server that does not know who asks."""
    user, proof = credentials(uri)
    if user and proof:
        return f"correct {user if user == proof else f'{user} and {proof}'}"
    if user or proof:
        return f"set {PASSWORD if user else USER} too"
    return f"set {USER} and {PASSWORD}, or {TOKEN}"


def _missing(chain: list[BaseException]) -> tuple[str, str | None] | None:
    """Which package is missing, and what installs it; None if none is."""
    for cause in chain:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            extra = EXTRAS.get(cause.name.partition(".")[0])
            install = f"`uv sync --extra {extra}` installs it" if extra else None
            return f"the package {cause.name} is not installed", install
    return None


def _s3(chain: list[BaseException]) -> tuple[str, str | None] | None:
    """What S3, to which the client has turned, answers, and what to do; None if it was not S3."""
    for cause in chain:
        if type(cause).__module__.startswith("botocore"):
            told: dict[str, Any] = getattr(cause, "response", {}).get("Error", {})
            code = told.get("Code", type(cause).__name__)
            words = f"{code}: {told['Message']}" if told.get("Message") else shortened(cause)
            return f"S3: {masked(words)}", S3_REMEDIES.get(code)
    return None


def is_refusal(error: "MlflowException") -> bool:
    """Whether an error is MLflow's word that a request is at fault, and not a sick database's.

    MLflow calls both a bad request; what it does not catch itself is the database's word.
    """
    if error.error_code == "BAD_REQUEST":
        return re.search(r"\b(DataError|IntegrityError)\b", str(error)) is not None
    return error.error_code in REFUSALS
