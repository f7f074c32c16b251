"""The types of params.yaml: each section, each key, each range. Each key is commented there."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
DecoderName = Literal["lstm", "neuraltalk", "attention", "updown", "transformer"]


class Section(BaseModel):
    """A mapping of params.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Compute(Section):
    portable: bool
    threads: Count
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["32-true", "bf16-mixed"]
    processes: Count
    compile: bool


class Scenes(Section):
    train: Annotated[int, Field(ge=2)]
    val: Count
    test: Count
    image_size: Annotated[int, Field(ge=32, le=1024)]
    seed: Natural


class Download(Section):
    source: Path | None
    split: Literal["auto", "official", "karpathy"]
    skip_corrupt: bool
    folder: Path
    scenes: Scenes


class Vocab(Section):
    min_count: Count


class Split(Section):
    limit: Annotated[int, Field(ge=2)] | None  # BatchNorm cannot be trained on one
    max_words: Count


class Features(Section):
    weights: str
    trainable: Literal["auto"] | bool
    image_size: Literal["auto", "native", "enlarged", "quick"] | Annotated[int, Field(ge=32)]
    crop: Literal["none", "centre"]
    regions: Literal["auto"] | bool
    mirror: bool
    batch_size: Count
    shard_size: Count


class Lstm(Section):
    embedding_size: Literal["auto"] | Count
    hidden_size: Literal["auto"] | Count
    layers: Count
    dropout: Fraction
    picture: Literal["yunjey", "nic"]


class NeuralTalk(Section):
    cell: Literal["rnn", "lstm"]
    embedding_size: Count
    hidden_size: Count
    dropout: Fraction


class Attention(Section):
    kind: Literal["soft", "hard"]
    embedding_size: Count
    hidden_size: Count
    attention_size: Count
    dropout: Fraction
    doubly_stochastic: NonNegative
    reinforce: NonNegative
    entropy: NonNegative
    sampling: Annotated[float, Field(ge=0, le=1)]


class UpDown(Section):
    embedding_size: Count
    hidden_size: Count
    attention_size: Count
    dropout: Fraction


class Transformer(Section):
    width: Literal["auto"] | Count
    layers: Literal["auto"] | Count
    heads: Count
    feed_forward: Literal["auto"] | Count
    dropout: Literal["auto"] | Fraction

    @field_validator("heads")
    @classmethod
    def _share_the_width(cls, heads: int, others: ValidationInfo) -> int:
        width = others.data.get("width", "auto")
        if width != "auto" and width % (2 * heads):
            raise ValueError(f"width {width} is not a multiple of 2 * heads")
        return heads


class FineTune(Section):
    from_block: str
    start_epoch: Count


class Augment(Section):
    crop: Annotated[float, Field(gt=0, le=1)]
    image_size: Count | None
    flip: Annotated[float, Field(ge=0, le=1)]
    colour: Fraction


class ScheduledSampling(Section):
    probability: Annotated[float, Field(ge=0, le=1)]
    first_epoch: Count
    last_epoch: Count

    @field_validator("last_epoch")
    @classmethod
    def _not_before_the_first(cls, last: int, others: ValidationInfo) -> int:
        if last < others.data.get("first_epoch", last):
            raise ValueError(f"it is before first_epoch = {others.data['first_epoch']}")
        return last


class SelfCritical(Section):
    epochs: Natural
    batch_size: Count
    samples: Count
    baseline: Literal["greedy", "leave_one_out"]
    lr: Positive
    encoder_lr: NonNegative

    @field_validator("baseline")
    @classmethod
    def _has_others(cls, baseline: str, others: ValidationInfo) -> str:
        if baseline == "leave_one_out" and others.data.get("samples") == 1:
            raise ValueError("a caption is compared with the others of its image, so samples must be 2 or more")
        return baseline


class Train(Section):
    start: str
    epochs: Literal["auto"] | Natural
    batch_size: Literal["auto"] | Count
    captions_per_image: Literal["auto", "all"] | Count
    lr: Positive
    encoder_lr: Positive
    weight_decay: NonNegative
    schedule: Literal["cosine", "step"]
    step_epochs: Count
    step_gamma: Annotated[float, Field(gt=0, le=1)]
    warmup_steps: Natural
    clip_norm: Positive
    ema: Literal["auto"] | Fraction
    label_smoothing: Fraction
    word_presence: NonNegative
    facts: NonNegative
    label_epochs: Literal["auto"] | Natural
    label_lr: Positive
    batchnorm: Literal["auto", "batch", "eval"]
    word_dropout: Fraction
    select: Literal["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]
    patience: Count
    checkpoint_steps: Count
    samples: Count
    trackers: tuple[Literal["mlflow", "tensorboard", "wandb"], ...]
    fine_tune: FineTune
    augment: Augment
    scheduled_sampling: ScheduledSampling
    self_critical: SelfCritical
    lstm: Lstm
    neuraltalk: NeuralTalk
    attention: Attention
    updown: UpDown
    transformer: Transformer


class Diverse(Section):
    groups: Count
    strength: NonNegative


class Sampling(Section):
    temperature: Positive
    top_k: Natural
    top_p: Annotated[float, Field(gt=0, le=1)]


class Evaluate(Section):
    method: Literal["beam", "diverse", "sample"]
    beam_size: Literal["auto"] | Count
    n_best: Count
    max_words: Count
    min_words: Natural
    length_penalty: NonNegative
    rank_by: Literal["likelihood", "consensus"]
    repeat_ngram: Natural
    mirror: bool
    diverse: Diverse
    sampling: Sampling
    ensemble: Path
    batch_size: Count
    java: bool
    samples: Count

    @field_validator("n_best")
    @classmethod
    def _in_the_beam(cls, n_best: int, others: ValidationInfo) -> int:
        beam = others.data.get("beam_size", "auto")
        if beam != "auto" and n_best > beam and others.data.get("method") != "sample":
            raise ValueError(f"more than evaluate.beam_size, {beam}")
        return n_best

    @field_validator("rank_by")
    @classmethod
    def _among_several(cls, rank_by: str, others: ValidationInfo) -> str:
        count = "n_best" if others.data.get("method") == "sample" else "beam_size"
        if rank_by == "consensus" and others.data.get(count) == 1:
            raise ValueError(f"compares captions, and evaluate.{count}, 1, finds one")
        return rank_by

    @field_validator("min_words")
    @classmethod
    def _no_longer_than_the_longest(cls, min_words: int, others: ValidationInfo) -> int:
        longest = others.data.get("max_words", min_words)
        if min_words > longest:
            raise ValueError(f"more than evaluate.max_words, {longest}")
        return min_words

    @field_validator("diverse")
    @classmethod
    def _share_the_beam(cls, diverse: Diverse, others: ValidationInfo) -> Diverse:
        beam = others.data.get("beam_size", "auto")
        if beam != "auto" and others.data.get("method") == "diverse" and beam % diverse.groups:
            raise ValueError(f"evaluate.beam_size, {beam}, is not a multiple of evaluate.diverse.groups")
        return diverse


class Settings(Section):
    """All of params.yaml. Each field is commented there, with unit and range."""

    seed: Natural
    dataset: Literal["scenes", "abstract_scenes", "flickr8k", "flickr30k", "coco2014", "coco2017", "folder"]
    encoder: str
    decoder: DecoderName
    compute: Compute
    download: Download
    vocab: Vocab
    split: Split
    features: Features
    train: Train
    evaluate: Evaluate
