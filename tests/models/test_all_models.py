"""What holds for every model that is offered: for a few in `make test`, for all in `make soak`."""

import base_tester
import pytest

FEW = [
    ("unet", "tu-test_resnet"),
    ("fpn", "tu-test_efficientnet"),
    ("manet", "tu-test_convnext"),
    ("transformers", "segformer"),
    ("transformers", "dpt"),  # takes square images only
    ("transformers", "upernet (DINOv2)"),  # patches of 14 px
]
ALL = [*base_tester.SMP, *(("transformers", name) for name in base_tester.tiny_configs())]


@pytest.mark.parametrize(("architecture", "encoder"), FEW)
def test_a_model_does_what_each_has_to(architecture, encoder):
    assert base_tester.outcome(architecture, encoder) == "trains"


@pytest.mark.soak
@pytest.mark.parametrize(("architecture", "encoder"), ALL)
def test_each_model_trains_or_is_refused(architecture, encoder):
    found = base_tester.outcome(architecture, encoder)
    assert found.startswith(("trains", "refused: --model")), found


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("unet", "tu-test_resnet"), ("unet", "tu-test_efficientnet"), ("dpt", "tu-test_vit")],
)
def test_layers_by_depth_are_those_of_timm(architecture, encoder):
    """timm's `group_matcher`, where a norm layer at the end is of the last block here."""
    import timm
    from timm.models import group_parameters

    theirs = timm.create_model(encoder.removeprefix("tu-"))
    model = base_tester.make(architecture, encoder)
    prefix, flat = "net.encoder.model.", lambda name: name.replace(".", "_")
    depth = {
        flat(name.removeprefix(prefix)): i
        for i, group in enumerate(model.layers[:-1])
        for name in group
    }
    matcher = theirs.group_matcher(coarse=False)
    pairs = {
        (i, depth[flat(name)])
        for i, names in group_parameters(theirs, matcher).items()
        for name in names
        if flat(name) in depth
    }
    # Only the norm layer at the end, which timm counts by itself, shares a group.
    assert 3 < len({i for i, _ in pairs}) == len(pairs), "a block is in two groups"
    assert len({d for _, d in pairs}) >= len(pairs) - 1, "two blocks are in one group"
    assert [d for _, d in sorted(pairs)] == sorted(d for _, d in pairs), "another order"
