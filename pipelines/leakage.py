"""The leakage audit of a run: sister photographs that the table knows, and near-duplicates that it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from bitkeras.data import ImageSource
from bitkeras.data.leakage import TRAINED_PARTS, leakage_audit, seen_audit
from bitkeras.data.split_files import load_split, with_lesions_of
from bitkeras.data.splits import Split
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines.duplicates import find_duplicates
from pipelines.images import usable_images
from pipelines.job import Job
from pipelines.runtime import read_existing, say

RECORD = "leakage.json"
# Of a probe under another split than its run's: what of its test part pre-training has seen.
SEEN = "pretraining"


def audit_job(job: Job) -> dict[str, dict]:
    """Tells the audit of a training run; returns {file: record} where it was made anew.

    Nothing without labels; where it was recorded before, it is told again.
    """
    if job.source.labels is None or not len(job.split.indices("test")):
        return {}
    recorded = _recorded(job.run, job.split)
    audit = recorded or audit_split(job.source, job.split, duplicates=job.conduct["find_duplicates"])
    _tell(audit)
    return {} if recorded else {RECORD: audit}


def audit_probe(
    run: RunFolder, source: ImageSource, split: Split, *, as_pretrained: bool, own_images: bool, duplicates: bool
) -> dict:
    """Tells the audit of a probe and returns it.

    Args:
      run: the run that is probed.
      source, split: the probe's images and their parts.
      as_pretrained: they are the run's own in the run's parts, so that its audit holds for them.
      own_images: they are the run's own, maybe in other parts: then the audit says, as "pretraining", what of the test
        part the run was trained on (see `seen_audit`).
      duplicates: look for near-duplicates, where the run has not.
    """
    audit = _recorded(run, split) if as_pretrained else None
    if audit is None or (duplicates and audit["near_duplicates"] is None):
        others = {}
        if not as_pretrained:
            # Of its own images it has seen many that are tested on now; they are counted below, and not looked for.
            pretrained_on = _pretraining_images(run) if duplicates and not own_images else None
            others = {"parts": ("probe_train", "probe_val"), "pretrained_on": pretrained_on}
        audit = audit_split(source, split, duplicates=duplicates, **others)
    if own_images and not as_pretrained:
        audit[SEEN] = seen_audit(split, source, seen=load_split(run.split_path, source).indices("pretrain"))
    _tell(audit)
    return audit


def seen_counts(audit: dict) -> dict[str, int]:
    """What a row of scores says of the test images that pre-training has seen; nothing where it was kept from them."""
    if SEEN not in audit:
        return {}
    counts = ("num_test_images", "num_seen", "num_sisters_seen")
    return {f"{name}_in_pretraining" if "seen" in name else name: audit[SEEN][name] for name in counts}


def audit_split(
    source: ImageSource,
    split: Split,
    *,
    duplicates: bool,
    parts: Sequence[str] = TRAINED_PARTS,
    pretrained_on: tuple[ImageSource, np.ndarray] | None = None,
) -> dict:
    """What of the images that a model is made of is in the test part too.

    Args:
      source: labelled images.
      split: their parts; the test part holds images.
      duplicates: look for near-duplicates too, for which every image of these parts is read.
      parts: what the model is made of.
      pretrained_on: (source, indices) of other images that it was pre-trained on.

    Returns:
      num_labelled: images in probe_train; sisters: as `leakage_audit`; near_duplicates: as `find_duplicates`, or None.
    """
    audit = {"num_labelled": len(split.indices("probe_train"))}
    audit["sisters"] = leakage_audit(split, source, parts=parts)
    audit["near_duplicates"] = find_duplicates(source, split, parts, pretrained_on) if duplicates else None
    return audit


def audit_lines(audit: dict) -> list[str]:
    """The audit for people."""
    sisters, near = audit["sisters"], audit["near_duplicates"]
    lines = [f"leakage: {_told(sisters, 'have a sister photo of their lesion')}"]
    if sisters["overall"] is None:
        lines = ["leakage: no lesions are named, so nothing is known about sister photos"]
    if near is not None:
        lines.append(f"near-duplicates: {_told(near, 'have one beside known sisters')}")
    if near is not None and near["pairs"]:
        lines[-1] += f"; {RECORD} lists {len(near['pairs'])} of {near['num_pairs']} pairs to look at"
    if SEEN in audit:
        lines.append(_seen_line(audit[SEEN]))
    return lines


def _seen_line(seen: dict) -> str:
    """What pre-training has seen of the test part, for people."""
    num_images, shown = seen["num_test_images"], seen["num_seen"]
    line = f"pre-training, which had another split, has seen {shown} of {num_images} test images without their labels"
    return (
        line if seen["num_sisters_seen"] is None else f"{line}, and of {seen['num_sisters_seen']} more a sister photo"
    )


def _tell(audit: dict) -> None:
    for line in audit_lines(audit):
        say(line)


def _told(shares: dict, what: str) -> str:
    num_images, by_part = shares["num_test_images"], shares["by_part"]
    if not shares["overall"]:
        return f"none of {num_images} test images {what} in {' or '.join(by_part)}"
    parts = ", ".join(f"{part} {share:.1%}" for part, share in by_part.items())
    # A folder can hold hundreds of classes; a line of the log cannot.
    by_class = sorted(shares["by_class"].items(), key=lambda item: -item[1])[:10]
    classes = ", ".join(f"{name} {share:.1%}" for name, share in by_class if share)
    return f"{shares['overall']:.1%} of {num_images} test images {what} ({parts}); of {classes}"


def _recorded(run: RunFolder, split: Split) -> dict | None:
    """The audit in a run's folder; None where there is none, or it is of more labels than `split` has."""
    if not run.leakage_path.is_file():
        return None
    audit = json.loads(run.leakage_path.read_text())
    return audit if audit["num_labelled"] == len(split.indices("probe_train")) else None


def _pretraining_images(run: RunFolder) -> tuple[ImageSource, np.ndarray] | None:
    """What a run was pre-trained on, as (source, indices); None, after saying why, where it is no longer there."""
    try:
        source, _ = usable_images(run, read_existing(run.config()), on_bad_image="error")
        source = with_lesions_of(run.split_path, source)
        return source, load_split(run.split_path, source).indices("pretrain")
    except UserError as error:
        say(f"near-duplicates are not looked for among the images of pre-training: {error}")
        return None
