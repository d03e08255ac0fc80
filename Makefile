# The only entry: every target sets up what it needs, in .venv, the first time and after a change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# What is imported is compiled then, and kept; most of what is installed never is.
INSTALL := -m pip install --quiet --no-compile --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL) --constraint constraints.txt
# Its code runs on protobuf 4.25 to 7 (ADR 30); that of a newer one demands a new protobuf.
GRPCIO_TOOLS := 1.62.3
# In an environment of its own: its dependencies are none of ours.
CYCLONEDX := 7.5.0
PIP_AUDIT := 2.10.1
# Side by side, a file of tests in either; what ARGS names goes in one, where a debugger works.
LANES ?= $(if $(ARGS),0,2)

.PHONY: help serve test test-pythons test-gpu-build test-gpu check lint fuzz proto openapi pictures train thousand label export evaluate bench-peers bench-limit bench-growth bench-quick score format deploy sbom audit clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

serve: .venv/server.stamp ## run the server; options in ARGS, as ARGS="--model models/mine"
	@exec $(BIN)/alexnet-server $(ARGS)

test: .venv/dev.stamp ## prove the whole chain: train, export, bundle, serve, classify
	@$(BIN)/pytest --numprocesses $(LANES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-pythons: .venv/dev.stamp ## the wheels on every Python from 3.11 to 3.14 that is here; minutes, the first time
	@$(BIN)/pytest tests/pythons $(ARGS)

test-gpu-build: .venv-gpu-build/stamp ## GPU kernels and TensorRT plans, built without a GPU
	@.venv-gpu-build/bin/python -m pytest --numprocesses $(LANES) --dist loadfile tests/gpu_build $(ARGS)

test-gpu: .venv-gpu-build/stamp ## what only an NVIDIA GPU can prove
	@.venv-gpu-build/bin/python -m pytest tests/gpu tests/gpu_build $(ARGS)

check: lint ## lint, and the tests that start no process; two minutes
	@$(BIN)/pytest -q --numprocesses $(LANES) --dist loadfile -m "not process" \
		tests/unit tests/test_architecture.py tests/test_docs.py

lint: .venv/dev.stamp build/.venv-protoc/stamp ## format, lint, types, generated code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@rm -rf build/proto && build/.venv-protoc/bin/python protos/generate.py build/proto
	@cd build/proto && for file in */*; do cmp $$file ../../$$file || \
		{ echo "the generated code is stale: run make proto"; exit 1; }; done

proto: build/.venv-protoc/stamp ## generate *_pb2* of protos/ and alexnet_client/ from the .proto files
	@build/.venv-protoc/bin/python protos/generate.py .

openapi: .venv/dev.stamp ## generate server/api/web/openapi.json from what the server does
	@$(BIN)/python -m tests.openapi > server/api/web/openapi.json

pictures: .venv/dev.stamp ## photograph the pages for the documents (Chromium)
	@$(BIN)/python -m tests.pages.pictures

train: .venv/dev.stamp ## a model of your own photos: ARGS="photos/"
	@$(BIN)/alexnet-train $(ARGS)

# docs/starter.md says what goes in. Ctrl-C saves; the same command goes on.
RUN ?= runs/thousand
INIT ?= runs/sharp
thousand: .venv/dev.stamp ## the starter anew: TEACHER=a.onnx LABELLED=b.zip UNLABELLED=c.zip CLOSEST=d.zip FIFTY=e.zip VAL=f.zip
	@$(BIN)/alexnet-label $(TEACHER) --photos $(UNLABELLED) --val $(VAL) --recipe thousand \
		--views 1 --output $(RUN).labels
	@$(BIN)/alexnet-train --recipe thousand --train $(LABELLED) --unlabelled $(UNLABELLED) \
		--labels $(RUN).labels --share 0.7 --val $(VAL) --output $(RUN) \
		$$(test -f $(RUN)/last.safetensors && echo --resume || echo --init $(INIT))
	@$(BIN)/alexnet-label $(TEACHER) --photos $(CLOSEST) --recipe thousand-more --views 6 \
		--output $(RUN)-closest.labels
	@for step in ":-more" "-more:-again" "-again:-last"; do \
		init=$(RUN)$${step%:*} run=$(RUN)$${step#*:}; \
		$(BIN)/alexnet-train --recipe thousand-more --train $(LABELLED) --unlabelled $(UNLABELLED) \
			--unlabelled $(CLOSEST) --labels $(RUN).labels $(RUN)-closest.labels --share 0.3 0.45 \
			--val $(VAL) --output $$run \
			$$(test -f $$run/last.safetensors && echo --resume || echo --init $$init) || exit; \
	done
	@$(BIN)/python -m training.merge $(RUN)-more $(RUN)-again $(RUN)-last --photos $(FIFTY) --val $(VAL) \
		--output $(RUN)-merged
	@$(BIN)/alexnet-export $(RUN)-merged/model.safetensors --photos $(UNLABELLED) --val $(VAL) \
		--precision int8 --calibration-photos 4000 --output $(RUN).tar.xz

label: .venv/dev.stamp ## a teacher's answers: ARGS="lite0.onnx --photos more.zip --output more.labels"
	@$(BIN)/alexnet-label $(ARGS)

export: .venv/dev.stamp ## ARGS="alexnet.pth --photos photos --output models/mine"
	@$(BIN)/alexnet-export $(ARGS)

evaluate: .venv/dev.stamp ## checkpoints, bundles, servers: ARGS="models/mine --photos val.zip"
	@$(BIN)/alexnet-evaluate $(ARGS)

bench-peers: .venv/dev.stamp ## ours and other servers in turns: ARGS="photos/ --only mosec ray"
	@$(BIN)/python -m benchmarks.peers $(ARGS)

bench-limit: .venv/dev.stamp ## what decoding and the engine allow, and how near the server is: ARGS="photos/"
	@$(BIN)/python -m benchmarks.limit $(ARGS)

bench-growth: .venv/dev.stamp ## how cost grows with photos, callers, batches, streams: ARGS="photos/"
	@$(BIN)/python -m benchmarks.growth $(ARGS)

bench-quick: .venv/dev.stamp ## a minute: is the server slower than recorded? ARGS="photos/"
	@$(BIN)/python -m benchmarks.quick $(ARGS)

score: .venv/server.stamp ## accuracy of the running server: ARGS="val.zip photos/"
	@$(BIN)/alexnet-score $(ARGS)

format: .venv/dev.stamp ## ruff format, and what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

fuzz: .venv/dev.stamp ## look for inputs that the server cannot take: ARGS="--seconds 3600"
	@$(BIN)/python -W ignore -m tests.fuzz $(ARGS)

deploy: .venv/dev.stamp ## generate the dashboard and the alerts from deploy/queries.toml
	@$(BIN)/python deploy/generate.py

sbom: .venv/server.stamp ## a list of what the server is made of: build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	@test -x build/.venv-sbom/bin/cyclonedx-py || $(PYTHON) -m venv build/.venv-sbom
	@build/.venv-sbom/bin/python $(INSTALL) cyclonedx-bom==$(CYCLONEDX)
	@build/.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file build/sbom.cdx.json $(BIN)/python
	@$(BIN)/python deploy/sbom.py build/sbom.cdx.json

audit: .venv/server.stamp ## known faults of what the server is made of, from PyPI's list
	@test -x build/.venv-audit/bin/pip-audit || $(PYTHON) -m venv build/.venv-audit
	@build/.venv-audit/bin/python $(INSTALL) pip-audit==$(PIP_AUDIT)
	@$(BIN)/python deploy/sbom.py > build/audited.txt
	@build/.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r build/audited.txt

clean: ## remove what was built; keeps runs/
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating .venv"
	@$(PYTHON) -m venv .venv

.venv/server.stamp: pyproject.toml alexnet_client/pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the server into .venv (no torch; about a minute the first time)"
	@$(PIP) --editable . --editable ./alexnet_client
	@touch $@

.venv/dev.stamp: pyproject.toml alexnet_client/pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing the server, torch and the tools into .venv (some minutes the first time)"
	@$(PIP) --editable '.[dev]' --editable './alexnet_client[bulk,load]'
	@touch $@ .venv/server.stamp

# onnxruntime-gpu is the same module as onnxruntime, and has to be the last.
.venv-gpu-build/stamp: pyproject.toml alexnet_client/pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-gpu-build
	@echo "installing torch, Triton and TensorRT into .venv-gpu-build (3 GB, some minutes)"
	@.venv-gpu-build/$(PIP:.venv/%=%) --editable '.[gpu-build]' --editable ./alexnet_client
	@.venv-gpu-build/$(PIP:.venv/%=%) --force-reinstall --no-deps onnxruntime-gpu
	@touch $@

build/.venv-protoc/stamp: Makefile
	@$(PYTHON) -m venv build/.venv-protoc
	@build/.venv-protoc/bin/python $(INSTALL) --only-binary :all: grpcio-tools==$(GRPCIO_TOOLS)
	@touch $@
