# Two commands do everything: `make demo` and `make test`. Each builds .venv first if it is missing or stale.
export PYTHONDONTWRITEBYTECODE :=
export OMP_NUM_THREADS ?= 1
space := $(subst x, ,x)
comma := ,
# uv does not read pip's variables: pass on a folder of wheels that pip was told of.
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
V := .venv
PY := $(V)/bin/python

.PHONY: help setup demo test check lint bench clean
help:
	@echo "make demo   one frozen random network, five modulators, a report in runs/demo/report.html"
	@echo "make test   the tests (about 12 minutes on two cores, installation included)"
	@echo "make check  what is slower: lint, types, every contract cell, the notebooks"
	@echo "make bench  the benchmarks; exits 1 when a bar is missed"

$(V)/.stamp: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(V)
	$(PY) -m pip install -q --disable-pip-version-check uv
	$(V)/bin/uv pip install -q -p $(PY) -c constraints.txt --group dev -e '.[tasks]'
	touch $@

$(V)/.stamp-notebook: $(V)/.stamp
	$(V)/bin/uv pip install -q -p $(PY) -c constraints.txt --group notebook
	touch $@

setup: $(V)/.stamp
demo: $(V)/.stamp
	$(PY) -m tasks demo

test: $(V)/.stamp
	$(PY) -m pytest -n 2 --dist worksteal -m "not check"

lint: $(V)/.stamp
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .
	$(V)/bin/mypy

check: $(V)/.stamp-notebook lint
	$(PY) -m pytest -n 2 --dist worksteal -m check
	$(PY) -m tasks ledger --check
	$(PY) -m pytest --nbmake notebooks

bench: $(V)/.stamp
	for name in $$($(PY) -m benchmarks --list); do $(PY) -m benchmarks $$name || failed=1; done; test -z "$$failed"

clean:
	rm -rf $(V) .pytest_cache .mypy_cache .ruff_cache
