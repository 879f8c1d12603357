"""Where tasks run: in this process one after another (serial), or in workers of Ray (ray).

Tasks go in and results come out. What a task makes it leaves in the store's staging area, and the process that asked
commits it. Read engine (what is asked of either, and the one of this process), then ray.
"""
