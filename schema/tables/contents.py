"""The tables of what can be read of a neuron: tokens it fires on, what its weights stand for, what others say of it."""

from .declaration import NEURON, RUN, Column, Table

_SOURCE = (
    Column("source", "string", "name of the file imported"),
    Column("source_sha256", "string", "digest of that file"),
)

TABLES = (
    Table.of(
        "top_tokens",
        ("run_id", "stack", "layer", "neuron", "family", "function", "is_positive", "rank", "token"),
        "a token of a text on which a neuron fires, of the texts on either side of a function that activate it most",
        *RUN,
        *NEURON,
        Column("family", "string", "function family"),
        Column(
            "function",
            "string",
            "the function: the neuron is its first of the layer, or of its first 10 over all layers",
        ),
        Column("is_positive", "bool", "whether the instance is positive for the function"),
        Column("rank", "int16", "rank of the instance among those of this side, 1 for the highest activation"),
        Column(
            "token",
            "int32",
            "place of the token in the text as the tokenizer cuts it, from 0; at most 3 of an instance",
        ),
        Column("corpus", "string", "name of the corpus"),
        Column("instance_id", "int64", "the instance, as in instances"),
        Column(
            "start_char",
            "int32",
            "where the token starts in the text, in characters; 0, as its end, if it is not of the text",
        ),
        Column("end_char", "int32", "where it ends"),
        Column("activation", "float32", "activation of the neuron at the token"),
    ),
    Table.of(
        "neuron_vocabulary",
        ("run_id", "stack", "layer", "neuron", "direction", "rank"),
        "one token of the vocabulary that a neuron's weights stand for, without any text",
        *RUN,
        *NEURON,
        Column(
            "direction",
            "string",
            "writes: output weights by unembedding; reads: input weights (the gate's) by embedding",
        ),
        Column("rank", "int16", "1 to 10 from the highest weight down; -1 to -10 from the lowest up"),
        Column("token", "string", "the token, without the mark of a word's beginning"),
        Column("is_piece", "bool", "whether it is a piece that goes on with a word, not its beginning"),
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
