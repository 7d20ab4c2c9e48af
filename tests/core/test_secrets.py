"""No message shows what an address holds of users, passwords and keys."""

import pytest

from deepsort_reid.core.secrets import masked, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ada:pw@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://ada:Kx9/2bQ@host:1/runs", "postgresql://***@host:1/runs"),
        ("postgresql://ada:12/2bQ@host:1/runs", "postgresql://***@host:1/runs"),
        ("(http://ada:p?w#/@w@host/x)", "(http://***@host/x)"),
        ("http://ada@example.org:Kx9/2bQ@host/x", "http://***@host/x"),
        ("see https://token@host/a?key=1 and so on", "see https://***@host/a?*** and so on"),
        ("http://host:5000/a and ada@example.org", "http://host:5000/a and ada@example.org"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("models:/deepsort-reid@best", "models:/deepsort-reid@best"),
        ("write to ada@example.org", "write to ada@example.org"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.zip", "https://host/a.zip"),
        ("https://me:pass@host/a.zip?X-Amz-Signature=1", "https://host/a.zip"),
        ("https://me:Kx9/2bQ@host/a.zip", "https://host/a.zip"),
        ("ssh://me@host:22/a@b.zip", "ssh://host:22/a@b.zip"),
    ],
)
def test_without_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
