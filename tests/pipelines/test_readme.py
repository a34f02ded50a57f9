"""The README is the front door: every command in it must parse, and its Python must run."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from bitkeras.archives.beam import RUNNERS
from pipelines import cli

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("bitkeras ")]


def test_there_are_commands_for_the_whole_road():
    assert {shlex.split(line)[1] for line in COMMANDS} == set(cli.COMMANDS) - {"quickstart"}


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line, monkeypatch):
    command, *arguments = shlex.split(line)[1:]
    module = importlib.import_module(f"pipelines.{command}")
    monkeypatch.setattr(module, "main", lambda positional: None)
    cli.run(command, arguments)


@pytest.mark.parametrize("line", [line for line in COMMANDS if " -- " in line])
def test_what_stands_behind_the_dashes_is_known_to_beam(line):
    """A cluster is not at hand, but the runner and all of its flags must be Beam's."""
    options = pytest.importorskip("apache_beam.options.pipeline_options", reason="the extra beam is not installed")
    arguments = shlex.split(line)
    (runner,) = (one.partition("=")[2] for one in arguments if one.startswith("--runner="))
    flags = arguments[arguments.index("--") + 1 :]
    parsed = options.PipelineOptions([f"--runner={runner}", *flags]).get_all_options(drop_default=True)
    assert {str(parsed[name]) for name in (flag.partition("=")[0].lstrip("-") for flag in flags)} == {
        flag.partition("=")[2] for flag in flags
    }
    assert runner in RUNNERS and parsed["runner"] == runner


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_target_exists(target):
    assert re.search(rf"^{target}:", (Path(__file__).parents[2] / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_linked_file_exists(path):
    assert (Path(__file__).parents[2] / path).is_file()


@pytest.mark.slow
def test_the_python_for_calling_the_model_runs(road, capsys):
    (block,) = blocks("python")
    image = next(road.data_dir.rglob("*.jpg"))
    block = block.replace("served/ham/1", str(road.push_dir / "1")).replace("lesion.jpg", str(image))
    exec(compile(block, "README.md", "exec"), {})
    assert re.search(r"akiec|bcc|bkl|df|mel|nv|vasc", capsys.readouterr().out)
