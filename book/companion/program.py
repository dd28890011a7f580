"""What the command line is called. Messages, and commands that pages show, name it from here."""

PROGRAM = "python -m companion"
