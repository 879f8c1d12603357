"""Where tasks run: serial (in this process, one after another)."""
