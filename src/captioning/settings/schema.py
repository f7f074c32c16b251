"""The types of params.yaml: each section, each key, each range, each with one line of meaning."""

from typing import Annotated, Literal

from pydantic import Field

from captioning.settings import decoders, objects, search
from captioning.settings.sections import (
    Auto,
    Count,
    Few,
    Flag,
    Location,
    Meaning,
    Section,
    Seed,
    Text,
    as_written,
)
from captioning.settings.training import Train

ImageSize = Literal["native", "enlarged", "quick"] | Annotated[int, Field(strict=True, ge=32, le=8192)]


class Compute(Section):
    """The machine."""

    portable: Annotated[
        Flag, Meaning("true: AVX2 only, the same bytes on x86-64 CPUs of one maker; false: fastest on this machine")
    ]
    threads: Annotated[Few, Meaning("CPU threads of PyTorch; another number changes the last bits of results")]
    device: Annotated[Literal["auto", "cpu", "cuda"], Meaning("auto (a GPU if there is one) | cpu | cuda")]
    precision: Annotated[
        Literal["32-true", "bf16-mixed"],
        Meaning(
            "32-true | bf16-mixed (Lightning Fabric's names; needs a GPU, or a CPU with AVX-512 BF16 and "
            "portable: false)"
        ),
    ]
    processes: Annotated[Few, Meaning("processes that share the work on this machine; on GPUs, one process for each")]
    compile: Annotated[
        Flag, Meaning("true: torch.compile on the trained network; takes minutes at the start, useful on a GPU")
    ]


class Scenes(Section):
    """What is drawn if `dataset` is scenes."""

    train: Annotated[Annotated[int, Field(strict=True, ge=2, le=1_000_000_000)], Meaning("training images")]
    val: Annotated[Count, Meaning("validation images")]
    test: Annotated[Count, Meaning("test images")]
    image_size: Annotated[Annotated[int, Field(strict=True, ge=32, le=1024)], Meaning("side of an image, pixels")]
    seed: Annotated[Seed, Meaning("random seed of the drawing: another one draws another data set")]


class Download(Section):
    """The section `download`."""

    source: Annotated[
        Location | None,
        Meaning("folder that is searched before the network; empty: the variable CAPTIONING_SOURCE, if set"),
    ]
    split: Annotated[
        Literal["official", "karpathy"],
        Meaning("auto (karpathy for flickr30k and coco2014, else official) | official | karpathy (not coco2017)"),
        Auto(),
    ]
    skip_corrupt: Annotated[
        Flag,
        Meaning("false: an image that cannot be decoded stops the run; true: it is left out and counted"),
    ]
    folder: Annotated[
        Location,
        Meaning(
            "folder of your images and captions.csv, if `dataset` is folder; data/check has none; in queued "
            "experiments an absolute path"
        ),
    ]
    scenes: Scenes


class Vocab(Section):
    """The section `vocab`."""

    kind: Annotated[
        Literal["words", "pieces"],
        Meaning("auto (pieces if the decoder is oscar, else words) | words | pieces (BERT's word pieces)"),
        Auto(),
    ]
    min_count: Annotated[
        Count,
        Meaning(
            "how often a word must occur in the training captions to be kept; a learnt piece too; pieces of a text "
            "model are kept wherever they occur"
        ),
    ]
    text: Annotated[
        Location,
        Meaning(
            "folder of an uncased BERT, Oscar or VinVL, whose pieces are used, and whose weights the decoder oscar "
            "starts from; data/check has none: pieces are learnt; in queued experiments an absolute path"
        ),
    ]


class Split(Section):
    """The section `split`."""

    limit: Annotated[
        Annotated[int, Field(strict=True, ge=2, le=1_000_000_000)] | None,  # BatchNorm cannot be trained on one
        Meaning("images of each split, for a first look, the same ones each time; empty: all"),
    ]
    max_words: Annotated[Count, Meaning("longer training captions are cut to this many words")]


class Features(Section):
    """The section `features`."""

    weights: Annotated[
        Text,
        Meaning("imagenet | none (from scratch) | path to a state dict (.pth, .safetensors)"),
        Auto("none", "imagenet"),
    ]
    trainable: Annotated[
        Flag,
        Meaning("true (the encoder is trained, pixels are stored) | false (it is frozen, features are stored)"),
        Auto(drawn=True, photographs=False),
    ]
    image_size: Annotated[
        ImageSize,
        Meaning(
            "quick (96, or 48 for a backbone of more than 1 GFLOP: small enough to train from scratch on a CPU) | "
            "native (of the weights) | enlarged (9/7 of native, if the encoder accepts it) | side in pixels"
        ),
        Auto("quick", "enlarged"),
    ]
    crop: Annotated[
        Literal["none", "centre"],
        Meaning(
            "none (the whole image, resized to a square) | centre (the square in its middle, as in ImageNet evaluation)"
        ),
    ]
    regions: Annotated[
        Flag,
        Meaning("auto (only if the decoder attends) | true | false; true stores the regions, not only their mean"),
        Auto(),
    ]
    mirror: Annotated[
        Flag,
        Meaning(
            "true: features of mirrored images are stored too, and training draws one of the two (frozen encoder only)"
        ),
    ]
    engine: Annotated[
        Literal["torch", "onnxruntime", "openvino", "onnxruntime-int8", "openvino-int8"],
        Meaning(
            "torch | onnxruntime | openvino | onnxruntime-int8 | openvino-int8: what runs a frozen encoder here, and "
            "whether in 8-bit integers (docs/engines.md)"
        ),
    ]
    shard_size: Annotated[Count, Meaning("images in each file of the store, rounded up to whole batches")]


class Evaluate(Section):
    """The section `evaluate`."""

    method: search.Method
    beam_size: Annotated[
        Few,
        Meaning(
            "auto (3 on scenes, 8 on photographs; more where n_best needs it, and a multiple of 3 for diverse) | "
            + search.BEAM_SIZE
        ),
        Auto(),
    ]
    n_best: search.NBest
    max_words: search.MaxWords
    rank_by: search.RankBy
    top_p: search.TopP
    mirror: Annotated[
        Flag,
        Meaning(
            "true: the mirrored image is read too, and the probabilities of both are averaged (a frozen encoder needs "
            "features.mirror)"
        ),
    ]
    ensemble: Annotated[
        Location,
        Meaning(
            "folder of further model folders, whose probabilities are averaged with those of the trained model; one of "
            "neighbours lends its captions instead; data/check has none; in queued experiments an absolute path"
        ),
    ]
    java: Annotated[
        Flag,
        Meaning("true: METEOR too (and SPICE where its models are), with Java and pycocoevalcap"),
    ]


class Settings(Section):
    """All of params.yaml, with `auto` decided."""

    seed: Annotated[
        Seed, Meaning("random seed of training (initial weights, batches, dropout) and of sampled captions")
    ]
    dataset: Annotated[
        Literal["scenes", "abstract_scenes", "flickr8k", "flickr30k", "coco2014", "coco2017", "folder"],
        Meaning(
            "scenes (drawn here) | abstract_scenes | flickr8k | flickr30k | coco2014 | coco2017 | "
            "folder (your own images)"
        ),
    ]
    encoder: Annotated[
        Text,
        Meaning(
            "CNN or vision transformer: any classification backbone of torchvision, by name, or of timm, as timm/NAME"
        ),
    ]
    decoder: Annotated[
        Literal[decoders.names()],  # type: ignore[valid-type]
        Meaning(f"{' | '.join(decoders.names())} (docs/models.md has a diagram of each)"),
    ]
    objects: objects.Kind
    compute: Compute
    download: Download
    vocab: Vocab
    split: Split
    features: Features
    decoders: decoders.Decoders
    train: Train
    evaluate: Evaluate


Written = as_written(Settings)
"""The same as a person writes it: `auto` is allowed where it is marked."""
