"""One file a command: parse, call, print. Only the command line imports them."""
