"""The tables of what can be read of a neuron: tokens it fires on, what its weights stand for, what others say of it."""

from .declaration import NEURON, RUN, Column, Table

_SOURCE = (
    Column("source", "string", "name of the file imported"),
    Column("source_sha256", "string", "digest of that file"),
)

CONTENT_TABLES = (
    Table.of(
        "top_tokens",
        ("run_id", "stack", "layer", "neuron", "family", "function", "is_positive", "rank", "token"),
        "one token of a text that activates a neuron much, of either side of a function that it detects",
        *RUN,
        *NEURON,
        Column("family", "string", "function family"),
        Column("function", "string", "the function that lists the neuron among its top neurons"),
        Column("is_positive", "bool", "whether the instance is positive for the function"),
        Column("rank", "int16", "rank of the instance among those of this side, 1 for the highest activation"),
        Column("token", "int32", "place of the token in the text as the tokenizer cuts it, from 0"),
        Column("corpus", "string", "name of the corpus"),
        Column("instance_id", "int64", "the instance, as in instances"),
        Column("start_char", "int32", "where the token starts in the text, in characters"),
        Column("end_char", "int32", "where it ends"),
        Column("activation", "float32", "activation of the neuron at the token"),
    ),
    Table.of(
        "neuron_vocabulary",
        ("run_id", "stack", "layer", "neuron", "direction", "rank"),
        "one token of the vocabulary that a neuron's weights stand for, without any text",
        *RUN,
        *NEURON,
        Column("direction", "string", "writes: output weights by unembedding; reads: input weights by embedding"),
        Column("rank", "int16", "1 for the highest weight; from -1 down for the lowest"),
        Column("token", "string", "the token, as the tokenizer spells it"),
        Column("is_piece", "bool", "whether it is a piece of a word, not its beginning"),
        Column("weight", "float32", "product of the neuron's weights with those of the token"),
    ),
    Table.of(
        "explanations",
        ("source_sha256", "model", "revision", "stack", "layer", "neuron", "place"),
        "what others say of a neuron in words",
        *RUN[1:3],
        *NEURON,
        Column("place", "int16", "number of the explanation among those of the neuron in the source, from 0"),
        Column("explanation", "string", "the words"),
        Column("score", "float64", "how well it explains the neuron, as the source states it", nullable=True),
        *_SOURCE,
    ),
    Table.of(
        "expert_traffic",
        ("source_sha256", "model", "revision", "stack", "layer", "native_expert", "family", "function"),
        "how much of others' text a router sent to a native expert",
        *RUN[1:3],
        *NEURON[:2],
        Column("native_expert", "int32", "the routed expert"),
        Column("family", "string", "kind of the text, as the source names it"),
        Column("function", "string", "the text within its kind"),
        Column("share", "float64", "share of the text's tokens sent to the expert"),
        Column("n_tokens", "int64", "tokens behind it; NULL if unknown", nullable=True),
        *_SOURCE,
    ),
)
