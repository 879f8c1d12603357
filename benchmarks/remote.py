"""Five questions to a store at a URL: requests, and bytes as a share of the store's.

    python remote.py [--store ../neuronlake-store]

The store (that of `make demo` by default) is packed and served on loopback by a server that answers for ranges of
bytes. Each question is the first of a session: views are bound and footers read for it alone.
"""

import tempfile
import time
from pathlib import Path

from table import command_line, print_table

import neuronlake
from neuronlake.tests.serving import serving

QUESTIONS = {
    "best neurons of one layer": "select neuron, function from family_best where layer = 3 order by p_value limit 20",
    "one function over all layers": "from top_neurons where function = 'politics-sports' and revision = 'main'",
    "specialization of a run, one family": "from specialization where revision = 'main' and family = 'task'",
    "the list of runs": "select run_id, model, revision, started_at from runs",
}


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--store", default="../neuronlake-store", help="folder of a store that the demo made")
    arguments = parser.parse_args()
    if not Path(arguments.store).is_dir():
        raise SystemExit(f"{arguments.store} is no store; `make demo` makes it")
    with tempfile.TemporaryDirectory() as folder:
        pack = neuronlake.pack_store(arguments.store, Path(folder) / "pack")
        rows = []
        with serving(pack.path) as served:
            for question, query in {**QUESTIONS, "a card of a neuron": None}.items():
                served.requests.clear()
                start = time.process_time()
                with neuronlake.open(served.url) as store:
                    if query:
                        store.sql(query).rows()
                    else:
                        neuronlake.describe_neuron(store, "all-MiniLM-L6-v2", 3, 1071)
                seconds = time.process_time() - start
                n_bytes = sum(sent for _, _, sent in served.requests)
                heads = sum(method == "HEAD" for method, *_ in served.requests)
                share = f"{n_bytes / pack.size_bytes:.1%}"
                rows.append([question, len(served.requests), heads, f"{n_bytes:,}", share, f"{seconds:.2f}"])
        note = f"The store has {pack.size_bytes:,} bytes in {pack.n_files} files."
        header = ["question", "requests", "of them HEAD", "bytes", "share", "CPU s"]
        print_table("Questions to a store at a URL", header, rows, note)


if __name__ == "__main__":
    main()
