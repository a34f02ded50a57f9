"""What a study is made of: arms, seeds, shares of labels, and keys that change with what matters."""

import shutil

import numpy as np
import pytest
from absl import flags

from bitkeras.data import read_source
from bitkeras.errors import UserError
from pipelines import cli, splitting, study
from pipelines.snapshots import read_epochs
from pipelines.steps import step_key
from pipelines.study_arms import ARMS, COLLAPSE_PAIRS, PAPER, compared_pairs, find_arms
from pipelines.study_plan import Planner

SMALL = {
    **{"arms": "bit_m,simsiam,bit_m_simsiam", "extra_arms": None, "dataset": None, "preset": "quickstart"},
    **{"pretrain_flags": None, "probe_flags": None, "weights_s": "bit-s-mini", "weights_m": "bit-m-mini"},
    **{"seeds": [0, 1], "split_seed": 0, "label_fractions": [0.5, 1.0], "map_epoch": None},
}


def plan(data_dir, steps_dir, **options):
    options = {**SMALL, "data_dir": str(data_dir), **options}
    return Planner(options, steps_dir).plan(find_arms(options["arms"], options["extra_arms"]))


def keys(made) -> dict[str, str]:
    return {step.name: step.key for step in made.steps}


@pytest.fixture
def quick(phantoms, tmp_path):
    return lambda **options: plan(phantoms, tmp_path, **options)


def test_the_paper_s_study(quick):
    made = quick(arms=",".join(PAPER), seeds=[0, 1, 2])
    names = [step.name for step in made.steps]
    trained = [f"{arm}-seed{seed}" for arm in PAPER[2:] for seed in range(3)]
    # A frozen network is one for all seeds, which vary its classifiers.
    pretrained = ["bit_s", "bit_m", *trained]
    probes = [
        f"{run}/seed{seed}-labels-{share}" for run in ("bit_s", "bit_m") for seed in range(3) for share in (0.5, 1)
    ]
    probes += [f"{run}/seed{run[-1]}-labels-{share}" for run in trained for share in (0.5, 1)]
    assert sorted(names) == sorted([*pretrained, *probes, "bit_m_simsiam-seed0/look"])
    assert len({step.key for step in made.steps}) == len({step.folder for step in made.steps}) == len(names)
    for step in made.steps:
        assert all(names.index(one.name) < names.index(step.name) for one in step.inputs)
    assert len(made.runs) == 15


def test_the_lines_are_commands_that_parse_and_share_one_split(quick, monkeypatch):
    made = quick()
    for step in made.steps[:-1]:
        _, command, *arguments = step.line.split()
        monkeypatch.setattr(f"pipelines.{command}.main", lambda _: None)
        cli.run(command, arguments)
    lines = {step.name: step.line for step in made.steps}
    assert "--seed=1 --split_seed=0" in lines["simsiam-seed1"] and "--weights" not in lines["simsiam-seed1"]
    assert (
        "--snapshot_epochs=5 " in lines["bit_m_simsiam-seed0"]
        and "--weights=bit-m-mini" in lines["bit_m_simsiam-seed1"]
    )
    assert "--norm=group --epochs=0" in lines["bit_m"] and "--snapshot" not in lines["bit_m"]
    # What all arms have in common is looked for once.
    assert [name for name, line in lines.items() if line and "pretrain" in line and "--nofind_dup" not in line] == [
        "bit_m"
    ]
    assert [name for name, line in lines.items() if line and "--baselines" in line] == ["simsiam-seed0/seed0-labels-1"]


def test_keys_are_those_of_other_words_for_the_same(quick, phantoms, tmp_path):
    written_out = "--backbone=R26x0.25 --image_size=64 --batch_size=64 --epochs=40 --base_lr=0.2 --knn_k=5"
    written_out += " --num_projections=512 --num_predictor_hidden=128 --checkpoint_steps=3"
    assert keys(quick(preset=None, pretrain_flags=written_out, dataset="ham10000")) == keys(quick(dataset="ham10000"))
    moved = shutil.copytree(phantoms, tmp_path / "moved")
    assert keys(plan(moved, tmp_path)) == keys(quick())


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"pretrain_flags": "--base_lr=0.1"}, ""),
        ({"split_seed": 1}, ""),
        (
            {"probe_flags": "--balanced"},
            "bit_m simsiam-seed0 simsiam-seed1 bit_m_simsiam-seed0 bit_m_simsiam-seed1 look",
        ),
        ({"weights_m": "bit-s-mini"}, "simsiam-seed0 simsiam-seed1"),
        ({"map_epoch": 7}, "bit_m"),
    ],
    ids=str,
)
def test_a_key_changes_with_a_flag_of_its_step_or_before(quick, options, kept):
    before, after = keys(quick()), keys(quick(**options))
    same = {name for name in before if before[name] == after[name]}
    assert {name.split("/")[-1] if "look" in name else name.split("/")[0] for name in same} == set(kept.split())


def test_a_flag_that_came_later_changes_keys_only_where_it_is_used():
    flags = {"batch_size": 64, "seed": 0, "norm": "group", "swap": None}
    known = step_key("pretrain", flags=flags, data="images")
    assert step_key("pretrain", flags={**flags, "head_norm": "batch", "ema": None}, data="images") == known
    others = [{"head_norm": "layer"}, {"head_norm": "none"}, {"ema": 0.99}, {"seed": 1}]
    assert len({known, *(step_key("pretrain", flags={**flags, **other}, data="images") for other in others)}) == 5
    # Off is not zero.
    assert step_key("pretrain", flags={**flags, "seed": None}, data="images") != known


def test_another_split_is_one_more_probe_of_each_run_and_changes_no_other(quick):
    plain, both = keys(quick()), keys(quick(other_split="lesion"))
    assert plain.items() <= both.items()
    more = sorted(set(both) - set(plain))
    runs = (
        "bit_m/seed0",
        "bit_m/seed1",
        *(f"{arm}-seed{n}/seed{n}" for arm in ("simsiam", "bit_m_simsiam") for n in (0, 1)),
    )
    assert more == sorted(f"{run}-labels-1-split-lesion" for run in runs)
    with pytest.raises(UserError, match="--other_split=paper is the split that bit_m is pre-trained with"):
        quick(other_split="paper")
    lines = [step.line for step in quick(other_split="lesion").steps if step.name in more]
    assert all("--split=lesion" in line and "--baselines" not in line for line in lines)
    # What was asked for of the probes themselves is another matter.
    assert not set(keys(quick(probe_flags="--split=lesion")).values()) & {plain["bit_m/seed0-labels-1"]}


def test_keys_change_with_the_images_and_with_a_weights_file(quick, phantoms, tmp_path):
    moved = shutil.copytree(phantoms, tmp_path / "moved")
    image = next(moved.rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert not set(keys(plan(moved, tmp_path)).values()) & set(keys(quick()).values())
    table = next(moved.glob("HAM10000_metadata*"))
    before = keys(plan(moved, tmp_path))
    table.write_text(table.read_text().replace("female", "male"))
    # Corrected facts change the clinical card.
    assert not set(keys(plan(moved, tmp_path)).values()) & set(before.values())
    from bitkeras.backbones.shipped import shipped_path

    weights = tmp_path / "weights.npz"
    found = []
    for name in ("bit-m-mini", "bit-s-mini"):
        shutil.copy(shipped_path(name), weights)
        found.append(keys(quick(weights_m=str(weights)))["bit_m"])
    assert found[0] != found[1]


def test_an_arm_that_is_fine_tuned_shares_the_network_and_has_keys_of_its_own(quick, monkeypatch):
    arms = "bit_m_finetuned,bit_m,scratch_finetuned"
    made = quick(arms=arms, seeds=[0], finetune_flags="--epochs=7 --lr_grid=0.1", other_split="lesion")
    tuned = [
        f"{run}/finetune-seed0-labels-{n}" for run in ("bit_m_finetuned", "scratch_finetuned-seed0") for n in (0.5, 1)
    ]
    probed = [f"bit_m_finetuned/seed0-labels-{share}" for share in ("0.5", "1", "1-split-lesion")]
    lines = {step.name: step.line for step in made.steps}
    assert sorted(lines) == sorted(["bit_m_finetuned", "scratch_finetuned-seed0", *tuned, *probed])
    for name, line in lines.items():
        _, command, *arguments = line.split()
        assert command == ("finetune" if name in tuned else "probe" if name in probed else "pretrain")
        monkeypatch.setattr(f"pipelines.{command}.main", lambda _: None)
        cli.run(command, arguments)
    assert "--epochs=7 --lr_grid=0.1 --seed=0 --label_fraction=0.5" in lines[tuned[0]]
    # What all have to beat is scored beside a probe, though the first arm has none.
    assert [name for name, line in lines.items() if "--baselines" in line] == [probed[1]]
    again, first = keys(quick(arms=arms, seeds=[0], other_split="lesion")), keys(made)
    assert {name for name in first if first[name] != again[name]} == set(tuned)
    # The network, and its probes, are those of a study without such arms.
    alone = keys(quick(arms="bit_m", seeds=[0], other_split="lesion")).values()
    assert set(alone) == {first[name] for name in ("bit_m_finetuned", *probed)}


def test_a_study_of_fine_tuned_arms_alone_has_no_baselines(quick):
    assert not [step for step in quick(arms="bit_m_finetuned").steps if "--baselines" in step.line]


def test_an_arm_of_one_s_own_shares_the_steps_of_an_equal_one(quick):
    made = quick(extra_arms="mine: --weights=bit-m-mini; slow: --base_lr=0.01 --views=dermatoscopy")
    by_arm = {
        arm: [run.pretrain.key for run in made.runs if run.arm.id == arm] for arm in ("mine", "bit_m_simsiam", "slow")
    }
    assert by_arm["mine"] == by_arm["bit_m_simsiam"] and not set(by_arm["mine"]) & set(by_arm["slow"])
    assert not [step.name for step in made.steps if step.name.startswith("mine")]


def test_a_step_that_another_study_made_under_another_name_is_found(quick, tmp_path):
    (step,) = (step for step in quick().steps if step.name == "bit_m_simsiam-seed0")
    folder = tmp_path / f"mine-seed0-{step.key[:8]}"
    folder.mkdir()
    assert next(one.folder for one in quick().steps if one.key == step.key) == folder


@pytest.mark.parametrize("arm", ARMS)
def test_the_flags_of_every_arm_parse(quick, arm):
    made = quick(arms=arm, seeds=[0])
    assert made.steps[0].line.startswith("bitkeras pretrain") and arm in made.steps[0].name


@pytest.mark.parametrize(
    ("arms", "extra", "told"),
    [
        ("bit_x", None, "names 'bit_x'.*bit_s, bit_m, simsiam"),
        ("bit_m,bit_m", None, "bit_m is asked for twice"),
        ("bit_m", "bit_m: --epochs=1", "bit_m is asked for twice"),
        ("bit_m", "--epochs=1", 'each is "NAME: --flag=value'),
        ("bit_m", 'a: --x="', "flags of --extra_arms a cannot be read"),
        ("", "", "asks for no strategy"),
    ],
)
def test_arms_that_cannot_be_meant(arms, extra, told):
    with pytest.raises(UserError, match=told):
        find_arms(arms, extra)


def test_a_wrong_flag_of_an_arm_is_told_before_anything_is_made(quick):
    with pytest.raises(flags.Error, match="norm"):
        quick(extra_arms="mine: --norm=layer")


def test_compared_are_all_with_the_leader_and_each_mix_with_its_parts():
    arms = ["bit_s", "bit_m", "simsiam", "bit_s_simsiam", "bit_m_simsiam"]
    pairs = compared_pairs(arms, "bit_m_simsiam")
    assert pairs[:4] == [("bit_m_simsiam", other) for other in arms[:4]]
    assert pairs[4:] == [("bit_s_simsiam", "bit_s"), ("bit_s_simsiam", "simsiam")]


def test_compared_is_what_the_labels_alone_give():
    arms = ["bit_m", "bit_m_simsiam", "bit_m_finetuned", "scratch_finetuned"]
    led = [("bit_m_simsiam", other) for other in ("bit_m", "bit_m_finetuned", "scratch_finetuned")]
    assert compared_pairs(arms, "bit_m_simsiam") == [*led, ("bit_m_finetuned", "bit_m")]
    assert ("bit_m_simsiam", "bit_m_finetuned") in compared_pairs(arms, "bit_m")


@pytest.mark.parametrize("text", ["", "a", "-1", "1.5"])
def test_seeds_that_are_none(text):
    with pytest.raises(flags.Error, match="--seeds"):
        study.read_seeds(text)


@pytest.mark.parametrize("text", ["0", "1.1", "a", "nan"])
def test_shares_that_are_none(text):
    with pytest.raises(flags.Error, match="--label_fractions"):
        study.read_fractions(text)


def test_seeds_and_shares():
    assert study.read_seeds("2, 0,2") == [2, 0] and study.read_fractions("0.25,0.1") == [0.1, 0.25, 1.0]


def test_a_dry_run_tells_the_plan_and_makes_nothing(phantoms, tmp_path, capsys):
    command = [f"--data_dir={phantoms}", f"--study_dir={tmp_path / 'study'}", "--flagfile=study-laptop", "--dry_run"]
    cli.run("study", command)
    lines = capsys.readouterr().out.splitlines()
    # 2 frozen networks, 4 x 3 trained ones, 18 x 5 probes, a look.
    assert sum("to do" in line for line in lines) == 2 + 12 + 90 + 1
    assert any("105 of 105 steps are to be done, in about" in line for line in lines)
    assert not (tmp_path / "study").exists()


def test_the_split_has_a_seed_of_its_own_and_else_that_of_the_run(phantoms):
    source = read_source("ham10000", phantoms)
    config = {"split": "lesion", "num_folds": None, "fold": None, "num_images": 20}

    def parts(**seeds):
        return splitting.new_split(source, {**config, **seeds}).parts

    shared = parts(seed=0, split_seed=3)
    assert (shared == parts(seed=1, split_seed=3)).all() and (shared == parts(seed=3)).all()
    assert (parts(seed=1) == parts(seed=1, split_seed=None)).all()
    assert np.count_nonzero(parts(seed=0) != shared) > 10
    folds = {"num_folds": 3, "fold": 1}
    assert (parts(seed=1, split_seed=3, **folds) == parts(seed=3, **folds)).all()


def test_epochs_of_snapshots():
    assert read_epochs("50, 1,1", 50) == (1, 50) and read_epochs(None, 0) == ()
    for text in ("0", "51", "a", "1.5"):
        with pytest.raises(UserError, match="--snapshot_epochs"):
            read_epochs(text, 50)


@pytest.mark.parametrize("preset", ["study", "study-laptop"])
def test_the_presets_have_the_pair_of_the_papers_figure_1(preset):
    lines = (cli.PRESETS / f"{preset}.flags").read_text().splitlines()
    (names,) = [line.partition("=")[2] for line in lines if line.startswith("--arms=")]
    arms = {arm.id for arm in find_arms(names, None)}
    assert set(PAPER) <= arms and any(set(pair) <= arms for pair in COLLAPSE_PAIRS)
