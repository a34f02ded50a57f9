"""How much of the colour, size and contrast of a lesion a linear map reads off frozen features.

    python docs/results/what_is_kept.py --data_dir=HAM10000 --output=what_is_kept.json RUN_DIR [ENCODER ...]

RUN_DIR is a run of `bitkeras pretrain`, and the first encoder; ENCODER is another run, a file in its snapshots/ or a
pushed version. A ridge regression, its penalty chosen by leaving one out, is fitted on the images of probe_train and
probe_val. Printed is R2 on the test images: 1 for a perfect reading, 0 for the mean of the training images.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from encoded import Photographs, features_of, standardised
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from bitkeras.runs import RunFolder

ASKED = {"fit": ("probe_train", "probe_val"), "test": ("test",)}
PENALTIES = np.logspace(-1, 5, 13)


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
    fit, test = standardised(features["fit"], features["test"])
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
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="of `bitkeras pretrain`; its images are asked about")
    parser.add_argument("encoders", nargs="*", type=Path, metavar="ENCODER")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    photographs = Photographs.of(RunFolder(arguments.run), arguments.data_dir)
    wanted = {
        name: traits(np.concatenate(list(photographs.batches(parts).as_numpy_iterator())))
        for name, parts in ASKED.items()
    }
    rows = []
    for name, features in features_of([arguments.run, *arguments.encoders], photographs, list(ASKED.values())):
        scores = readable(dict(zip(ASKED, features)), wanted)
        rows.append({"encoder": name, "r2": scores})
        print(name, *(f"{trait} {score:.2f}" for trait, score in scores.items()), sep="  ", flush=True)
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
