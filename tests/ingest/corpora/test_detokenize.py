import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlake.ingest.corpora.detokenize import join


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["He", "said", ",", "``", "No", "!", "''"], 'He said, "No!"'),
        (["It", "did", "n't", "."], "It didn't."),
        (["Georgia", "'s", "jury", "(", "of", "six", ")", ";", "I", "'ll", "see"], "Georgia's jury (of six); I'll see"),
        (["`", "K", "'", ":", "$", "5", "or", "5", "%"], "'K': $5 or 5%"),
        (["Fulton_County_Grand_Jury", "met"], "Fulton County Grand Jury met"),
        (["Bob_(_Bevo_)", "ran"], "Bob (Bevo) ran"),
        (["governor_'s_race"], "governor's race"),
        (["no", "-", "and"], "no - and"),
        (["_"], "_"),
        ([], ""),
    ],
)
def test_tokens_read_as_text(tokens, text):
    assert join(tokens)[0] == text


def test_each_token_has_its_span():
    text, spans = join(["``", "Mr._Day", "did", "n't", "''"])
    assert [text[start:end] for start, end in spans] == ['"', "Mr. Day", "did", "n't", '"']


@given(st.lists(st.sampled_from(["a", "b_c", "n't", "''", "``", "(", ".", "_x", "'s"]), min_size=1))
def test_spans_are_in_order_and_leave_only_single_spaces_out(tokens):
    text, spans = join(tokens)
    ends = [0, *(end for _, end in spans)]
    assert all(text[end:start] in ("", " ") and start < stop for end, (start, stop) in zip(ends, spans, strict=False))
    assert ends[-1] == len(text)
