"""One run of the whole road on phantoms, shared by many tests."""

import pytest
from small_road import Road, pretrain_flags

from pipelines import cli, study_report


@pytest.fixture(scope="session")
def road(phantoms, tmp_path_factory) -> Road:
    """Pre-trained, probed (twice, under two names) and pushed; to be read and not changed."""
    folder = tmp_path_factory.mktemp("road")
    run_dir, push_dir = folder / "run", folder / "served"
    commands = {
        "pretrain": pretrain_flags(phantoms, run_dir, "--find_duplicates"),
        "probe": [f"--run_dir={run_dir}", "--epochs=20"],
        "push": [f"--run_dir={run_dir}", f"--push_dir={push_dir}"],
    }
    for command, flags in commands.items():
        cli.run(command, flags)
    cli.run("probe", [f"--run_dir={run_dir}", "--name=single", "--trials=1", "--epochs=10", "--nobaselines"])
    return Road(phantoms, run_dir, push_dir, commands)


@pytest.fixture
def study_contents(monkeypatch) -> list[dict]:
    """What studies hand to their report, in place of the page that is made of it."""
    contents = []

    def write(folder, content):
        contents.append(content)
        for name in study_report.REPORTED:
            (folder / name).write_text(content["title"])
        return folder / "report.html"

    monkeypatch.setattr(study_report, "write_report", write)
    return contents
