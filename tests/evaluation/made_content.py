"""What a study could have found, for tests of its report: made up, with real cards of made answers."""

from __future__ import annotations

import functools
import io

import numpy as np
from made_answers import CLASSES, SHARES, made_answers

from bitkeras.evaluation.answers import pooled
from bitkeras.evaluation.card import clinical_card
from bitkeras.evaluation.comparison import overall_scores, paired_differences

SEEDS = 3
# id -> name, skill of its answers, where its curve ends, whether it is trained.
ARMS = {
    "bit_s": ("BiT-S", 1.35, 0.0, False),
    "bit_m": ("BiT-M", 1.75, 0.0, False),
    "simsiam": ("SimSiam", 1.3, 0.36, True),
    "bit_s_simsiam": ("BiT-S + SimSiam", 1.9, 0.43, True),
    "bit_m_simsiam": ("BiT-M + SimSiam", 2.0, 0.47, True),
    "bit_m_simsiam_gn": ("BiT-M + SimSiam, Group Norm", 0.7, 0.17, True),
}
BASELINES = {"random_encoder": ("random encoder", 0.243), "raw_pixels": ("raw pixels, logistic regression", 0.262)}


def curves(end: float, *, seed: int, epochs: int = 60, collapsed: bool = False) -> list[dict]:
    """Rows as in metrics.jsonl."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(epochs + 1):
        gained = 1 - np.exp(-epoch / 14)
        spread = 0.02 + 0.25 * np.exp(-epoch / 2) if collapsed else 0.45 + 0.9 * end * gained
        row = {
            **{"epoch": epoch, "spread": spread + rng.normal(0, 0.008), "rankme": 8 + 90 * spread},
            "knn_balanced_accuracy": 0.19 + (end - 0.19) * gained + rng.normal(0, 0.008),
            "knn_chance": 1 / len(CLASSES),
        }
        if epoch:
            healthy = -0.1 - (0.62 + 0.5 * end) * gained + rng.normal(0, 0.006)
            loss = -0.999 + 0.4 * np.exp(-epoch) if collapsed else healthy
            row |= {"loss": loss, "lr": 0.05, "images_per_second": 180.0, "verdict": "healthy", "evidence": "loss"}
        rows.append(row)
    return rows


@functools.cache
def cards() -> tuple[dict, dict, list[dict]]:
    """Arm -> card, arm -> scores, differences."""
    answers = {}
    for number, (arm, (_, skill, *_)) in enumerate(ARMS.items()):
        seeds = [made_answers(600, skill=skill, seed=10 * number + seed, trials=1) for seed in range(SEEDS)]
        answers[arm] = seeds
    facts = {
        "sex": np.random.default_rng(1).choice(["female", "male", ""], 600, p=[0.45, 0.53, 0.02]),
        "age": np.random.default_rng(2).choice(["25", "40", "55", "70", ""], 600),
    }
    held = {}
    for arm, seeds in answers.items():
        one = seeds[0]
        faint = one.probabilities**0.55
        faint /= faint.sum(-1, keepdims=True)
        held[arm] = clinical_card(one, uncalibrated=faint, temperature=0.55, facts=facts, num_samples=40)
    together = {arm: pooled(seeds, [arm] * SEEDS) for arm, seeds in answers.items()}
    pairs = [("bit_m_simsiam", arm) for arm in ARMS if arm != "bit_m_simsiam"] + [("bit_s_simsiam", "bit_s")]
    metrics = ("balanced_accuracy", "macro_f1")
    return held, overall_scores(together), paired_differences(together, pairs, metrics=metrics, num_samples=100)


def score(value: float, half: float | None = None, std: float | None = 0.008) -> dict:
    """As in a card."""
    interval = None if half is None else [value - half, value + half]
    return {"value": value, "std": std, "interval": interval, "trials": [value]}


def arms() -> list[dict]:
    held, scores, _ = cards()
    found = []
    for arm, (name, _, end, trained) in ARMS.items():
        knn = score(end or 0.24)
        flags = {"weights": name.split(" +")[0], "norm": "batch", "epochs": 60, "base_lr": 0.05, "backbone": "R26x0.25"}
        made = {"id": arm, "name": name, "baseline": False, "num_runs": SEEDS, "flags": flags, "card": held[arm]}
        made["scores"] = {**scores[arm], "knn_balanced_accuracy": knn}
        if trained:
            gn = arm.endswith("gn")
            made["curves"] = [curves(end, seed=seed, collapsed=gn) for seed in range(SEEDS)]
            made["minutes"] = 41.3
            state = "complete collapse" if gn else "healthy"
            evidence = "the features of different images have a mean cosine of 0.998, above 0.99"
            remedy = "lower --base_lr tenfold"
            made["verdict"] = {
                **{"state": state, "evidence": evidence if gn else "loss -0.88, mean cosine 0.2, RankMe 86"},
                "remedy": remedy if gn else "",
            }
        if "bit" in arm and trained and not arm.endswith("gn"):
            likeness = {"cosine": 0.93, "cosine_centred": 0.81, "cka": 0.88}
            stages = {"root": dict.fromkeys(likeness, 1.0), "stage1": likeness, "features": dict.fromkeys(likeness)}
            made["retention"] = {
                **{"swap": {"ws": "fold", "bn_init": "match", "bn_calibrate": 256}, "num_images": 512},
                "stages": {**stages, "overall": likeness},
                "knn_balanced_accuracy": {"before": 0.268, "after": 0.254, "k": 20, "chance": 1 / 7},
            }
        found.append(made)
    for id, (name, value) in BASELINES.items():
        scores = {"balanced_accuracy": score(value, 0.03), "macro_f1": score(value - 0.02)}
        found.append({"id": id, "name": name, "baseline": True, "num_runs": 1, "scores": scores, "flags": {}})
    return found


def picture(colour, size=48) -> bytes:
    """A PNG of a round spot."""
    from PIL import Image

    y, x = np.mgrid[:size, :size]
    inside = ((x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 3) ** 2)[..., None]
    pixels = np.where(inside, colour, (232, 190, 172)).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "png")
    return held.getvalue()


def maps() -> list[dict]:
    rng = np.random.default_rng(5)
    labels = rng.choice(len(CLASSES), 1400, p=np.array(SHARES) / sum(SHARES))
    centres = rng.normal(0, 22, [len(CLASSES), 2])
    malignant = ["akiec", "bcc", "mel"]
    kinds = {"benign": [name for name in CLASSES if name not in malignant], "malignant": malignant}
    return [
        {
            **{"title": title, "arm": "bit_m_simsiam", "labels": labels.tolist(), "class_names": list(CLASSES)},
            "points": (pull * centres[labels] + rng.normal(0, 14, [len(labels), 2])).tolist(),
            "groups_of_classes": {"Binary": kinds},
        }
        for title, pull in (("epoch 10", 0.35), ("epoch 60", 1.0))
    ]


def neighbours() -> list[dict]:
    rng = np.random.default_rng(3)

    def image(name, **more):
        colour = np.array([60, 40, 30]) + 25 * CLASSES.index(name) * np.array([0.6, 0.3, 0.5])
        return {"image_id": f"ISIC_{rng.integers(10**6):07d}", "class": name, "png": picture(colour), **more}

    found = ([name, "nv", name, name, "mel"] for name in CLASSES)
    return [
        {"query": image(name), "found": [image(one, cosine=0.97 - 0.02 * at) for at, one in enumerate(names)]}
        for name, names in zip(CLASSES, found)
    ]


def made_content() -> dict:
    """Everything a page can hold."""
    ids = [arm for arm, (*_, trained) in ARMS.items() if trained]
    held = {arm["id"]: arm for arm in arms()}
    shares = ((0.1, 100), (0.3, 300), (1.0, 1001))
    return {
        **{"title": "Study on HAM10000", "kind": "study", "arms": arms(), "differences": cards()[2]},
        "epochs_to_target": {
            **{"target": 0.357, "of": "simsiam", "metric": "knn_balanced_accuracy", "seeds": [0, 1, 2]},
            "window": 5,
            "rows": [
                {"arm": "simsiam", "epochs": [58, 55, 60], "minutes": [40.0, 38.0, 41.3], "speedup": 1.0},
                {"arm": "bit_s_simsiam", "epochs": [17, 19, 16], "minutes": [11.8, 13.1, 11.0], "speedup": 3.3},
                {
                    "arm": "bit_m_simsiam",
                    "epochs": [12, 14, 12],
                    "minutes": [8.3, 9.7, 8.3],
                    "speedup": 4.6,
                    "speedup_interval": [3.71, 5.69],
                },
                {"arm": "bit_m_simsiam_gn", "epochs": [None, None, None], "minutes": [None] * 3, "speedup": None},
            ],
        },
        "label_efficiency": [
            {
                "arm": arm,
                "points": [
                    {
                        **{"fraction": fraction, "num_labels": count},
                        "score": score(
                            held[arm]["scores"]["balanced_accuracy"]["value"] * (0.62 + 0.38 * at / 2), 0.03
                        ),
                    }
                    for at, (fraction, count) in enumerate(shares)
                ],
            }
            for arm in ("bit_m", "simsiam", "bit_s_simsiam", "bit_m_simsiam")
        ],
        **{"maps": maps(), "neighbours": neighbours(), "collapse": {"arms": ["bit_m_simsiam_gn", "bit_m_simsiam"]}},
        "other_split": {
            **{"own": "lesion", "other": "paper, where pre-training had lesion"},
            "leakage": ["pre-training, which had another split, has seen 361 of 600 test images without their labels"],
            "rows": [
                {
                    **{"arm": arm, "metric": "balanced_accuracy", "own": score(0.51, 0.04), "other": score(0.57, 0.04)},
                    **{"difference": 0.06, "interval": [0.012, 0.109], "resolved": True, "verdict": "resolved"},
                    "of_seen_lesions": {
                        **{"metric": "balanced_accuracy", "unseen": score(0.553, 0.04), "difference": 0.017},
                        **{"interval": [-0.004, 0.031], "resolved": False, "verdict": "not resolved on this test set"},
                    },
                }
                for arm in ("bit_m", "bit_m_simsiam")
            ],
        },
        **{"chance_level": 1 / 7, "data": "HAM10000, 10,015 images of 7,470 lesions in 7 classes", "split": "lesion"},
        **{"num_test_images": 600, "num_test_lesions": 300, "leakage_share": 0.0},
        "leakage": [
            "leakage: none of 600 test images have a sister photo of their lesion in pretrain or probe_train",
            "near-duplicates: none of 600 test images have one beside known sisters in pretrain or probe_train",
        ],
        "facts": {"Seeds": "0, 1, 2", "Seconds of a probe": 3.217},
        "commands": [
            "bitkeras study --study_dir=studies/ham --dataset=ham10000 --data_dir=HAM10000 --seeds=0,1,2",
            *(f"bitkeras pretrain --run_dir=studies/ham/steps/{arm} --epochs=60" for arm in ids),
        ],
        "commit": "75ef1a5c0ffee0000000000000000000000000a1",
    }
