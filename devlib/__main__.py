"""The command line as a program: devlib.cli says what it takes."""

from devlib.cli import main

if __name__ == "__main__":
    main()
