"""One file for each command of the command line. Each imports what it needs only when it runs."""
