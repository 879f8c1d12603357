-- The tables of a labelled corpus.

-- one labelled corpus
create table corpora (
    corpus varchar not null,
    corpus_sha256 varchar not null,  -- digest of its texts, instances and labels
    description varchar not null,    -- what it is
    licence varchar,                 -- its licence, NULL when unknown
    source varchar not null,         -- where it was read from: reader and file or folder name
    n_texts bigint not null,         -- distinct texts
    n_instances bigint not null,     -- instances: texts or spans of them
    dropped varchar not null,        -- JSON object: what was excluded or altered in reading, counted by reason
    primary key (corpus)
);

-- one text, run once however many instances it has
create table texts (
    corpus varchar not null,
    text_id bigint not null,  -- index of the text, in the order read
    text varchar not null,    -- the text; NULL in a pack without texts [text]
    target varchar,           -- target text of sequence-to-sequence or choice data; NULL likewise [text]
    split_group varchar,      -- texts of one group share a half; NULL: the text alone
    half varchar not null,    -- a or b, by a hash of split_group, or of the text where that is NULL
    primary key (corpus, text_id)
);

-- what is labelled: a text, or a span of one
create table instances (
    corpus varchar not null,
    instance_id bigint not null,  -- index of the instance, in the order read
    text_id bigint not null,      -- the text
    start_char integer,           -- first character of the span, NULL for the whole text
    end_char integer,             -- one past the last character of the span, NULL likewise
    source_id varchar,            -- the instance's id in the source
    lemma varchar,                -- lemma of the word, NULL if unknown; no part of corpus_sha256 [text]
    stratum varchar,              -- its part of speech, or other class that controls keep; likewise
    primary key (corpus, instance_id)
);

-- one label of an instance; of a function with negatives = rest only the positives are kept
create table labels (
    corpus varchar not null,
    instance_id bigint not null,   -- the instance
    family varchar not null, function varchar not null,
    is_positive boolean not null,  -- whether the instance has the function
    primary key (corpus, instance_id, family, function)
);

-- one function of a corpus
create table functions (
    corpus varchar not null, family varchar not null, function varchar not null,
    n_positive bigint not null,  -- instances labelled positive
    n_negative bigint not null,  -- instances that count as negative
    prevalence double not null,  -- n_positive / (n_positive + n_negative)
    negatives varchar not null,  -- rest: unlabelled instances are negative; explicit: they are outside
    description varchar,         -- what the function is
    primary key (corpus, family, function)
);
