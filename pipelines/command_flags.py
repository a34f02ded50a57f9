"""The absl flags of one command. Each command has its own set, so that several run in one process."""

from __future__ import annotations

from collections.abc import Iterable

from absl import flags


class CommandFlags:
    """Defines, parses and explains the flags of one command; parsed values are attributes."""

    def __init__(self):
        self._values = flags.FlagValues()
        self._required: set[str] = set()
        self.text("flagfile", "", "Read flags from this file or preset; flags after it win.")

    def text(self, name: str, default: str | None, what: str, *, required: bool = False) -> None:
        """A string."""
        if required:
            self._required.add(name)
        flags.DEFINE_string(name, default, what, flag_values=self._values)

    def integer(self, name: str, default: int | None, what: str, *, at_least: int) -> None:
        """A whole number."""
        flags.DEFINE_integer(name, default, what, lower_bound=at_least, flag_values=self._values)

    def number(
        self, name: str, default: float | None, what: str, *, at_least: float = 0.0, at_most: float | None = None
    ) -> None:
        """A real number."""
        bounds = {"lower_bound": at_least, "upper_bound": at_most}
        flags.DEFINE_float(name, default, what, **bounds, flag_values=self._values)

    def switch(self, name: str, default: bool, what: str) -> None:
        """--name or --noname."""
        flags.DEFINE_bool(name, default, what, flag_values=self._values)

    def choice(self, name: str, default: str, allowed: Iterable[str], what: str) -> None:
        """One of a table's names."""
        flags.DEFINE_enum(name, default, list(allowed), what, flag_values=self._values)

    def parse(self, arguments: list[str]) -> list[str]:
        """Reads `arguments`; returns those that are no flags.

        Raises:
          flags.Error: for an unknown flag or a value that is not allowed.
        """
        for name in self._values:
            # A second run of the command in this process starts from the defaults again.
            self._values[name].unparse()
        positional = self._values(["", *arguments])[1:]
        missing = [f"--{name}" for name in sorted(self._required) if self._values[name].value is None]
        if missing:
            raise flags.Error(f"{' and '.join(missing)} must be given")
        return positional

    def __getattr__(self, name: str):
        return self._values[name].value

    def values(self, *, without: Iterable[str] = (), only: Iterable[str] | None = None) -> dict:
        """Flag names -> parsed values, for the record of a run: all but `without`, or `only` some."""
        names = sorted(self._values) if only is None else only
        return {name: self._values[name].value for name in names if name not in ("flagfile", *without)}

    def help(self) -> str:
        """Every flag with what it does and its default."""
        return "\n".join(self._explain(self._values[name]) for name in sorted(self._values))

    def _explain(self, flag: flags.Flag) -> str:
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        default = (
            "required"
            if flag.name in self._required
            else f"default: {(flag.default_as_str or 'none').strip(chr(39)) or 'none'}"
        )
        return f"  {name}\n      {flag.help} ({default})"
