"""The tables of a labelled corpus."""

from .columns import FUNCTION
from .declaration import Column, Table

CORPUS_TABLES = (
    Table.of(
        "corpora",
        ("corpus",),
        "one labelled corpus",
        Column("corpus", "string", "name of the corpus"),
        Column("corpus_sha256", "string", "digest of its texts, instances and labels"),
        Column("description", "string", "what it is"),
        Column("licence", "string", "its licence, NULL when unknown", nullable=True),
        Column("source", "string", "where it was read from: reader and file or folder name"),
        Column("n_texts", "int64", "distinct texts"),
        Column("n_instances", "int64", "instances: texts or spans of them"),
        Column("dropped", "string", "JSON object: what was excluded or altered in reading, counted by reason"),
    ),
    Table.of(
        "texts",
        ("corpus", "text_id"),
        "one text, run once however many instances it has",
        Column("corpus", "string", "name of the corpus"),
        Column("text_id", "int64", "index of the text, in the order read"),
        Column("text", "string", "the text"),
        Column("target", "string", "target text of sequence-to-sequence or choice data", nullable=True),
        Column("split_group", "string", "texts of one group share a half; NULL: the text alone", nullable=True),
        Column("half", "string", "a or b, by a hash of split_group, or of the text where that is NULL"),
    ),
    Table.of(
        "instances",
        ("corpus", "instance_id"),
        "what is labelled: a text, or a span of one",
        Column("corpus", "string", "name of the corpus"),
        Column("instance_id", "int64", "index of the instance, in the order read"),
        Column("text_id", "int64", "the text"),
        Column("start_char", "int32", "first character of the span, NULL for the whole text", nullable=True),
        Column("end_char", "int32", "one past the last character of the span, NULL likewise", nullable=True),
        Column("source_id", "string", "the instance's id in the source", nullable=True),
    ),
    Table.of(
        "labels",
        ("corpus", "instance_id", "family", "function"),
        "one label of an instance; of a function with negatives = rest only the positives are kept",
        Column("corpus", "string", "name of the corpus"),
        Column("instance_id", "int64", "the instance"),
        *FUNCTION,
        Column("is_positive", "bool", "whether the instance has the function"),
    ),
    Table.of(
        "functions",
        ("corpus", "family", "function"),
        "one function of a corpus",
        Column("corpus", "string", "name of the corpus"),
        *FUNCTION,
        Column("n_positive", "int64", "instances labelled positive"),
        Column("n_negative", "int64", "instances that count as negative"),
        Column("prevalence", "float64", "n_positive / (n_positive + n_negative)"),
        Column("negatives", "string", "rest: unlabelled instances are negative; explicit: they are outside"),
        Column("description", "string", "what the function is", nullable=True),
    ),
)
