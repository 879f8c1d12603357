"""Sentences in which a noun has one of two senses, written for this package.

There are 16 nouns, with 16 sentences for either sense and the same surface form in all 32: a neuron that separates the
senses responds to the sense. The position of the noun and the length of the sentence are balanced between the senses,
and no other content word is in more than 4 sentences of a sense; the tests hold the file to that.
"""

from collections import Counter
from pathlib import Path

from ..ingest.corpora.instance import Instance, Source

_FILE = "word_senses.tsv"


def read_word_senses() -> Source:
    """Return a source of the nouns in their sentences, in which every noun has a function, one sense against the other.

    The function is ``semantic/<noun>:<sense>-<other sense>``. Its positives have the sense that comes first in
    alphabetical order, and sentences with other nouns are not labelled for it.
    """
    rows = [line.split("\t") for line in Path(__file__).with_name(_FILE).read_text("utf-8").splitlines()[1:]]
    senses: dict[str, set[str]] = {}
    for word, sense, _ in rows:
        senses.setdefault(word, set()).add(sense)
    pairs = {word: (min(both), max(both)) for word, both in senses.items()}
    labels = {word: f"semantic/{word}:{first}-{second}" for word, (first, second) in pairs.items()}
    instances = []
    n_rows: Counter[str] = Counter()
    for word, sense, sentence in rows:
        n_rows[word] += 1
        start = sentence.index(word)  # its only occurrence
        label = {labels[word]: sense == pairs[word][0]}
        instances.append(Instance(sentence, label, start, start + len(word), source_id=f"{word}/{n_rows[word]}"))
    return Source(
        instances=instances,
        description="original sentences in which a noun has one of two senses",
        licence="Apache-2.0",
        origin=f"word senses: {_FILE}",
        negatives="explicit",
        descriptions={
            labels[word]: f"{word} in the sense {first}, against the sense {second}"
            for word, (first, second) in pairs.items()
        },
    )
