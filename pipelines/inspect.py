"""Say what a pushed version is, and whether its files are as they were pushed.

The folder follows: `bitkeras inspect served/ham/1`, or `served/ham` for the live version. Exit code 1 where a file has
changed.
"""

from __future__ import annotations

import json
from pathlib import Path

from bitkeras.errors import UserError
from export.inspection import read_manifest, require_whole
from export.versions import list_versions, version_path
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

TAKES_ARGUMENTS = True
FLAGS = CommandFlags()
FLAGS.switch("json", False, "The manifest as it is.")


def main(folders: list[str]) -> None:
    """Flags become plain arguments."""
    if len(folders) != 1:
        raise UserError(f"One folder of a version must be named after the flags; got {len(folders)}.")
    inspect(Path(folders[0]), as_json=FLAGS.json)


def inspect(folder: Path, *, as_json: bool) -> None:
    """Prints the manifest, then whether the files fit it.

    Raises:
      UserError: there is no version there, or a file is not what was pushed.
    """
    if list_versions(folder):
        folder = version_path(folder)
    elif models := [child for child in sorted(folder.glob("*")) if list_versions(child)]:
        raise UserError(f"{folder} holds no versions but models; name one of {', '.join(map(str, models))}.")
    manifest = read_manifest(folder)
    if as_json:
        say(json.dumps(manifest, indent=2, ensure_ascii=False))
    else:
        for line in lines(folder, manifest):
            say(line)
    require_whole(folder)
    if not as_json:
        say(f"all {len(manifest['sha256'])} files are as they were pushed")


def lines(folder: Path, manifest: dict) -> list[str]:
    """What a person wants to know first."""
    told = [f"{folder}: {manifest['num_features']} features, {manifest['image_size']} px"]
    told.append(f"classes: {', '.join(manifest['class_names']) or 'none, an encoder alone'}")
    for metric, score in manifest.get("metrics", {}).items():
        if score["value"] is not None:
            low, high = score["interval"]
            told.append(f"{metric.replace('_', ' ')}: {score['value']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    for name, facts in manifest.get("data", {}).items():
        told.append(f"data, {name.replace('_', ' ')}: {facts}")
    for name, signature in manifest["signatures"].items():
        told.append(f"signature {name}: {_specs(signature['inputs'])} -> {_specs(signature['outputs'])}")
    told += [
        f"preprocessing: {manifest['preprocessing']}",
        f"warm-up requests: {'yes' if manifest['has_warmup'] else 'no'}",
    ]
    versions = {"tensorflow": manifest["tensorflow"], **manifest.get("versions", {})}
    told.append("versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    flags = {name: value for name, value in manifest.get("config", {}).items() if value is not None}
    told.append("flags: " + " ".join(f"--{name}={value}" for name, value in flags.items()))
    return told


def _specs(specs: dict) -> str:
    return ", ".join(f"{name} {spec['dtype']} {spec['shape']}" for name, spec in specs.items())


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["inspect", *sys.argv[1:]])
