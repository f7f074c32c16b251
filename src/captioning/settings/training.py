"""The options of the stage `train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from captioning.settings.sections import (
    Auto,
    Count,
    Fraction,
    Meaning,
    Natural,
    NonNegative,
    Positive,
    Section,
    Share,
    Text,
)

INITIAL = Path("data/weights")  # what `train.start` names when training starts from initial weights


class Optimizer(Section):
    """AdamW, with a linear warm-up and a cosine schedule."""

    lr: Annotated[
        Positive,
        Meaning("auto (0.001 on photographs for neuraltalk and oscar, else 0.003) | peak learning rate of the decoder"),
        Auto(),
    ]
    weight_decay: Annotated[NonNegative, Meaning("AdamW weight decay, matrices only")]
    warmup_steps: Annotated[Natural, Meaning("steps during which the learning rate rises from zero")]
    clip_norm: Annotated[Positive, Meaning("the gradient is clipped to this norm")]
    ema: Annotated[
        Fraction,
        Meaning("decay per step of the moving average of the weights, which is validated and kept; 0: no average"),
        Auto(0.99, 0.998),
    ]


class EncoderTraining(Section):
    """How a trained encoder is trained."""

    lr: Annotated[Positive, Meaning("peak learning rate of a trained encoder")]
    from_block: Annotated[
        Text,
        Meaning(
            "all | none (frozen, but it encodes augmented images) | first block that is trained, by the backbone's "
            "name for it, such as layer4 or features.14; earlier blocks are frozen"
        ),
    ]
    start_epoch: Annotated[
        Count, Meaning("cross-entropy epoch, counted from 1, at which its training starts; it is frozen before")
    ]


class Labels(Section):
    """Epochs ahead of the captions, in which a trained encoder learns the labels that the data set has."""

    epochs: Annotated[
        Literal["quick"] | Natural,
        Meaning(
            "auto (quick on scenes for a new encoder, else 0) | quick (6, or 3 for a backbone of more than 1 GFLOP) | "
            "epochs ahead of the captions, in which a trained encoder learns the labels that the data set has"
        ),
        Auto(),
    ]
    lr: Annotated[Positive, Meaning("peak learning rate in these epochs")]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images (trained encoder only)."""

    crop: Annotated[
        Annotated[float, Field(strict=True, gt=0, le=1)],
        Meaning("smallest share of the image's area in a random crop, which is then resized; 1: no crop"),
    ] = 1.0
    image_size: Annotated[
        Count | None,
        Meaning("side of the training images, pixels; empty: that of the stored images; at least half of that"),
    ] = None
    flip: Annotated[
        Share, Meaning("probability that an image is mirrored, unless one of its captions says left or right")
    ] = 0.0
    colour: Annotated[
        Fraction,
        Meaning("brightness, contrast and saturation are each multiplied by a factor from 1 - colour to 1 + colour"),
    ] = 0.0


class Pretraining(Section):
    """Epochs ahead of those of cross-entropy, with the objective of Oscar+."""

    epochs: Annotated[
        Natural,
        Meaning(
            "passes over the training captions ahead of `epochs`, in which masked pieces of captions and tags are "
            "predicted (only the decoder oscar); 0: no pretraining"
        ),
    ]


class SelfCritical(Section):
    """Epochs after those of cross-entropy, in which sampled captions are rewarded with their CIDEr-D."""

    epochs: Annotated[Natural, Meaning("passes over the training images; 0: no self-critical training")]
    lr: Annotated[Positive, Meaning("peak learning rate of the decoder in these epochs")]
    encoder_lr: Annotated[
        NonNegative, Meaning("peak learning rate of a trained encoder in these epochs; 0: it is frozen")
    ]


class Train(Section):
    """The section `train`."""

    start: Annotated[
        Text,
        Meaning(
            "data/weights (initial weights) | folder of a trained model (warm start); in queued experiments an "
            "absolute path, or one that DVC or git tracks"
        ),
    ]
    epochs: Annotated[
        Natural, Meaning("passes over the training captions; 0: with a trained model as `start`"), Auto(3, 4)
    ]
    batch_size: Annotated[
        Count,
        Meaning(
            "captions in a step; approximate with a trained encoder or a decoder that attends, which take all captions "
            "of an image together"
        ),
    ]
    captions_per_image: Annotated[
        Literal["all"] | Count,
        Meaning(
            "auto (2 on scenes for a trained encoder, else all) | all | captions of each image in an epoch, drawn anew "
            "for each epoch (trained encoder only)"
        ),
        Auto(),
    ]
    select: Annotated[
        Literal["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "true_captions"],
        Meaning(
            "validation score that selects the model: bleu_1, bleu_2, bleu_3, bleu_4, rouge_l, cider or (scenes only) "
            "true_captions"
        ),
    ]
    patience: Annotated[Count, Meaning("epochs without a better score before training stops")]
    checkpoint_steps: Annotated[
        Count, Meaning("optimizer steps between two checkpoints (there is also one at the end of each epoch)")
    ]
    trackers: Annotated[
        tuple[Literal["mlflow", "tensorboard", "trackio", "wandb"], ...],
        Meaning("where scalars, settings and images are logged too: [] | any of [mlflow, tensorboard, trackio, wandb]"),
    ]
    optimizer: Optimizer
    encoder: EncoderTraining
    labels: Labels
    augment: Augmentation
    pretraining: Pretraining
    self_critical: SelfCritical
