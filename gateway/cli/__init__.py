"""The command line: `main` holds the table of commands, and each command has a file."""
