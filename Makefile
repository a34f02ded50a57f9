# `make` lists the targets. Every target that needs the virtual environment makes it first.

# Written last: an interrupted installation leaves an environment without it, and the next make starts afresh.
STAMP := .venv/.complete

# Much of a test is tracing, which takes one core; the tests of a file share what they have made.
IN_PARALLEL := -n auto --maxprocesses=4 --dist=loadfile

.PHONY: help setup quickstart test lint constraints clean

help:
	@echo "make quickstart   install into .venv, then run the main job on generated images"
	@echo "make test         install into .venv, then run the tests: the fast ones, then the slow ones"
	@echo "make setup        only install into .venv"
	@echo "make lint         check the code with ruff"
	@echo "make constraints  resolve the pinned versions again (needs uv)"
	@echo "make clean        remove .venv, caches and build leftovers; runs/ stays"
	@echo ""
	@echo "A new .venv is made with python3.11, python3.10, python3.9, python3 or uv, whichever fits first."
	@echo "make PYTHON=/path/to/python3.10 quickstart chooses the interpreter (after make clean, if there is a .venv)."

setup: $(STAMP)

# pip takes the variables, not --constraint, so that packages built from source are built with pinned tools too;
# its newest versions read the second for that.
$(STAMP): setup.py constraints.txt
	@test -e $@ || sh make_venv.sh .venv
	@rm -f $@
	@echo "Installing the pinned stack into .venv (some 3 GB, a few minutes)"
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		.venv/bin/python -m pip install --no-input --disable-pip-version-check --editable '.[dev]'
	@touch $@

quickstart: $(STAMP)
	.venv/bin/bitkeras quickstart

test: $(STAMP)
	.venv/bin/python -m pytest $(IN_PARALLEL) -m "not slow"
	.venv/bin/python -m pytest $(IN_PARALLEL) -m slow

lint: $(STAMP)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

constraints:
	@sh make_constraints.sh

clean:
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
