"""The commands of the command line: each parses, calls one function, prints.

They share `groups` (classes of commands), `options` (types of options), `printing` (the store, and what is printed).
"""
