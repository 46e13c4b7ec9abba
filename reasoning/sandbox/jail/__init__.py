"""The processes in which programs run that nobody vouches for. The standard library alone, on Linux.

    supervisor   keeps the limits from outside, and leaves nothing behind
    └ runner     locks itself in (namespaces, landlock, system_calls), then runs the program

They are started by `branchwise.sandbox.sandbox` in an interpreter that sees none of the rest of
the package.
"""
