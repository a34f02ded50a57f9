"""How much of the colour, size and contrast of a lesion a linear map reads off frozen features.

    python docs/results/what_is_kept.py --data_dir=HAM10000 --output=what_is_kept.json RUN_DIR ENCODER ...

Each RUN_DIR is one of `bitkeras pretrain`, or ENCODER a file in its snapshots/; all have the same split. A ridge
regression, its penalty chosen by leaving one out, is fitted on the images of probe_train and probe_val. Printed is R2
on the test images: 1 for a perfect reading, 0 for the mean of the training images.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

import bitkeras.backbones  # noqa: F401  its layers are in the files of encoders
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.evaluation.features import encode
from bitkeras.runs import RunFolder

FITTED_ON, BATCH_SIZE = ("probe_train", "probe_val"), 128
PENALTIES, CLIP = np.logspace(-1, 5, 13), 10


def traits(images: np.ndarray) -> dict[str, np.ndarray]:
    """What a photograph of a lesion shows, by arithmetic alone.

    Args:
      images: float32 [N, S, S, 3] in [-1, 1].

    Returns:
      Name -> [N, K]. The lesion is what is darker than Otsu's threshold of the grey image, skin the rest. Hue is the
      share of red and of blue in red + green + blue, of all pixels together; variegation the standard deviation of the
      two in the lesion; contrast the difference in grey of skin and lesion; size the lesion's share of the image.
    """
    kept = {name: [] for name in ("brightness", "skin hue", "lesion hue", "variegation", "contrast", "size")}
    for image in (images + 1) / 2:
        grey = image.mean(axis=-1)
        dark = grey <= otsu(grey)
        hue = (image[..., [0, 2]] + 1e-3) / (3 * grey[..., np.newaxis] + 3e-3)
        kept["brightness"].append([grey.mean()])
        kept["skin hue"].append(np.average(hue[~dark], axis=0, weights=grey[~dark]))
        kept["lesion hue"].append(np.average(hue[dark], axis=0, weights=grey[dark]))
        kept["variegation"].append(hue[dark].std(axis=0))
        kept["contrast"].append([grey[~dark].mean() - grey[dark].mean()])
        kept["size"].append([dark.mean()])
    return {name: np.array(rows) for name, rows in kept.items()}


def otsu(grey: np.ndarray) -> float:
    """Threshold that leaves the least variance within two classes (Otsu 1979), of 64 that part the range evenly."""
    thresholds = np.linspace(grey.min(), grey.max(), 66)[1:-1]
    between = []
    for threshold in thresholds:
        dark = grey <= threshold
        share = dark.mean()
        between.append(share * (1 - share) * (grey[dark].mean() - grey[~dark].mean()) ** 2)
    return float(thresholds[np.nanargmax(between)])


def readable(features: dict[str, np.ndarray], wanted: dict[str, dict[str, np.ndarray]]) -> dict[str, float]:
    """Trait -> R2 on test, the mean over its colours.

    Args:
      features: part -> [N, D], of "fit" and "test".
      wanted: part -> trait -> [N, K].
    """
    mean, std = features["fit"].mean(axis=0), features["fit"].std(axis=0)
    # What is all but constant on the fitted images says nothing, and a rare far-off value must not rule the line.
    is_alive = std > 1e-3 * std.max()
    fit, test = (np.clip(((features[part] - mean) / std)[:, is_alive], -CLIP, CLIP) for part in ("fit", "test"))
    scores = {}
    for trait in wanted["fit"]:
        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(fit, wanted["fit"][trait])
        scores[trait] = float(r2_score(wanted["test"][trait], model.predict(test)))
    return scores


def main() -> None:
    """Prints a row for each encoder, and writes all to --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("encoders", nargs="+", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    np.seterr(divide="ignore", invalid="ignore")
    rows, wanted = [], {}
    for path in arguments.encoders:
        run = RunFolder(path if path.is_dir() else path.parents[1])
        config = run.config()
        source = read_source(config["dataset"], arguments.data_dir)
        split = load_split(run.split_path, source)
        indices = {
            "fit": np.concatenate([split.indices(part) for part in FITTED_ON]),
            "test": split.indices("test"),
        }
        batches = {
            part: image_batches(source, chosen, image_size=config["image_size"], batch_size=BATCH_SIZE)
            for part, chosen in indices.items()
        }
        if not wanted:
            wanted = {part: traits(np.concatenate(list(batches[part].as_numpy_iterator()))) for part in batches}
        encoder = tf.keras.models.load_model(run.encoder_path if path.is_dir() else path, compile=False)
        scores = readable({part: encode(encoder, batches[part]) for part in batches}, wanted)
        rows.append({"encoder": "/".join(path.parts[path.parts.index(run.path.name) :]), "r2": scores})
        print(rows[-1]["encoder"], *(f"{trait} {score:.2f}" for trait, score in scores.items()), sep="  ", flush=True)
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
