"""What has to hold for every model that is offered, and a table of those for which it does.

    python tests/models/base_tester.py docs/models.md     writes the table into that file anew

It takes some ten minutes on two cores. `make soak` runs the same checks as tests.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from segacc.errors import InputError
from segacc.models.global_batch.dropout import find_unplaced_random_layers, place_dropout
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter

ARCHITECTURES = (
    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3"),
    *("deeplabv3plus", "upernet", "dpt"),
)
"""Those of SMP, but for its Segformer: the name `segformer` stands for that of transformers."""
# One of each kind, the smallest that there is.
ENCODERS = (
    *("resnet18", "timm-skresnet18", "densenet121", "vgg11", "mobilenet_v2", "mobileone_s0"),
    *("efficientnet-b0", "timm-tf_efficientnet_lite0", "mit_b0", "tu-convnext_atto"),
    *("tu-mobilenetv3_small_050", "tu-swin_s3_tiny_224", "tu-test_vit"),
    "tu-vit_small_patch14_dinov2",
)
SMP = [(architecture, encoder) for encoder in ENCODERS for architecture in ARCHITECTURES]


def tiny_configs() -> dict[str, Any]:
    """Configs of each type of semantic segmentation that transformers has, by a name for it."""
    from transformers import (
        BeitConfig,
        ConvNextConfig,
        Data2VecVisionConfig,
        Dinov2Config,
        DPTConfig,
        MobileNetV2Config,
        MobileViTConfig,
        MobileViTV2Config,
        Sapiens2Config,
        SegformerConfig,
        SwinConfig,
        Tipsv2DptConfig,
        Tipsv2VisionConfig,
        UperNetConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    vit = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    plain = {**vit, "intermediate_size": 64, "image_size": 64, "patch_size": 16}
    pyramid = {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16}
    small = {"aspp_out_channels": 16, "image_size": 64}
    swin = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], out_features=stages)
    convnext = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)
    dinov2 = Dinov2Config(**vit, image_size=56, patch_size=14, out_features=stages)
    tips = Tipsv2VisionConfig(
        **vit, image_size=56, patch_size=14, out_features=stages, reshape_hidden_states=False
    )
    head = {"upsample_out_channels": [16], "conv_out_channels": [16], "conv_kernel_sizes": [1]}
    return {
        "segformer": SegformerConfig(
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            decoder_hidden_size=16,
            num_attention_heads=[1, 1, 2, 2],
        ),
        "beit": BeitConfig(**plain, out_indices=[1, 2, 3, 4]),
        "data2vec-vision": Data2VecVisionConfig(**plain, out_indices=[0, 1, 2, 3]),
        "dpt": DPTConfig(**plain, **pyramid, backbone_out_indices=[0, 1, 2, 3], is_hybrid=False),
        "dpt (DINOv2)": DPTConfig(backbone_config=dinov2, **pyramid),
        "mobilenet_v2": MobileNetV2Config(depth_multiplier=0.35),
        "mobilevit": MobileViTConfig(
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
            num_attention_heads=2,
            **small,
        ),
        "mobilevitv2": MobileViTV2Config(width_multiplier=0.5, **small),
        "sapiens2": Sapiens2Config(**plain, num_key_value_attention_heads=2, head_config=head),
        "tipsv2_dpt": Tipsv2DptConfig(backbone_config=tips, **pyramid),
        "upernet (Swin)": UperNetConfig(backbone_config=swin, hidden_size=16),
        "upernet (ConvNeXt)": UperNetConfig(backbone_config=convnext, hidden_size=16),
        "upernet (DINOv2)": UperNetConfig(backbone_config=dinov2, hidden_size=16),
    }


def make(architecture: str, encoder: str) -> Segmenter:
    """A model of SMP, or with the architecture `transformers` one of `tiny_configs`."""
    torch.manual_seed(0)
    if architecture == "transformers":
        config = tiny_configs()[encoder].to_dict()
        return Segmenter("transformers", classes=2, backbone_config=config)
    return Segmenter(architecture, encoder, classes=2)


def check(model: Segmenter) -> None:
    """Raises AssertionError if the model does not do what each has to."""
    check_layers(model)
    check_sizes(model)
    check_saving(model)
    check_training(model)


def check_layers(model: Segmenter) -> None:
    """The layers by depth are all parameters, each once, the encoder's before the others."""
    names = [name for group in model.layers for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    of_encoder = {id(p) for p in model.encoder.parameters()}
    parameters = dict(model.named_parameters())
    inside = [{id(parameters[name]) in of_encoder for name in group} for group in model.layers]
    assert inside == [{True}] * (len(inside) - 1) + [{False}] and len(inside) >= 4, inside
    assert any(parameters[name].shape[1:2] == (model.channels,) for name in model.layers[0])


def check_sizes(model: Segmenter) -> None:
    """Odd sizes come back as they are; the network takes multiples of the stride."""
    model.eval()
    side, stride = model.least_side, model.stride
    assert side % stride == 0 and side <= 4 * stride
    with torch.no_grad():
        for height, width in ((33, 47), (side + 1, side), (1, 2)):
            images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
            logits = model(images)
            assert logits.shape == (1, 2, height, width) and logits.isfinite().all()
        net = model.net(torch.zeros(1, 3, *model.padded_size(side + stride, side)))
        assert getattr(net, "logits", net).isfinite().all()


def check_saving(model: Segmenter) -> None:
    """A saved model gives the same logits when it is loaded, and describes itself in JSON."""
    images = torch.randint(0, 256, (1, 3, 50, 40), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.eval().save_pretrained(folder)
        again = load_segmenter(folder)
        assert torch.equal(model(images), again(images))
    assert json.loads(json.dumps(again.config())) == json.loads(json.dumps(model.config()))
    assert (again.layers, again.least_side) == (model.layers, model.least_side)
    own = None if model.architecture == "transformers" else model.encoder_name
    assert again.config()["encoder"] == own  # not the default, which it does not have


def check_training(model: Segmenter) -> None:
    """Gradients reach what is trained and nothing else; what is frozen stays as it is."""
    images = torch.randint(0, 256, (2, 3, 65, 50), dtype=torch.uint8)
    for frozen in (False, True):
        model.freeze(encoder=frozen)
        model.zero_grad()
        before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
        model.train()(images).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        if frozen:
            assert not any(p.requires_grad for p in model.encoder.parameters())
            after = model.encoder.state_dict()
            assert all(torch.equal(v, after[k]) for k, v in before.items())
        assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def outcome(architecture: str, encoder: str) -> str:
    """`trains`, with a remark where there is one, or why the combination is refused."""
    try:
        model = make(architecture, encoder)
    except InputError as error:
        reason = str(error).replace(encoder, "ENCODER")
        return "refused: " + reason.replace(f"--model {architecture}", "--model MODEL")
    place_dropout(model)
    random = find_unplaced_random_layers(model, model.example_input(images=2))
    check(model)
    if random:
        return f"trains: {random[0]} draws random numbers of its own, which is warned of"
    return "trains"


def outcome_or_fault(model: tuple[str, str]) -> str:
    """As `outcome`; for a table that is not stopped by a model that does not do what it has to."""
    try:
        return outcome(*model)
    except (AssertionError, RuntimeError, ValueError, TypeError, KeyError) as error:
        return f"fails: {type(error).__name__} {error}"


def outcomes(models: list[tuple[str, str]]) -> Iterator[str]:
    """Of each model, in other processes, since a fault in a kernel ends the one that meets it."""
    context = get_context("spawn")
    with ProcessPoolExecutor(None, context, torch.set_num_threads, (1,)) as processes:
        for model, future in [(m, processes.submit(outcome_or_fault, m)) for m in models]:
            if not isinstance(future.exception(), BrokenProcessPool):
                yield future.result()
            elif len(models) == 1:
                yield "fails: its process crashes"
            else:
                yield from outcomes([model])


def markdown(found: dict[tuple[str, str], str]) -> str:
    """The outcomes as two tables, with what is said of several models under a number."""
    remarks = sorted({result for result in found.values() if result != "trains"})
    numbers = {remark: f" ({i})" for i, remark in enumerate(remarks, start=1)}
    cells = {m: r.split(":")[0] + numbers.get(r, "") for m, r in found.items()}
    lines = [
        "| encoder | " + " | ".join(ARCHITECTURES) + " |",
        "|---" * (len(ARCHITECTURES) + 1) + "|",
    ]
    for encoder in ENCODERS:
        row = [cells[architecture, encoder] for architecture in ARCHITECTURES]
        lines.append(f"| `{encoder}` | " + " | ".join(row) + " |")
    lines += ["", "| type in transformers | |", "|---|---|"]
    lines += [f"| {name} | {cells['transformers', name]} |" for name in tiny_configs()]
    lines += ["", *(f"{number.strip()} {remark}\n" for remark, number in numbers.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    text, mark = file.read_text(encoding="utf-8"), "<!-- from here on by base_tester.py -->\n"
    assert text.count(mark) == 1, f"{file} has no line {mark.strip()}"
    models, found = [*SMP, *(("transformers", name) for name in tiny_configs())], {}
    for model, result in zip(models, outcomes(models), strict=True):
        print(*model, result, flush=True)
        found[model] = result
    file.write_text(text.split(mark)[0] + mark + "\n" + markdown(found), encoding="utf-8")
