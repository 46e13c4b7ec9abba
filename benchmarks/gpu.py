"""The engine on a GPU against the memory-bandwidth floor: `python -m benchmarks.gpu`.

The model has the shape of a 7B and random weights, because speed does not depend on their values. It needs no
network, no vLLM and no model file.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.engine import log, parse_integers
from benchmarks.floor import COPY_BYTES, Products, copy_bandwidth, step_bytes
from benchmarks.machine import cores, describe
from benchmarks.report import decode_speed, total_speed
from benchmarks.systems.branchwise_ import generate
from benchmarks.systems.worker import Job
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings

_WARM_TOKENS = 8
_TINY_COPY = 1 << 22


@dataclass(frozen=True)
class GpuRow:
    """Result for one number of branches and one prompt length."""

    branches: int
    prompt_tokens: int
    tokens_per_second: float
    """Decode speed: tokens after every branch had its first one; median over repetitions."""
    ms_per_step: float
    total_tokens_per_second: float
    """Prompt included."""
    floor_ms_per_step: float
    """Time to read a step's bytes at the measured copy bandwidth."""
    share_of_floor: float
    """1 means as fast as memory allows."""
    products_ms_per_step: float
    """The model's matrix products alone."""


def shape(tiny: bool) -> Qwen2Config:
    """Return the configuration of Qwen2.5-7B, or a tiny one for tests."""
    if tiny:
        return Qwen2Config(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            eos_token_id=None,
        )
    return Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        eos_token_id=None,
    )


def network(config: Qwen2Config, device: torch.device) -> PreTrainedModel:
    """Return a model with random bfloat16 weights, created on `device`."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model: PreTrainedModel = Qwen2ForCausalLM(config)
            model.eval()
            return model
    finally:
        torch.set_default_dtype(before)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte; the model's other tokens have no text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=byte_level)


async def measure(args: argparse.Namespace, device: torch.device) -> list[GpuRow]:
    """Return one row for each prompt length and number of branches."""
    config = shape(args.tiny)
    model = network(config, device)
    products = Products(model)
    bandwidth = copy_bandwidth(device, size=_TINY_COPY if args.tiny else COPY_BYTES)
    log(f"copy bandwidth: {bandwidth / 1e9:.0f} GB/s")
    settings = EngineSettings(device=args.device, max_batch=max(args.branches), speculation="off")
    engine = Engine(model, tokenizer(), name="random", settings=settings)
    found = []
    number = 0
    for prompt in args.prompts:
        for branches in args.branches:
            done = []
            for repetition in range(args.repeat + 1):
                number += 1
                tokens = _WARM_TOKENS if repetition == 0 else args.new_tokens
                ids = [(number * 7919 + i * 104729) % config.vocab_size for i in range(prompt)]
                measurement = await generate(engine, Job(ids, branches, min(tokens, args.new_tokens), seed=number))
                engine.clear()
                done += [measurement] if repetition else []
            speed = median(map(decode_speed, done))
            needed = step_bytes(model, products.weight_bytes, branches, prompt, args.new_tokens)
            floor = needed.seconds(bandwidth)
            found.append(
                GpuRow(
                    branches=branches,
                    prompt_tokens=prompt,
                    tokens_per_second=speed,
                    ms_per_step=1000 * branches / speed,
                    total_tokens_per_second=median(map(total_speed, done)),
                    floor_ms_per_step=1000 * floor,
                    share_of_floor=floor * speed / branches,
                    products_ms_per_step=1000 * products.seconds(branches, steps=8),
                )
            )
            log(line(found[-1]))
    await engine.close()
    return found


def line(row: GpuRow) -> str:
    """Return a row as a line for the terminal."""
    return (
        f"{row.branches:3d} branches x {row.prompt_tokens:5d} tokens: {row.tokens_per_second:9.1f} tok/s, "
        f"{row.ms_per_step:8.2f} ms/step (bytes {row.floor_ms_per_step:.2f}, products {row.products_ms_per_step:.2f}), "
        f"{row.share_of_floor:.0%} of the bandwidth floor, {row.total_tokens_per_second:.1f} tok/s with the prompt"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write JSON; return 2 if the device is missing."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    add = parse.add_argument
    add("--device", default="cuda")
    add("--tiny", action="store_true", help="use a tiny model, to test the command")
    add("--branches", type=parse_integers, default=(1, 4, 16, 64), metavar="N,...")
    add("--prompts", type=parse_integers, default=(83, 1500), metavar="N,...")
    add("--new-tokens", type=int, default=128)
    add("--repeat", type=int, default=3)
    add("--out", type=Path, default=Path("build/bench/gpu.json"))
    args = parse.parse_args(arguments)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        log("bench-gpu: torch sees no CUDA device here; run it on a machine with a GPU and a CUDA build of torch")
        return 2
    found = asyncio.run(measure(args, device))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    conditions = {"device": name, "torch": torch.__version__, "machine": describe(cores())._asdict(), "tiny": args.tiny}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**conditions, "rows": [asdict(row) for row in found]}, indent=1) + "\n")
    for row in found:
        print(line(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
