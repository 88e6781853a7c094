"""What the commands take: parsers and help, which are there before torch is loaded."""
