"""The ids of a vocabulary's special tokens."""

from captioning.data.text.vocabulary import Vocabulary

PAD, BOS, EOS, UNK = Vocabulary.special
