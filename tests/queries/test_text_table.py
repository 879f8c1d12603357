from neuronlake.queries.output import text_table


def test_texts_are_aligned_to_the_left_and_numbers_to_the_right() -> None:
    text = text_table(["function", "lift"], [["task/sport", 0.5], ["semantic/bank", None]], [False, True])
    assert text.splitlines() == ["function         lift", "task/sport     0.5000", "semantic/bank"]


def test_columns_are_aligned_as_asked_and_long_cells_cut() -> None:
    text = text_table(["n", "text"], [[10, "abcdef"], [9, "\x1b"]], [True, False], cut_at=4)
    assert text.splitlines() == [" n  text", "10  abc…", " 9  \\x1b"]


def test_no_rows_are_a_line_of_names() -> None:
    assert text_table(["a", "b"], [], [False, True]) == "a  b"
