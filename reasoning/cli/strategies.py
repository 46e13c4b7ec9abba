"""`branchwise strategies`: list the strategies, or describe one and its options."""

import inspect
import json
import re
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from branchwise.cli.options import OUTPUT
from branchwise.core.sampling import Sampling
from branchwise.registry import STRATEGIES, make_strategy, parse_strategy, split_spec
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.strategies.options import Value, field_docs, format_value, options_of


@dataclass(frozen=True, slots=True)
class OptionDescription:
    """One option of a strategy. The fields are keys of the JSON output."""

    name: str
    expected: str
    """Description of the valid values."""
    default: str
    """Text of the default as a user types it."""
    follows_paths: bool
    """True if the default depends on --paths."""
    differs: bool
    """True if the default differs from that of the strategy's class; the registry has variants of some strategies."""
    description: str


@dataclass(frozen=True, slots=True)
class StrategyDescription:
    """One strategy and its options. The fields are keys of the JSON output."""

    name: str
    description: str
    options: tuple[OptionDescription, ...]

    @property
    def summary(self) -> str:
        """First sentence of the description; for a variant of a strategy also the options it sets."""
        paragraph = " ".join(self.description.split("\n\n")[0].split())
        sentence = re.match(r".*?\.(?=\s+[A-Z]|$)", paragraph)
        variant = [f"{option.name}={option.default}" for option in self.options if option.differs]
        return (sentence.group() if sentence else paragraph) + (f" With {', '.join(variant)}." if variant else "")


def strategies(
    name: Annotated[str | None, typer.Argument(help="Strategy to describe.", metavar="NAME")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with all options.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """List the strategies, or describe one and its options."""
    if name is not None:
        parse_strategy(name, DEFAULT_PATHS, Sampling())  # raises with the closest name for an unknown one
        name, _ = split_spec(name)
    described = [describe(each) for each in ([name] if name is not None else STRATEGIES)]
    if as_json:
        records = [asdict(each) for each in described]
        typer.echo(json.dumps(records if name is None else records[0], ensure_ascii=False))
    elif name is None:
        _print_list(described)
    else:
        _print_description(described[0])


def describe(name: str) -> StrategyDescription:
    """Return the description of a strategy, from the docstrings of its class and fields."""
    strategy = make_strategy(name, DEFAULT_PATHS, Sampling())
    with_more_paths = options_of(make_strategy(name, 2 * DEFAULT_PATHS, Sampling()))
    docs = field_docs(type(strategy))
    class_defaults = _class_defaults(type(strategy))
    described = []
    for option in options_of(strategy).values():
        follows_paths = with_more_paths[option.name].value != option.value
        class_default = class_defaults.get(option.name, option.value)
        described.append(
            OptionDescription(
                name=option.name,
                expected=option.expected,
                default=format_value(option.value),
                follows_paths=follows_paths,
                differs=not follows_paths and class_default != option.value,
                description=docs.get(option.name, ""),
            )
        )
    return StrategyDescription(name, inspect.cleandoc(type(strategy).__doc__ or ""), tuple(described))


def _class_defaults(strategy: type) -> dict[str, Value]:
    """Return the defaults of a strategy's class, by option; empty if a field has no default."""
    try:
        return {option.name: option.value for option in options_of(strategy()).values()}
    except TypeError:
        return {}


def _print_list(described: list[StrategyDescription]) -> None:
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for each in described:
        table.add_row(each.name, Text(each.summary))
    console.print(table)
    console.print("branchwise strategies NAME describes a strategy and its options.", style="dim", highlight=False)


def _print_description(described: StrategyDescription) -> None:
    console = Console()
    console.print(Text(described.name, style="bold"))
    for paragraph in described.description.split("\n\n"):
        console.print()
        for item in re.split(r"\n(?=- )", paragraph):
            console.print(Text(" ".join(item.split())))
    for option in described.options:
        follows = f" (with --paths {DEFAULT_PATHS})" if option.follows_paths else ""
        console.print()
        console.print(
            Text.assemble((option.name, "bold"), ("=", "dim"), option.default, (f"{follows}  {option.expected}", "dim"))
        )
        console.print(Padding(Text(option.description), (0, 0, 0, 4), expand=False))
    if described.options:
        last = described.options[-1]
        example = f'--strategy "{described.name}:{last.name}={last.default}"'
        console.print()
        console.print(Text(f"Set options like this: {example}.", style="dim"))
