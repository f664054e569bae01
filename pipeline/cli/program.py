"""The program as a whole: what surrounds every command, and how its errors and interruptions end."""

import errno
import sys
from collections.abc import Sequence
from typing import Any

import click

from pipeline.cli.interruption import Announced, interruptible, open_closed_streams
from pipeline.cli.printing import error_of_the_rest, printing_names_safely
from pipeline.runtime.disk_errors import in_words
from pipeline.runtime.errors import PipelineError, as_message, is_of_memory, one_line
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.own_surroundings import keep_to_the_project, own_temporary_folder


class Program(click.Group):
    """Turns errors that the user can mend into one message and exit code 1, and an interruption into 130."""

    command_class = Announced

    def __init__(self, *arguments: Any, tools: Sequence[click.Command] = (), **options: Any) -> None:
        """A group of commands; `tools` are those beside the stages, which are listed last."""
        super().__init__(*arguments, **options)
        self._tools = tools
        for command in tools:
            self.add_command(command)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the stages in the order in which they run, then the tools."""
        stages = [command for command in self.commands.values() if command not in self._tools]
        room = formatter.width - 6 - max(map(len, self.commands))
        for heading, commands in (("Stages, in their order", stages), ("Tools", self._tools)):
            with formatter.section(heading):
                formatter.write_dl([(str(command.name), command.get_short_help_str(room)) for command in commands])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs the program; what cannot be printed, as on a full disk, ends with one message and exit code 1 too."""
        open_closed_streams()
        try:
            return super().main(*args, **extra)
        except SystemExit as ended:
            unprinted = error_of_the_rest()
            if unprinted is None or ended.code:
                raise
        except OSError as error:
            unprinted = error
            error_of_the_rest()
        if unprinted.errno != errno.EPIPE:  # the reader of a pipe wants no more
            print(f"Error: {as_message(in_words(unprinted))}", file=sys.stderr)
        raise SystemExit(1)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        keep_to_the_project()
        try:
            with (
                interruptible(lambda: context.invoked_subcommand),
                printing_names_safely(),
                own_temporary_folder(),
            ):
                return super().invoke(context)
        except ModuleNotFoundError as error:
            raise click.ClickException(as_message(_not_installed(context.invoked_subcommand, error))) from error
        except PipelineError as error:
            raise click.ClickException(as_message(str(error))) from None
        except click.UsageError as error:
            raise click.UsageError(as_message(error.format_message()), error.ctx) from None
        except OSError as error:
            raise click.ClickException(as_message(in_words(error))) from error
        except Exception as error:  # TensorFlow, which is not imported here, has a class of its own for this
            if not is_of_memory(error):
                raise
            told = f"there is too little memory: {one_line(error)}. Give it more, or smaller files."
            raise click.ClickException(told) from error


def _not_installed(command: str | None, error: ModuleNotFoundError) -> str:
    return (
        f"{command} needs the package {str(error.name).partition('.')[0]}, which is not installed. All that the stages "
        f"and tools need is installed by {how_to_install('pipeline')}."
    )
