"""The command line: one file for each command, imported only when it runs, so that each starts fast.

Decides what all commands share: names, global flags, colours, logging, and which exit code an error gives
(conventions "Exit codes": 0 fine, 1 the user's or the operator's to mend, 2 usage, 3 a bug, 130 Ctrl-C).
"""

from __future__ import annotations

import difflib
import importlib
import os
import platform
import sys
import traceback

import click

from reconciler import __version__, errors
from reconciler.cli import logs

COMMANDS = {
    "apply": "One pass over the repository, then exit.",
    "cancel": "Cancel a batch, a verification, or one device's task.",
    "comment": "Keep one comment in the pull request that CI checks.",
    "confirm": "Confirm tasks, release held batches, or confirm a commit's cancellations.",
    "demo": "A fleet in one command: endpoint, simulated devices, reconciler.",
    "delta": "Make the patch from one firmware file to another, and its manifest.",
    "describe": "Everything about one object, device or task.",
    "device": "Identities and secrets of devices.",
    "events": "What happened, when, and by which commit.",
    "explain": "What a code of `validate` is about, and how to mend it.",
    "get": "List objects, devices or tasks.",
    "init": "A fleet repository to start from.",
    "keys": "Keys that sign packages (secure upgrade).",
    "plan": "What a commit would do.",
    "resume": "End an operator's suspension of a batch.",
    "retry": "Upgrade a device again whose task ended badly.",
    "run": "The daemon: follow a repository and drive the devices.",
    "schema": "The manifests' JSON schemas.",
    "simulate": "Devices that speak the wire, against any broker.",
    "suspend": "Stop a batch for a while.",
    "template": "CSV files of devices to start from.",
    "token": "Tokens for the daemon's API.",
    "trace": "Why a device was (not) upgraded.",
    "validate": "Check manifests, offline.",
    "version": "The version of this program.",
}
"""Every command, and its line of help: `--help` imports none of them."""


class _Lazy(click.Group):
    """Finds commands by name, and imports the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"reconciler.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            nearest = difflib.get_close_matches(args[0], COMMANDS, 1)
            remedy = f"Did you mean {nearest[0]}?" if nearest else "`reconciler --help` lists all."
            raise errors.UsageError(f"there is no command {args[0]!r}", remedy=remedy)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", envvar="RECONCILER_COLOR"
)
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", envvar="RECONCILER_LOG_LEVEL")
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="auto",
    envvar="RECONCILER_LOG_FORMAT",
    help="auto: text on a terminal, JSON otherwise.",
)
@click.version_option(
    __version__, message=f"%(prog)s %(version)s (Python {platform.python_version()})", prog_name="reconciler"
)
@click.pass_context
def reconciler(ctx: click.Context, color: str, log_level: str, log_format: str) -> None:
    """Firmware upgrades, driven from Git."""
    if color == "auto":
        wanted = None if sys.stdout.isatty() and "NO_COLOR" not in os.environ else False
    else:
        wanted = color == "always"
    ctx.color = wanted
    ctx.obj = logs.Options(log_level, log_format)


def main() -> None:
    """The entry point of the `reconciler` program."""
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output, `grep -q` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def execute(arguments: list[str]) -> int:  # noqa: PLR0911 - one for each exit code
    """Runs one command line; its exit code."""
    try:
        # not `reconciler.main`: it turns a closed pipe into exit code 1
        with reconciler.make_context("reconciler", list(arguments)) as context:
            result = reconciler.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except errors.UsageError as error:
        return _complain(error, 2)
    except errors.ReconcilerError as error:
        return _complain(error, 1)
    except BrokenPipeError:
        return 0
    except Exception:  # noqa: BLE001 - the last place before the exit code
        traceback.print_exc()
        click.echo("This is a bug. Please report it with the lines above.", err=True)
        return 3
    return result if isinstance(result, int) else 0


def _complain(error: errors.ReconcilerError, code: int) -> int:
    click.secho(f"error: {error.message}", fg="red", err=True)
    if error.remedy:
        click.echo(f"  help: {error.remedy}", err=True)
    return code
