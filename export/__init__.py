"""From a trained encoder to a versioned SavedModel: built, written beside, checked in a fresh process, renamed.

Knows SavedModel and nothing of training. Nothing is imported here: `export.check_servable` must be able
to run without a line of bitkeras.
"""
