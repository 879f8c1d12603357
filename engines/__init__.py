"""Where tasks run: engine (what every engine does), serial (in this process, one after another)."""
