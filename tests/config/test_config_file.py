"""--config: flags from a file, over which the command line wins."""

import dataclasses
import json

import pytest

from segacc.api.train import config_of
from segacc.config.flags import parse_train
from segacc.config.records import to_json
from segacc.config.train import TrainConfig
from segacc.errors import InputError

YAML = """
model: UNet++        # as people write it
batch-size: 8
lr: 1e-2             # which YAML takes for text
size: 480x360
tags: [one, two]
pairs: images/{}.jpg=masks/{}.png
freeze_encoder: true
ignore: 255
encoder: null
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "run.yaml").write_text(YAML)
    return tmp_path / "run.yaml"


def test_a_file_gives_flags_and_the_command_line_wins(file):
    config = parse_train(["--config", str(file), "--batch-size", "4", "--seed=3"])
    assert (config.model, config.batch_size, config.seed) == ("unetplusplus", 4, 3)
    assert (config.lr, config.size, config.tags) == (0.01, (480, 360), ("one", "two"))
    assert config.pairs == ("images/{}.jpg=masks/{}.png",) and config.freeze_encoder == "all"
    assert (config.ignore, config.encoder, config.config) == ("255", "resnet34", None)
    assert parse_train([f"--config={file}"]).batch_size == 8


def test_a_program_gets_the_same(file):
    flags = ["--config", str(file), "--epochs", "3"]
    assert config_of({"config": file, "epochs": 3}) == parse_train(flags)


def test_json_is_taken_too(tmp_path):
    (tmp_path / "run.json").write_text('{"epochs":\t7, "size": [480, 360]}')
    config = parse_train(["--config", str(tmp_path / "run.json")])
    assert (config.epochs, config.size) == (7, (480, 360))


def test_a_recipe_in_the_file_gives_defaults_and_the_one_of_the_command_line_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: strong\nepochs: 100\n")
    given = ["--config", str(file)]
    config = parse_train(given)
    assert (config.recipe, config.epochs, config.ema) == ("strong", 100, 0.99)
    config = parse_train([*given, "--recipe", "study"])
    assert (config.recipe, config.epochs, config.ema) == ("study", 100, None)
    assert (config.loss, config.augment) == ("dice", "flips")


@pytest.mark.parametrize("line", ["processes: 2", "gpus: all", "machine-rank: 0"])
def test_flags_that_start_processes_stay_on_the_command_line(tmp_path, line):
    (tmp_path / "run.yaml").write_text(f"{line}\n")
    with pytest.raises(InputError, match="which only the command line may: leave it out"):
        parse_train(["--config", str(tmp_path / "run.yaml")])


def test_null_switches_the_average_of_a_recipe_off_and_is_the_default_of_other_flags(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("recipe: strong\nema: null\nsize: null\n")
    config = parse_train(["--config", str(file)])
    assert config == parse_train(["--recipe", "strong", "--ema", "None"]) and config.ema is None


def test_the_config_of_a_run_trains_the_same_again_in_a_folder_of_its_own(tmp_path):
    flags = ["--recipe", "strong", "--size", "480x360", "--tags", "a", "--name", "first"]
    first = parse_train([*flags, "--output-dir", str(tmp_path / "first")])
    (tmp_path / "config.json").write_text(json.dumps({"config": to_json(first), "run_id": "1"}))
    again = parse_train(["--config", str(tmp_path / "config.json")])
    assert again == dataclasses.replace(first, name=None, output_dir=None)


def test_the_config_of_a_run_with_another_recipe_or_model_takes_their_defaults(tmp_path):
    file = tmp_path / "config.json"

    def again(first, *flags):
        file.write_text(json.dumps({"config": to_json(first)}))
        return parse_train(["--config", str(file), *flags])

    plain = ["--dataset", "demo", "--batch-size", "4", "--seed", "3"]
    first = parse_train(plain)
    assert again(first, "--recipe", "strong") == parse_train([*plain, "--recipe", "strong"])
    assert again(first, "--model", "segformer") == parse_train([*plain, "--model", "segformer"])
    without = parse_train(["--recipe", "strong", "--ema", "None"])
    assert again(without).ema is None and again(without) == without


def test_the_config_of_an_old_run_is_read_as_resume_reads_it(tmp_path):
    old = {"model": "unet", "encoder": "resnet18", "freeze_encoder": False, "weights": None}
    old |= {"loss": "dice", "output_dir": "runs/x", "resume": None}
    (tmp_path / "config.json").write_text(json.dumps({"config": old}))
    config = parse_train(["--config", str(tmp_path / "config.json")])
    assert (config.encoder, config.freeze_encoder, config.recipe) == ("resnet18", 0, "study")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "holds epoch, which is no flag of training: did you mean epochs?"),
        ("batch_sise: 3", "did you mean batch_size?"),
        ("zzz: 3", "holds zzz, which is no flag of training: `segacc train --help` lists all"),
        ("epochs: many", r"epochs: many: input should be a valid integer"),
        ("epochs: true", r"epochs: True: input should be a valid integer"),
        ("flips: x", r"flips: x: input should be 'none', 'h'"),
        ("size: big", "size: big: big is no size"),
        ("epochs: 0", "--epochs 0: expected 1 or more"),
        ("resume: runs/x", "holds resume, which only the command line may"),
        ("- epochs", "expected a YAML or JSON file of flags, .* found no names of flags"),
        ("a: [", "expected a YAML or JSON file of flags"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence_that_names_it(tmp_path, text, said):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as error:
        parse_train(["--config", str(tmp_path / "run.yaml")])
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--config .*none.yaml cannot be read \(No such file"):
        parse_train(["--config", str(tmp_path / "none.yaml")])


def test_config_beside_resume_is_refused(file, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"config": to_json(parse_train([]))}))
    with pytest.raises(InputError, match="--config .* has no effect beside --resume"):
        parse_train(["--resume", str(run), "--config", str(file)])


def test_names_of_runs_are_names_of_folders():
    assert parse_train(["--name", "gland-2.b"]).name == "gland-2.b"
    for name in ("a/b", "", ".hidden", "two words", "-x"):
        with pytest.raises(InputError, match="--name .*: expected letters, digits"):
            parse_train([f"--name={name}"])


def test_a_config_that_is_filled_stays_as_it_is(file):
    assert TrainConfig().name is None
    config = parse_train(["--config", str(file)])
    assert config_of({k: v for k, v in vars(config).items() if v is not None}) == config
