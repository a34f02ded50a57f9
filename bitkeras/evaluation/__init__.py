"""What frozen features are worth: kNN, a linear probe, baselines, collapse figures, plots and a report.

Everything takes NumPy arrays of features, float32 [N, D], and integer labels [N] in [0, K).
"""
