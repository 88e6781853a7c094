"""What the command line tells a person in a line, without a traceback."""


class PersonsError(Exception):
    """What a person has to put right; the message is for them."""

    many_lines = False


class ConfigError(PersonsError, ValueError):
    """A recipe or a command line that is wrong; the message is one clear line."""
