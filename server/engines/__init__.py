"""The runtimes, each imported only when it serves: what is not used need not be installed."""
