"""Reading a mixture of experts against its bare forward pass, on the same implementation of its experts.

The work: batches of 4,096 random tokens through OLMoE-shaped models with random weights (4 layers of 32 experts of 512
neurons, 8 a token; hidden size 1,024), transformers' grouped_mm on both sides. Instances are whole texts of 128 tokens,
or every fourth token. Bare: the forward pass alone. Ours: the same, every neuron of every expert pooled. Blind: the
same, every expert on every token beside it. CPU seconds of the process, best of the repeats, taken in turn.
"""

import time

import numpy as np
import torch
from table import command_line, print_table
from transformers import AutoModel, OlmoeConfig

from neuronlake.ingest.activations.capture import capture
from neuronlake.ingest.activations.pooling import Spans
from neuronlake.ingest.neurons.layers import find_layers

N_TEXTS, N_TOKENS = 32, 128


def make(dtype):
    """Return a model and its layers."""
    config = OlmoeConfig(
        hidden_size=1024, intermediate_size=512, num_hidden_layers=4, num_attention_heads=16, num_experts=32,
        num_experts_per_tok=8, vocab_size=1000,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModel.from_config(config, dtype=dtype, trust_remote_code=False).eval()
    model.set_experts_implementation("grouped_mm")
    return model, find_layers(model, config, stack="decoder", name="olmoe")


def instances(kind):
    """Return the spans of a batch."""
    shape = (N_TEXTS, N_TOKENS)
    if kind == "texts":
        row = np.arange(N_TEXTS)
        return Spans(row, np.zeros(N_TEXTS, int), np.full(N_TEXTS, N_TOKENS), shape)
    row, start = (each.flatten() for each in np.meshgrid(np.arange(N_TEXTS), np.arange(0, N_TOKENS, 4), indexing="ij"))
    return Spans(row, start, start + 1, shape)


def seconds(run):
    """Return the CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main():
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    input_ids = torch.randint(0, 1000, (N_TEXTS, N_TOKENS), generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float32, torch.bfloat16):
        model, layers = make(dtype)
        for kind in ("texts", "tokens"):

            def read(router, model=model, layers=layers, kind=kind):
                with capture(model, layers, router=router) as reading, reading.batch({"decoder": instances(kind)}):
                    model(input_ids, use_cache=False)
                return reading.pooled(), reading.routed()

            works = {
                "bare": lambda model=model: model(input_ids, use_cache=False),
                "routed": lambda read=read: read("routed"),
                "blind": lambda read=read: read("blind"),
            }
            best = dict.fromkeys(works, float("inf"))
            with torch.inference_mode():
                works["routed"]()  # warms up
                for _ in range(arguments.repeats):
                    for name, work in works.items():
                        best[name] = min(best[name], seconds(work))
            rows.append(
                [
                    str(dtype).removeprefix("torch."),
                    f"{instances(kind).n_instances:,} {kind}",
                    f"{best['bare']:.2f}",
                    f"{best['routed']:.2f}",
                    f"{best['routed'] / best['bare']:.3f}",
                    f"{best['blind'] / best['bare']:.2f}",
                ]
            )
    header = ["dtype", "instances", "bare, CPU s", "routed, CPU s", "ratio", "blind, ratio"]
    print_table("Reading experts against the bare forward pass", header, rows)


if __name__ == "__main__":
    main()
