"""What a GPU does with this code: its tests, ingestion over the bare forward pass, scoring on host and device.

    python gpu.py gpu.json [--seconds 480] [--tiny]

Needs torch, transformers and numpy alone; the tests and the host's scores need what neuronlake's extra `ingest`
installs too, and are left out, with the reason, where that is missing. Results are added to the file one by one; what
it holds is not made again, so that a run that was cut short goes on. On a CPU, `--tiny` tries all of it in small. Wall
seconds.

Models have random weights in bfloat16: one of BERT-base's shape, one of a Llama's with 1.1 billion parameters. `bare`
runs the batches and keeps nothing; `ours` pools every neuron and drains it into a buffer on disk in float16. Instances
are the texts, or every second token. Target: ours / bare at most 1.05 for texts.
"""

import dataclasses
import gc
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from table import command_line, print_table

from neuronlake.ingest.activations.buffer import Buffer, fill
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.models.devices import moved
from neuronlake.ingest.neurons.layers import find_layers
from neuronlake.ingest.scores.device import DeviceWalk

BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LLAMA = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192}
LLAMA |= {"num_key_value_heads": 8, "vocab_size": 32768}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99}
N_REPEATS = 3


@dataclasses.dataclass
class Labels:
    """Labels as `DeviceWalk` and the kernel read them; `LabelIndex` itself needs pyarrow."""

    functions: tuple
    function: np.ndarray
    instance: np.ndarray
    is_positive: np.ndarray
    is_rest: np.ndarray
    half: np.ndarray

    def counts(self):
        """Return how many instances are (positive, evaluated): of all, half a and half b [functions, 3, 2]."""
        halves = [self.half >= 0, self.half == 0, self.half == 1]
        size = len(self.functions)
        found = [[np.bincount(self.function[of[self.instance]], minlength=size), of.sum()] for of in halves]
        return np.stack([np.stack(np.broadcast_arrays(*pair), -1) for pair in found], 1)


def draw_labels(n_instances, n_functions):
    """Return labels of functions, one an instance."""
    generator = np.random.default_rng(0)
    return Labels(
        functions=tuple(("of", f"{number:04}") for number in range(n_functions)),
        function=generator.integers(0, n_functions, n_instances).astype(np.int32),
        instance=np.arange(n_instances),
        is_positive=np.ones(n_instances, np.uint8),
        is_rest=np.ones(n_functions, np.bool_),
        half=(generator.random(n_instances) < 0.5).astype(np.uint8),
    )


def synchronize():
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run):
    """Return the wall seconds of a call, and what it returns."""
    synchronize()
    start = time.perf_counter()
    found = run()
    synchronize()
    return time.perf_counter() - start, found


def run_tests(device):
    """Run the tests that need a GPU."""
    missing = [name for name in ("pytest", "pyarrow", "numba", "scipy", "polars") if not importlib.util.find_spec(name)]
    if missing or device.type == "cpu":
        return {"left out": f"lacks {', '.join(missing)}" if missing else "no GPU"}
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(root / "tests")]
    try:
        ended = subprocess.run(command, cwd=root / "benchmarks", capture_output=True, timeout=180, check=False)
    except subprocess.TimeoutExpired as error:
        return {"exit status": f"none after {error.timeout:.0f} s", "output": (error.stdout or b"").decode()[-2000:]}
    return {"exit status": ended.returncode, "output": ended.stdout.decode()[-2000:]}


def load_model(kind, device, *, is_tiny):
    """Return a model with random weights, and its layers."""
    if kind == "bert":
        config, stack = transformers.BertConfig(**(TINY if is_tiny else BERT), max_position_embeddings=1024), "encoder"
    else:
        config, stack = transformers.LlamaConfig(**(TINY if is_tiny else LLAMA)), "decoder"
    with torch.device(device):
        model = transformers.AutoModel.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).eval()
    return model, find_layers(model, config, stack=stack, name=kind)


def measure_ingestion(kind, n_tokens, instances, device, *, is_tiny):
    """Return seconds of the bare forward pass and of ours, and what takes most of ours."""
    model, layers = load_model(kind, device, is_tiny=is_tiny)
    batch_tokens = 256 if is_tiny else 32768
    n_texts = batch_tokens // n_tokens
    n_batches = 2 if is_tiny else (12 if kind == "bert" else 6)
    if instances == "words" and not is_tiny:  # as memory limits them
        n_texts = max(1, n_texts // 8)
    generator = np.random.default_rng(0)
    row, start = np.arange(n_texts), np.zeros(n_texts, np.int64)
    stop = generator.integers(n_tokens // 2, n_tokens, n_texts, endpoint=True)
    if instances == "words":
        row, start = np.repeat(row, n_tokens // 2), np.tile(np.arange(0, n_tokens - 1, 2), n_texts)
        stop = start + 1
    ids = [generator.integers(0, model.config.vocab_size, (n_texts, n_tokens)) for _ in range(n_batches)]
    mask = (np.arange(n_tokens) < stop[:, None]).astype(np.int64) if instances == "texts" else np.ones_like(ids[0])

    def inputs(batch):
        arrays = {"input_ids": ids[batch], "attention_mask": mask}
        return {name: moved(torch.from_numpy(array), device) for name, array in arrays.items()}

    def bare():
        for batch in range(n_batches):
            model(**inputs(batch))

    def pooled(reading):
        for batch in range(n_batches):
            with reading.batch({layers[0].stack: Spans(row, start, stop, (n_texts, n_tokens))}):
                model(**inputs(batch))
            yield batch * len(row), [reading.pooled()]

    n_neurons = sum(layer.n_neurons for layer in layers)

    def ours():
        with tempfile.TemporaryDirectory() as folder, capture(model, layers) as reading:
            file, n_instances = Path(folder) / "activations", n_batches * len(row)
            with torch.inference_mode(mode=False):
                target = Buffer(file, n_neurons, n_instances, storage="float16", memory_bytes=1 << 30)
            fill([target], pooled(reading))
            target.flush()

    times = {"bare": [], "ours": []}
    with torch.inference_mode():
        bare()
        ours()
        for _ in range(N_REPEATS):
            times["bare"].append(timed(bare)[0])
            times["ours"].append(timed(ours)[0])
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
        with torch.profiler.profile(activities=kinds) as profile:
            timed(ours)
    on_gpu = device.type == "cuda"
    events = [
        [event.key[:80], event.count, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3]
        for event in profile.key_averages()
    ]
    found = {
        **{name: [round(each, 4) for each in of] for name, of in times.items()},
        "ratio": round(min(times["ours"]) / min(times["bare"]), 4),
        "tokens": n_batches * n_texts * n_tokens,
        "instances": n_batches * len(row),
        "neurons": n_neurons,
        "profile, ms": sorted(events, key=lambda event: -event[2])[:15],
    }
    model = None
    gc.collect()
    if on_gpu:
        found["peak GPU memory, GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return found


def measure_scoring(n_instances, n_functions, device, *, is_tiny):
    """Return seconds of scoring a block of neurons on the device and on the host."""
    n_neurons = 8 if is_tiny else 512
    labels = draw_labels(n_instances, n_functions)
    block = np.random.default_rng(1).standard_normal((n_neurons, n_instances), np.float32)
    block[n_neurons // 2 :] = np.maximum(block[n_neurons // 2 :], 0)

    def filled():
        shape = n_neurons, n_functions
        return (
            *(np.empty((*shape, 9), np.float32), np.empty(shape, np.int64), np.empty((*shape, 2))),
            *(
                np.empty((n_neurons, 5), np.float32),
                np.full((n_neurons, 10), -1),
                np.zeros((n_neurons, 10), np.float32),
            ),
        )

    walk, of_device = DeviceWalk(labels, device), filled()
    walk.score_neurons(block, *of_device)
    found = {"device": [round(timed(lambda: walk.score_neurons(block, *of_device))[0], 4) for _ in range(N_REPEATS)]}
    if importlib.util.find_spec("numba") and importlib.util.find_spec("pyarrow") and importlib.util.find_spec("scipy"):
        from neuronlake.ingest.corpora.labels import LabelIndex
        from neuronlake.ingest.scores.scoring import score

        fields = {field.name: getattr(labels, field.name) for field in dataclasses.fields(labels)}
        index = LabelIndex.build(fields.pop("functions"), **fields)
        threads = os.cpu_count() or 1
        score(block[:2], index)
        score(block, index, n_threads=threads)  # makes the tables of p-values
        times = [timed(lambda: score(block, index, n_threads=threads)) for _ in range(N_REPEATS)]
        found["host, p-values too"] = [round(seconds, 4) for seconds, _ in times]
        found["threads"] = threads
        expected = times[0][1].scores
        wrong = np.abs(of_device[0] - expected) / np.maximum(1, np.abs(expected))
        found["largest difference"] = float(np.nanmax(wrong))
    return found | {"neurons": n_neurons}


def sections(device, *, is_tiny):
    """Yield the name of each measurement, and what makes it; the quick and the telling first."""
    for kind in ("bert", "llama"):
        for n_tokens in (16, 32) if is_tiny else (128, 1024):
            for instances in ("texts", "words"):
                name = f"ingest {kind}, {n_tokens} tokens, {instances}"
                yield name, lambda k=kind, n=n_tokens, i=instances: measure_ingestion(k, n, i, device, is_tiny=is_tiny)
    for n_instances, n_functions in ((200, 5),) if is_tiny else ((20_000, 45), (20_000, 300), (190_000, 45)):
        name = f"scoring {n_functions} functions over {n_instances} instances"
        yield name, lambda n=n_instances, f=n_functions: measure_scoring(n, f, device, is_tiny=is_tiny)
    yield "tests", lambda: run_tests(device)


def main():
    """Measure what the file lacks, and print it."""
    parser = command_line(__doc__)
    parser.add_argument("file", type=Path, help="where results are added, as JSON")
    parser.add_argument("--seconds", type=float, default=480, help="begin nothing new after as many")
    parser.add_argument("--tiny", action="store_true", help="all of it in small")
    arguments = parser.parse_args()
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not arguments.tiny:
        raise SystemExit("no GPU here; --tiny tries all of it in small")
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    results = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    results["machine"] = {"device": machine, "torch": torch.__version__, "transformers": transformers.__version__}
    for name, run in sections(device, is_tiny=arguments.tiny):
        if name in results:
            continue
        if time.monotonic() - start > arguments.seconds:
            print("out of time; the same command goes on", file=sys.stderr)
            break
        results[name] = run()
        partial = arguments.file.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1))
        partial.replace(arguments.file)
        print(name, json.dumps({key: of for key, of in results[name].items() if key != "profile, ms"}), flush=True)
    if arguments.out:
        print_tables(results, machine)


def print_tables(results, machine):
    """Print the file's measurements of ingestion and of scoring, and how its tests ended."""
    ingestion = [
        [
            name.removeprefix("ingest "),
            f"{of['tokens']:,}",
            f"{min(of['bare']):.3f}",
            f"{min(of['ours']):.3f}",
            of["ratio"],
        ]
        for name, of in results.items()
        if "ratio" in of
    ]
    header = ["model, tokens of a text, instances", "tokens", "bare, wall s", "ours, wall s", "ratio"]
    print_table("Ingestion on a GPU over the bare forward pass", header, ingestion, f"On {machine}.")
    scoring = [
        [
            name,
            f"{min(of['device']):.3f}",
            f"{min(of['host, p-values too']):.3f}" if of.get("threads") else "",
            of.get("threads", ""),
        ]
        for name, of in results.items()
        if "device" in of and "neurons" in of
    ]
    tests = results.get("tests", {})
    note = f"512 neurons. Tests that need a GPU: {tests.get('left out') or tests.get('exit status', 'not run')}."
    print_table("Scoring on device and host", ["what", "device, wall s", "host, wall s", "threads"], scoring, note)


if __name__ == "__main__":
    main()
