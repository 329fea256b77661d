"""What every decoder promises, and what its settings must say: sizes, gradients, ONNX, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from funduscope.network.decoders import Decoder, make_decoder
from funduscope.network.encoder import Encoder
from funduscope.settings import Decoder as Settings

U_NETS = ("unet", "attention_unet", "transposed_unet", "unetplusplus")
KINDS = (*U_NETS, "deeplab")
ENCODERS = ("test_resnet", "test_convnext")


def _settings(kind: str, levels: int, projected: bool = False) -> Settings:
    """Narrow, for as many levels as there are."""
    skips = (4, 5, 6, 7, 8)[-levels:] if projected else ()
    channels = (6,) if kind == "deeplab" else (9, 8, 7, 6)[-(levels - 1) :]
    return Settings(kind=kind, skip_channels=skips, channels=channels)  # pyright: ignore[reportArgumentType]


def _made(kind: str, name: str, output_stride: int = 32, projected: bool = False) -> tuple[Encoder, torch.nn.Module]:
    torch.manual_seed(0)
    encoder = Encoder(name, output_stride=output_stride)
    settings = _settings(kind, len(encoder.channels), projected)
    return encoder, make_decoder(encoder.channels, settings, output_stride)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_maps_come_deep_to_shallow_and_the_last_is_as_fine_as_promised(
    kind: str, name: str, output_stride: int
) -> None:
    encoder, decoder = _made(kind, name, output_stride)
    with torch.inference_mode():
        maps = decoder.eval()(encoder.eval()(torch.randn(2, 3, 64, 96)))
    finest = 4 if kind == "deeplab" or name == "test_convnext" else 2
    assert [one.shape[1] for one in maps] == decoder.channels
    assert maps[-1].shape == (2, decoder.channels[-1], 64 // finest, 96 // finest)
    heights = [one.shape[2] for one in maps]
    assert heights == sorted(heights)
    assert heights[-2] >= 8, "landmarks are read there"


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("kind", ["unet", "attention_unet"])
def test_fewer_blocks_give_a_coarser_map_of_the_deepest_levels(kind: str, projected: bool) -> None:
    encoder = Encoder("test_resnet")
    skips = (5, 6, 7, 8) if projected else ()
    decoder = make_decoder(encoder.channels, Settings(kind=kind, skip_channels=skips, channels=(9, 8, 7)), 32)  # pyright: ignore[reportArgumentType]
    pyramid = encoder.eval()(torch.randn(1, 3, 64, 96))
    maps = decoder.eval()(pyramid)
    assert [one.shape[2] for one in maps] == [4, 8, 16]
    pyramid[0] = torch.full_like(pyramid[0], torch.nan)  # is not read
    assert all(torch.isfinite(one).all() for one in decoder(pyramid))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_reaches_every_weight(kind: str, name: str, wake: Callable[[torch.nn.Module], None]) -> None:
    encoder, decoder = _made(kind, name, projected=kind != "unet")
    both = torch.nn.ModuleList([encoder, decoder]).train()
    wake(both)
    before = {key: value.clone() for key, value in both.named_parameters()}
    decoder(encoder(torch.randn(2, 3, 64, 64)))[-1].square().mean().backward()
    torch.optim.AdamW(both.parameters(), 1e-3).step()
    for key, value in both.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize("output_stride", [8, 32])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_agrees_at_other_sizes_than_were_traced(
    kind: str, name: str, output_stride: int, onnx_agrees: Callable[..., None]
) -> None:
    encoder, decoder = _made(kind, name, output_stride)
    onnx_agrees(encoder, decoder, ((1, 96, 96), (2, 64, 128)))


@pytest.mark.parametrize("kind", U_NETS)
def test_full_width_skips_are_not_projected(kind: str) -> None:
    encoder, full = _made(kind, "test_resnet")
    assert not [name for name, _ in full.named_parameters() if name.startswith("project")]
    narrow = _made(kind, "test_resnet", projected=True)[1]
    seen = [value.shape[:2] for name, value in narrow.named_parameters() if name.endswith("project.0.weight")]
    assert seen == [(4, encoder.channels[0])]


@pytest.mark.parametrize("kind", U_NETS)
def test_widths_for_five_levels_on_an_encoder_of_four_are_said(kind: str) -> None:
    settings = Settings(kind=kind, skip_channels=())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"4 levels, decoder\.channels 4 entries") as caught:
        make_decoder([8, 8, 8, 8], settings, 32)
    assert "decoder.channels to 3 widths and decoder.skip_channels to 4 or none" in str(caught.value)


@pytest.mark.parametrize("kind", U_NETS)
def test_projections_for_five_levels_on_an_encoder_of_four_are_said(kind: str) -> None:
    settings = Settings(kind=kind)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"4 levels, decoder\.skip_channels 5 entries: one each\. Give one a level"):
        make_decoder([8, 8, 8, 8], settings, 32)


def test_open_gates_make_a_plain_u_net() -> None:
    torch.manual_seed(0)
    plain, gated = Decoder([4, 8, 16], [], [8, 4]).eval(), Decoder([4, 8, 16], [], [8, 4], attention=True).eval()
    gated.load_state_dict(plain.state_dict(), strict=False)
    pyramid = [torch.randn(1, 4, 16, 16), torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    with torch.inference_mode():
        expected = plain(pyramid)
        started = gated(pyramid)
        for gate in gated.gates:
            torch.nn.init.constant_(gate.psi.bias, 100.0)  # pyright: ignore
        opened = gated(pyramid)
    torch.testing.assert_close(opened, expected)
    assert not torch.allclose(started[-1], expected[-1])


def test_a_gate_is_steered_by_the_map_that_its_skip_is_about_to_meet() -> None:
    torch.manual_seed(0)
    decoder = Decoder([4, 8, 16], [], [8, 4], attention=True).eval()
    pyramid = [torch.randn(1, 4, 16, 16), torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    seen: list[tuple[torch.Tensor, ...]] = []
    for gate in decoder.gates:
        gate.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    with torch.inference_mode():
        maps = decoder(pyramid)
    torch.testing.assert_close(seen, [(pyramid[1], pyramid[2]), (pyramid[0], maps[0])])
