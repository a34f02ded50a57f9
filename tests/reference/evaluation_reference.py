"""Scores of frozen features written out slowly: plain loops over Python numbers, one formula a function."""

import math

import numpy as np


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def knn_probabilities(bank, bank_labels, queries, num_classes, k, temperature):
    """Every query against every bank row; the k nearest vote exp(cos / T)."""
    rows = []
    for query in queries:
        near = sorted(((cosine(query, row), label) for row, label in zip(bank, bank_labels)), reverse=True)[:k]
        votes = [0.0] * num_classes
        for similarity, label in near:
            votes[label] += math.exp(similarity / temperature)
        rows.append([vote / sum(votes) for vote in votes])
    return np.array(rows)


def balanced_accuracy(labels, predictions):
    """Mean recall over the classes that occur in the labels."""
    recalls = []
    for name in sorted(set(labels)):
        of_class = [p for y, p in zip(labels, predictions) if y == name]
        recalls.append(sum(p == name for p in of_class) / len(of_class))
    return sum(recalls) / len(recalls)


def macro_f1(labels, predictions):
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur in the labels."""
    scores = []
    for name in sorted(set(labels)):
        hits = sum(y == name and p == name for y, p in zip(labels, predictions))
        wrong = sum((y == name) != (p == name) for y, p in zip(labels, predictions))
        scores.append(2 * hits / (2 * hits + wrong))
    return sum(scores) / len(scores)


def accuracy(labels, predictions):
    return sum(y == p for y, p in zip(labels, predictions)) / len(labels)


METRICS = {"balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1, "accuracy": accuracy}


def resampled_scores(metric, labels, predictions, groups, draws):
    """One score per row of `draws` [S, G]: image i stands in the resample as often as its group was drawn."""
    place = {name: index for index, name in enumerate(sorted(set(groups)))}
    scores = []
    for draw in draws:
        taken = [i for i, name in enumerate(groups) for _ in range(draw[place[name]])]
        scores.append(METRICS[metric]([labels[i] for i in taken], [predictions[i] for i in taken]))
    return scores


def mean_pairwise_cosine(features):
    pairs = [(i, j) for i in range(len(features)) for j in range(i)]
    return sum(cosine(features[i], features[j]) for i, j in pairs) / len(pairs)


def spread(features):
    """SimSiam, section 4.1: std of z / |z| per dimension, averaged; 1 / sqrt(d) is the isotropic value."""
    units = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in np.asarray(features, float).tolist()]
    deviations = []
    for column in zip(*units):
        mean = sum(column) / len(column)
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)))
    return sum(deviations) / len(deviations) * math.sqrt(len(deviations))


def rankme(features):
    """RankMe (arXiv 2210.02885), equations 1 and 2, from the singular values themselves."""
    singular = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    shares = [value / singular.sum() for value in singular]
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def unit(row):
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length for x in row]


def squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


def uniformity(features, t=2):
    """Wang and Isola (arXiv 2005.10242), section 4.1.2: every pair of images once."""
    units = [unit(row) for row in features]
    potentials = [math.exp(-t * squared_distance(units[i], units[j])) for i in range(len(units)) for j in range(i)]
    return math.log(sum(potentials) / len(potentials))


def alignment(features_a, features_b):
    """Section 4.1.1 there, alpha = 2: every image's two views."""
    distances = [squared_distance(unit(a), unit(b)) for a, b in zip(features_a, features_b)]
    return sum(distances) / len(distances)


def explained_variance_auc(features):
    """Mean height of the curve of cumulative explained variance, from the covariance matrix itself."""
    num_images, num_dims = features.shape
    covariance = np.atleast_2d(np.cov(np.asarray(features, np.float64), rowvar=False))
    variances = sorted(np.linalg.eigvalsh(covariance).tolist(), reverse=True)[: min(num_images - 1, num_dims)]
    heights = [sum(variances[: j + 1]) / sum(variances) for j in range(len(variances))]
    return sum(heights) / len(heights)


def focal_loss(labels, logits, gamma, alpha=None):
    """-alpha_y (1 - p_y)^gamma log p_y for each example, logits [B, K]."""
    losses = []
    for label, row in zip(labels, np.asarray(logits, np.float64).tolist()):
        p = math.exp(row[label]) / sum(math.exp(x) for x in row)
        losses.append(-(1.0 if alpha is None else alpha[label]) * (1 - p) ** gamma * math.log(p))
    return np.array(losses)


def adamw(kernel, bias, features, labels, orders, schedule, rate, weight_decay, batch_size):
    """Softmax regression by AdamW (arXiv 1711.05101, algorithm 2), (kernel, bias) after each epoch, in float64.

    `orders` holds the order of examples of each epoch, `schedule` the multiplier of the rate.
    """
    values, epochs, step = [kernel.astype(np.float64), bias.astype(np.float64)], [], 0
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    for order, factor in zip(orders, schedule):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits = features[rows] @ values[0] + values[1]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            error = (p - np.eye(len(values[1]))[labels[rows]]) / len(rows)
            step += 1
            for i, gradient in enumerate((features[rows].T @ error, error.sum(axis=0))):
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                direction = first[i] / (1 - 0.9**step) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
                decay = weight_decay * values[i] if i == 0 else 0.0
                values[i] = values[i] - rate * factor * (direction + decay)
        epochs.append((values[0].copy(), values[1].copy()))
    return epochs
