# Two commands from nothing: `make up` and `make test`. Needs python3 (3.11 or newer, with venv) and make.
UV_VERSION := 0.13.9
REST := deploy/k8s/components/rest/api.binpb
BIN := .venv/bin
PATHS := messaging gateway_grpc dispatcher ops bench tools tests examples

.PHONY: up demo test unit properties chaos chaos-short conformance conformance-build conformance-short bench \
	bench-full bench-short lint types proto proto-check lock clean image k8s-check k8s-cluster

up: .venv/.ok
	@$(BIN)/smsctl up

demo: .venv/.ok
	@$(BIN)/smsctl demo

.venv/.ok: requirements.lock pyproject.toml
	python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# What measures a rate has the machine for itself; of the rest, the scenarios run beside everything else.
test: .venv/.ok
	$(BIN)/python -m pytest tests/e2e/test_fleet.py
	$(BIN)/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder --deselect tests/e2e/test_fleet.py

unit: .venv/.ok
	$(BIN)/python -m pytest tests/unit

# The unit tier once more, its properties with 300 examples each; HYPOTHESIS_PROFILE=random takes 1,000 new ones.
properties: .venv/.ok
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest tests/unit

# Ratios of this machine into docs/performance.md: see there.
bench bench-full: .venv/.ok
	$(BIN)/python -m bench.run --form $(if $(filter bench-full,$@),full,normal)
	$(BIN)/python -m bench.report

# Whether every benchmark runs and makes sense; says nothing of speed.
bench-short: .venv/.ok
	$(BIN)/python -m bench.run --form short --folder var/bench-short
	$(BIN)/python -m bench.report --folder var/bench-short

# Chaos: MESSAGES, SEED, RATE (each provider's), NATS (1 or 3 servers), EVERY (seconds between faults), OUT (a file).
MESSAGES ?= 20000
SEED ?= 1
RATE ?= 50
NATS ?= 1
EVERY ?= 3
chaos: .venv/.ok
	$(BIN)/python -m tests.load.chaos --messages $(MESSAGES) --seed $(SEED) --rate $(RATE) --nats-servers $(NATS) \
		--every $(EVERY) $(if $(OUT),--out $(OUT))

chaos-short: .venv/.ok
	$(BIN)/python -m tests.load.chaos --messages 7500 --seed $(SEED) --every 2 --ttl 40

# Today's grpcurl, where Go is there; the newest that comes as a wheel is older.
var/tools/grpcurl:
	GOBIN="$(CURDIR)/var/tools" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4

# Every example client whose tool chain this machine has, against the whole system: do all see the same?
conformance: .venv/.ok
	$(BIN)/python -m tools.conformance

# Its first half; CI has it done beside checks that measure nothing.
conformance-build: .venv/.ok
	$(BIN)/python -m tools.conformance --build

conformance-short: .venv/.ok
	$(BIN)/python -m tools.conformance --only python --only grpc-js

lint: .venv/.ok
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)

types: .venv/.ok
	$(BIN)/mypy

# buf finds its plugins on the PATH.
proto: .venv/.ok
	PATH="$(CURDIR)/$(BIN):$$PATH" buf format -w
	PATH="$(CURDIR)/$(BIN):$$PATH" buf generate
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/reference.py
	$(BIN)/buf build --exclude-source-info --as-file-descriptor-set -o $(REST)

proto-check: .venv/.ok
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/check_proto.sh

# Manifests: rendered, validated, and held against the code. Says what it had to skip.
k8s-check: .venv/.ok
	$(BIN)/python tools/k8s_check.py
	$(BIN)/python -m pytest -q tests/deploy

k8s-run:
	@echo 'make k8s-run is gone: call "make k8s-cluster ONLY=dev" instead' >&2; exit 2

# Both overlays in a Kubernetes of this machine, built from Go modules the first time (root, Go, containerd, podman).
# ONLY (prod, dev or three) runs a part; BEFORE is an older image to upgrade from.
k8s-cluster: .venv/.ok
	$(BIN)/python -m tools.k8s_cluster $(if $(ONLY),--only $(ONLY)) $(if $(BASE),--base $(BASE)) \
		$(if $(BEFORE),--before $(BEFORE))

# With docker, podman or buildah. BASE is a Python image, TAG the name and tag of what is built.
image:
	sh tools/image.sh $(if $(BASE),--base $(BASE)) $(if $(TAG),--tag $(TAG)) -- $(FLAGS)

# Three locks: everything; what the image runs; what makes its wheel.
COMPILE = $(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	--python-version 3.11
lock:
	$(COMPILE) pyproject.toml --extra embedded --group dev -o requirements.lock
	$(COMPILE) pyproject.toml -c requirements.lock -o requirements-image.lock
	$(COMPILE) --group build -o requirements-build.lock

clean:
	rm -rf .venv var examples/*/gen examples/*/target examples/*/node_modules examples/python/.venv examples/typescript/dist
