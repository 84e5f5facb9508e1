# Two commands do all the set-up: `make demo` and `make test`.  Everything is installed into .venv on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml node/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; name a Python 3.11 with PYTHON=…" >&2; exit 1; }
	@echo "installing into $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e node
	@touch $@

.PHONY: venv
venv: $(STAMP) ## install everything into .venv

.PHONY: lock
lock: ## renew requirements.lock and node/requirements.lock (the only target that resolves versions)
	@$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	@sed '/"kademlia-node"/d' pyproject.toml > .cache/lock/pyproject.toml
	@.cache/lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --extra dev \
	    -o requirements.lock .cache/lock/pyproject.toml node/pyproject.toml
	@.cache/lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header \
	    -c requirements.lock -o node/requirements.lock node/pyproject.toml
