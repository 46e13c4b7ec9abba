"""Processes that run untrusted programs on Linux. These modules use only the standard library.

    supervisor   enforces limits from outside (usage) and cleans up
    └ init       starts and adopts what follows, and cleans up if the supervisor ends
      └ runner   confines itself (namespaces, landlock, system_calls), then runs the program,
                 or its tests (checker), which call the program (called) through pipes (peer, values)

`branchwise.sandbox.sandbox` starts them in an interpreter that imports nothing else of the package.
"""
