# The only entry: every target sets up what it needs, in .venv, the first time and after a change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PROTO := protos/classifier.proto protos/caffe.proto protos/oip.proto
SERVICE := protos/classifier.proto protos/oip.proto
# Side by side, a file of tests in either; what ARGS names goes in one, where a debugger works.
LANES ?= $(if $(ARGS),0,2)

.PHONY: help serve test test-gpu-build test-gpu check proto openapi train export evaluate score format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

serve: .venv/server.stamp ## run the server; options in ARGS, as ARGS="--model models/mine"
	@exec $(BIN)/alexnet-server $(ARGS)

test: .venv/dev.stamp ## prove the whole chain: train, export, bundle, serve, classify
	@$(BIN)/pytest --numprocesses $(LANES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-gpu-build: .venv-gpu-build/stamp ## GPU kernels and TensorRT plans, built without a GPU
	@.venv-gpu-build/bin/python -m pytest tests/gpu_build $(ARGS)

test-gpu: .venv-gpu-build/stamp ## what only an NVIDIA GPU can prove
	@.venv-gpu-build/bin/python -m pytest tests/gpu tests/gpu_build $(ARGS)

check: .venv/dev.stamp ## format, lint, types, generated code; under a minute
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@rm -rf build/proto && mkdir -p build/proto
	@$(BIN)/python -m grpc_tools.protoc -I . --python_out=build/proto --pyi_out=build/proto \
		$(PROTO)
	@$(BIN)/python -m grpc_tools.protoc -I . --grpc_python_out=build/proto $(SERVICE)
	@for file in build/proto/protos/*; do cmp $$file protos/$${file##*/} || \
		{ echo "the generated code is stale: run make proto"; exit 1; }; done
	@$(BIN)/pytest -q tests/unit tests/test_architecture.py tests/test_docs.py

proto: .venv/dev.stamp ## generate protos/*_pb2* from the .proto files
	@$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. $(PROTO)
	@$(BIN)/python -m grpc_tools.protoc -I . --grpc_python_out=. $(SERVICE)

openapi: .venv/dev.stamp ## generate server/api/web/openapi.json from what the server does
	@$(BIN)/python -m tests.openapi > server/api/web/openapi.json

train: .venv/dev.stamp ## ARGS="--train photos/train --val photos/val --recipe plain"
	@$(BIN)/alexnet-train $(ARGS)

export: .venv/dev.stamp ## ARGS="alexnet.pth --photos photos --output models/mine"
	@$(BIN)/alexnet-export $(ARGS)

evaluate: .venv/dev.stamp ## checkpoints, bundles, servers: ARGS="models/mine --photos val.zip"
	@$(BIN)/alexnet-evaluate $(ARGS)

score: .venv/server.stamp ## accuracy of the running server: ARGS="val.zip photos/"
	@$(BIN)/alexnet-score $(ARGS)

format: .venv/dev.stamp ## ruff format, and what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove what was built; keeps runs/
	rm -rf .venv .venv-tritonclient .venv-gpu-build build dist .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating .venv"
	@$(PYTHON) -m venv .venv

.venv/server.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the server into .venv (no torch; about a minute the first time)"
	@$(PIP) --editable '.[server,client]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the server, torch and the tools into .venv (some minutes the first time)"
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/server.stamp

.venv-gpu-build/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-gpu-build
	@echo "installing torch, Triton and TensorRT into .venv-gpu-build (3 GB, some minutes)"
	@.venv-gpu-build/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[gpu-build]'
	@touch $@
