"""Two-dimensional maps of features."""

from __future__ import annotations

import numpy as np


def tsne(features: np.ndarray, *, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of the first 50 principal components.

    Args:
      features: float [N, D].
      seed: of the projection; the same seed gives the same map.
      perplexity: neighbours each point attends to; at most (N - 1) / 3 is used.

    Returns:
      float32 [N, 2]; distances between far groups mean nothing.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, np.float64)
    num_images, num_components = len(features), min(50, *features.shape)
    if num_images < 4 or np.ptp(features, axis=0).max() == 0:
        # Too few points, or all the same: t-SNE would divide by a spread of zero.
        return np.zeros([num_images, 2], np.float32)
    reduced = PCA(num_components, random_state=seed).fit_transform(features)
    model = TSNE(
        perplexity=min(perplexity, (num_images - 1) / 3),
        init="pca" if num_components > 1 else "random",
        random_state=seed,
    )
    # One thread: on 2 busy cores its OpenMP threads wait for each other, 4 times as long for the same map.
    with threadpool_limits(1):
        return model.fit_transform(reduced.astype(np.float32)).astype(np.float32)
