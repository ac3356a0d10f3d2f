"""Data sets, networks, losses and pipelines that a program gives as objects."""

import albumentations
import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from program import DATA, FLAGS, Discs, Net, loss
from torch import nn

import segacc
from segacc.api.data import file_of, place_of
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.labels import IGNORE
from segacc.training.own import Own, own_loss


def prepared(dataset, **reading):
    from segacc.config.options import Reading

    return prepare(load_dataset(place_of(dataset), Reading(**reading)), "native")


def pixels(data, split="train"):
    rows = data.splits[split]
    return [(name, *map(np.array, rows[i])) for i, name in enumerate(rows.names)]


def test_a_torch_data_set_is_read_as_it_gives_its_items():
    found = pixels(prepared(DATA))
    assert len(found) == 12
    items = sorted((DATA["train"][i] for i in range(12)), key=lambda item: item[2])
    for (name, image, label_map), item in zip(found, items, strict=True):
        assert name == item[2]
        np.testing.assert_array_equal(image, item[0])
        np.testing.assert_array_equal(label_map, item[1])


def test_equal_items_are_one_data_set_and_other_items_another():
    assert place_of(DATA) == place_of({k: Discs(v.first, v.count) for k, v in DATA.items()})
    assert place_of(DATA) != place_of(DATA | {"test": Discs(300, 4)})
    whole = place_of(Discs(0, 30))
    source = load_dataset(whole)  # one data set is divided
    assert sum(map(len, source.rows.values())) == 30 and set(source.rows) >= {"train", "valid"}


def forms():
    """One image and mask in the forms that an item may have."""
    image, mask, _ = Discs(0, 1)[0]
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    yield image, mask
    yield Image.fromarray(image), Image.fromarray(mask)
    yield tensor, torch.from_numpy(mask)
    yield tensor, torch.from_numpy(mask).long()[None]
    yield {"image": image, "mask": mask.astype(np.int64)}
    yield image, 255 * mask.astype(np.uint8)


class Items(list):
    """A list of items is a map-style data set."""


@pytest.mark.parametrize("item", list(forms()))
def test_images_and_masks_come_in_any_usual_form(item):
    image, mask, _ = Discs(0, 1)[0]
    data = {"train": Items([item]), "valid": Items([item])}
    [(name, found, label_map)] = pixels(prepared(data))
    assert name == "000000"
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(label_map, mask)


def test_grey_images_and_several_classes_come_through():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    label_map = np.where(grey % 3 == 2, 255, grey % 3).astype(np.uint8)
    data = {split: Items([(grey, label_map)]) for split in ("train", "valid")}
    [(_, image, found)] = pixels(prepared(data, classes="ground,thing", ignore="255"))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(found, np.where(label_map == 255, IGNORE, label_map))


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ((torch.zeros(3, 8, 8), np.zeros((8, 8), np.uint8)), r"dataset\[0\]: the image is of the"),
        ((*Discs(0, 1)[0][:2], ".hidden"), "has the name '.hidden'"),
        ((np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8))), r"dataset\[0\]: the mask is of the"),
        ((np.zeros((8, 8, 3), np.uint8), np.full((8, 8), -1)), r"dataset\[0\]: the mask is"),
        (np.zeros((8, 8, 3), np.uint8), r"dataset\[0\] is of the shape"),
        ("a.png", r"dataset\[0\] is a str"),
    ],
)
def test_an_item_that_is_no_pair_is_named(item, sentence):
    with pytest.raises(segacc.InputError, match=sentence):
        place_of({"train": Items([item])})


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ({}, "found none"),
        (5, "found a int"),
        ({"../x": Discs(0, 2)}, "the name '../x'"),
        ((pair for pair in ()), "found a generator"),
    ],
)
def test_what_is_no_data_set_is_named(dataset, sentence):
    with pytest.raises(segacc.InputError, match=sentence):
        place_of(dataset)


def test_images_of_pil_are_read_as_their_files(tmp_path):
    deep = Image.fromarray((np.arange(3072, dtype=np.uint16) * 20).reshape(48, 64))
    turned = Image.fromarray(Discs(0, 1)[0][0])
    exif = turned.getexif()
    exif[0x0112] = 6  # the orientation of a phone's picture
    turned.save(tmp_path / "turned.png", exif=exif)
    deep.save(tmp_path / "deep.png")
    for name in ("turned", "deep"):
        opened = Image.open(tmp_path / f"{name}.png")
        shape = (64, 48) if name == "turned" else (48, 64)
        item = opened, Image.fromarray(np.arange(3072).reshape(shape) % 2 == 0)
        files = tmp_path / name
        for split in ("train", "valid"):
            (files / split / "images").mkdir(parents=True)
            (files / split / "masks").mkdir()
            (files / split / "images" / "000000.png").write_bytes(
                (tmp_path / f"{name}.png").read_bytes()
            )
            item[1].save(files / split / "masks" / "000000.png")
        [(_, found, _)] = pixels(prepared({split: Items([item]) for split in ("train", "valid")}))
        [(_, expected, _)] = pixels(prepared(files))
        np.testing.assert_array_equal(found, expected)


def test_a_data_set_of_the_library_datasets_is_taken_as_it_is():
    rows = [DATA["train"][i] for i in range(4)]
    columns = {
        "image": [Image.fromarray(image) for image, _, _ in rows],
        "mask": [Image.fromarray(mask) for _, mask, _ in rows],
        "name": [name for _, _, name in rows],
    }
    one = datasets.Dataset.from_dict(columns)
    found = pixels(prepared({"train": one, "validation": one}))
    assert [name for name, _, _ in found] == columns["name"]
    np.testing.assert_array_equal(found[1][1], rows[1][0])
    both = datasets.DatasetDict(train=one, validation=one)
    assert place_of(both) == place_of({"train": one, "validation": one})


def test_a_network_is_copied_and_its_run_is_opened_with_it_again(tmp_path):
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = segacc.train(dataset=DATA, model=net, output_dir=tmp_path / "run", **FLAGS)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert run.config.model == "own:Net" and run.config.weights == "own"
    model = segacc.load(run, net)
    image = DATA["test"][0][0]
    logits = model(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert logits.shape == (1, 1, 48, 64) and not model.training
    mask = (logits.sigmoid() > model.threshold)[0, 0].numpy()
    np.testing.assert_array_equal(segacc.predict(model, [image])[0], mask)
    for wrong, sentence in (((run,), "Python code"), ((run, nn.Linear(1, 1)), "is a Linear")):
        with pytest.raises(segacc.InputError, match=sentence):
            segacc.load(*wrong)
    with pytest.raises(segacc.InputError, match="Python code"):
        segacc.train(resume=run, epochs=3)
    assert len(segacc.train(resume=run, epochs=3, model=net).epochs) == 3


def returns(value):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1)

        def forward(self, images):
            return value(self.conv(images))

    return Odd()


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (returns(lambda x: x.expand(-1, 2, -1, -1)), r"Odd returned a tensor of shape \(1, 2"),
        (returns(lambda x: x[:, 0]), r"Odd returned a tensor of shape \(1, 64, 64\)"),
        (returns(lambda x: [x]), "Odd returned a list"),
    ],
)
def test_a_network_that_returns_no_logits_is_refused(tmp_path, net, sentence):
    with pytest.raises(segacc.InputError, match=sentence):
        segacc.train(dataset=DATA, model=net, output_dir=tmp_path / "run", **FLAGS)


class Branches(nn.Module):
    """Layers that only training runs, that are frozen, and that their parent reads."""

    stride = 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True).requires_grad_(False)
        self.extra = nn.Conv2d(8, 8, 1)
        self.unused = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, images):
        x = self.conv(images)
        rows = x.mean(dim=3).transpose(1, 2)
        x = x + self.attention(rows, rows, rows)[0].transpose(1, 2)[..., None]
        return self.head(x + self.extra(x) if self.training else x)


def test_a_network_keeps_all_its_layers(tmp_path):
    from segacc.models.segmenter import Segmenter

    net = Branches()
    model = Segmenter("own:Branches", net=net)
    assert [name for name, _ in model.net.named_modules()] == [n for n, _ in net.named_modules()]
    learnt = {n.split(".")[0] for n, p in model.net.named_parameters() if p.requires_grad}
    assert learnt == {"conv", "extra", "head"}
    assert all(parameter.requires_grad for parameter in net.unused.parameters())
    assert "net" not in model.config()
    run = segacc.train(dataset=DATA, model=net, output_dir=tmp_path / "run", **FLAGS)
    loaded, start = segacc.load(run, net), net.state_dict()
    assert not torch.equal(loaded.net.extra.weight, start["extra.weight"])
    assert torch.equal(loaded.net.unused.weight, start["unused.weight"])


def test_networks_of_torchvision_and_transformers_fit(tmp_path):
    for value in (lambda x: {"out": x, "aux": x}, lambda x: type("Output", (), {"logits": x})()):
        run = segacc.train(
            dataset=DATA, model=returns(value), output_dir=tmp_path / str(id(value)), **FLAGS
        )
        assert len(run.epochs) == 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"encoder": "resnet34"}, "--encoder resnet34 has no effect"),
        ({"weights": "imagenet"}, "--weights imagenet has no effect"),
        ({"class_weights": "balanced", "loss": loss}, "--class-weights balanced has no effect"),
        ({"push_to_hub": "me/discs"}, "the network Net is Python code"),
        ({"model": Net}, r"found the class Net"),
        (
            {"model": returns(lambda x: x), "freeze_encoder": "all"},
            "need a network with an encoder",
        ),
        ({"loss": 5}, "loss: expected a function, found 5"),
        ({"on_epoch": 5}, "on_epoch: expected a function, found 5"),
    ],
)
def test_flags_without_effect_on_what_is_given_are_refused(tmp_path, flags, sentence):
    with pytest.raises(segacc.InputError, match=sentence):
        segacc.train(
            **{"dataset": DATA, "model": Net(), "output_dir": tmp_path / "run"} | FLAGS | flags
        )
    assert not (tmp_path / "run").exists()


def test_a_loss_is_the_mean_over_images_and_ignores_empty_ones():
    from segacc.config.train import TrainConfig

    function = own_loss(TrainConfig(loss="own:loss"), Own(loss=loss))
    logits = torch.randn(3, 1, 8, 8, requires_grad=True)
    label_maps = torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    label_maps[1] = IGNORE
    label_maps[2, :4] = IGNORE
    expected = (
        loss(logits[:1], label_maps[:1].long()) + loss(logits[2:], label_maps[2:].long())
    ) / 3
    assert torch.equal(function(logits, label_maps), expected)
    function(logits, label_maps).backward()
    assert logits.grad is not None and logits.grad[1].abs().sum() == 0
    for wrong, sentence in (
        (lambda logits, labels: logits, "a tensor with one number"),
        (lambda logits, labels: 1.0, "returned a float"),
        (lambda logits, labels: logits.detach().mean(), "without a gradient"),
    ):
        with pytest.raises(segacc.InputError, match=sentence):
            own_loss(TrainConfig(loss="own:f"), Own(loss=wrong))(logits, label_maps)
    with pytest.raises(segacc.InputError, match="has parameters"):
        own_loss(TrainConfig(loss="own:Conv2d"), Own(loss=nn.Conv2d(1, 1, 1)))


def test_losses_of_the_libraries_fit(tmp_path):
    import segmentation_models_pytorch as smp

    dice = smp.losses.DiceLoss("binary", ignore_index=IGNORE)
    run = segacc.train(dataset=DATA, model=Net(), loss=dice, output_dir=tmp_path / "run", **FLAGS)
    assert run.config.loss == "own:DiceLoss" and len(run.epochs) == 2


def test_a_pipeline_of_albumentations_is_what_its_file_is(tmp_path):
    pipeline = albumentations.Compose([albumentations.RandomBrightnessContrast(p=0.5)])
    path = file_of(pipeline)
    assert path == file_of(albumentations.Compose([albumentations.RandomBrightnessContrast(p=0.5)]))
    runs = [
        segacc.train(
            dataset=DATA, model=Net(), augment=augment, output_dir=tmp_path / name, **FLAGS, seed=1
        )
        for name, augment in (("object", pipeline), ("file", path))
    ]
    assert runs[0].epochs[0]["valid_loss"] > 0 and runs[0].config.augment == path
