"""The sections of a recipe: network, views and samples, losses and training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator

from funduscope.vocabulary import CLASSES, CODES, LANDMARKS, LESIONS, PHOTO_TASKS, View

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Width = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A section. Unknown keys are errors; values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses true and false for a number, which would be 1 and 0; dictionaries in sections are of numbers."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        of_numbers = get_origin(annotation) is dict and isinstance(value, dict)
        if of_numbers and any(isinstance(one, bool) for one in value.values()):
            raise ValueError("expected numbers, not true or false")
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError("expected a number, not true or false")
        in_list = value if get_origin(annotation) is tuple and isinstance(value, list | tuple) else ()
        if any(isinstance(one, bool) for one in in_list):
            raise ValueError("expected no true or false in a list")
        return value


def _each_once(name: str, named: tuple[str, ...]) -> None:
    if len({*named}) < len(named):
        raise ValueError(f"{name} names something twice: {', '.join(named)}")


class Encoder(Strict):
    """The backbone. name: any timm name. weights: to begin with. variant v1: strides in the first 1x1 convolution of
    ResNet's layers 2-4.

    output_stride: of the deepest level. Below 32 the last stages are dilated instead of strided. levels: of the
    pyramid, from the shallowest; 0 takes all. Without the deepest a network for small lesions is a quarter of the size.
    mean, std: of red, green and blue in 0..1, by which the network normalizes. ImageNet weights bring variant, mean and
    std with them.
    """

    name: str = "resnet50"
    weights: Literal["imagenet", "none"] = "imagenet"
    variant: Literal["timm", "v1"] = "timm"
    output_stride: Literal[8, 16, 32] = 32
    levels: Annotated[int, Field(ge=0, le=6)] = 0
    mean: tuple[Finite, Finite, Finite] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)


class Decoder(Strict):
    """From the encoder's pyramid to maps for the dense heads.

    kind: see network/decoders.py. skip_channels: width to which each level is projected, shallow to deep; empty: no
    projection. channels: of the blocks from the deepest up; for deeplab one number, the width of ASPP and head. rates:
    deeplab's atrous rates at output stride 16, doubled at 8. separable: deeplab's convolutions larger than 1x1 are
    depthwise separable. deep_supervision: of unetplusplus; every node of the finest level finds the structures, is
    learned from, and counts in their mean.
    """

    kind: Literal["unet", "attention_unet", "transposed_unet", "unetplusplus", "deeplab"] = "unet"
    skip_channels: tuple[Width, ...] = (32, 64, 96, 128, 256)
    channels: tuple[Width, ...] = (128, 64, 32, 32)
    rates: Annotated[tuple[Width, ...], Field(min_length=1)] = (6, 12, 18)
    separable: bool = False
    deep_supervision: bool = False

    @model_validator(mode="after")
    def _levels(self) -> Decoder:
        if self.deep_supervision and self.kind != "unetplusplus":
            raise ValueError(
                f"decoder.deep_supervision is of decoder.kind 'unetplusplus', not of {self.kind!r}: set it to false."
            )
        if self.kind == "deeplab":
            if len(self.channels) != 1:
                raise ValueError(
                    f"decoder.channels of deeplab is one width, such as [256]; it has {len(self.channels)} entries"
                )
        elif self.skip_channels and len(self.skip_channels) != len(self.channels) + 1:
            raise ValueError(
                f"decoder.skip_channels needs one entry more than decoder.channels ({len(self.channels)}), "
                f"it has {len(self.skip_channels)}"
            )
        return self


class Heads(Strict):
    """hidden: widths of the layers between the pooled features and the grades. Without any there is one linear layer,
    whose class activation map is exact."""

    hidden: tuple[Width, ...] = ()


class Experts(Strict):
    """Experts between the shared features and the tasks (network/routing.py).

    count: number of experts, of each task where it has its own. kind mixture: one router for all tasks; soft: one gate
    per task over shared experts; per_task: every task has experts (layers) and a gate of its own; heads: every task has
    whole heads as experts (network/expert_heads.py), with sigmoid scores instead of shares; they are as published, so
    `heads.hidden`, `decoder.separable` and `training.dropout` change nothing in them. keep: which of them are computed
    for a photo: all, the top_k, or the fewest whose gates sum to top_p (in training) or top_p_predict. every_until: in
    this first part of the training, in whole epochs, all are computed. balance, z: weights of the losses that spread
    the photos over the experts and keep the gates' logits small. sparsity, entropy: for heads, weights of the mean
    score and of the negative entropy of a photo's scores, in place of z. width: channels inside an expert of a mixture
    or of soft sharing.
    """

    kind: Literal["none", "mixture", "soft", "per_task", "heads"] = "none"
    count: Annotated[int, Field(ge=2, le=64)] = 3
    keep: Literal["all", "top_k", "top_p"] = "top_p"
    top_k: Annotated[int, Field(ge=1)] = 1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.8
    top_p_predict: Annotated[float, Field(gt=0, le=1)] = 0.75
    width: Annotated[int, Field(ge=1)] = 256
    balance: Weight = 0.01
    z: Weight = 0.001
    sparsity: Weight = 0.01
    entropy: Weight = 0.01
    every_until: Share = 0.0

    @model_validator(mode="after")
    def _enough(self) -> Experts:
        if self.top_k > self.count:
            raise ValueError(f"experts.top_k is {self.top_k}, more than the {self.count} experts there are")
        return self


_SWITCHES: dict[str, Any] = {task.name: (bool, False) for task in PHOTO_TASKS}
_Switches = create_model("_Switches", __base__=Strict, **_SWITCHES)
_WEIGHTS: dict[str, Any] = {task.name: (Weight, task.weight) for task in PHOTO_TASKS}
_Weights = create_model("_Weights", __base__=Strict, **_WEIGHTS)


class Tasks(_Switches):
    """What the network predicts. Every photo task of the vocabulary has a switch of its name, such as grade and dme.

    structures: that are outlined. landmarks: whose centers are found. witnesses: whether calibration joins what the
    outlined lesions say of grade and edema risk with the photo's own answer, and lets outlines fade with the joint
    grade; otherwise each head answers by itself, as in the published designs.
    """

    grade: bool = True
    dme: bool = True
    structures: tuple[str, ...] = CODES
    landmarks: tuple[str, ...] = LANDMARKS
    witnesses: bool = True

    @model_validator(mode="after")
    def _known(self) -> Tasks:
        for name, allowed in (("structures", CODES), ("landmarks", LANDMARKS)):
            unknown = [item for item in getattr(self, name) if item not in allowed]
            if unknown:
                raise ValueError(f"{name} has {unknown[0]!r}; known are {', '.join(allowed)}")
            _each_once(name, getattr(self, name))
        if not (self.photo_tasks or self.structures or self.landmarks):
            raise ValueError("a recipe needs at least one task")
        return self

    @property
    def photo_tasks(self) -> tuple[str, ...]:
        """The names of the photo tasks that are switched on, in the vocabulary's order."""
        return tuple(task for task in CLASSES if getattr(self, task))

    @property
    def named(self) -> tuple[str, ...]:
        """Photo tasks, structures and landmarks by name."""
        return (*self.photo_tasks, *self.structures, *self.landmarks)


class Views(Strict):
    """One network takes two views of the eye: whole, for grade, landmarks and disc; close, for small structures.

    whole_px, close_px: side of the square frame around the eye. A training sample is whole_px wide in both views: the
    eye reduced to it, or a crop of the close frame. close: the structures that are predicted from the close view;
    without any there is only the whole view. mirrored: predictions are means over the view and its mirror image.
    """

    whole_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)] = 512
    close_px: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 1024
    close: tuple[str, ...] = LESIONS
    mirrored: bool = False

    @model_validator(mode="after")
    def _sizes(self) -> Views:
        for code in self.close:
            if code not in CODES:
                raise ValueError(f"views.close has {code!r}; known are {', '.join(CODES)}")
        _each_once("views.close", self.close)
        if not self.close and self.close_px != self.whole_px:
            raise ValueError(
                f"views.close is empty, so there is one view: close_px ({self.close_px}) must be whole_px "
                f"({self.whole_px})"
            )
        if self.whole_px > self.close_px:
            raise ValueError(f"views.whole_px is {self.whole_px}, more than close_px, {self.close_px}")
        return self


class Sampling(Strict):
    """How often an epoch shows a photo of each data set in each view: 8 is eight crops, 0.5 is every second epoch.

    A data set that is not named is not trained on. Cases without any label for the view are left out. lesion_centered:
    share of the close crops around a lesion, where one is outlined or boxed. grade_power: in the whole view a photo is
    drawn in proportion to (1 / number of photos of its data set with its grade) ** power; the rate of the set stays.
    photos: share of the training photos, in whole visits of each data set, for learning curves; a larger share contains
    the smaller ones. hard_negatives: share of an epoch's samples that are close crops without a lesion in which the
    network falsely found most in the epoch before (training/hard_negatives.py). per_epoch: the number of samples of an
    epoch, with the rates as proportions; 0: as the rates say. order: mixed samples, or batches that alternate between
    photos with masks and photos with grades alone.
    """

    whole: dict[str, Weight] = {}
    close: dict[str, Weight] = {}
    lesion_centered: Share = 0.75
    grade_power: Share = 0.0
    photos: Annotated[float, Field(gt=0, le=1)] = 1.0
    hard_negatives: Share = 0.0
    per_epoch: Annotated[int, Field(ge=0)] = 0
    order: Literal["mixed", "alternate"] = "mixed"

    def datasets(self) -> set[str]:
        """The data sets that are learned from. A rate of 0 leaves one out, as not naming it does."""
        return {name for rates in self.by_view.values() for name, rate in rates.items() if rate}

    @property
    def by_view(self) -> dict[View, dict[str, float]]:
        """The rates by data set, of each view."""
        return {"whole": self.whole, "close": self.close}


class Augment(Strict):
    """One joint warp and one pass of color. Probabilities, and bounds of uniform random numbers.

    Probabilities: mirror (left-right), flip (upside down), transpose, quarter_turns (a whole eye by 90 degrees), warp
    (rotation, scale and shift), elastic, grid, tone (brightness, contrast, gamma, color, saturation), blur, noise,
    sensor_noise, multiplicative_noise, jpeg, small_copy (the detail of a copy of the photo at least 400 px wide).
    rotate_deg: largest angle, either way. scale_frac, shift_frac: largest change of size, and of place as a share of
    the side. elastic_frac, grid_frac: bound of the largest displacement, as a share of the side.
    """

    mirror: Share = 0.5
    flip: Share = 0.0
    transpose: Share = 0.0
    quarter_turns: Share = 0.0
    warp: Share = 1.0
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 15.0
    scale_frac: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    shift_frac: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    elastic: Share = 0.0
    elastic_frac: Annotated[float, Field(ge=0, le=0.1)] = 0.02
    grid: Share = 0.0
    grid_frac: Annotated[float, Field(ge=0, le=0.1)] = 0.03
    tone: Share = 1.0
    brightness: Share = 0.2
    contrast: Share = 0.2
    gamma: Share = 0.2
    color: Share = 0.1
    saturation: Share = 0.0
    blur: Share = 0.1
    noise: Share = 0.1
    sensor_noise: Share = 0.0
    multiplicative_noise: Share = 0.0
    jpeg: Share = 0.1
    small_copy: Share = 0.0


class Loss(_Weights):
    """Weights of the tasks (every photo task's under its name, dense for the structures, landmarks), and measures
    against imbalance.

    label_smoothing: of the grades' cross-entropy, the share of a label that all classes have alike. ordinal: weight of
    the distance in classes between prediction and label, added to the cross-entropy of photo tasks whose classes have
    an order, such as grade and DME. boxes: weight, within dense, of bags: boxes around lesions and regions that experts
    marked, which have a lesion of their kind somewhere inside. class_weight_power: a grade's weight is (1 / its
    frequency) ** power, scaled to a mean of 1 over the photos. cross_entropy, dice, focal, tversky: weights of the
    terms of a structure's loss; only cross-entropy and focal learn from a photo without the structure. positive_weight:
    of a lesion's pixel in the cross-entropy. focus: the same for single structures that are so rare that they are
    otherwise never learned. focal_gamma: how much less easy pixels count; focal_alpha: weight of a lesion's pixel in
    it, and 1 minus it of every other; 0 weighs both alike. class_focal: weight of the focal loss of grade and DME, each
    class a yes or no. tversky_false: weight of false pixels; missed ones have 1 minus it. smooth_px: added to numerator
    and denominator of Dice and Tversky. distill: weight of the teachers' predictions; distill_temperature softens their
    grades.
    """

    dense: Weight = 1.0
    landmarks: Weight = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    ordinal: Weight = 0.0
    boxes: Weight = 0.0
    class_weight_power: Share = 0.25
    cross_entropy: Weight = 5.0
    positive_weight: Positive = 3.0
    focus: dict[str, Positive] = Field(default_factory=dict)
    dice: Weight = 1.0
    focal: Weight = 0.0
    focal_gamma: Weight = 2.0
    focal_alpha: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_focal: Weight = 0.0
    tversky: Weight = 0.0
    tversky_false: Share = 0.3
    smooth_px: Positive = 1.0
    distill: Weight = 1.0
    distill_temperature: Positive = 2.0

    @model_validator(mode="after")
    def _known(self) -> Loss:
        unknown = [code for code in self.focus if code not in CODES]
        if unknown:
            raise ValueError(f"loss.focus has {unknown[0]!r}; known are {', '.join(CODES)}")
        return self


class Balance(Strict):
    """How the tasks' losses become one. Each kind starts from the weights of `loss`; see training/balance.py.

    floor: for routed, the share of its start weight that a task keeps at least. anchor: for routed, the strength of the
    pull to the start weights. rate: learning rate of learned weights.
    """

    kind: Literal["fixed", "routed"] = "fixed"
    floor: Share = 0.2
    anchor: Weight = 1.0
    rate: Positive = 0.01


class Training(Strict):
    """The loop.

    optimizer, learning_rate, weight_decay: of the whole network; the encoder's rate is encoder_rate_frac of it.
    accumulate: batches whose gradients make one step. clip_norm: the largest norm of a step's gradient. dropout: of the
    inputs of a photo task's head. seed: of first weights, samples and augmentation. epochs: with 0 nothing is learned;
    the first weights (`train --init`, or their mean) are scored and get a card. warm_up_frac: part of all steps in
    which the learning rate rises; then it falls as a cosine. schedule plateau: after the rise the rate stays, and is
    multiplied by plateau_factor after plateau_patience judged epochs without a better validation score; schedule step:
    every step_epochs epochs it is multiplied by step_factor. average_decay: of the exponential moving average of the
    weights, which is what is scored and kept; 0 keeps the weights themselves. patience: training stops after so many
    epochs without a better validation score. select: the validation score: the mean of all tasks
    (training/validation.py), the mean of accuracy and IoU (at a probability of 0.5, since thresholds are fixed after
    training), or the total loss on the validation photos, the lower the better. judge_every: validate every so many
    epochs, and after the last. precision auto: bfloat16 if the machine has instructions for it, otherwise float16 with
    loss scaling on a GPU, float32 on a CPU. batch: of all processes together. batch_norm: statistics of each process's
    own share of a batch; synchronized over the processes, if the device can (GPUs; otherwise its own share); or frozen,
    those of the first weights. compile: the network by torch.compile. workers: processes that prepare samples, of all
    processes together and at most one per core.
    """

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 9
    batch: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: Positive = 1.5e-4
    encoder_rate_frac: Positive = 1.0
    weight_decay: Weight = 0.02
    warm_up_frac: Share = 0.15
    schedule: Literal["cosine", "plateau", "constant", "step"] = "cosine"
    step_epochs: Annotated[int, Field(ge=1)] = 30
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: Annotated[int, Field(ge=1)] = 2
    clip_norm: Positive = 5.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    patience: Annotated[int, Field(ge=1)] = 4
    select: Literal["mean", "accuracy_iou", "loss"] = "mean"
    judge_every: Annotated[int, Field(ge=1)] = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_norm: Literal["own", "synchronized", "frozen"] = "own"
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
