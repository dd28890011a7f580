"""The command line as a program: companion.cli says what it takes."""

from companion.cli import main

if __name__ == "__main__":
    main()
