"""What TFX's Trainer, Evaluator, InfraValidator and Pusher leave behind, in their layouts (tfx 1.21).

`<root>/<component>/<output key>/<execution id>/`; a blessing is an empty file whose name is the verdict.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bitkeras.files import written_atomically

BLESSED, NOT_BLESSED = "BLESSED", "NOT_BLESSED"
INFRA_BLESSED, INFRA_NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"


class Execution:
    """One walk through the four components.

    Attributes:
      root: the pipeline's root.
      number: the execution id, from 1 on.
      model: where the SavedModel is exported to, `Trainer/model/<id>/Format-Serving`.
      evaluation: `Evaluator/evaluation/<id>`.
    """

    def __init__(self, root: str | Path):
        """Takes the next execution id below `root`."""
        self.root = Path(root)
        self.number = self._claim()
        self.model = self.folder("Trainer", "model") / "Format-Serving"
        self.evaluation = self.folder("Evaluator", "evaluation")

    def folder(self, component: str, output: str) -> Path:
        """`<root>/<component>/<output>/<id>`."""
        return self.root / component / output / str(self.number)

    def bless(self, verdict: bool, facts: dict) -> Path:
        """The Evaluator's blessing, with the lines of the gate beside it."""
        return self._bless("Evaluator", BLESSED if verdict else NOT_BLESSED, facts)

    def bless_infra(self, verdict: bool, facts: dict) -> Path:
        """The InfraValidator's blessing."""
        return self._bless("InfraValidator", INFRA_BLESSED if verdict else INFRA_NOT_BLESSED, facts)

    def record_pushed(self, published: Path) -> None:
        """The Pusher's record of where a model went."""
        facts = {"pushed": 1, "pushed_destination": str(published.parent), "pushed_version": published.name}
        self.write_json(self.folder("Pusher", "pushed_model") / "pushed.json", facts)

    def write_json(self, path: Path, value) -> None:
        """Writes `value` whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as beside:
            beside.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

    def _bless(self, component: str, name: str, facts: dict) -> Path:
        folder = self.folder(component, "blessing")
        self.write_json(folder / "facts.json", facts)
        (folder / name).touch()
        return folder / name

    def _claim(self) -> int:
        models = self.root / "Trainer" / "model"
        models.mkdir(parents=True, exist_ok=True)
        number = max([0, *(int(name) for name in os.listdir(models) if name.isdigit())]) + 1
        while True:
            try:
                # mkdir is atomic: two executions at once get two numbers.
                (models / str(number)).mkdir()
                return number
            except FileExistsError:
                number += 1
