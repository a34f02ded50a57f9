"""The model card: what a stranger must know before using a pushed model, with front matter as Hugging Face reads it."""

from __future__ import annotations

from collections.abc import Mapping

_LIMITS = """Research software: its predictions are no diagnosis, and it is not a medical device. It was tested on
{images} of one data set, so other cameras, clinics, skins and diseases are unknown ground; an `ood_score` near 1 says
that an image is unlike the known ones, and a low one promises nothing. It always names one of its classes, also where
none is right. Probabilities were calibrated on the validation part of the same data set. Scores by class and subgroup
are below; where an interval is wide, the test part says little."""

_LIMITS_OF_ENCODER = """Research software, and not a medical device. This is an encoder alone: it names no classes; how
well its features tell diseases apart was not measured. It was trained on the images of one data set, so other cameras,
clinics, skins and diseases are unknown ground; an `ood_score` near 1 says that an image is unlike the known ones, and a
low one promises nothing."""


def model_card(name: str, *, card: Mapping | None, manifest: Mapping) -> str:
    """Markdown of a model card.

    Args:
      name: of the model.
      card: clinical card of the exported model on the test part; None for an encoder alone.
      manifest: what `export_manifest.json` holds.
    """
    parts = [_front_matter(name, card, manifest), f"# {name}", _what(manifest)]
    limits = _LIMITS.format(images=f"{card['num_images']} images") if card else _LIMITS_OF_ENCODER
    parts += ["## Intended use", _use(manifest), "## Limits", limits]
    if card:
        parts += ["## Scores on the test part", _overall(card), _classes(card), *_subgroups(card)]
    parts += ["## Preprocessing", manifest["preprocessing"] + "."]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, card: Mapping | None, manifest: Mapping) -> str:
    task = "image-classification" if card else "image-feature-extraction"
    lines = ["---", "library_name: tf-keras", f"pipeline_tag: {task}"]
    lines += ["tags:", "- medical-imaging", "- bit", f"- {manifest['config']['method']}"]
    if card:
        lines += ["model-index:", f"- name: {name}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {manifest['data']['name']}", f"      type: {manifest['data']['name']}"]
        lines += ["    metrics:"]
        for metric, score in card["overall"].items():
            if score["value"] is not None:
                lines += [f"    - type: {metric}", f"      value: {score['value']:.4f}"]
    return "\n".join([*lines, "---"])


def _what(manifest: Mapping) -> str:
    config = manifest["config"]
    start = "random weights" if config["weights"] == "none" else config["weights"]
    classes = ", ".join(manifest["class_names"])
    head = f" and a linear classifier of {len(manifest['class_names'])} classes ({classes})" if classes else ""
    trained = f"{config['epochs']} epochs of {config['method']}" if config["epochs"] else "no further training"
    version = manifest["versions"]["bitkeras"]
    return (
        f"A {config['backbone']} BiT network with {config['norm']} norm, from {start}, {trained} on the unlabelled "
        f"images of {manifest['data']['name']}, {manifest['image_size']} px{head}. Made by bitkeras {version}."
    )


def _use(manifest: Mapping) -> str:
    signatures = ", ".join(f"`{name}`" for name in manifest["signatures"])
    return (
        f"For research on images like those it was trained on. The signatures {signatures} are described in "
        "`export_manifest.json`; `hub.KerasLayer` takes the folder as an encoder to build upon, frozen or fine-tuned."
    )


def _overall(card: Mapping) -> str:
    rows = [(metric.replace("_", " "), _told(score)) for metric, score in card["overall"].items()]
    return _table(["score", "value, 95 % interval by bootstrap over lesions"], rows)


def _classes(card: Mapping) -> str:
    metrics = ("sensitivity", "specificity", "precision", "roc_auc")
    rows = [(row["name"], row["support"], *(_told(row[metric]) for metric in metrics)) for row in card["classes"]]
    return _table(["class", "test images", "sensitivity", "specificity", "precision", "ROC AUC"], rows)


def _subgroups(card: Mapping) -> list[str]:
    tables = []
    for table in card["subgroups"]:
        rows = [(row["value"], row["num_images"], _told(row["balanced_accuracy"])) for row in table["rows"]]
        tables.append(_table([table["fact"], "test images", "balanced accuracy"], rows))
    return tables


def _told(score: Mapping) -> str:
    if score["value"] is None:
        return "not defined"
    interval = score["interval"]
    return f"{score['value']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _table(head: list[str], rows: list[tuple]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
