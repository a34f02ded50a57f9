"""The set-up: which interpreter makes .venv, and whether the pins cover what is declared and installed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SH = shutil.which("sh")


def write_tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!{SH}\n{script}\n")
    path.chmod(0o755)


def write_python(folder: Path, name: str, version: str, *, has_ensurepip: bool = True) -> None:
    """An interpreter that knows its version, may lack ensurepip, and writes a line instead of making a venv."""
    write_tool(
        folder,
        name,
        f"""case "$*" in
    *version_info*) echo {version} ;;
    *ensurepip*) exit {0 if has_ensurepip else 1} ;;
    "-m venv"*) echo "{name}: $*" ;;
    *) exit 9 ;;
esac""",
    )


def write_uv(folder: Path) -> None:
    """A uv that, like the real one, refuses a folder that is there and is no environment."""
    write_tool(folder, "uv", 'if [ -e fresh ]; then exit 2; fi; echo "uv: $*"')
    write_tool(folder, "rm", f'exec {shutil.which("rm")} "$@"')


def make_venv(tools: Path, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [SH, str(ROOT / "make_venv.sh"), "fresh"],
        env={"PATH": str(tools), **variables},
        cwd=tools,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_sentence(result: subprocess.CompletedProcess, *fragments: str) -> None:
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr


def test_only_a_too_new_python_is_one_sentence(tmp_path):
    write_python(tmp_path, "python3", "3.13")
    assert_one_sentence(make_venv(tmp_path), "TensorFlow 2.15.1 has wheels for Python 3.9, 3.10 and 3.11", "3.13")


def test_no_python_at_all_is_one_sentence(tmp_path):
    assert_one_sentence(make_venv(tmp_path), "no python3 was found")


def test_a_fitting_python_beside_a_too_new_one_is_chosen(tmp_path):
    write_python(tmp_path, "python3", "3.13")
    write_python(tmp_path, "python3.11", "3.11")
    result = make_venv(tmp_path)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "python3.11: -m venv --clear fresh"


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11"])
def test_python3_is_chosen_where_its_version_fits(tmp_path, version):
    write_python(tmp_path, "python3", version)
    assert "python3: -m venv" in make_venv(tmp_path).stdout


def test_a_shim_that_cannot_run_is_passed_over(tmp_path):
    write_tool(tmp_path, "python3.11", "echo 'python3.11: command not found' >&2; exit 127")
    write_python(tmp_path, "python3.10", "3.10")
    result = make_venv(tmp_path)
    assert "python3.10: -m venv" in result.stdout
    assert result.stderr == ""


def test_uv_supplies_a_python_where_none_fits(tmp_path):
    (tmp_path / "fresh" / "left_by_an_interruption").mkdir(parents=True)
    write_python(tmp_path, "python3", "3.13")
    write_uv(tmp_path)
    result = make_venv(tmp_path)
    assert result.returncode == 0
    last = result.stdout.splitlines()[-1]
    assert last.startswith("uv: venv") and "--seed" in last and "--python 3.11 fresh" in last


def test_a_uv_that_cannot_supply_one_ends_with_the_reason(tmp_path):
    write_tool(tmp_path, "uv", "exit 2")
    write_tool(tmp_path, "rm", ":")
    result = make_venv(tmp_path)
    assert result.returncode != 0
    assert "uv could not supply Python 3.11" in result.stderr


def test_without_ensurepip_the_debian_package_is_named(tmp_path):
    write_python(tmp_path, "python3.11", "3.11", has_ensurepip=False)
    assert_one_sentence(make_venv(tmp_path), "apt-get install python3.11-venv")


def test_without_ensurepip_uv_makes_the_environment(tmp_path):
    write_python(tmp_path, "python3.11", "3.11", has_ensurepip=False)
    write_uv(tmp_path)
    assert "--python python3.11 fresh" in make_venv(tmp_path).stdout


def test_an_older_python_with_ensurepip_goes_before_a_newer_without(tmp_path):
    write_python(tmp_path, "python3.11", "3.11", has_ensurepip=False)
    write_python(tmp_path, "python3.10", "3.10")
    assert "python3.10: -m venv" in make_venv(tmp_path).stdout


def test_the_named_python_is_taken_or_refused_but_never_replaced(tmp_path):
    write_python(tmp_path, "python3.11", "3.11")
    write_python(tmp_path, "mine", "3.10")
    write_python(tmp_path, "newest", "3.13")
    assert "mine: -m venv" in make_venv(tmp_path, PYTHON="mine").stdout
    assert_one_sentence(make_venv(tmp_path, PYTHON="newest"), "PYTHON=newest", "3.13")
    assert_one_sentence(make_venv(tmp_path, PYTHON="absent"), "PYTHON=absent", "does not run")


def make_dry_run(folder: Path, *arguments: str) -> str:
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    # A make above this one hands its own flags and job server down through these.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_an_interrupted_installation_is_started_again(tmp_path):
    for name in ("Makefile", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    assert "pip install" in make_dry_run(tmp_path, "test")

    (tmp_path / ".venv" / ".complete").touch()
    assert "pip install" not in make_dry_run(tmp_path, "test")
    for changed in ("setup.py", "constraints.txt"):
        assert "pip install" in make_dry_run(tmp_path, f"--what-if={changed}", "test")


def test_ci_runs_the_test_command_of_the_readme_and_nothing_else():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line.strip() for line in script.read_text().splitlines()]
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"(^|`)\s*(\$ )?make test\b", readme, re.MULTILINE)


def read_pins() -> dict[str, str]:
    """Name -> version, from those lines of constraints.txt that are for this interpreter."""
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and not requirement.url and not requirement.extras, line
        if requirement.marker is None or requirement.marker.evaluate():
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice for Python {platform.python_version()}"
            pins[name] = specifier.version
    return pins


def declared(extras: tuple[str, ...]) -> list[Requirement]:
    """What setup.py asks for, as installed beside this interpreter, for the package and the extras given."""
    requirements = [Requirement(text) for text in importlib.metadata.requires("bitkeras") or []]
    return [r for r in requirements if wanted(r, frozenset(extras))]


def wanted(requirement: Requirement, extras: frozenset[str]) -> bool:
    return requirement.marker is None or any(
        requirement.marker.evaluate({"extra": extra}) for extra in extras or frozenset({""})
    )


def installed_tree(requirements: list[Requirement]) -> dict[str, str]:
    """Name -> installed version of the requirements and of all that they require."""
    tree: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras) | {""}
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = importlib.metadata.distribution(name)
        tree[name] = distribution.version
        waiting += [r for r in map(Requirement, distribution.requires or []) if wanted(r, extras)]
    return tree


def test_every_declared_requirement_is_pinned_inside_its_range():
    pins = read_pins()
    requirements = declared(("", "dev", "gpu"))
    assert {"tensorflow", "keras-cv", "scikit-learn", "pytest"} <= {canonicalize_name(r.name) for r in requirements}
    for requirement in requirements:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the pins are resolved for Linux on x86-64"
)
def test_the_installed_versions_are_the_pinned_ones():
    pins = read_pins()
    installed = installed_tree(declared(("", "dev")))
    assert len(installed) > 80
    assert installed == {name: pins.get(name, "not pinned") for name in installed}


def test_the_version_is_that_of_the_package():
    import bitkeras

    assert importlib.metadata.version("bitkeras") == bitkeras.__version__
