"""What is told when training has left the numbers."""

from __future__ import annotations

from bitkeras.errors import UserError


def diverged(epoch: int, what: str) -> UserError:
    """The error that ends a run in `epoch`, counted from 0, since `what` happened."""
    kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "there is no checkpoint yet"
    return UserError(
        f"In epoch {epoch + 1} {what}; {kept}. Start again in a new --run_dir with a lower --base_lr or with "
        "--precision=float32."
    )
