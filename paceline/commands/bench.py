"""`paceline bench`: the benchmarks of the folder `benchmarks/`, each with its baseline in the same run."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import click

from broker.errors import ConfigError
from paceline.options import print_json


@click.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="A small run: under 30 s each; end_to_end, quix and fleet some minutes.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results to FILE.")
def bench(name: str, quick: bool, json_file: Path | None) -> None:
    """Run benchmark NAME, `all` of them, or `list` them.

    \b
    Example:
      paceline bench spool --quick
      paceline bench all --json bench.json
    """
    known = _known()
    if name == "list":
        for found in known:
            click.echo(found)
        return
    if name != "all" and name not in known:
        raise ConfigError(f"no benchmark {name!r}", cure=f"use one of {', '.join(known)} or all")
    results: list[dict[str, Any]] = []
    for module in [_load(one) for one in (known if name == "all" else [name])]:
        result = module.run(quick)
        results.append(result)
        print_json(result)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(results if name == "all" else results[0], indent=2) + "\n", "utf-8")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        cure = "install the development tools: `make setup-dev`, or `make bench` does both"
        raise ConfigError(f"benchmark {name} needs {error.name}", cure=cure) from error


def _known() -> list[str]:
    try:
        package = importlib.import_module("benchmarks")
    except ModuleNotFoundError as error:
        raise ConfigError("the benchmarks are not installed", cure="run `paceline bench` in a checkout of the sources") from error
    checkout = str(Path(package.__path__[0]).parent)
    if checkout not in sys.path:
        sys.path.insert(0, checkout)  # the test servers are not installed, and others leave a package of that name about
    names: list[str] = []
    for found in pkgutil.iter_modules(package.__path__):
        path = Path(package.__path__[0]) / (f"{found.name}/__init__.py" if found.ispkg else f"{found.name}.py")
        if path.exists() and "\ndef run(" in path.read_text("utf-8"):
            names.append(found.name)
    return sorted(names)
