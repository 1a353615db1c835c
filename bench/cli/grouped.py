"""Commands whose options come in groups: a parameter of a command may be a dataclass, each field of which is an option.

Typer knows no such groups. ``command`` gives it a function with all fields as parameters, under the group's heading in
``--help``, and calls the command with an instance of every group: commands share options as typed values.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from bench.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
ALONE = ("--resume", "--logs")
"""Options whose value may be left out: it is empty then."""


class _Command(TyperCommand):
    """Typer has no option with a value that may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer does, with an empty value where one of ``ALONE`` has none."""
        whole = list[str]()
        for arg, following in zip(args, [*args[1:], None], strict=True):
            whole.append(arg)
            if arg in ALONE and (following is None or following.startswith("-")):
                whole.append("")
        return super().parse_args(ctx, whole)


def command(app: typer.Typer, name: str | None = None) -> Callable[[Command], Command]:
    """Register a function as a command of ``app``."""

    def register(function: Command) -> Command:
        app.command(name, cls=_Command)(ungrouped(function))
        return function

    return register


def ungrouped(function: Callable[..., Any], instead: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The function with the fields of its groups as parameters of their own. ``instead``: what is called with the
    groups, in place of the function."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups = {each: kind for each, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(function).parameters.values():
        if each.name in groups:
            parameters += _options(groups[each.name])
        else:
            parameters.append(each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY))

    def call(**given: Any) -> Any:
        built = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        return (instead or function)(**built, **given)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def parse(function: Callable[..., Any], arguments: Sequence[str]) -> dict[str, Any]:
    """The groups of options with which a command would be called, by parameter.

    Raises:
        UsageError: the command line would refuse the arguments.
    """
    app = typer.Typer(add_completion=False)
    app.command(function.__name__, cls=_Command)(ungrouped(function, dict))
    try:
        groups: dict[str, Any] = typer.main.get_command(app).main(list(arguments), standalone_mode=False)
    except Exception as error:
        if not type(error).__module__.startswith(("click", "typer")):
            raise
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(" ".join(message.split())) from error
    return groups


def flags(function: Callable[..., Any]) -> dict[str, tuple[str, bool]]:
    """The options of a command by keyword (``batch_size``): the flag, and whether it can be given several times."""
    found = {}
    for each in inspect.signature(ungrouped(function)).parameters.values():
        flag = flag_of(each.name, each.annotation)
        found[flag.removeprefix("--").replace("-", "_")] = flag, "list[" in str(typing.get_args(each.annotation)[0])
    return found


def flag_of(field: str, hint: Any) -> str:
    """``--batch-size``: the option of a field, by its own name where it has one."""
    for info in typing.get_args(hint):
        if isinstance(info, OptionInfo):  # the first name that is given is its default where no default is
            named = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
            return next((each for each in named if each.startswith("--")), f"--{field.replace('_', '-')}")
    raise TypeError(f"{field} is no option")


def _options(group: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    parameters = []
    for field in fields(group):
        for info in typing.get_args(hints[field.name]):
            if isinstance(info, OptionInfo):
                info.rich_help_panel = info.rich_help_panel or group.PANEL
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))
    return parameters
