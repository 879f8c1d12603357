"""The classes of commands: common options, examples and sections in their help, and errors as one line."""

import functools
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import NeuronlakeError, QueryError, one_line, printable
from ..progress import LOGGER
from .stopping import stopping_in_one_line

# Options that most people never set; a command's help lists them apart.
_ADVANCED = frozenset(
    {
        *("activity", "active_share", "batch_tokens", "dtype", "features", "max_tokens", "memory_bytes", "n_bins"),
        *("n_bootstrap", "n_partners", "n_permutations", "n_random", "n_starts", "n_top", "normalize", "scale", "seed"),
        *("energy_ratio", "site", "special_tokens", "storage", "tokenizer", "warm_start"),
    }
)


def _remember_store(context: click.Context, _: click.Parameter, names: tuple[str, ...]) -> None:
    if "" in names:
        raise click.BadParameter("the name of a folder is empty")
    if names:
        context.find_root().obj = names


def _set_level(context: click.Context, option: click.Parameter, is_chosen: bool) -> None:
    """Tell errors alone, or each query and file as well, until the program ends."""
    if not is_chosen or context.resilient_parsing:
        return
    level = logging.ERROR if option.name == "quiet" else logging.DEBUG
    if LOGGER.level not in (logging.NOTSET, level):
        raise click.UsageError("--quiet and --verbose exclude each other")
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(relativeCreated)8.0f ms  %(message)s"))  # since the program began
    LOGGER.setLevel(level)
    LOGGER.addHandler(handler)
    context.find_root().call_on_close(functools.partial(LOGGER.setLevel, logging.NOTSET))
    context.find_root().call_on_close(functools.partial(LOGGER.removeHandler, handler))


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n")


_STORE = click.Option(
    ["--store"], metavar="DIR|FILE|URL", multiple=True, callback=_remember_store, expose_value=False,
    help="The store's folder; to read, also a pack in one FILE or a URL, and several as one.  [repeatable; env: "
    "NEURONLAKE_STORE; default: ./neuronlake-store]",
)  # fmt: skip
_LEVELS = {
    "quiet": "Print results and errors alone: no progress, no notes, no next step.",
    "verbose": "Also print each phase, query, its time, and the files that are written.",
}


def _level_options(*, is_hidden: bool = False) -> list[click.Option]:
    """Return the options of how much is told, which only the program's help shows."""
    options: dict[str, Any] = {"is_flag": True, "callback": _set_level, "expose_value": False, "hidden": is_hidden}
    return [click.Option([f"--{name}", f"-{name[0]}"], help=text, **options) for name, text in _LEVELS.items()]


@functools.cache
def _examples() -> Mapping[str, tuple[str, ...]]:
    """Return the lines of examples.txt with the words of their commands."""
    lines = Path(__file__).with_name("examples.txt").read_text(encoding="utf-8").splitlines()
    return {line: tuple(shlex.split(line)[1:]) for line in lines}


class Command(click.Command):
    """A command whose help ends with examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples of the command; of a group the first one of each of its commands, at most six."""
        path = tuple(ctx.command_path.split()[1:])
        lines = [line for line, words in _examples().items() if words[: len(path)] == path]
        if isinstance(self, click.Group):
            by_command = {_examples()[line][len(path)]: line for line in reversed(lines)}
            lines = [line for line in lines if line in by_command.values()][:6]
        with formatter.section("Example" if len(lines) == 1 else "Examples"):
            formatter.write("".join(f"  {line}\n" for line in lines))
        super().format_epilog(ctx, formatter)


class StoreCommand(Command):
    """A command that takes ``--store`` and how much is told, as `Group` does before its name."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - click's own arguments
        super().__init__(*args, **options)
        self.params += [_STORE, *_level_options(is_hidden=True)]


class AdvancedCommand(StoreCommand):
    """A command whose help lists rarely needed options apart."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        advanced = [option for option in options if option.name in _ADVANCED]
        common = [option for option in options if option not in advanced]
        for title, section in (("Options", common), ("Advanced", advanced)):
            if section:
                with formatter.section(title):
                    formatter.write_dl([record for option in section if (record := option.get_help_record(ctx))])


class StoreGroup(Command, click.Group):
    """Commands that take ``--store``."""

    command_class = StoreCommand
    group_class = type


class Group(StoreGroup):
    """Commands whose errors become one line, listed in sections: title to names of commands.

    The package's errors end with exit status 1, what stops a command with 130 or 143.
    """

    is_program = False  # whether the process is for a command alone, and ends where that is stopped

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **options: Any) -> None:  # noqa: ANN401 - click's own arguments
        super().__init__(*args, **options)
        self.params += [_STORE, *_level_options()]
        self.sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        width = formatter.width - 6 - max(map(len, self.commands), default=0)
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command."""
        with stopping_in_one_line(ends_process=self.is_program):
            try:
                return super().invoke(context)
            except QueryError as error:  # its names are those of the query
                raise click.ClickException(str(error)) from error
            except NeuronlakeError as error:
                command = self.commands.get(context.invoked_subcommand or "", self)
                raise click.ClickException(_as_options(str(error), command)) from error
            except MemoryError as error:
                raise click.ClickException(f"there is not enough memory: {one_line(error)}") from error
            except ModuleNotFoundError as error:
                extra = extra_of(error.name or "")
                if extra is None:
                    raise
                if extra == "ingest":  # which others bring too
                    by_command = {"demo": "demo", **dict.fromkeys(self.sections["Analyse"], "analysis")}
                    extra = by_command.get(context.invoked_subcommand or "", extra)
                line = f"this needs the package {error.name}, which is not installed: pip install 'neuronlake[{extra}]'"
                raise click.ClickException(line) from error


def extra_of(module: str) -> str | None:
    """Return the smallest extra of this package that installs a module; None if no extra does."""
    import importlib.metadata  # which takes a while, and only here

    package = {"sklearn": "scikit-learn"}.get(module.partition(".")[0], module.partition(".")[0].replace("_", "-"))
    try:
        requirements = importlib.metadata.requires("neuronlake") or ()
    except importlib.metadata.PackageNotFoundError:  # run from its files, without being installed
        return None
    matches = [re.fullmatch(r"([\w-]+).*extra == ['\"](\w+)['\"]", requirement) for requirement in requirements]
    extras = [match[2] for match in matches if match]
    return min((match[2] for match in matches if match and match[1] == package), key=extras.count, default=None)


def _as_options(message: str, command: click.Command) -> str:
    """Return a message with parameters named as options: ``n_experts``, or a word in backticks, becomes --experts."""
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    parameters = [each for command in commands for each in command.params if isinstance(each, click.Option)]
    options = {option.name: max(option.opts, key=len) for option in parameters}

    def typed(match: re.Match[str]) -> str:
        name = match["quoted"] or match["plain"]
        return options.get(name, name)

    # Within quotes or a path it is a name of the person's own.
    return re.sub(r"`(?P<quoted>\w+)`|(?<![\w'\"/.-])(?P<plain>[a-z]+(_[a-z]+)+)(?![\w'\"/.-]\S)", typed, message)
