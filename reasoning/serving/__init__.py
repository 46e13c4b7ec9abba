"""Chat completions over HTTP: `branchwise serve`, and the plugin of `vllm serve`.

A request passes: middleware (access) -> routes -> request (parse) -> resolve -> queue -> completions -> driver.solve.
"""
