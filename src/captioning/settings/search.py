"""The options of the search for captions: of the stage `evaluate`, of `captioning predict`, and in Python."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from captioning.settings.sections import Few, Meaning, Natural, NonNegative, Positive, Seed
from captioning.system.errors import UserError

Method = Annotated[
    Literal["beam", "diverse", "sample"],
    Meaning("beam (greedy where beam_size is 1) | diverse (diverse beam search) | sample (words are sampled)"),
]
BEAM_SIZE = "hypotheses kept at each step; 1 is greedy; not used by sample"
BeamSize = Annotated[Few, Meaning(BEAM_SIZE)]
NBest = Annotated[
    Few,
    Meaning("captions for each image, best first; the first is scored; at most beam_size, except for sample"),
]
MaxWords = Annotated[Few, Meaning("longest caption, words")]
MinWords = Annotated[Natural, Meaning("shortest caption, words; at most max_words")]
LengthPenalty = Annotated[NonNegative, Meaning("captions are ranked by log probability / length ** length_penalty")]
RankBy = Annotated[
    Literal["likelihood", "consensus"],
    Meaning(
        "what the best caption is: likelihood (the likeliest) | consensus (the most similar to all others of the beam, "
        "or of the samples)"
    ),
]
RepeatNgram = Annotated[Natural, Meaning("no n-gram of this size occurs twice in a caption; 0: no restriction")]
Groups = Annotated[Few, Meaning("diverse: groups that share the beam, whose size is a multiple of it")]
Strength = Annotated[
    NonNegative,
    Meaning("diverse: cost in nats of a word, for each hypothesis of an earlier group that has it at the same step"),
]
Temperature = Annotated[Positive, Meaning("sample: logits are divided by it; below 1, likely words become likelier")]
TopK = Annotated[Natural, Meaning("sample: words are sampled from this many likeliest words; 0: from all")]
TopP = Annotated[
    Annotated[float, Field(strict=True, gt=0, le=1)],
    Meaning("sample: and from the smallest set of words whose probabilities sum to this"),
]
SamplingSeed = Annotated[Seed, Meaning("sample: random seed; another one gives other captions")]


@dataclass(frozen=True)
class SearchOptions:
    """How captions are searched. Lengths are words; `<eos>` is not a word.

    must: of `beam`: phrases, as word ids, each of which a caption must have. some_of: of `beam`: groups of phrases; of
    at least `least` groups a caption must have one phrase. The other options are explained where they are declared.
    Raises UserError where options contradict each other.
    """

    beam_size: BeamSize
    max_words: MaxWords
    min_words: MinWords = 0
    length_penalty: LengthPenalty = 0.0
    repeat_ngram: RepeatNgram = 0
    method: Method = "beam"
    n_best: NBest = 1
    groups: Groups = 1
    strength: Strength = 0.0
    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    seed: SamplingSeed = 0
    must: tuple[tuple[int, ...], ...] = ()
    rank_by: RankBy = "likelihood"
    some_of: tuple[tuple[tuple[int, ...], ...], ...] = ()
    least: int = 0

    def __post_init__(self) -> None:
        if self.min_words > self.max_words:
            raise UserError(f"min_words = {self.min_words} is more than max_words = {self.max_words}")
        if self.method != "sample" and self.n_best > self.beam_size:
            raise UserError(f"n_best = {self.n_best} is more than beam_size = {self.beam_size}; raise beam_size")
        if self.rank_by == "consensus" and (self.n_best if self.method == "sample" else self.beam_size) == 1:
            more = "n_best" if self.method == "sample" else "beam_size"
            raise UserError(f"rank_by = consensus compares captions, and {more} = 1 finds one; raise {more}")
        if self.method == "diverse" and self.beam_size % self.groups:
            raise UserError(f"beam_size = {self.beam_size} is not a multiple of groups = {self.groups}")
        if self.method != "beam" and (self.must or self.some_of):
            asked = "`must`" if self.must else "required objects"
            raise UserError(f"method = {self.method}: only beam search supports {asked}; leave it out")
        if self.least > len(self.some_of):
            raise UserError(f"least = {self.least} is more than the {len(self.some_of)} groups; ask for less")


USUAL: dict[str, Any] = {
    "max_words": 30,
    "min_words": 0,
    "length_penalty": 1.0,
    "repeat_ngram": 0,
    "method": "beam",
    "n_best": 1,
    "groups": 3,
    "strength": 0.5,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "seed": 1,
    "rank_by": "likelihood",
}
"""The defaults of `captioning predict`. The beam is as wide as for `evaluate`."""
