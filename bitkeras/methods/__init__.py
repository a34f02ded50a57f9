"""METHODS: self-supervised training on pairs of views."""

from __future__ import annotations

from bitkeras.methods.simsiam import SimSiam

__all__ = ["METHODS", "SimSiam"]

METHODS = {"simsiam": SimSiam}
