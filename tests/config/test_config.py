"""The command line: flags and defaults, the protocols of data sets, resuming, and wrong values."""

import dataclasses
import json
import shlex
import signal
from pathlib import Path

import pytest

from segacc.config.defaults import fill
from segacc.config.flags import RESUME_MAY_CHANGE, command_of, parse_evaluate, parse_train
from segacc.config.options import with_home
from segacc.config.records import read_run_config, to_json
from segacc.config.train import TrainConfig
from segacc.data.cache import cache_dir
from segacc.data.known import known_data
from segacc.errors import InputError, how_to_continue, run_program

DEFAULTS = {
    "model": "linknet",
    "encoder": "resnet34",
    "dataset": "gland",
    "crop": None,
    "batch_size": 16,
    "epochs": 100,
    "patience": 10,
    "loss": "dice+ce",
    "seed": 0,
    "tracker": "wandb",
    "output_dir": None,
    "resume": None,
}


def test_the_main_flags_and_their_defaults():
    config = parse_train([])
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS
    for name in DEFAULTS:
        value = {"crop": "64", "batch_size": "8", "epochs": "2", "patience": "3", "seed": "4"}
        if name != "resume":
            parse_train([f"--{name.replace('_', '-')}", value.get(name, DEFAULTS[name] or "x")])


def test_a_recipe_changes_defaults_and_flags_that_are_given_win():
    study, strong = (parse_train(["--recipe", name]) for name in ("study", "strong"))
    assert (study.loss, study.augment, study.ema) == ("dice", "flips", None)
    assert (strong.loss, strong.augment, strong.ema) == ("dice+ce", "strong", 0.99)
    given = parse_train(["--recipe", "strong", "--epochs", "100", "--augment", "none"])
    assert (given.epochs, given.augment, given.flips, given.ema) == (100, "none", "none", 0.99)
    assert parse_train(["--recipe", "study", "--loss", "dice+ce"]).loss == "dice+ce"
    assert fill(given) == given  # nothing is changed back
    assert parse_train(["--recipe=strong"]) == strong


def test_the_strong_recipe_changes_less_from_random_weights(tmp_path):
    strong = ["--recipe", "strong"]
    random = parse_train([*strong, "--weights", "none"])
    assert (random.augment, random.lr, random.ema, random.epochs) == ("light", 1e-3, 0.99, 150)
    assert fill(TrainConfig(recipe="strong", weights="none")) == random
    more = parse_train([*strong, "--weights=none", "--lr", "3e-3", "--augment", "strong"])
    assert (more.lr, more.augment) == (3e-3, "strong")
    file = tmp_path / "run.yaml"
    file.write_text("recipe: strong\nweights: none\n")
    assert parse_train(["--config", str(file)]) == random
    pretrained = parse_train(["--config", str(file), "--weights", "imagenet"])
    assert pretrained == parse_train(strong) and pretrained.lr == 3e-3
    file.write_text("recipe: strong\n")
    assert parse_train(["--config", str(file), "--weights", "none"]) == random


def test_the_patience_is_larger_from_random_weights_but_in_the_study():
    assert [
        parse_train(flags.split()).patience
        for flags in (
            "",
            "--weights none",
            "--weights none --patience 10",
            "--weights none --recipe study",
            "--weights none --recipe strong",
        )
    ] == [10, 20, 10, 10, 150]


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--crop 256 --model unet --encoder mobilenet_v2 --seed 3 --lr 5e-4 --weights none",
        "--recipe strong --epochs 7 --dataset 'my images' --model segformer --keep-head",
        "--size 480x360 --augment none --freeze-encoder all --freeze-bn --ema 0.9 --group-by=-x",
        "--pairs 'a/{}=b/{}' 'c/{}=d/{}' --size native --crop 64 --precision bf16 --patience 3",
        "--recipe strong --ema None",
        "--recipe strong --weights none",
        "--recipe strong --weights none --augment strong --lr 3e-3",
        "--recipe study --dataset pedestrian --flips hv --class-weights balanced --ohem 0.5",
    ],
)
def test_the_command_of_a_run_makes_its_config(flags):
    config = parse_train(shlex.split(flags))
    program, command, *again = shlex.split(command_of(config))
    assert (program, command) == ("segacc", "train") and parse_train(again) == config
    assert len(again) <= len(shlex.split(flags))  # no flag that is not needed


def test_the_command_of_a_run_is_without_what_its_results_do_not_depend_on():
    config = parse_train(["--workers", "3", "--output-dir", "x", "--tracker", "none", "--keep=3"])
    assert command_of(config) == "segacc train"
    assert command_of(dataclasses.replace(config, model="own:Net")) is None


def test_a_recipe_and_a_frozen_encoder_are_what_a_program_means():
    config = fill(TrainConfig(recipe="strong", epochs=7, freeze_encoder=True, weights="imagenet"))
    assert (config.epochs, config.ema, config.augment) == (7, 0.99, "strong")
    assert config.freeze_encoder == "all" and fill(config) == config
    assert fill(TrainConfig(recipe="study")).loss == "dice"
    assert fill(TrainConfig(freeze_encoder=False)).freeze_encoder == 0


def test_the_help_of_a_recipe_shows_its_defaults(capsys):
    with pytest.raises(SystemExit):
        parse_train(["--recipe", "strong", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: 150)" in shown and "--patience INT" in shown
    assert "10, from random weights 20" not in shown and "(default: 0.003)" in shown


@pytest.mark.parametrize("flags", [["--ema", "none"], ["--ema=none"], ["--crop", "none"]])
def test_none_is_taken_as_help_shows_it(flags, tmp_path):
    assert parse_train(flags) == parse_train([])
    assert parse_train(["--recipe", "strong", *flags]).crop is None
    name = flags[0].removeprefix("--").removesuffix("=none")
    (tmp_path / "run.yaml").write_text(f"{name}: none\n")
    assert parse_train(["--config", str(tmp_path / "run.yaml")]) == parse_train([])


@pytest.mark.parametrize(
    ("args", "size", "flips"),
    [
        (["--dataset", "pedestrian"], 128, "h"),
        (["--dataset", "demo-pedestrian"], 128, "h"),
        (["--dataset", "demo-street"], 128, "h"),
        (["--dataset", "gland"], 256, "hv"),
        (["--dataset", "gland", "--crop", "256"], 512, "h"),
        (["--dataset", "gland-128"], 128, "hv"),
        (["--dataset", "some/folder"], 256, "hv"),
        (["--dataset", "gland", "--size", "384", "--flips", "d4"], 384, "d4"),
    ],
)
def test_protocols_are_the_studys(args, size, flips):
    config = parse_train(args)
    assert (config.size, config.flips) == (size, flips)


@pytest.mark.parametrize(
    ("args", "weights"),
    [
        (["--model", "unet"], "imagenet"),
        (["--model", "segformer"], "nvidia/segformer-b0-finetuned-ade-512-512"),
        (["--model", "owner/name"], "owner/name"),
        (["--model", "segformer", "--weights", "none"], "none"),
    ],
)
def test_default_weights_are_pretrained(args, weights):
    assert parse_train(args).weights == weights


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--crop", "600", "--size", "512"], "--crop 600 is larger than the images"),
        (["--dataset", "gland", "--crop", "600"], "--crop 600 is larger than the images"),
        (["--batch-size", "0"], "--batch-size 0: expected 1 or more"),
        (["--batch-size", "10", "--accumulate", "4"], "--accumulate that divides"),
        (["--lr", "0"], "--lr 0.0: expected"),
        (["--lr", "nan"], "--lr nan: expected"),
        (["--warmup", "1"], "--warmup 1.0: expected"),
        (["--epochs", "0"], "--epochs 0: expected"),
        (["--clip", "nan"], "--clip nan: expected"),
        (["--pictures", "-1"], "--pictures -1: expected 0 or more"),
        (["--seed", "5000000000"], "--seed 5000000000: expected"),
        (["--resume", "nowhere"], "nowhere is not a run's folder"),
        (["photos", "--epochs", "3"], "training .* expected such as --dataset photos"),
    ],
)
def test_bad_values_get_a_sentence_with_the_flag(args, message):
    with pytest.raises(InputError, match=message) as raised:
        parse_train(args)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hint"), [("val", "did you mean valid"), ("tset", "test"), ("x", "")]
)
def test_a_split_of_another_name_is_refused_before_anything_is_loaded(name, hint):
    with pytest.raises(InputError, match=f"--split {name}: expected train, valid, test.*{hint}"):
        parse_evaluate(["run", "--split", name])


def test_an_unknown_flag_exits_with_code_2_and_names_the_near_one(capsys):
    with pytest.raises(SystemExit) as raised:
        parse_train(["--modle", "unet"])
    assert raised.value.code == 2
    assert "--model" in capsys.readouterr().err


@pytest.fixture
def run(tmp_path):
    config = parse_train(["--dataset", "demo", "--weights", "none", "--lr", "0.01"])
    record = {"config": {**to_json(config), "output_dir": str(tmp_path)}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    return tmp_path


def test_resume_takes_the_config_from_the_run(run):
    config = parse_train(["--resume", str(run)])
    assert (config.dataset, config.weights, config.lr) == ("demo", "none", 0.01)
    assert config.resume == run


def test_resume_allows_what_does_not_make_another_run(run):
    args = ["--epochs", "7", "--patience", "2", "--workers", "1", "--tracker", "none"]
    args += ["--save-every", "5", "--keep", "3", "--pictures", "1", "--push-to-hub", "me/net"]
    config = parse_train(["--resume", str(run), *args])
    assert (config.epochs, config.patience, config.workers, config.tracker) == (7, 2, 1, "none")
    assert (config.save_every, config.keep, config.pictures) == (5, 3, 1)
    assert config.push_to_hub == "me/net"
    assert parse_train(["--resume", str(run), "--push-to-hub", "None"]).push_to_hub is None


def test_resume_accepts_a_flag_with_the_value_that_the_run_has(run):
    record = json.loads((run / "config.json").read_text())
    record["config"]["freeze_bn"] = True
    (run / "config.json").write_text(json.dumps(record))
    assert parse_train(["--resume", str(run), "--freeze-bn", "--lr", "0.01"]).freeze_bn


def test_resume_refuses_another_output_folder_which_it_would_not_use(run):
    with pytest.raises(InputError, match="--output-dir elsewhere has no effect beside --resume"):
        parse_train(["--resume", str(run), "--output-dir", "elsewhere"])
    assert parse_train(["--resume", str(run), "--output-dir", str(run)]).output_dir == run


def test_a_program_may_leave_fields_open_and_paths_as_text(run, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    filled = fill(TrainConfig(dataset="~/sets/a", output_dir="~/x", crop=64))
    assert filled == parse_train(["--dataset=~/sets/a", "--output-dir=~/x", "--crop=64"])
    assert (filled.dataset, filled.size, filled.flips) == ("/home/me/sets/a", 512, "h")
    assert fill(filled) == filled
    resumed = fill(TrainConfig(resume=str(run), epochs=7))
    assert resumed == parse_train(["--resume", str(run), "--epochs", "7"])
    with pytest.raises(InputError, match="--encoder mit_b2 has no effect"):
        fill(TrainConfig(model="segformer", encoder="mit_b2"))
    with pytest.raises(InputError, match="--epochs 0: expected 1 or more"):
        fill(TrainConfig(epochs=0))


def test_a_home_folder_is_found_wherever_a_shell_leaves_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = ["~/a", "--out=~/b", "~/c,~/d", "a~/b", "x~", "~", "--dataset", "~"]
    found = ["/home/me/a", "--out=/home/me/b", "/home/me/c,/home/me/d", "a~/b", "x~"]
    assert with_home(given) == [*found, "/home/me", "--dataset", "/home/me"]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("--freeze-encoder", "all"),
        ("--freeze-encoder 3", 3),
        ("--freeze-encoder=3", 3),
        ("--freeze-encoder --freeze-bn", "all"),
        ("--freeze_encoder", "all"),
        ("--no-freeze-encoder", 0),
        ("", 0),
    ],
)
def test_the_encoder_is_frozen_for_some_epochs_or_for_all(given, value, tmp_path):
    config = parse_train(given.split())
    assert config.freeze_encoder == value
    record = {"config": to_json(config)}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_run_config(tmp_path).freeze_encoder == value
    record["config"]["freeze_encoder"] = value == "all"  # as older versions wrote it
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_run_config(tmp_path).freeze_encoder == (value if value == "all" else 0)


def test_a_cache_without_a_home_is_a_sentence(monkeypatch):
    monkeypatch.delenv("SEGACC_CACHE")
    monkeypatch.delenv("HOME")

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(InputError, match="HOME is not set: set SEGACC_CACHE"):
        cache_dir()


def test_a_command_to_go_on_with_works_when_it_is_pasted():
    run = Path("runs/größe 2; rm -r *")
    assert shlex.split(how_to_continue(run))[-2:] == ["--resume", str(run)]


CHANGED = {
    "fold": "1/5",
    "size": 64,
    "crop": 32,
    "flips": "d4",
    "augment": "light",
    "recipe": "strong",
    "model": "unet",
    "encoder": "resnet18",
    "weights": "imagenet",
    "keep_head": True,
    "freeze_encoder": 2,
    "freeze_bn": True,
    "loss": "bce",
    "class_weights": "balanced",
    "ohem": 0.5,
    "label_smoothing": 0.1,
    "batch_size": 2,
    "accumulate": 4,
    "lr": 0.1,
    "encoder_lr": 0.1,
    "layer_decay": 0.9,
    "ema": 0.99,
    "weight_decay": 0.5,
    "warmup": 0.5,
    "clip": 0.5,
    "precision": "bf16",
    "seed": 3,
    "deterministic": True,
    "name": "other",
    "project": "other",
}


@pytest.mark.parametrize("model", ["segformer", "owner/name"])
def test_an_encoder_for_a_model_that_has_its_own_is_refused(model):
    assert parse_train(["--model", model]).encoder is None
    with pytest.raises(InputError, match=f"--encoder mit_b2 has no effect on --model {model}"):
        parse_train(["--model", model, "--encoder", "mit_b2"])


def test_every_flag_is_either_refused_or_allowed():
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert names == CHANGED.keys() | RESUME_MAY_CHANGE


@pytest.mark.parametrize("name", CHANGED)
def test_resume_refuses_each_flag_that_would_make_another_run(run, name):
    value = CHANGED[name]
    flag = "--" + name.replace("_", "-")
    args = [flag] if value is True else [flag, str(value)]
    with pytest.raises(
        InputError, match=rf"another run with {flag} {value} \(the run has"
    ) as raised:
        parse_train(["--resume", str(run), *args])
    for allowed in ("--workers", "--epochs", "--patience", "--tracker", "number of processes"):
        assert allowed in str(raised.value)


def test_resume_refuses_several_flags_in_one_sentence(run):
    with pytest.raises(InputError, match=r"--lr 0.1 \(the run has 0.01\); --seed 3"):
        parse_train(["--resume", str(run), "--lr", "0.1", "--seed", "3"])


def test_a_damaged_config_is_named(run):
    (run / "config.json").write_text('{"config": ')
    with pytest.raises(InputError, match=r"config.json is not a run's config or is damaged"):
        parse_train(["--resume", str(run)])


def raise_(error):
    raise error


def test_errors_of_the_user_are_a_sentence_and_code_2(capsys, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert run_program(lambda: raise_(InputError("--crop is wrong")), debug=False) == 2
    assert capsys.readouterr().err == "error: --crop is wrong\n"
    with pytest.raises(InputError):
        run_program(lambda: raise_(InputError("x")), debug=True)


def test_a_signal_at_the_end_of_a_program_does_not_change_its_end(monkeypatch):
    original, ended = signal.getsignal, []

    def late(number):
        if ended:
            ended.clear()
            signal.raise_signal(signal.SIGTERM)
        return original(number)

    def end(error):
        ended.append(True)
        if error:
            raise InputError("--crop is wrong")

    monkeypatch.setattr(signal, "getsignal", late)
    for error, code in ((True, 2), (False, 0)):
        assert run_program(lambda error=error: end(error), debug=False) == code
        assert not ended  # the signal came


def test_only_the_process_that_fails_first_prints_its_error(capsys, monkeypatch, tmp_path):
    """torchrun gives each process a file in a folder of its own, all of them in one folder."""
    for rank, error in ((1, "out of memory"), (0, "the others are gone")):
        (tmp_path / f"{rank}").mkdir()
        monkeypatch.setenv("LOCAL_RANK", f"{rank}")
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"{tmp_path}/{rank}/error.json")
        assert run_program(lambda error=error: raise_(InputError(error)), debug=False) == 2
    assert capsys.readouterr().err == "error: out of memory\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ValueError, match="a bug"):
        run_program(lambda: raise_(ValueError("a bug")), debug=False)


def test_binarise_is_kept_with_the_run_and_may_be_given_on_resume(tmp_path):
    config = parse_train(["--dataset", "x", "--binarise", "128"])
    (tmp_path / "config.json").write_text(json.dumps({"config": to_json(config)}))
    assert read_run_config(tmp_path).binarise == known_data(tmp_path).reading.binarise == 128
    assert parse_train(["--resume", str(tmp_path)]).binarise == 128
    assert parse_train(["--resume", str(tmp_path), "--binarise", "64"]).binarise == 64


@pytest.mark.parametrize("value", ["0", "256"])
def test_binarise_is_a_value_of_a_pixel(value):
    for parse in (
        lambda: parse_train(["--binarise", value]),
        lambda: parse_evaluate(["run", "--binarise", value]),
    ):
        with pytest.raises(
            InputError, match=f"--binarise {value}: expected a pixel's value, 1 to 255"
        ):
            parse()
