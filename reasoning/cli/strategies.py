"""`branchwise strategies`."""

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
from branchwise.registry import STRATEGIES, named
from branchwise.strategies.spec import Value, documentation, options, spelled

_PATHS = 16  # that defaults are told for


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a strategy."""

    name: str
    expected: str
    default: str
    """As it is typed."""
    follows_paths: bool
    """Whether the default depends on --paths."""
    differs: bool
    """Whether it is another than that of the strategy this is a form of."""
    description: str


@dataclass(frozen=True, slots=True)
class Described:
    """What a strategy is, and what can be set."""

    name: str
    description: str
    options: tuple[Setting, ...]

    @property
    def summary(self) -> str:
        """Its first sentence, and where it is a form of another strategy, by what."""
        paragraph = " ".join(self.description.split("\n\n")[0].split())
        sentence = re.match(r".*?\.(?=\s+[A-Z]|$)", paragraph)
        own = [f"{option.name}={option.default}" for option in self.options if option.differs]
        return (sentence.group() if sentence else paragraph) + (f" With {', '.join(own)}." if own else "")


def strategies(
    name: Annotated[str | None, typer.Argument(help="A strategy, to see its options.", metavar="NAME")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with all options.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """List the strategies; with a name, what one does and what can be set."""
    if name is not None:
        named(name, _PATHS, Sampling())  # an unknown one is told with the nearest
        name = name.partition(":")[0].strip()
    described = [describe(each) for each in ([name] if name is not None else STRATEGIES)]
    if as_json:
        shown = [asdict(each) for each in described]
        typer.echo(json.dumps(shown if name is None else shown[0], ensure_ascii=False))
    elif name is None:
        _print_all(described)
    else:
        _print_one(described[0])


def describe(name: str) -> Described:
    """What the sources say of a strategy in the registry."""
    strategy = STRATEGIES[name](_PATHS, Sampling())
    wider = options(STRATEGIES[name](2 * _PATHS, Sampling()))
    said = documentation(type(strategy))
    usual = _defaults(type(strategy))
    settings = []
    for option in options(strategy).values():
        follows = wider[option.name].value != option.value
        differs = not follows and option.name in usual and usual[option.name] != option.value
        settings.append(
            Setting(option.name, option.expected, spelled(option.value), follows, differs, said.get(option.name, ""))
        )
    return Described(name, inspect.cleandoc(type(strategy).__doc__ or ""), tuple(settings))


def _defaults(strategy: type) -> dict[str, Value]:
    """Those of the class by itself; what a registry's entry sets may differ."""
    try:
        return {option.name: option.value for option in options(strategy()).values()}
    except TypeError:  # it has none
        return {}


def _print_all(described: list[Described]) -> None:
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for each in described:
        table.add_row(each.name, Text(each.summary))
    console.print(table)
    console.print("branchwise strategies NAME shows what can be set.", style="dim", highlight=False)


def _print_one(described: Described) -> None:
    console = Console()
    console.print(Text(described.name, style="bold"))
    for paragraph in described.description.split("\n\n"):
        console.print()
        for item in re.split(r"\n(?=- )", paragraph):
            console.print(Text(" ".join(item.split())))
    for option in described.options:
        follows = f" (with --paths {_PATHS})" if option.follows_paths else ""
        console.print()
        console.print(
            Text.assemble((option.name, "bold"), ("=", "dim"), option.default, (f"{follows}  {option.expected}", "dim"))
        )
        console.print(Padding(Text(option.description), (0, 0, 0, 4), expand=False))
    if described.options:
        first = described.options[-1]
        example = f'--strategy "{described.name}:{first.name}={first.default}"'
        console.print()
        console.print(Text(f"Options are set as in {example}.", style="dim"))
