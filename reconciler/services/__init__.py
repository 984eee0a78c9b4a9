"""The shell: one module per arrow of the data flow. Time comes from `clock`, effects go through the ports.

Each long-running service has `run()`, which bootstrap puts into one TaskGroup, and a smaller method that does one
round of work, which tests call with a clock that they move.
"""
