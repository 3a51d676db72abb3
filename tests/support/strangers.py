"""People who say public sentences and have taught the shipped base nothing."""

from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.synthesis.names import NAMES
from fedspeech.training.pretrain_sentences import public_grammar


def strangers(seed, num_speakers):
    """Four sentences each, in the accent that the base has heard."""
    group = SpeakerGroup(
        name="held_out", num_speakers=num_speakers, words=(), utterances_per_word=0,
        grammar=public_grammar(), num_sentences=4,
    )  # fmt: skip
    return SyntheticCorpus(
        SyntheticSpec(
            seed=seed, groups=(group,), lexicon=tuple(NAMES.items()), frontend=SPHINX_MFCC
        )
    )
