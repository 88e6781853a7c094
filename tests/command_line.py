"""The command line as tests call it."""

from detcenter.cli import main


def fails(capsys, *args):
    """The one line that a wrong command line prints."""
    assert main([str(arg) for arg in args]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("detcenter")]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]
