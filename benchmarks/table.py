"""Print a benchmark's results as a Markdown table."""


def print_table(title, header, rows):
    """Print a title and a table."""
    print(f"\n## {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)
