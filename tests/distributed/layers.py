"""BatchNorm and dropout over ranks: outputs, gradients and statistics are those of one process."""

import torch
from accelerate import Accelerator
from timm.layers import BatchNormAct2d
from torch import nn
from transformers.models.segformer.modeling_segformer import SegformerDropPath

from segacc.models.global_batch.batch_norm import normalise_over_ranks
from segacc.models.global_batch.dropout import place_dropout

accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes


def net(kind: str) -> nn.Module:
    torch.manual_seed(1)
    layers = {
        "plain": nn.BatchNorm2d(8),
        "moving": nn.BatchNorm2d(8, momentum=None, eps=1e-3),
        "bare": nn.BatchNorm2d(8, affine=False),
        "frozen": nn.BatchNorm2d(8),
        "act": BatchNormAct2d(8),
        "float32, channels last": nn.BatchNorm2d(8),
    }
    made = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), layers[kind], nn.Dropout2d(0.3), SegformerDropPath(0.2)),
        *(nn.Conv2d(8, 4, 1), nn.Dropout(0.5)),
    )
    made[1].train(kind != "frozen")
    if kind == "float32, channels last":
        return made.to(memory_format=torch.channels_last)
    return made.double()


torch.manual_seed(0)
images = 3 + 2 * torch.randn(8, 3, 9, 7, dtype=torch.double)
target = torch.randn(8, 4, 7, 5, dtype=torch.double)
mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
near = {"rtol": 1e-9, "atol": 1e-12}
for kind in ("plain", "moving", "bare", "frozen", "act", "float32, channels last"):
    if kind == "float32, channels last":
        images = images.float().contiguous(memory_format=torch.channels_last)
        target, near = target.float(), {"rtol": 1e-4, "atol": 1e-5}
    whole, part = net(kind), net(kind)
    normalise_over_ranks(part)
    places = place_dropout(whole), place_dropout(part)
    part = accelerator.prepare(part)
    for step in range(3):
        for place, first in zip(places, (0, mine.start), strict=True):
            place.seed, place.step, place.first, place.total = 5, step, first, 8
        for model, share in ((whole, slice(None)), (part, mine)):
            model.zero_grad()
            out = model(images[share])
            (out * target[share]).mean().backward()
            if model is whole:
                expected = out[mine]
        torch.testing.assert_close(out, expected, **near)
        assert (out == 0).double().mean() > 0.4, "nothing was dropped"
    bare = accelerator.unwrap_model(part)
    assert whole.state_dict().keys() == bare.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(bare.state_dict()[name], value, **near)
    for a, b in zip(whole.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, **near)
    # In evaluation nothing has changed.
    torch.testing.assert_close(bare.eval()(images), whole.eval()(images), **near)
if accelerator.is_main_process:
    print(f"equal on {world}")
accelerator.end_training()
