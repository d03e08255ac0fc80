"""A fuzzer of all that reads a stranger's bytes: seeds, mutations, targets, and a search.

make fuzz ARGS="--seconds 3600 --keep findings/"
"""
