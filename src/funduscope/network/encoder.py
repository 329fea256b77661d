"""The encoder: any timm backbone that returns a pyramid of features. Weights come from a file first, then from a hub.

ResNet: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Some public ImageNet weights are for the
authors' original ("v1"), which has its stride in the first 1x1 convolution of a block; timm's has it in the 3x3.
ConvNeXt: Liu et al., "A ConvNet for the 2020s", CVPR 2022. Its layer norm between the last stage and the classifier,
which timm's pyramid leaves out, is applied to the deepest level. Differs: before the mean over places, not after it, so
that a linear head keeps its exact class activation map.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from funduscope.network.pyramid import strides

WEIGHTS_VARIABLE = "FUNDUSCOPE_WEIGHTS"
REACH_S = 2.0
"""How long a hub may take to answer."""

_CHECK_PX = 64
_CONVNEXT_LEVELS = 4
_PYRAMIDS = "Choose an encoder with a pyramid for photos of any size, such as resnet50, convnext_tiny or pvt_v2_b0."


class WeightsError(RuntimeError):
    """Weights that cannot be found or do not fit; the message says where they were searched and what to do."""


class EncoderError(WeightsError, ValueError):
    """An encoder whose name, stride or levels no network can be made of: a setting that is wrong."""


class Encoder(nn.Module):
    """A pyramid of features: five levels at strides 2 to 32 for most backbones, four at 4 to 32 for ConvNeXt.

    name: a timm name. variant: "v1" has the strides of a bottleneck ResNet where the original has them. output_stride:
    the largest stride, 8, 16 or 32; further levels are dilated instead. levels: only so many, from the shallowest; the
    stages that make the others are left out. Raises `EncoderError` if timm has no such backbone, or its features are
    not the pyramid that decoders and heads need.
    """

    def __init__(self, name: str, variant: str = "timm", output_stride: int = 32, levels: int | None = None) -> None:
        super().__init__()
        _check_name(name)
        # Many backbones do not know the setting; timm does not pass on None.
        dilated = None if output_stride == 32 else output_stride
        chosen: dict[str, Any] = {} if levels is None else {"out_indices": tuple(range(levels))}
        try:
            self.body = timm.create_model(name, features_only=True, pretrained=False, output_stride=dilated, **chosen)
        except (TypeError, AssertionError, NotImplementedError) as error:
            raise EncoderError(_no_stride(name, output_stride)) from error
        except IndexError as error:
            raise EncoderError(f"timm's {name!r} has fewer than {levels} levels; lower encoder.levels.") from error
        except (RuntimeError, AttributeError) as error:
            raise EncoderError(f"timm's {name!r} gives no pyramid of features; choose another encoder.") from error
        info = cast("timm.models._features.FeatureInfo", self.body.feature_info)
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()
        if dilated and self.strides[-1] != output_stride:
            raise EncoderError(_no_stride(name, output_stride))
        # Some backbones have their channels last.
        self.nhwc = getattr(self.body, "output_fmt", None) == "NHWC"
        has_norm = name.startswith(("convnext", "test_convnext")) and levels in (None, _CONVNEXT_LEVELS)
        self.norm = _last_norm(name, self.channels[-1]) if has_norm else None
        every = strides(len(self.strides), output_stride)
        first = [min(self.strides[0] << place, output_stride) for place in range(levels or 0)]
        self._check_pyramid(name, first or every)
        self.name = name
        self.variant = variant
        if variant == "v1":
            move_strides(self.body)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalized to a pyramid of (B, C, H/stride, W/stride), shallow to deep."""
        pyramid = self.body(image)
        if self.nhwc:
            return [level.permute(0, 3, 1, 2) for level in pyramid]
        return pyramid if self.norm is None else [*pyramid[:-1], self.norm(pyramid[-1])]

    def _check_pyramid(self, name: str, wanted_strides: list[int]) -> None:
        """Checks the strides that timm reports, and the shapes of a black image as small as the one for the export."""
        if self.strides != wanted_strides:
            raise EncoderError(
                f"timm's {name!r} has its maps at strides {self.strides}; expected are strides that double from map to "
                f"map up to {wanted_strides[-1]}. {_PYRAMIDS}"
            )
        training = self.training
        try:
            with torch.no_grad():
                pyramid = self.eval()(torch.zeros(1, 3, _CHECK_PX, _CHECK_PX))
        except Exception as error:
            raise EncoderError(
                f"timm's {name!r} does not take {_CHECK_PX} x {_CHECK_PX} px ({error}); expected is one that takes "
                f"every photo whose sides 32 divides. {_PYRAMIDS}"
            ) from error
        self.train(training)
        found = [tuple(level.shape[1:]) for level in pyramid]
        sides = [_CHECK_PX // stride for stride in self.strides]
        wanted = [(width, side, side) for width, side in zip(self.channels, sides, strict=True)]
        if found != wanted:
            raise EncoderError(
                f"timm's {name!r} makes maps of {found} from {_CHECK_PX} x {_CHECK_PX} px; expected are {wanted}: "
                f"channels, height, width. {_PYRAMIDS}"
            )


def _last_norm(name: str, channels: int) -> nn.Module:
    """A new norm of the kind that timm's ConvNeXt of that name has between its last stage and its classifier."""
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False)
    before = theirs.get_submodule("norm_pre")
    norm = theirs.get_submodule("head.norm") if isinstance(before, nn.Identity) else before
    return type(norm)(channels, eps=norm.eps)


def _no_stride(name: str, output_stride: int) -> str:
    return (
        f"timm's {name!r} has no output stride of {output_stride}: ResNets, ConvNeXts and EfficientNets have. "
        "Leave encoder.output_stride out, or choose another encoder."
    )


def move_strides(body: nn.Module) -> None:
    """Moves the stride of ResNet's layers 2-4 into the first 1x1 convolution of their first block.

    A layer that is dilated instead of strided has no stride to move. There the first block's 3x3 is dilated like those
    of the following blocks: in the original it already works on the coarser grid.
    """
    if not hasattr(body, "layer2"):
        raise EncoderError("encoder.variant v1 is a ResNet's; this encoder has no such layers: leave variant out.")
    for layer in (name for name in ("layer2", "layer3", "layer4") if hasattr(body, name)):
        block = cast("nn.Sequential", body.get_submodule(layer))[0]
        if not hasattr(block, "conv3"):
            continue  # blocks of small ResNets always have their stride in the first convolution
        first, second = cast("nn.Conv2d", block.conv1), cast("nn.Conv2d", block.conv2)
        if second.stride == (2, 2):
            first.stride, second.stride = second.stride, first.stride
        else:
            second.dilation = second.padding = (cast("int", block.dilation),) * 2


def find_weights(name: str) -> Path | None:
    """A file of ImageNet weights for that timm name in the folder that FUNDUSCOPE_WEIGHTS names, or None."""
    folder = os.environ.get(WEIGHTS_VARIABLE)
    if not folder:
        return None
    for candidate in (f"{name}.safetensors", f"{name}_v1.safetensors"):
        path = Path(folder).expanduser() / candidate
        if path.is_file():
            return path
    return None


def load_imagenet(name: str) -> tuple[dict[str, Tensor], str]:
    """ImageNet weights for that name, and their variant. From a file first, then from timm's own source.

    Raises `WeightsError` without a long wait if neither has them, and if timm has no such backbone.
    """
    _check_name(name)
    path = find_weights(name)
    if path is not None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (no mapping)
                about = (file.metadata() or {}).get("architecture", "")
        except SafetensorError as error:
            remedy = "fetch the file again, or train from scratch with --set encoder.weights=none"
            raise WeightsError(f"{path} cannot be read as weights ({error}): {remedy}.") from error
        return state, "v1" if path.stem == f"{name}_v1" or "first 1x1" in about else "timm"
    # Its client would try again for most of a minute.
    if not _is_cached(name) and (os.environ.get("HF_HUB_OFFLINE") == "1" or not _reaches_hub()):
        raise WeightsError(_no_weights(name))
    try:
        return timm.create_model(name, pretrained=True).state_dict(), "timm"
    except Exception as error:
        raise WeightsError(_no_weights(name)) from error


def _check_name(name: str) -> None:
    # timm would also take addresses of a hub and folders, but a checkpoint's recipe is untrusted text.
    if timm.is_model(name):
        return
    meant = get_close_matches(name, timm.list_models(), n=1)
    was = f"was {meant[0]} meant? " if meant else ""
    raise EncoderError(f"timm has no model {name!r}; {was}`timm.list_models()` names them all.")


def normalization(name: str) -> dict[str, tuple[float, ...]]:
    """mean and std of red, green and blue, in 0..1, with which timm's weights of that name were trained."""
    about = timm.get_pretrained_cfg(name)
    assert about is not None
    return {"mean": tuple(about.mean), "std": tuple(about.std)}


def _is_cached(name: str) -> bool:
    """Whether an earlier download of the weights is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    about = timm.get_pretrained_cfg(name)
    place = about.hf_hub_id if about is not None else None
    files = ("model.safetensors", "pytorch_model.bin")
    return place is not None and any(isinstance(try_to_load_from_cache(place, file), str) for file in files)


def _reaches_hub() -> bool:
    """Whether the hub answers at all, within `REACH_S`. A thread, since finding an address has no time limit."""
    from huggingface_hub.constants import ENDPOINT

    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=REACH_S).close()
        except urllib.error.HTTPError:
            answered.set()  # a refusal is an answer
        except OSError:
            return
        else:
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_S)
    return answered.is_set()


def _no_weights(name: str) -> str:
    return (
        f"No ImageNet weights for {name!r}: no {name}.safetensors in the folder that {WEIGHTS_VARIABLE} names "
        f"({os.environ.get(WEIGHTS_VARIABLE, 'not set')}), and no hub in reach. Set {WEIGHTS_VARIABLE}, or train from "
        "scratch with --set encoder.weights=none."
    )


def load_encoder_weights(encoder: Encoder, state: dict[str, Tensor]) -> None:
    """Copies the weights that the pyramid uses. Raises `WeightsError` if one is missing or of another shape.

    The counts of batches that a BatchNorm has seen are not copied: files lack them or hold them in another shape.
    """
    own = encoder.state_dict()
    named = {key: _name_in(state, key) for key in own if not key.endswith("num_batches_tracked")}
    missing = [key for key, name in named.items() if name not in state]
    if missing:
        example = missing[0].removeprefix("body.")
        raise WeightsError(f"The weights lack {len(missing)} of {encoder.name}'s tensors, such as {example}.")
    unlike = [key for key, name in named.items() if state[name].shape != own[key].shape]
    if unlike:
        key, came, wanted = unlike[0].removeprefix("body."), state[named[unlike[0]]].shape, own[unlike[0]].shape
        raise WeightsError(
            f"The weights are of another encoder than {encoder.name}: {len(unlike)} tensors differ in shape, such as "
            f"{key}, which is {tuple(came)}; expected {tuple(wanted)}."
        )
    with torch.no_grad():
        encoder.load_state_dict(own | {key: state[name] for key, name in named.items()})


def _name_in(state: dict[str, Tensor], key: str) -> str:
    """The name of an encoder's tensor in the whole model's weights."""
    part, _, rest = key.partition(".")
    if part == "norm":
        return f"norm_pre.{rest}" if f"norm_pre.{rest}" in state else f"head.norm.{rest}"
    return rest if rest in state else _whole_name(rest)


def _whole_name(key: str) -> str:
    """The name of a pyramid's tensor in the whole model: timm makes stages_0 of stages.0."""
    stage, dot, rest = key.partition(".")
    parent, _, number = stage.rpartition("_")
    return f"{parent}.{number}{dot}{rest}" if parent else key
