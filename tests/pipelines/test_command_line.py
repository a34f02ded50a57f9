import shutil

import pytest
from small_road import pretrain_flags, run_process

import bitkeras
from pipelines import (
    benchmark,
    cli,
    compare,
    demo,
    embed,
    finetune,
    ingest,
    pretrain,
    probe,
    push,
    quickstart,
    rollback,
    serve,
    serving_config,
    starting_point,
    study,
    upstream,
    versions,
)
from pipelines import inspect as inspect_command
from pipelines import predict as predict_command

MODULES = {
    "benchmark": benchmark,
    "upstream": upstream,
    "pretrain": pretrain,
    "probe": probe,
    "finetune": finetune,
    "compare": compare,
    "push": push,
    "versions": versions,
    "rollback": rollback,
    "inspect": inspect_command,
    "predict": predict_command,
    "serve": serve,
    "serving_config": serving_config,
    "ingest": ingest,
    "embed": embed,
    "quickstart": quickstart,
    "demo": demo,
    "study": study,
}
BAD_FLAGS = {
    "unknown command": (["nothing"], "'nothing'"),
    "misspelt command": (["pretrian", "--run_dir=x"], "'pretrian'; did you mean pretrain?"),
    "unknown flag": (["pretrain", "--foo=1"], "'foo'"),
    "misspelt flag": (["pretrain", "--run_dirr=x"], "run_dirr"),
    "wrong choice": (["pretrain", "--norm=layer"], "--norm=layer"),
    "not a number": (["pretrain", "--epochs=many"], "--epochs=many"),
    "out of range": (["pretrain", "--batch_size=1"], "--batch_size=1"),
    "missing flag": (["pretrain", "--data_dir=x"], "--run_dir must be given"),
    "missing flags": (["push"], "--push_dir and --run_dir must be given"),
    "value without a flag": (["pretrain", "--run_dir=x", "--data_dir=y", "smoke"], "smoke stands without a flag"),
    "neither folder nor server": (["predict", "x.jpg"], "either --push_dir or --server"),
    "folder and server": (["predict", "--push_dir=x", "--server=y", "x.jpg"], "and not both"),
    "a name without a server": (["predict", "--push_dir=x", "--model_name=y", "x.jpg"], "pass it with --server"),
    "labels without versions": (["serve", "--push_dir=x", "--labels=stable"], "LABEL:VERSION"),
    "missing flagfile": (["pretrain", "--flagfile=nosuch"], "nosuch"),
}


def fail(arguments, capfd) -> tuple[int, str]:
    """(exit code, the one line on stderr) of a command that must fail."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return stopped.value.code, lines[0]


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_a_bad_flag_is_told_in_one_line(case, capfd):
    arguments, named = BAD_FLAGS[case]
    code, line = fail(arguments, capfd)
    assert code == 2 and named in line and line.startswith("bitkeras")


def test_help_lists_commands_and_presets(capsys):
    for arguments in (["--help"], []):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        text = capsys.readouterr().out
        assert stopped.value.code == 0
        assert all(f"  {command} " in text for command in MODULES) and cli.COMMANDS.keys() == MODULES.keys()
        assert all(path.stem in text.splitlines()[-1] for path in cli.PRESETS.iterdir())


@pytest.mark.parametrize("command", MODULES)
def test_help_of_a_command_explains_every_flag_with_its_default(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    flags = MODULES[command].FLAGS
    for name in flags._values:
        (at,) = [index for index, line in enumerate(lines) if line.strip() in (f"--{name}", f"--[no]{name}")]
        assert len(lines[at + 1].split("(")[0].strip()) > 10
        assert lines[at + 1].endswith("(required)") == (name in flags._required)
        assert "default: " in lines[at + 1] or name in flags._required


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"bitkeras {bitkeras.__version__}\n"


@pytest.mark.parametrize("preset", sorted(path.stem for path in cli.PRESETS.glob("*.flags")))
def test_a_preset_parses_and_flags_after_it_win(preset):
    (argument,) = cli.with_presets([f"--flagfile={preset}"])
    assert cli.with_presets(["--flagfile", preset, "--epochs=3"]) == [argument, "--epochs=3"]
    assert argument == f"--flagfile={cli.PRESETS / preset}.flags"
    if preset.startswith("study"):
        assert not study.FLAGS.parse([argument, "--study_dir=x", "--data_dir=y", "--seeds=7"])
        assert study.FLAGS.seeds == "7" and cli.with_presets([f"--flagfile={study.FLAGS.preset}"])
        return
    flags = (upstream if preset.startswith("bit-") else pretrain).FLAGS
    assert not flags.parse([argument, "--run_dir=x", "--data_dir=y", "--epochs=7"])
    assert flags.epochs == 7


def test_the_paper_preset_writes_out_the_defaults():
    pretrain.FLAGS.parse(["--run_dir=x", "--data_dir=y"])
    defaults = pretrain.FLAGS.values()
    pretrain.FLAGS.parse(cli.with_presets(["--flagfile=ham10000", "--run_dir=x", "--data_dir=y"]))
    assert pretrain.FLAGS.values() == {**defaults, "backbone": starting_point.DEFAULT_BACKBONE}


def test_a_missing_data_folder_is_named_and_the_run_folder_stays_free(tmp_path, capfd):
    code, line = fail(["pretrain", *pretrain_flags(tmp_path / "nowhere", tmp_path / "run")], capfd)
    assert code == 1 and str(tmp_path / "nowhere") in line and "--data_dir" in line
    assert not (tmp_path / "run").exists()


def test_a_truncated_jpeg_is_named(phantoms, tmp_path, capfd):
    shutil.copytree(phantoms, tmp_path / "data")
    image = min((tmp_path / "data").rglob("*.jpg"))
    image.write_bytes(image.read_bytes()[:-200])
    code, line = fail(["pretrain", *pretrain_flags(tmp_path / "data", tmp_path / "run")], capfd)
    assert code == 1 and str(image) in line


def test_a_batch_larger_than_the_images_is_refused(phantoms, tmp_path, capfd):
    code, line = fail(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", "--batch_size=73")], capfd)
    assert code == 1 and "72 images" in line and "--batch_size" in line
    assert not (tmp_path / "run").exists()


def test_missing_weights_are_named(phantoms, tmp_path, capfd):
    weights = tmp_path / "BiT-M-R50x1.npz"
    code, line = fail(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", f"--weights={weights}")], capfd)
    assert code == 1 and str(weights) in line


def test_flags_that_exclude_each_other_are_refused(phantoms, tmp_path, capfd):
    more = ["--optimizer=lamb", "--fix_predictor_lr"]
    code, line = fail(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", *more)], capfd)
    assert code == 1 and "--fix_predictor_lr" in line and "--optimizer=lamb" in line
    code, line = fail(["pretrain", *pretrain_flags(phantoms, tmp_path, "--deterministic", "--views=keras_cv")], capfd)
    assert code == 1 and "--deterministic cannot hold with --views=keras_cv" in line


def test_a_folder_that_cannot_be_made_is_named(phantoms, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    code, line = fail(["pretrain", *pretrain_flags(phantoms, tmp_path / "file" / "run")], capfd)
    assert code == 1 and str(tmp_path / "file") in line


def test_what_is_no_run_is_neither_probed_nor_pushed(tmp_path, capfd):
    for arguments in (["probe"], ["push", f"--push_dir={tmp_path}"]):
        code, line = fail([*arguments, f"--run_dir={tmp_path}/nowhere"], capfd)
        assert code == 1 and f"{tmp_path}/nowhere does not exist" in line
    assert not list(tmp_path.iterdir())


def test_floors_that_cannot_be_met_are_told_before_the_run_is_opened(tmp_path, capfd):
    arguments = ["push", f"--run_dir={tmp_path}/nowhere", f"--push_dir={tmp_path}", "--floors=macro_f1=40"]
    code, line = fail(arguments, capfd)
    assert code == 1 and "'macro_f1=40'; a score is a fraction" in line


@pytest.mark.slow
def test_a_run_of_other_flags_is_not_gone_on_with(road, capfd):
    code, line = fail(["pretrain", *road.commands["pretrain"], "--epochs=9", "--norm=group"], capfd)
    assert code == 1 and "--epochs=9 (recorded: 2)" in line and "--norm=group (recorded: batch)" in line
    code, line = fail(["probe", *road.commands["probe"], "--trials=2"], capfd)
    assert code == 1 and "--trials=2 (recorded: 3)" in line


@pytest.mark.slow
def test_no_step_is_taken_before_the_one_it_needs(road, tmp_path, capfd):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    shutil.copy(road.run_dir / "config.json", run_dir)
    for arguments in (["probe"], ["push", f"--push_dir={tmp_path / 'served'}"]):
        code, line = fail([*arguments, f"--run_dir={run_dir}"], capfd)
        assert code == 1 and str(run_dir) in line and "not finished" in line and "bitkeras pretrain" in line
    shutil.copy(road.run_dir / "encoder.keras", run_dir)
    code, line = fail(["push", f"--run_dir={run_dir}", f"--push_dir={tmp_path / 'served'}"], capfd)
    assert code == 1 and f"bitkeras probe --run_dir={run_dir}" in line
    code, line = fail(["probe", f"--run_dir={run_dir}", f"--data_dir={tmp_path / 'moved'}"], capfd)
    assert code == 1 and str(tmp_path / "moved") in line
    assert not (tmp_path / "served").exists() and not (run_dir / "probe").exists()


@pytest.mark.slow
def test_predict_names_what_it_cannot_answer(road, tmp_path, capfd):
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    image = str(min(road.data_dir.rglob("*.jpg")))
    asked = {str(text): [image, text], str(tmp_path / "no.jpg"): [tmp_path / "no.jpg"], "No image": []}
    for named, images in asked.items():
        code, line = fail(["predict", f"--push_dir={road.push_dir}", *images], capfd)
        assert code == 1 and named in line
    for more in ([f"--push_dir={tmp_path}"], [f"--push_dir={road.push_dir}", "--version=7"]):
        code, line = fail(["predict", *more, image], capfd)
        assert code == 1 and more[0].split("=")[1] in line


@pytest.mark.slow
def test_an_image_damaged_in_the_middle_is_named(road, tmp_path, capfd):
    shutil.copytree(road.data_dir, tmp_path / "data")
    seen = [row.split(",")[0] for row in (road.run_dir / "split.csv").read_text().splitlines() if "pretrain" in row]
    (image,) = (tmp_path / "data").rglob(f"{seen[5]}.jpg")
    damaged = bytearray(image.read_bytes())
    damaged[4:300] = bytes(296)
    image.write_bytes(damaged)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(tmp_path / "data", tmp_path / "run", "--epochs=1")])
    # libjpeg says a word of its own first.
    line = capfd.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 1 and line.startswith("bitkeras pretrain: ") and str(image) in line


@pytest.mark.slow
def test_a_process_of_its_own_tells_one_line_and_no_traceback(road, tmp_path):
    """What the tests above ask of `main`, asked of a shell: TensorFlow's own chatter must not come between."""
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    asked = [
        (["nothing"], 2, "'nothing'"),
        (["pretrain", *pretrain_flags(tmp_path / "nowhere", tmp_path / "run")], 1, str(tmp_path / "nowhere")),
        (["predict", f"--push_dir={road.push_dir}", str(text)], 1, str(text)),
    ]
    for arguments, code, named in asked:
        done = run_process(*arguments)
        lines = done.stderr.splitlines()
        assert done.returncode == code and len(lines) == 1 and named in lines[0], (arguments, done.stderr)
