"""Images in, logits out: ONNX Runtime for use; torch, on demand, for the validation during training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np

from funduscope.atomic import file_sha256
from funduscope.capacity import thread_limit
from funduscope.i18n.errors import CodedError
from funduscope.inference.card import Card
from funduscope.vocabulary import View

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]
"""Where a model computes; auto: on a GPU where there is one that its runtime can use."""


CLOSE: Final = "close_"
"""Begins the names of the input and the outputs of a network that sees the close view alone."""
IMAGE: Final = "image"
DUMMY_IMAGE: Final = np.zeros((1, 32, 32, 3), np.uint8)
"""The input of the network whose view is not asked for, as small as it may be: ONNX Runtime computes every node of a
file, whatever outputs it is to give (its `only_execute_path_to_fetches` is heeded by builds for training alone)."""

CUDA: Final = "CUDAExecutionProvider"

GPU_BATCH: Final = 16
"""Whole views in one pass on a GPU. A processor takes them one by one: in batches each costs it more time
(docs/log.md, 2026-11-22)."""


class ModelError(CodedError, RuntimeError):
    """A model file that cannot be used; `says` is what to do."""


_OTHERS: Final = ("structures", "landmarks", "gates", "features")
_CAM: Final = "_cam"


@dataclass(frozen=True, eq=False)
class Outputs:
    """Logits, float32; None for tasks that the model does not have.

    classes: by photo task (B, G). structures (B, L, h, w), landmarks (B, P, h', w'). gates (B, R, E): the share of each
    router for each expert, 0 if the expert did not run. cams: by photo task (B, G, h", w"), the exact class
    activation map, whose mean is the logits. features (B, C): means over the encoder's deepest map. Older exports have
    no maps and no features.
    """

    classes: dict[str, np.ndarray] = field(default_factory=dict)
    structures: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    gates: np.ndarray | None = None
    cams: dict[str, np.ndarray] = field(default_factory=dict)
    features: np.ndarray | None = None

    @classmethod
    def of(cls, named: Mapping[str, np.ndarray]) -> Outputs:
        """Sorts an exported model's outputs by their names: a photo task's logits under its own, its map under
        NAME_cam."""
        cams = {name.removesuffix(_CAM): value for name, value in named.items() if name.endswith(_CAM)}
        classes = {name: value for name, value in named.items() if name not in _OTHERS and not name.endswith(_CAM)}
        return cls(classes, cams=cams, **{name: named[name] for name in _OTHERS if name in named})

    def named(self) -> dict[str, np.ndarray]:
        """The outputs that are not None by name; `of` makes the same of them."""
        others = {name: value for name in _OTHERS if (value := getattr(self, name)) is not None}
        return self.classes | others | {f"{task}{_CAM}": plane for task, plane in self.cams.items()}

    def only(self, tasks: Collection[str]) -> Outputs:
        """The same outputs with the logits and maps of these photo tasks alone."""
        classes = {task: value for task, value in self.classes.items() if task in tasks}
        return replace(self, classes=classes, cams={task: value for task, value in self.cams.items() if task in tasks})

    def each(self, count: int) -> list[Outputs]:
        """The outputs of each of that many images, as batches of one."""
        named = self.named()
        return [Outputs.of({name: value[i : i + 1] for name, value in named.items()}) for i in range(count)]

    def mirrored(self) -> Outputs:
        """The same outputs with every map mirrored: of a mirrored image, those of the image itself."""
        return Outputs.of({n: np.flip(value, -1) if value.ndim == 4 else value for n, value in self.named().items()})

    def mean_with(self, other: Outputs) -> Outputs:
        """The mean of two outputs of one model for the same images."""
        others = other.named()
        return Outputs.of({name: (value + others[name]) / 2 for name, value in self.named().items()})


def plane_of(code: str, card: Card) -> int:
    """The place of a structure among the planes of the view that it is read from."""
    if not card.own_close:
        return card.structures.index(code)
    return [one for one in card.structures if (one in card.close) == (code in card.close)].index(code)


def softmax(logits: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Logits to probabilities that sum to 1 along an axis, or over the whole array. The type stays."""
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


class Runtime(Protocol):
    """Anything that turns images into outputs. sha256: of the model's file, or of no bytes if there is none."""

    card: Card
    sha256: str

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        """(B, H, W, 3) uint8 RGB of one view to logits. A single network answers both views alike."""
        ...


def digest_of(path: Path, wanted: Collection[str] = ()) -> str:
    """The SHA-256 of a model's file. wanted: the accepted ones; empty if none is known.

    Loading does not notice a flipped bit in a weight: the answers are finite, plausible and wrong. Raises `ModelError`:
    E_MODEL if the file cannot be read, E_HASH if its SHA-256 is not among those wanted.
    """
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ModelError("E_MODEL", f"The model {path} cannot be read: {error.strerror or error}.") from error
    if wanted and digest not in wanted:
        expected = " or ".join(sorted(one[:12] for one in wanted))
        raise ModelError(
            "E_HASH",
            f"The model {path} is damaged or was replaced: its SHA-256 begins with {digest[:12]}, and the file next to "
            f"it names {expected}. Fetch or export it again.",
        )
    return digest


def check_device(device: str) -> None:
    """Raises `ModelError` for an unknown device."""
    if device not in get_args(Device):
        raise ModelError("E_CONFIG", f"There is no device {device!r}; expected {', '.join(get_args(Device))}.")


def has_cuda() -> bool:
    """Whether this ONNX Runtime is the one for GPUs."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def use_cuda(device: Device, is_usable: bool, why_not: str) -> bool:
    """Whether to compute on a GPU. is_usable: whether it could be done; why_not: the reason if it could not. Raises
    `ModelError` if cuda is asked for and not usable."""
    check_device(device)
    if device == "cuda" and not is_usable:
        raise ModelError("E_CONFIG", f"The device cuda was asked for, but {why_not}. Choose cpu, or auto.")
    return is_usable and device != "cpu"


def session_options() -> onnxruntime.SessionOptions:
    """ONNX Runtime's options under which an INT8 file gives the same answers on every processor.

    x86 processors without VNNI instructions add products of two bytes in 16 bits, which can overflow: answers of `fast`
    then shift toward grade 0 (docs/log.md, 2026-11-25). The option makes them exact there, and slower.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class OnnxRuntime:
    """A model file in ONNX Runtime.

    threads: of the processor; 0 lets ONNX Runtime choose. wanted: accepted SHA-256 of the file; empty if none is
    known. device: cuda needs the package onnxruntime-gpu and a GPU. Raises `ModelError`: E_MODEL if the file is
    missing or is no such model, E_HASH if its SHA-256 is another, E_CONFIG if cuda is asked for and not there.
    batch: the number of whole views that it answers best at once.
    """

    def __init__(self, path: Path, threads: int = 0, wanted: Collection[str] = (), device: Device = "cpu") -> None:
        import onnxruntime

        cuda = use_cuda(
            device,
            has_cuda(),
            "this ONNX Runtime computes on processors alone (pip install onnxruntime-gpu in place of onnxruntime)",
        )
        self.sha256 = digest_of(path, wanted)
        options = session_options()
        options.intra_op_num_threads = threads or thread_limit()
        # The two views differ in size: a memory pattern planned for one only costs time in the other.
        options.enable_mem_pattern = False
        # Without the arena, which never frees the close view's largest maps: a tenth more time, a tenth less memory.
        options.enable_cpu_mem_arena = False
        try:
            str(path).encode()
            source = str(path)
        except UnicodeEncodeError:  # ONNX Runtime takes paths in UTF-8 only; from bytes it takes twice the memory
            source = path.read_bytes()
        try:
            # TensorFloat-32 would round more coarsely than the float32 of published figures.
            providers = [(CUDA, {"use_tf32": "0"})] if cuda else []
            self.session = onnxruntime.InferenceSession(source, options, [*providers, "CPUExecutionProvider"])
            card = self.session.get_modelmeta().custom_metadata_map["card"]
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise ModelError(
                "E_MODEL", f"{path.name} is no model that funduscope exported: expected an ONNX file with a card in it."
            ) from error
        try:
            self.card = Card.from_json(card)
        except Exception as error:  # the text can be wrong in any way
            says = f"{path.name} has a card that cannot be used: {error}. Export it again, or fetch it again."
            raise ModelError("E_MODEL", says) from error
        if device == "cuda" and CUDA not in self.session.get_providers():  # it then falls back, with a line in its log
            use_cuda(device, False, "ONNX Runtime could not start on a GPU: its log says why")
        self.batch = GPU_BATCH if CUDA in self.session.get_providers() else 1
        self.names = [output.name for output in self.session.get_outputs()]
        if self.card.own_close is not any(taken.name == CLOSE + IMAGE for taken in self.session.get_inputs()):
            declared, actual = ("two networks", "one") if self.card.own_close else ("one network", "two")
            says = f"The card of {path.name} declares {declared}, the file has {actual}: export it or fetch it again."
            raise ModelError("E_MODEL", says)

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        names, feeds = self.request(images, view)
        values: list[Any] = list(self.session.run(names, feeds))
        return Outputs.of({name.removeprefix(CLOSE): value for name, value in zip(names, values, strict=True)})

    def request(self, images: np.ndarray, view: View) -> tuple[list[str], dict[str, np.ndarray]]:
        """The names of the outputs and the inputs of the session's own `run`."""
        images = np.ascontiguousarray(images)
        if not self.card.own_close:
            return self.names, {IMAGE: images}
        names = [name for name in self.names if name.startswith(CLOSE) == (view == "close")]
        inputs = (DUMMY_IMAGE, images) if view == "close" else (images, DUMMY_IMAGE)
        return names, dict(zip((IMAGE, CLOSE + IMAGE), inputs, strict=True))


_FLAGS: Final = RLock()


@contextmanager
def _exact() -> Iterator[None]:
    """Float32 as published figures have it, whatever the program around has chosen: TensorFloat-32, torch's choice on a
    GPU, and matrix products in parts of bfloat16 round more coarsely.

    The flags are the process's, so that one thread at a time computes.
    """
    import torch

    cudnn = torch.backends.cudnn
    with _FLAGS:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with cudnn.flags(
                enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
            ):
                yield
        finally:
            torch.set_float32_matmul_precision(precision)


class TorchRuntime:
    """A torch network as a runtime.

    network: takes (B, H, W, 3) uint8 and, where the card has `own_close`, the view; gives outputs of tensors. bfloat16:
    compute in it, as training does where the machine supports it; published figures use float32. sha256: of the
    checkpoint, where there is one.
    """

    def __init__(
        self, network: Callable[..., Any], card: Card, *, bfloat16: bool = False, sha256: str | None = None
    ) -> None:
        self.network, self.card, self.bfloat16 = network, card, bfloat16
        self.sha256 = sha256 or hashlib.sha256(b"").hexdigest()

    @property
    def batch(self) -> int:
        """The number of whole views that it answers best at once."""
        return 1 if self._device() == "cpu" else GPU_BATCH

    def _device(self) -> str:
        return next(self.network.parameters()).device.type  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        import torch

        device = self._device()
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        with _exact(), torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
            outputs = self.network(batch, view) if self.card.own_close else self.network(batch)
        return Outputs.of({name: value.float().cpu().numpy() for name, value in outputs.named().items()})
