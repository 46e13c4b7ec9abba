"""Aggregate samples into rows: medians, ratios over paired repetitions, tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median

from benchmarks.breakdown import PARTS
from benchmarks.run import Cell, Sample
from benchmarks.systems.worker import Measurement

BANDWIDTH = "bandwidth"
"""A hypothetical system that only reads the bytes of a step, at copy bandwidth."""


@dataclass(frozen=True)
class Row:
    """One system in one cell.

    Speeds are medians over repetitions. A ratio is the median of the ratios of paired repetitions: above 1 where the
    system is faster, None without a pair.
    """

    system: str
    branches: int
    prompt_tokens: int
    tokens_per_second: float
    """Decode speed: tokens after every branch had its first one."""
    ms_per_step: float
    ratio_to_hf: float | None
    ratio_to_vllm: float | None
    ratio_to_floor: float | None
    ratio_to_bandwidth: float | None
    total_tokens_per_second: float
    """Prompt included."""
    total_ratio_to_hf: float | None
    total_ratio_to_vllm: float | None
    first_token_seconds: float
    """Until every branch has its first token."""
    tokens: int
    prefilled_tokens: float | None
    """Prompt tokens computed, where the system reports them."""
    slowest: float
    fastest: float
    """Decoding speeds of the slowest and the fastest repetition."""
    repetitions: int
    others: float | None
    """Median share of the machine that other processes used."""
    idlers: float | None
    """Largest share of the machine that idle workers used."""


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each system and cell, cells in the order of the samples."""
    everything = [*samples, *(_bandwidth(sample) for sample in samples if sample.system == "floor")]
    groups: dict[tuple[Cell, str], dict[int, Sample]] = {}
    for sample in everything:
        groups.setdefault((sample.cell, sample.system), {})[sample.repetition] = sample
    order = list(dict.fromkeys(sample.cell for sample in everything))
    return [_row(cell, system, groups) for cell, system in sorted(groups, key=lambda group: order.index(group[0]))]


Groups = Mapping[tuple[Cell, str], Mapping[int, Sample]]


def _row(cell: Cell, system: str, groups: Groups) -> Row:
    samples = [*groups[cell, system].values()]
    measurements = [sample.measurement for sample in samples]
    speeds = [decode_speed(measurement) for measurement in measurements]
    speed = median(speeds)

    def ratio(other: str, speed_of: Callable[[Measurement], float] = decode_speed) -> float | None:
        by_repetition, others = groups[cell, system], groups.get((cell, other), {})
        pairs = [
            speed_of(sample.measurement) / speed_of(others[i].measurement)
            for i, sample in by_repetition.items()
            if i in others
        ]
        return median(pairs) if pairs else None

    others = [sample.use.others for sample in samples if sample.use.others is not None]
    idlers = [sample.use.idlers for sample in samples if sample.use.idlers is not None]
    return Row(
        system=system,
        branches=cell.branches,
        prompt_tokens=cell.prompt_tokens,
        tokens_per_second=speed,
        ms_per_step=1000 * cell.branches / speed,
        ratio_to_hf=ratio("hf"),
        ratio_to_vllm=ratio("vllm"),
        ratio_to_floor=ratio("floor"),
        ratio_to_bandwidth=ratio(BANDWIDTH),
        total_tokens_per_second=median(map(total_speed, measurements)),
        total_ratio_to_hf=ratio("hf", total_speed),
        total_ratio_to_vllm=ratio("vllm", total_speed),
        first_token_seconds=median(measurement.first_seconds for measurement in measurements),
        tokens=measurements[0].tokens,
        prefilled_tokens=measurements[0].extra.get("prefilled"),
        slowest=min(speeds),
        fastest=max(speeds),
        repetitions=len(samples),
        others=median(others) if others else None,
        idlers=max(idlers) if idlers else None,
    )


def decode_speed(measurement: Measurement) -> float:
    """Return the tokens per second after every branch had its first token."""
    return (measurement.tokens - measurement.first_tokens) / (measurement.seconds - measurement.first_seconds)


def total_speed(measurement: Measurement) -> float:
    """Return the tokens per second from the request on."""
    return measurement.tokens / measurement.seconds


def _bandwidth(floor: Sample) -> Sample:
    """Return the bandwidth system's sample, from the floor's measurement of the copy bandwidth."""
    done = floor.measurement
    steps = done.tokens / floor.cell.branches
    seconds = steps * done.extra["bandwidth_step_seconds"]
    return replace(floor, system=BANDWIDTH, measurement=replace(done, seconds=seconds, extra={}))


_COLUMNS = (
    "system",
    "tok/s",
    "ms/step",
    "x hf",
    "x vllm",
    "x floor",
    "total tok/s",
    "x hf",
    "x vllm",
    "first s",
    "noise",
)


def table(found: Sequence[Row]) -> str:
    """Return the rows for the terminal, one block per cell."""
    lines: list[str] = []
    cell: tuple[int, int] | None = None
    widths = (12, 8, 9, 7, 7, 8, 13, 7, 7, 9, 7)
    for row in found:
        if (row.branches, row.prompt_tokens) != cell:
            cell = (row.branches, row.prompt_tokens)
            lines += ["", f"{row.branches} branches, prompt of {row.prompt_tokens} tokens"]
            lines.append(_line(_COLUMNS, widths))
        fields = (
            row.system,
            f"{row.tokens_per_second:.1f}",
            f"{row.ms_per_step:.1f}",
            _ratio(row.ratio_to_hf),
            _ratio(row.ratio_to_vllm),
            _ratio(row.ratio_to_floor),
            f"{row.total_tokens_per_second:.1f}",
            _ratio(row.total_ratio_to_hf),
            _ratio(row.total_ratio_to_vllm),
            f"{row.first_token_seconds:.2f}",
            "" if row.others is None else f"{row.others:.0%}",
        )
        lines.append(_line(fields, widths))
    return "\n".join(lines)


def profile_table(profiles: Mapping[Cell, Mapping[str, float]]) -> str:
    """Return a table of the parts of the engine's decode step, as shares."""
    widths = (14, *(13 for _ in PARTS))
    lines = ["", "A step of branchwise, in shares", _line(("work", *PARTS), widths)]
    lines += [_line((str(cell), *(f"{parts[part]:.1%}" for part in PARTS)), widths) for cell, parts in profiles.items()]
    return "\n".join(lines)


def as_json(found: Sequence[Row]) -> list[dict[str, str | int | float | None]]:
    """Return the rows with floats rounded to six digits."""
    return [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(row).items()}
        for row in found
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _line(fields: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (f"{text:>{width}}" for text, width in zip(fields, widths, strict=True))
    return fields[0].ljust(widths[0]) + "".join(rest) if first else "".join(rest)
