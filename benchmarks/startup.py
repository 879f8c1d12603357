"""Start of the command line against the bare import of what it stands on.

Each round runs every command once, one after another in new processes, so that what else the machine does meets
all alike. Medians; CPU and wall milliseconds of the child process.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import command_line, print_table

PEER = 'python -c "import duckdb, click"'
TARGET = 3


def measure(command, folder):
    """Run a command; return CPU and wall milliseconds."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return 1e3 * (usage.ru_utime + usage.ru_stime), 1e3 * wall


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    neuronlake = str(Path(sys.executable).with_name("neuronlake"))
    commands = {
        PEER: [sys.executable, "-c", "import duckdb, click"],
        "neuronlake --help": [neuronlake, "--help"],
        'neuronlake sql "select 1"': [neuronlake, "sql", "select 1"],
    }
    found = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "neuronlake-store").mkdir()
        for command in commands.values():
            measure(command, folder)  # compiles, and fills the page cache
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                found[name].append(measure(command, folder))
    rows = []
    for name, times in found.items():
        cpu, wall = (statistics.median(each) for each in zip(*times, strict=True))
        pairs = zip(times, found[PEER], strict=True)
        ratio = statistics.median(mine[0] / peer[0] for mine, peer in pairs)
        target = "" if name == PEER else f"≤ {TARGET}×: {'met' if ratio <= TARGET else 'missed'}"
        rows.append([f"`{name}`", f"{cpu:.0f}", f"{wall:.0f}", f"{ratio:.2f}×", target])
    header = ["command", "CPU ms", "wall ms", "CPU ratio, median of pairs", "target"]
    print_table("Starting the command line", header, rows)


if __name__ == "__main__":
    main()
