"""The command line: every command has help with an example, loads lightly, and fails with one message and exit code 2 or 1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from paceline.cli import cli, main
from paceline.lazy import LazyGroup
from processors.log import SqliteLog


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, name
            yield from commands(found, (*path, name))


ALL = list(commands(cli))


def paceline(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "paceline", *args], capture_output=True, text=True, timeout=60, env=env, check=False)


def test_the_commands_of_the_design_are_there() -> None:
    names = {" ".join(path) for path, _ in ALL}
    assert names >= {
        "run", "demo", "gateway", "broker serve", "broker config mosquitto", "process", "ingest", "api", "simulate", "replay", "tap",
        "node add", "node send", "node check", "dlq list", "dlq show", "dlq replay", "config show", "config check", "bench",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=" ".join(path)))
    assert "Example:" in text
    assert f"paceline {path[0]}" in text.partition("Example:")[2]
    assert all(option.help for option in command.params if isinstance(option, click.Option)), text


@pytest.mark.parametrize("args", [["--help"], ["gateway", "--help"], ["config", "show"], ["demo", "--help"]])
def test_help_and_gateway_load_no_heavy_module(args: list[str]) -> None:
    heavy = ("numpy", "fastapi", "uvicorn", "rich", "amqtt", "numba", "fitparse")
    code = (
        "import sys; sys.argv = ['paceline', *sys.argv[1:]]\n"
        "from paceline.cli import main\n"
        "try: main()\n"
        f"except SystemExit: sys.stderr.write(repr([m for m in {heavy!r} if m in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]"


def test_gateway_process_loads_no_numpy_and_no_web_server() -> None:
    code = "import sys, gateway.app, paceline.parts; print([m for m in ('numpy', 'fastapi', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing"], "No such command"),
        (["demo", "--athletes", "0"], "--athletes"),
        (["config", "show", "--config", "missing.toml"], "missing.toml"),
        (["bench", "nothing"], "no benchmark 'nothing'"),
        (["dlq", "list", "--data", "nowhere"], "nowhere/platform/log.db"),
        (["tap", "--data", "nowhere"], "nowhere/site.json"),
        (["node", "send", "--port", "1", "--user", "nobody", "--password", "x"], "'nobody' is not tenant/node"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(args: list[str], says: str) -> None:
    done = paceline(*args)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_expected_failure_is_one_message_with_its_cure_and_exit_code_1(tmp_path: Path) -> None:
    ride = tmp_path / "ride.fit"
    ride.write_text("not a ride")
    done = paceline("demo", "--seconds", "1", "--port", "0", "--ride", str(ride))
    assert done.returncode == 1
    assert "ride.fit" in done.stderr
    assert "cure:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["profiles", "pack", "2a37", "--out", "FILE/pack.py"], "pack.py: Not a directory"),
        (["token", "add", "gym", "--role", "staff", "--data", "FILE/data"], "secrets: Not a directory"),
        (["profiles", "decode", "fff1", "00", "--file", "FILE"], "file:1: cannot be read"),
        (["influx", "setup", "--admin-token-file", "FILE"], "--admin-token-file"),
        (["dlq", "show", "9" * 30, "--data", "DATA"], "is no dead letter"),
    ],
)
def test_what_cannot_be_used_is_one_message_with_a_cure(
    args: list[str], names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\xe9\n")
    log = tmp_path / "data" / "platform" / "log.db"
    log.parent.mkdir(parents=True)
    SqliteLog.open(log).close()
    given = [arg.replace("FILE", str(file)).replace("DATA", str(tmp_path / "data")) for arg in args]
    monkeypatch.setattr(sys, "argv", ["paceline", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code in (1, 2)
    assert names in told
    assert "cure:" in told


def test_json_of_config_show(tmp_path: Path) -> None:
    done = paceline("config", "show", "--json", "--data", str(tmp_path))
    shown = json.loads(done.stdout)
    assert shown["data"] == {"value": str(tmp_path), "origin": "option"}
    assert shown["api.port"] == {"value": "8800", "origin": "default"}


def test_mosquitto_configuration_is_written_with_users(tmp_path: Path) -> None:
    done = paceline("broker", "config", "mosquitto", "--directory", str(tmp_path), "--user", "gym/box")
    assert done.returncode == 0, done.stderr
    assert "gym/box " in done.stdout
    assert (tmp_path / "mosquitto.conf").exists()
    assert "gym/box:$7$" in (tmp_path / "passwords").read_text()


def test_bench_list_names_the_benchmarks() -> None:
    done = paceline("bench", "list")
    assert done.returncode == 0
    modules = [*Path("benchmarks").glob("*.py"), *Path("benchmarks").glob("*/__init__.py")]
    known = {path.parent.name if path.stem == "__init__" else path.stem for path in modules if "\ndef run(" in path.read_text()}
    assert set(done.stdout.split()) == known


def test_gateway_without_a_command_runs_and_takes_the_options_of_run(tmp_path: Path) -> None:
    group = cli.get_command(click.Context(cli), "gateway")
    assert isinstance(group, click.Group)
    for given in ([], ["--data", "x"], ["--config", "y", "--data", "x"]):
        context = group.make_context("gateway", list(given), parent=click.Context(cli))
        assert [*context._protected_args, *context.args] == ["run", *given]
    assert "no such option" in paceline("gateway", "--dta", "x").stderr.lower()
    assert "Commands:" in paceline("gateway", "--help").stdout


def test_a_command_whose_module_is_not_installed_is_not_there() -> None:
    group = LazyGroup("box", places={"here": "paceline.commands.roles:api", "elsewhere": "paceline.commands.not_installed:it"})
    context = click.Context(group)
    assert group.list_commands(context) == ["here"]
    assert group.get_command(context, "elsewhere") is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["mill", "speed_mps"], "speed_mps needs a VALUE"),
        (["mill", "stop", "3"], "stop takes no VALUE"),
        (["mill", "start", "--grade", "2"], "belong to simulation"),
        (["mill", "fly"], "'fly' is not one of"),
        (["mill", "stop", "--for", "3600"], "--for"),
        (["mill", "stop", "--data", "nowhere"], "nowhere/site.json"),
    ],
)
def test_equipment_commands_that_make_no_sense_are_not_sent(args: list[str], says: str) -> None:
    done = paceline("equipment", "send", *args)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
