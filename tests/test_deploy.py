"""What deploy/ starts is what the program takes, confined as docs/deploying.md says."""

from __future__ import annotations

import ast
import fnmatch
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

from veilface_client.cli import build_parser as organisation_parser
from veilface_server.authority import make_authority, renew_link_certificate
from veilface_server.cli import build_parser as coordinator_parser
from veilface_server.proxy import MAX_BODY_BYTES

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PAGE = (ROOT / "docs" / "deploying.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PARSERS = {"veilface": organisation_parser, "veilface-server": coordinator_parser}
SOCKET = "/run/veilface/keeper.sock"
Settings = Mapping[str, Sequence[str]]


def services(*names: str) -> dict[str, Any]:
    found = {}
    for name in names or ("compose.yaml", "compose.organisation.yaml"):
        found |= yaml.safe_load((DEPLOY / name).read_text())["services"]
    return found


def settings_of(unit: Path) -> Settings:
    """The [Service] of a unit, and after it what holds for all, in the order systemd reads them."""
    found = defaultdict(list)
    for path in (unit, *(DEPLOY / "systemd").glob("veilface-.service.d/*.conf")):
        section = ""
        for line in path.read_text().splitlines():
            section = line if line.startswith("[") else section
            if section == "[Service]" and "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found[key].append(value)
    return found


def parse(words: Sequence[str]) -> None:
    PARSERS[Path(words[0]).name]().parse_args(list(words[1:]))


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Source of each volume by where it is mounted."""
    found = {}
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, target, *_ = volume.split(":")
        else:
            source, target = volume["source"], volume["target"]
            source += ":" + volume["volume"]["subpath"]
        found[target] = source
    return found


@pytest.mark.parametrize("name", services())
def test_a_container_can_do_little(name: str) -> None:
    """No capability, no new privilege, nothing to write but its volumes; an image of ours alone."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert not {"privileged", "devices", "pid", "ipc"} & set(service)
    assert "docker.sock" not in str(service)
    assert service["image"].endswith(f":{PROJECT['version']}")
    assert service["pull_policy"] == "never"
    if name == "handover":
        assert service["network_mode"] == "none"
        assert service["profiles"] == ["admin"]
    else:
        assert service["user"] not in ("root", "0")
        assert "cap_add" not in service


def test_the_keepers_container_has_no_network_and_no_vault() -> None:
    """What it trains on, and the socket; the vault's folder is elsewhere."""
    keeper = services()["keeper"]
    assert keeper["network_mode"] == "none"
    assert not {"ports", "networks", "secrets", "environment"} & set(keeper)
    assert mounts(keeper) == {
        "/var/lib/veilface/home/training": "home:home/training",
        str(Path(SOCKET).parent): "socket",
    }


def test_the_nodes_container_has_no_data() -> None:
    """Its own folder and the socket, as a user of its own."""
    node = services()["node"]
    assert mounts(node) == {"/var/lib/veilface-node": "node", str(Path(SOCKET).parent): "socket"}
    assert not {"secrets", "ports"} & set(node)
    assert node["user"] != services()["keeper"]["user"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_service_can_do_little(unit: Path) -> None:
    """The hardening reaches every unit, and no unit takes it back."""
    found = settings_of(unit)
    expected = {
        "UMask": "0077", "LimitCORE": "0", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
        "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "RestrictNamespaces": "yes", "SystemCallArchitectures": "native",
    }  # fmt: skip
    assert {key: list(found[key]) for key in expected} == {k: [v] for k, v in expected.items()}
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged", "@chown"]
    assert found["User"][0].startswith("veilface")
    assert found.get("StateDirectoryMode", ["0700"]) == ["0700"]
    assert not {"AmbientCapabilities", "PermissionsStartOnly"} & set(found)


def test_the_keepers_service_has_no_network() -> None:
    """And asks the kernel who calls, which a user namespace would hide from it."""
    found = settings_of(DEPLOY / "systemd" / "veilface-keeper.service")
    assert found["PrivateNetwork"] == ["yes"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert "-/var/lib/veilface/home/vault.db" in found["InaccessiblePaths"]
    assert "PrivateUsers" not in found


def test_flowers_loopback_is_the_coordinators_own() -> None:
    """Who reaches it may run code at organisations: it is in a network that nobody else is in."""
    server = settings_of(DEPLOY / "systemd" / "veilface-server.service")
    entrance = (DEPLOY / "systemd" / "veilface-entrance.service").read_text()
    assert server["PrivateNetwork"] == ["yes"]
    assert "JoinsNamespaceOf=veilface-server.service" in entrance
    assert "PrivateNetwork=yes" in entrance


def test_a_node_that_died_waits_until_it_is_forgotten() -> None:
    """Flower counts it as online for 60 s."""
    found = settings_of(DEPLOY / "systemd" / "veilface-node.service")
    assert int(found["RestartSec"][0]) >= 60
    assert found["Restart"] == ["on-failure"]


def test_keeper_and_node_meet_at_one_socket() -> None:
    """The same path everywhere, short enough for a socket, in a folder that only they enter."""
    commands = [services()[name]["command"] for name in ("keeper", "node")]
    for name in ("keeper", "node"):
        unit = settings_of(DEPLOY / "systemd" / f"veilface-{name}.service")
        commands.append(shlex.split(unit["ExecStart"][0]))
    commands.append(instructions_of("organisation")["CMD"])
    assert len(SOCKET) <= 107
    for words in commands:
        assert words[words.index("--socket") + 1] == SOCKET
    tmpfiles = (DEPLOY / "systemd/tmpfiles.d/veilface-organisation.conf").read_text()
    assert f"d {Path(SOCKET).parent} 0750 veilface veilface-node" in tmpfiles


def written_commands() -> Sequence[Sequence[str]]:
    """What the page and the comments of the compose files tell a person to type."""
    texts = [PAGE, *(path.read_text() for path in DEPLOY.glob("compose*.yaml"))]
    whole_lines = re.sub(r"\\\n#?", " ", "\n".join(texts))
    lines = re.findall(r"^(?:    |#   )(.+)", whole_lines, re.MULTILINE)
    names = {"admin": "veilface", "coordinator": "veilface-server"}  # services, as `run` takes them
    found = []
    for line in lines:
        said = re.search(
            r"(?:^|[\s/])(veilface-server|veilface|admin|coordinator)\s+(--home .+|[a-z].*)", line
        )
        if said:
            words = shlex.split(said[2])
            named = words[0] in PARSERS
            found.append(words if named else [names.get(said[1], said[1]), *words])
    return found


def test_every_command_parses() -> None:
    """Of the units, the containers, their comments and the page."""
    started = [shlex.split(settings_of(unit)["ExecStart"][0]) for unit in UNITS]
    commands = [words for words in started if Path(words[0]).name in PARSERS]
    for name, service in services().items():
        if "entrypoint" not in service and service["command"] != ["--help"]:
            program = "veilface-server" if name == "coordinator" else "veilface"
            commands.append([program, *service["command"]])
    written = written_commands()
    assert {words[0] for words in written} == set(PARSERS)
    assert len(written) >= 10
    for words in (*commands, *written):
        parse(words)


def instructions_of(stage: str | None = None) -> dict[str, Any]:
    """The last of each instruction of a stage; of the whole file, all of them by kind."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
    found: dict[str, Any] = {}
    every = defaultdict(list)
    current = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        kind, _, rest = line.partition(" ")
        every[kind].append(rest)
        current = rest.split()[-1] if kind == "FROM" else current
        if current == stage:
            found[kind] = yaml.safe_load(rest) if rest.startswith("[") else rest
    return found if stage else every


def test_the_images_are_built_of_known_steps() -> None:
    """Stages of ours or one base without `latest`; no address of a registry; not root."""
    every = instructions_of()
    assert set(every) <= {
        "ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    stages: list[str] = []
    for line in every["FROM"]:
        base, keyword, stage = line.split()
        assert keyword == "AS"
        assert base in ("${PYTHON_IMAGE}", *stages)
        stages.append(stage)
    text = (DEPLOY / "Dockerfile").read_text() + "".join(
        p.read_text() for p in DEPLOY.glob("*.y*ml")
    )
    assert "latest" not in text
    assert not re.search(r"https?://(?!localhost)", text)
    for stage in ("coordinator", "organisation"):
        image = instructions_of(stage)
        assert image["USER"].startswith("veilface")
        assert image["HEALTHCHECK"]
        assert "--constraint /constraints.txt" in instructions_of(f"{stage}-installed")["RUN"]


def test_what_the_images_are_built_of_reaches_the_builder() -> None:
    """Each path that is copied is there, and let through by .dockerignore; nothing private is."""
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in rules
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = [line for line in instructions_of()["COPY"] if "--from" not in line]
    paths = {word for line in copied for word in line.split()[:-1] if not word.startswith("--")}
    assert paths == allowed
    assert all((ROOT / path).exists() for path in paths)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {Path(p).parts[0] for p in wheel["targets"]["wheel"]["packages"]} <= paths


def test_the_wheel_holds_what_is_not_python(tmp_path: Path) -> None:
    """Pages, styles, scripts, texts, and the commands: an image has no checkout beside it."""
    [built] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        held = set(wheel.namelist())
        [entries] = [name for name in held if name.endswith("entry_points.txt")]
        scripts = wheel.read(entries).decode()
    there = {
        path.relative_to(ROOT / room).as_posix()
        for room in ("client", "common", "server", "simulations")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert there <= held
    for pattern in ("*.html", "*.css", "*.js", "*.json", "*.txt"):
        assert fnmatch.filter(held, f"veilface_client/web/{pattern}"), pattern
    assert all(f"{name} = {target}" in scripts for name, target in PROJECT["scripts"].items())


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder with our units, and the programs that they start as empty ones."""
    units = tmp_path / "etc/systemd/system"
    shutil.copytree(DEPLOY / "systemd", units)
    for unit in UNITS:
        program = tmp_path / settings_of(unit)["ExecStart"][0].split()[0].lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def analyze(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", f"--root={machine}", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_systemd_takes_the_units(machine: Path) -> None:
    """Every setting is known to it and has a value that it understands."""
    units = [*UNITS, *(DEPLOY / "systemd").glob("*.socket")]
    paths = [str(machine / "etc/systemd/system" / unit.name) for unit in units]
    done = analyze(machine, "verify", "--man=no", "--recursive-errors=no", *paths)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_little_exposed(machine: Path, unit: Path) -> None:
    """Its own figure, from 0 to 10 (times 10 here): at most 2, and 1 for the keeper."""
    threshold = 10 if unit.stem == "veilface-keeper" else 20
    done = analyze(machine, "security", "--offline=true", f"--threshold={threshold}", unit.name)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["nginx-stream.conf", "nginx-http.conf"])
def test_nginx_takes_its_configuration(tmp_path: Path, name: str) -> None:
    """Read by nginx itself, with a certificate of a federation's authority."""
    text = (DEPLOY / "proxy" / name).read_text()
    if "http" in name:
        assert f"client_max_body_size {MAX_BODY_BYTES};" in text
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if program is None or not module.exists():
        pytest.skip("nginx is not installed, or lacks its stream module")
    make_authority(tmp_path, "clinics", datetime.now(UTC))
    renew_link_certificate(tmp_path, "fed.example.org", datetime.now(UTC))
    inside = text.replace("/etc/nginx/veilface", str(tmp_path))
    whole = inside if "stream {" in inside else f"http {{ {inside} }}"
    load = f"load_module {module};\n" if "stream {" in inside else ""
    (tmp_path / "nginx.conf").write_text(f"{load}pid {tmp_path}/pid;\nevents {{}}\n{whole}")
    done = subprocess.run(
        [program, "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_node_gets_its_key_and_nothing_else(tmp_path: Path) -> None:
    """The key moves; what the keeper's side needs stays; a link leads nowhere."""
    home, node, secret = tmp_path / "home", tmp_path / "node home", tmp_path / "secret"
    (home / "node").mkdir(parents=True)
    secret.write_text("of somebody else")
    for name in ("federation.json", "vault.db", "node/node.key", "node/node.key.pub"):
        (home / name).write_text(name)
    (home / "node/ca.crt").symlink_to(secret)
    command = ["sh", DEPLOY / "hand-over-node", home, node, pwd.getpwuid(os.getuid()).pw_name]
    subprocess.run(command, check=True)
    files = {path.relative_to(node).as_posix() for path in node.rglob("*") if path.is_file()}
    assert files == {"federation.json", "node/ca.crt", "node/node.key", "node/node.key.pub"}
    assert (node / "node/ca.crt").is_symlink()
    assert not (home / "node/node.key").exists()
    assert (home / "federation.json").exists()
    assert (node.stat().st_mode & 0o777, (node / "node/node.key").read_text()) == (
        0o700,
        "node/node.key",
    )


def said_by(*rooms: str) -> Sequence[str]:
    """Every text in the code, with ... for what is filled in."""
    found = []
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "..." for v in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_errors_are_explained_in_the_programs_words() -> None:
    """Each message in the page's table of errors is one that the code says."""
    said = said_by("client", "common", "server")
    table = PAGE.split("## Errors of operation")[1].split("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(quoted) >= 12
    for message in quoted:
        assert any(message in text for text in said), message
