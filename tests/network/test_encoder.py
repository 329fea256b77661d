"""Encoders by their timm name; weights from a file; strides where the weights want them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from funduscope.network import encoder as encoders
from funduscope.network.encoder import WEIGHTS_VARIABLE, Encoder, WeightsError, load_encoder_weights, load_imagenet
from funduscope.network.network import build, with_imagenet
from funduscope.recipe import Recipe

RecipeOf = Callable[..., Recipe]


def test_v1_has_other_strides_same_shapes_and_other_features(wake: Callable[[torch.nn.Module], None]) -> None:
    torch.manual_seed(0)
    timm_way, v1_way = Encoder("resnet50").eval(), Encoder("resnet50", "v1").eval()
    wake(timm_way)
    v1_way.load_state_dict(timm_way.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = v1_way(image), timm_way(image)
    assert [level.shape for level in ours] == [level.shape for level in theirs]
    same = [bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4)) for a, b in zip(ours, theirs, strict=True)]
    assert same == [True, True, False, False, False], "up to layer1 there is no stride to move"
    for layer in ("layer2", "layer3", "layer4"):
        block = v1_way.body.get_submodule(layer)[0]  # pyright: ignore[reportIndexIssue]
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("resnet18", 32), ("resnet34", 32), ("resnet50", 32), ("resnet50", 16), ("resnet50", 8),
        ("resnet101", 16), ("resnet152", 8), ("convnext_tiny", 32), ("convnext_tiny", 16), ("convnext_tiny", 8),
        ("convnext_small", 32), ("convnext_base", 32),
    ],
)  # fmt: skip
def test_the_encoders_of_the_recipes_build_and_have_a_gradient_for_every_weight(name: str, output_stride: int) -> None:
    """Without memory: shapes forward, a gradient for every weight backward."""
    with torch.device("meta"):
        encoder = Encoder(name, output_stride=output_stride).train()
        pyramid = encoder(torch.randn(2, 3, 64, 96))
    is_convnext = name.startswith("convnext")
    assert (encoder.norm is not None) == is_convnext, "the norm between the last stage and the classifier is kept"
    finest = 4 if is_convnext else 2
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32) if stride >= finest]
    assert encoder.strides == strides
    assert [level.shape for level in pyramid] == [
        (2, width, 64 // stride, 96 // stride) for width, stride in zip(encoder.channels, strides, strict=True)
    ]
    pyramid[-1].square().mean().backward()
    assert all(value.grad is not None and value.grad.shape == value.shape for value in encoder.parameters())


@pytest.mark.parametrize(("name", "levels"), [("test_convnext", None), ("convnext_zepto_rms", 4)])
def test_a_convnext_ends_with_the_norm_that_timm_gives_it(name: str, levels: int | None) -> None:
    torch.manual_seed(0)
    theirs, encoder = timm.create_model(name).eval(), Encoder(name, levels=levels).eval()
    load_encoder_weights(encoder, theirs.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = theirs.get_submodule("head.norm")(theirs.forward_features(image))  # pyright: ignore[reportCallIssue]
        torch.testing.assert_close(encoder(image)[-1], wanted)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "resnet18"])
def test_a_real_step_changes_every_weight(name: str, wake: Callable[[torch.nn.Module], None]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(name).train()
    wake(encoder)
    before = {key: value.clone() for key, value in encoder.named_parameters()}
    sum(level.square().mean() for level in encoder(torch.randn(2, 3, 64, 64))).backward()
    torch.optim.AdamW(encoder.parameters(), 1e-3).step()
    for key, value in encoder.named_parameters():
        assert value.isfinite().all(), key
        assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("variant", ["timm", "v1"])
@pytest.mark.parametrize("name", ["resnet18", "resnet26"])
def test_weights_learned_with_strides_see_the_same_when_dilated(
    name: str, variant: str, output_stride: int, wake: Callable[[torch.nn.Module], None]
) -> None:
    """A dilated level holds the strided one at every second or fourth pixel, border included: in v1's places too."""
    torch.manual_seed(0)
    strided, dilated = Encoder(name, variant).eval(), Encoder(name, variant, output_stride).eval()
    wake(strided)
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for coarse, fine, stride in zip(strided(image), dilated(image), dilated.strides, strict=True):
            step = fine.shape[2] // coarse.shape[2]
            assert stride == 64 // fine.shape[2]
            torch.testing.assert_close(fine[:, :, ::step, ::step], coarse, rtol=1e-3, atol=1e-3)
        assert step == 32 // output_stride


@pytest.mark.parametrize(("output_stride", "moved"), [(32, 3), (16, 2), (8, 1)])
def test_v1_moves_only_strides_that_are_still_there(output_stride: int, moved: int) -> None:
    with torch.device("meta"):
        body = Encoder("resnet50", "v1", output_stride).body
    blocks = [body.get_submodule(f"layer{layer}.0") for layer in (2, 3, 4)]
    firsts = [block.conv1.stride for block in blocks]  # pyright: ignore
    assert firsts == [(2, 2)] * moved + [(1, 1)] * (3 - moved)
    assert [block.conv2.stride for block in blocks] == [(1, 1)] * 3  # pyright: ignore
    assert [block.downsample[0].stride for block in blocks] == firsts  # pyright: ignore


@pytest.mark.parametrize("name", ["densenet121", "vgg11", "test_vit"])
def test_what_cannot_be_dilated_is_said(name: str) -> None:
    with torch.device("meta"), pytest.raises(WeightsError, match=f"{name}' has no output stride of 8") as caught:
        Encoder(name, output_stride=8)
    assert "Leave encoder.output_stride out" in str(caught.value)


@pytest.mark.parametrize("name", ["resnet_18", "hf-hub:somebody/something", "local-dir:/tmp/model", ""])
def test_what_is_no_timm_name_is_refused_and_nothing_is_fetched(name: str) -> None:
    with pytest.raises(WeightsError, match="timm has no model"):
        Encoder(name)
    with pytest.raises(WeightsError, match="timm has no model"):
        load_imagenet(name)


def test_a_misspelled_name_brings_the_similar_one() -> None:
    with pytest.raises(WeightsError, match="'resnet_18'; was resnet18 meant"):
        Encoder("resnet_18")


@pytest.mark.parametrize(
    ("name", "came", "expected"),
    [
        ("test_vit", r"at strides \[16, 16, 16\]", "strides that double from map to map up to 32"),
        ("swin_tiny_patch4_window7_224", r"does not take 64 x 64 px \(.*224", "every photo whose sides 32 divides"),
    ],
)
def test_a_transformer_without_a_pyramid_for_any_size_is_refused(name: str, came: str, expected: str) -> None:
    """A plain one has a single stride, which no decoder would notice; others take photos of one size alone."""
    with torch.device("meta"), pytest.raises(WeightsError, match=f"{name}' .*{came}.* expected .*{expected}") as caught:
        Encoder(name)
    assert "Choose an encoder with a pyramid" in str(caught.value)


def test_features_with_their_channels_last_come_as_all_others() -> None:
    encoder = Encoder("test_mambaout")
    assert encoder.training, "looked at before, it still learns"
    pyramid = encoder(torch.randn(2, 3, 64, 96))
    assert [level.shape for level in pyramid] == [
        (2, width, 64 // stride, 96 // stride) for width, stride in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]


def test_v1_is_for_resnets() -> None:
    with pytest.raises(WeightsError, match="variant v1"):
        Encoder("tf_efficientnet_lite0", "v1")


def _write(folder: Path, name: str, encoder: Encoder, about: str | None = None) -> dict[str, torch.Tensor]:
    state = {key: value.clone() for key, value in encoder.body.state_dict().items()}
    state["fc.weight"] = torch.zeros(3)  # the classifier, which no pyramid uses
    halves = {key: value.half() for key, value in state.items()}
    save_file(halves, folder / name, {"architecture": about} if about else None)
    return state


@pytest.mark.parametrize(
    ("file", "about", "variant"),
    [
        ("resnet18.safetensors", None, "timm"),
        ("resnet18.safetensors", "the stride is in the first 1x1 convolution", "v1"),
        ("resnet18_v1.safetensors", None, "v1"),
    ],
)
def test_weights_come_from_the_named_folder_with_their_variant(
    file: str, about: str | None, variant: str, recipe_of: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _write(tmp_path, file, Encoder("resnet18"), about)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    recipe, network = with_imagenet(recipe_of("resnet18", "encoder.weights=imagenet"))
    assert recipe.encoder.variant == variant
    assert network.encoder.variant == variant
    for name, value in network.encoder.body.state_dict().items():
        torch.testing.assert_close(value, state[name].half().to(value.dtype))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
@pytest.mark.parametrize("source", ["file", "hub", "cache"])
def test_timms_own_weights_make_timms_own_features(
    name: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wake: Callable[[torch.nn.Module], None]
) -> None:
    """As timm publishes them, under the whole model's names, which differ from the pyramid's in a ConvNeXt."""
    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    wake(whole)
    if source == "file":
        save_file(whole.state_dict(), tmp_path / f"{name}.safetensors")
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1" if source == "cache" else "0")
        monkeypatch.setattr(encoders, "_is_cached", lambda name: source == "cache")
        monkeypatch.setattr(encoders, "_reaches_hub", lambda: source == "hub")
        monkeypatch.setattr(
            timm, "create_model", lambda asked, pretrained: {name: whole}[asked] if pretrained else None
        )
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    state, variant = load_imagenet(name)
    assert variant == "timm"
    monkeypatch.undo()
    encoder = Encoder(name).eval()
    load_encoder_weights(encoder, state)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = whole.forward_features(image)  # pyright: ignore
        if "convnext" in name:
            expected = whole.head.norm(expected)
        torch.testing.assert_close(encoder(image)[-1], expected)


def test_without_weights_it_says_at_once_where_they_were_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_imagenet("resnet18")
    assert str(tmp_path) in str(caught.value)
    assert "encoder.weights=none" in str(caught.value)


def test_a_hub_out_of_reach_costs_three_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and never answers: the worst of all."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(WeightsError, match=r"encoder\.weights=none"):
            load_imagenet("resnet18")
    assert time.monotonic() - started < 3


def test_weights_bring_the_normalization_that_they_were_trained_with(
    recipe_of: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test_resnet's were trained with 0.5; a checkpoint keeps it, and one of before has ImageNet's."""
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.safetensors")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    recipe, network = with_imagenet(recipe_of("test_resnet", "encoder.weights=imagenet"))
    assert recipe.encoder.mean == recipe.encoder.std == (0.5, 0.5, 0.5)
    for one in (network, build(Recipe.from_toml(recipe.to_toml()))):
        seen: list[torch.Tensor] = []
        one.encoder.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        with torch.inference_mode():
            one.eval()(torch.full((1, 64, 64, 3), 255, dtype=torch.uint8))
        torch.testing.assert_close(seen[0], torch.ones(1, 3, 64, 64))
    assert recipe_of("test_resnet").encoder.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("count", [None, torch.tensor([7])], ids=["left out", "of shape (1,)"])
def test_a_files_counts_of_batches_are_not_asked_for(count: torch.Tensor | None) -> None:
    """Ports of other frameworks' weights leave them out, or write each as a tensor of one value."""
    own = Encoder("resnet18").body.state_dict()
    state = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    if count is not None:
        state |= {key: count for key in own if key not in state}
    encoder = Encoder("resnet18")
    load_encoder_weights(encoder, state)
    for key, value in encoder.body.state_dict().items():
        torch.testing.assert_close(value, own[key])


def test_the_first_resnet50s_weights_fit(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared.parent / "weights" / "resnet50_v1.safetensors"
    if not file.is_file():
        pytest.skip("the first ResNet-50's ImageNet weights are not beside the photographs")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file.parent))
    state, variant = load_imagenet("resnet50")
    assert variant == "v1"
    encoder = Encoder("resnet50", variant)
    load_encoder_weights(encoder, state)
    stored = load_file(file)["layer4.2.conv3.weight"].float()
    torch.testing.assert_close(encoder.body.state_dict()["layer4.2.conv3.weight"], stored)


def test_weights_that_lack_something_are_refused() -> None:
    encoder = Encoder("resnet18")
    state = encoder.body.state_dict()
    del state["layer3.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"lack 1 of resnet18's tensors, such as layer3\.0\.conv1\.weight"):
        load_encoder_weights(encoder, state)


def test_weights_of_another_encoder_are_refused_and_damaged_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {
        key: torch.cat([value, value]) if value.ndim else value
        for key, value in Encoder("resnet18").body.state_dict().items()
    }
    with pytest.raises(
        WeightsError, match=r"another encoder than resnet18: .* conv1\.weight, which is \(128, 3, 7, 7\)"
    ):
        load_encoder_weights(Encoder("resnet18"), wide)
    (tmp_path / "resnet18.safetensors").write_text("no weights")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match=r"resnet18\.safetensors cannot be read as weights .*: fetch the file again"):
        load_imagenet("resnet18")


def test_stages_that_lack_something_are_named_as_the_pyramid_names_them() -> None:
    state = timm.create_model("test_convnext").state_dict()
    del state["stages.1.blocks.0.conv_dw.weight"]
    with pytest.raises(WeightsError, match=r"lack 1 of test_convnext's tensors, such as stages_1\.blocks\.0"):
        load_encoder_weights(Encoder("test_convnext"), state)


def test_none_asks_for_no_weights(recipe_of: RecipeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    recipe = recipe_of("resnet18")
    assert with_imagenet(recipe)[0] == recipe


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "convnext_atto"])
def test_an_encoder_without_its_deepest_level_makes_the_same_other_maps(name: str) -> None:
    torch.manual_seed(0)
    whole = Encoder(name).eval()
    short = Encoder(name, levels=len(whole.channels) - 1).eval()
    load_encoder_weights(short, whole.body.state_dict())
    image = torch.rand(1, 3, 64, 64)

    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in whole.parameters()) / 2
    assert (short.channels, short.strides) == (whole.channels[:-1], whole.strides[:-1])
    for one, other in zip(short(image), whole(image), strict=False):
        torch.testing.assert_close(one, other)


def test_settings_that_no_encoder_has_are_named() -> None:
    with pytest.raises(WeightsError, match=r"lower encoder\.levels"):
        Encoder("test_resnet", levels=6)
    assert Encoder("resnet18", output_stride=8, levels=4).strides == [2, 4, 8, 8]
