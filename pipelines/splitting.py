"""Who sees which image, from the flags of a command: a kind of split, a fold of one, or a table that one brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bitkeras.data import ImageSource
from bitkeras.data.folds import fold_split
from bitkeras.data.split_files import load_split, require_parts, with_lesions_of
from bitkeras.data.splits import PARTS, SPLITS, Split, with_fewer_to_train_on
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say


def define_split_flags(flags: CommandFlags, what: str, *, default: str | None = "paper") -> None:
    """--split, --num_folds and --fold; `what` says what the split is of."""
    kinds = "paper: random images 60/20/20, as published; lesion: every lesion on one side"
    flags.text("split", default, f"{what} {kinds}; or a table with the columns image_id and part.")
    flags.integer("num_folds", None, "Cross-validation: so many parts, each the test part of one run.", at_least=2)
    flags.integer("fold", None, "Which of the --num_folds parts this run is tested on, counted from 0.", at_least=0)


def settled_split(config: dict) -> dict:
    """`config` with the path of a table made absolute, so that the run can be taken up from another folder.

    Raises:
      UserError: for a split that there is not, and for flags that do not go together.
    """
    name, num_folds, fold = config["split"], config["num_folds"], config["fold"]
    if (num_folds is None) != (fold is None):
        raise UserError("--num_folds and --fold go together, such as --num_folds=5 --fold=0; pass both or none.")
    if num_folds is not None and fold >= num_folds:
        raise UserError(f"--fold={fold} is none of the folds 0 to {num_folds - 1} of --num_folds={num_folds}.")
    if name in SPLITS:
        return config
    if num_folds is not None:
        raise UserError(f"--split={name} names the part of every image itself; leave --num_folds and --fold out.")
    return {**config, "split": str(Path(name).absolute())}


def settled_probe_split(options: dict, *, own_images: bool) -> dict:
    """Flags of a probe with the split as it is recorded, and `resplit` True where the run's own images get another.

    Args:
      options: split is None where --split was not given: the run's own, or of another data set the paper's.
      own_images: the probe is about the images of the run.

    Raises:
      UserError: as `settled_split` does, and for a fold of the run's own split.
    """
    is_given = options["split"] is not None
    if own_images and not is_given and options["num_folds"] is not None:
        raise UserError(
            "--num_folds and --fold are of a --split, and without one the run's own images keep the run's split; pass "
            "--split=paper or --split=lesion too, or leave them out."
        )
    # Without --split as probes of earlier versions have it, whose --split said nothing of the run's own images.
    return {
        **settled_split({**options, "split": options["split"] if is_given else "paper"}),
        "resplit": True if own_images and is_given else None,
    }


def whole_split(source: ImageSource, config: dict, *, needed: Sequence[str]) -> Split:
    """The split, fold or table that the flags of `define_split_flags` ask for.

    Args:
      source: the images.
      config: settled.
      needed: parts that a table must give images to.
    """
    name = config["split"]
    if name not in SPLITS:
        split = load_split(_existing(Path(name)), source)
        require_parts(split, name, needed)
        return split
    if name == "lesion" and source.groups is None:
        say(f"--split=lesion: {source.name} names no lesions or patients here, so every image counts as one of its own")
    if config.get("num_folds") is None:
        return SPLITS[name](source, seed=split_seed(config))
    return fold_split(source, name, num_folds=config["num_folds"], fold=config["fold"], seed=split_seed(config))


def split_seed(config: dict) -> int:
    """What the split is drawn by: the run's seed, unless it has one of its own."""
    own = config.get("split_seed")
    return config["seed"] if own is None else own


def new_split(source: ImageSource, config: dict) -> Split:
    """The split that the flags of `bitkeras pretrain` ask for."""
    split = whole_split(source, config, needed=PARTS[:1] if source.labels is None else PARTS)
    if config.get("num_images") is None:
        return split
    # Without their labels, which pre-training must not know.
    return with_fewer_to_train_on(split, config["num_images"], seed=split_seed(config))


def find_split(
    run: RunFolder,
    source: ImageSource,
    config: dict,
    *,
    make: Callable[[ImageSource, dict], Split] = new_split,
) -> tuple[ImageSource, Split]:
    """The split saved in the run folder, or a new one.

    Args:
      run: where it may be saved.
      source: the images.
      config: settled.
      make: gives the split that the config asks for.

    Returns:
      (`source`, with the lesions of the table where it knows none itself; its split).

    Raises:
      UserError: the split does not match the images, or the table has changed since the run was started.
    """
    if not run.split_path.exists():
        source = with_lesions_of_table(source, config)
        return source, make(source, config)
    table = None if config["split"] in SPLITS else Path(config["split"])
    source = with_lesions_of(run.split_path, source)
    split = load_split(run.split_path, source)
    if table is not None and table.is_file() and (make(source, config).parts != split.parts).any():
        raise UserError(
            f"The table {table} puts images into other parts than {run.split_path}, with which this run was started; "
            "restore the table, or pass another folder."
        )
    return source, split


def with_lesions_of_table(source: ImageSource, config: dict) -> ImageSource:
    """`source`, with the lesions that a table given as --split names, where it knows none itself."""
    return source if config["split"] in SPLITS else with_lesions_of(_existing(Path(config["split"])), source)


def split_title(config: dict) -> str:
    """What the split of a run is called in its report."""
    fold = "" if config.get("num_folds") is None else f", fold {config['fold']} of {config['num_folds']}"
    return f"{config['split']}{fold}"


def _existing(table: Path) -> Path:
    if not table.is_file():
        raise UserError(
            f"--split={table} is neither one of {', '.join(SPLITS)} nor a file; a table has the columns image_id and "
            "part, and may have lesion_id and class."
        )
    return table
